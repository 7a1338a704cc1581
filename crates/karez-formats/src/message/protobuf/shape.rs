//! What of a message becomes columns, and of which types: descriptors and Arrow types side by side.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// A message: those of its fields that are columns, by number.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) fields: Vec<FieldShape>,
}

/// A field that is a column.
#[derive(Debug)]
pub(super) struct FieldShape {
    pub(super) number: u32,
    pub(super) column: FieldRef,
    pub(super) repetition: Repetition,
    pub(super) value: Value,
    /// The other fields of the same oneof, as places in the shape.
    pub(super) rivals: Vec<usize>,
}

/// How often a field stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// It is there, or it is not, which is null.
    Optional,
    /// A message that does not have it has its default.
    Implicit,
    /// It must be there.
    Required,
    /// Any number of times: a list.
    Repeated,
    /// Any number of entries: a map.
    Map,
}

/// A value of a field.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    /// `google.protobuf.Timestamp`, in a unit.
    Timestamp(TimeUnit),
    /// One of `google/protobuf/wrappers.proto`: its value, or null.
    Wrapper(Scalar),
    /// A row; of a map, its entries, `key` and `value`.
    Message(Shape),
}

/// A type of no parts.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Bool,
    Int32,
    Sint32,
    Sfixed32,
    Uint32,
    Fixed32,
    Int64,
    Sint64,
    Sfixed64,
    Uint64,
    Fixed64,
    Float,
    Double,
    String,
    Bytes,
    /// The name of a value; of a number without a name, the number.
    Enum(Arc<EnumNames>),
}

/// The values of an enum.
#[derive(Debug)]
pub(super) struct EnumNames {
    pub(super) names: HashMap<i32, String>,
    pub(super) numbers: HashMap<String, i32>,
}

impl Shape {
    /// The columns of a message: those named in `wanted`, typed after it where there is a choice; without it, all.
    ///
    /// # Errors
    ///
    /// Without `wanted`, a message that contains itself.
    pub(super) fn of(message: &MessageDescriptor, wanted: Option<&Fields>) -> Result<Self, String> {
        Self::inside(message, wanted, &mut Vec::new())
    }

    fn inside(message: &MessageDescriptor, wanted: Option<&Fields>, outer: &mut Vec<String>) -> Result<Self, String> {
        if wanted.is_none() && outer.iter().any(|name| name == message.full_name()) {
            return Err(format!("the message `{}` contains itself, for which there is no column type; declare the columns", message.full_name()));
        }
        outer.push(message.full_name().to_owned());
        let mut found = Vec::new();
        for field in message.fields() {
            let wish = wanted.map(|fields| fields.find(field.name()).map(|(_, f)| f.data_type()));
            let wish = match wish {
                Some(None) => continue,
                Some(Some(wish)) => Some(wish),
                None => None,
            };
            found.push((FieldShape::of(&field, wish, outer)?, field.containing_oneof().filter(|o| !o.is_synthetic()).map(|o| o.name().to_owned())));
        }
        outer.pop();
        found.sort_by_key(|(field, _)| field.number);
        let oneofs: Vec<Option<String>> = found.iter().map(|(_, oneof)| oneof.clone()).collect();
        let mut fields: Vec<FieldShape> = found.into_iter().map(|(field, _)| field).collect();
        for (at, field) in fields.iter_mut().enumerate() {
            let same = |other: &usize| *other != at && oneofs[*other].is_some() && oneofs[*other] == oneofs[at];
            field.rivals = (0..oneofs.len()).filter(same).collect();
        }
        Ok(Self { fields })
    }

    /// Its columns.
    pub(super) fn columns(&self) -> Fields {
        self.fields.iter().map(|field| Arc::clone(&field.column)).collect()
    }

    /// The place of a field; `near`: where it is likely to be.
    #[inline]
    pub(super) fn find(&self, number: u32, near: usize) -> Option<usize> {
        if self.fields.get(near).is_some_and(|field| field.number == number) {
            return Some(near);
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }
}

impl FieldShape {
    fn of(field: &FieldDescriptor, wish: Option<&DataType>, outer: &mut Vec<String>) -> Result<Self, String> {
        let repetition = match field.cardinality() {
            Cardinality::Repeated if field.is_map() => Repetition::Map,
            Cardinality::Repeated => Repetition::Repeated,
            // A map's entry has both of its fields, whatever is written.
            _ if field.parent_message().is_map_entry() && !matches!(field.kind(), Kind::Message(_)) => Repetition::Implicit,
            Cardinality::Required => Repetition::Required,
            Cardinality::Optional if field.supports_presence() => Repetition::Optional,
            Cardinality::Optional => Repetition::Implicit,
        };
        let inner = match wish {
            Some(DataType::List(item)) if repetition == Repetition::Repeated => Some(item.data_type()),
            Some(DataType::Map(entries, _)) if repetition == Repetition::Map => Some(entries.data_type()),
            // What does not fit is told when the columns are compared.
            _ if matches!(repetition, Repetition::Repeated | Repetition::Map) => None,
            other => other,
        };
        let value = Value::of(&field.kind(), inner, outer).map_err(|e| format!("field `{}`: {e}", field.name()))?;
        let data_type = match repetition {
            Repetition::Repeated => DataType::List(Arc::new(Field::new_list_field(value.data_type(), false))),
            Repetition::Map => DataType::Map(Arc::new(Field::new("entries", value.entries()?, false)), false),
            _ => value.data_type(),
        };
        let column = Arc::new(Field::new(field.name(), data_type, repetition == Repetition::Optional));
        Ok(Self { number: field.number(), column, repetition, value, rivals: Vec::new() })
    }
}

impl Value {
    fn of(kind: &Kind, wish: Option<&DataType>, outer: &mut Vec<String>) -> Result<Self, String> {
        let Kind::Message(message) = kind else {
            return Scalar::of(kind).map(Self::Scalar).ok_or_else(|| "a type without a form".to_owned());
        };
        let wrapped = || message.get_field_by_name("value").and_then(|value| Scalar::of(&value.kind()));
        match message.full_name() {
            "google.protobuf.Timestamp" if !matches!(wish, Some(DataType::Struct(_))) => Ok(Self::Timestamp(match wish {
                Some(DataType::Timestamp(unit, _)) => *unit,
                _ => TimeUnit::Nanosecond,
            })),
            name if !matches!(wish, Some(DataType::Struct(_))) && is_wrapper(name) => {
                wrapped().map(Self::Wrapper).ok_or_else(|| format!("`{name}` has no value"))
            }
            _ => {
                let wanted = match wish {
                    Some(DataType::Struct(fields)) => Some(fields),
                    Some(other) => {
                        let other = karez_core::sql_type::to_sql(other);
                        return Err(format!("the message `{}` does not become {other}; declare a `row<…>`", message.full_name()));
                    }
                    None => None,
                };
                Shape::inside(message, wanted, outer).map(Self::Message)
            }
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Scalar(scalar) | Self::Wrapper(scalar) => scalar.data_type(),
            Self::Timestamp(unit) => DataType::Timestamp(*unit, Some("UTC".into())),
            Self::Message(shape) => DataType::Struct(shape.columns()),
        }
    }

    /// The type of a map's entries: keys are there always.
    fn entries(&self) -> Result<DataType, String> {
        match self {
            Self::Message(shape) if shape.fields.len() == 2 => {
                let pair: Vec<Field> = shape.fields.iter().map(|f| f.column.as_ref().clone()).collect();
                Ok(DataType::Struct(pair.into()))
            }
            _ => Err("a map of no keys and values".to_owned()),
        }
    }
}

fn is_wrapper(name: &str) -> bool {
    let Some(name) = name.strip_prefix("google.protobuf.").and_then(|n| n.strip_suffix("Value")) else { return false };
    matches!(name, "Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes")
}

impl Scalar {
    fn of(kind: &Kind) -> Option<Self> {
        Some(match kind {
            Kind::Bool => Self::Bool,
            Kind::Int32 => Self::Int32,
            Kind::Sint32 => Self::Sint32,
            Kind::Sfixed32 => Self::Sfixed32,
            Kind::Uint32 => Self::Uint32,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Int64 => Self::Int64,
            Kind::Sint64 => Self::Sint64,
            Kind::Sfixed64 => Self::Sfixed64,
            Kind::Uint64 => Self::Uint64,
            Kind::Fixed64 => Self::Fixed64,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Enum(names) => Self::Enum(Arc::new(EnumNames::of(names))),
            Kind::Message(_) => return None,
        })
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 | Self::Sint32 | Self::Sfixed32 => DataType::Int32,
            Self::Uint32 | Self::Fixed32 => DataType::UInt32,
            Self::Int64 | Self::Sint64 | Self::Sfixed64 => DataType::Int64,
            Self::Uint64 | Self::Fixed64 => DataType::UInt64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::String | Self::Enum(_) => DataType::Utf8,
            Self::Bytes => DataType::Binary,
        }
    }

    /// Its wire type.
    pub(super) const fn wire_type(&self) -> u8 {
        match self {
            Self::Fixed64 | Self::Sfixed64 | Self::Double => 1,
            Self::String | Self::Bytes => 2,
            Self::Fixed32 | Self::Sfixed32 | Self::Float => 5,
            _ => 0,
        }
    }
}

impl EnumNames {
    fn of(names: &EnumDescriptor) -> Self {
        let mut by_number = HashMap::new();
        let mut by_name = HashMap::new();
        for value in names.values() {
            // Of two names for a number, the first.
            by_number.entry(value.number()).or_insert_with(|| value.name().to_owned());
            by_name.insert(value.name().to_owned(), value.number());
        }
        Self { names: by_number, numbers: by_name }
    }
}
