//! Columns of one type as those of another, where nothing is lost by it: between the types of a schema language and those that a job declares.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryBuilder, Int32Builder, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StringBuilder, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, SchemaRef};
use arrow::error::ArrowError;

/// The key under which `arrow-avro` keeps the symbols of an enum (a JSON list) in a field's metadata.
const ENUM_SYMBOLS: &str = "avro.enum.symbols";

/// Which column of a batch each column of a schema is made of.
pub(super) struct Conform {
    to: SchemaRef,
    /// `None`: a column of nulls.
    sources: Vec<Option<usize>>,
}

impl Conform {
    /// Columns of `to`, found in `from` by name. One that is missing there is null.
    ///
    /// # Errors
    ///
    /// A missing column that must not be null, or one whose type does not become the other.
    pub(super) fn by_name(from: &Fields, to: &SchemaRef) -> Result<Self, String> {
        let sources = to.fields().iter().map(|field| match from.find(field.name()) {
            Some((place, found)) => check(found, field).map(|()| Some(place)).map_err(|e| format!("column `{}`: {e}", field.name())),
            None if field.is_nullable() => Ok(None),
            None => Err(format!("there is no `{}`, and the column must not be null", field.name())),
        });
        Ok(Self { sources: sources.collect::<Result<_, _>>()?, to: Arc::clone(to) })
    }

    /// The rows in the other schema. An error may be of one row alone.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let columns = self.sources.iter().zip(self.to.fields()).map(|(source, field)| match source {
            Some(place) => convert(batch.column(*place), field).map_err(|e| format!("column `{}`: {e}", field.name())),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.to), columns, &options).map_err(|e| match e {
            ArrowError::InvalidArgumentError(why) => why,
            other => other.to_string(),
        })
    }
}

/// Whether values of one type become those of another without loss (instants and times of day may lose digits behind the second).
fn check(from: &Field, to: &Field) -> Result<(), String> {
    use DataType as T;
    let fits = match (from.data_type(), to.data_type()) {
        (a, b) if a == b => true,
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => return check(&Field::new("", values.as_ref().clone(), true), to),
        (a, T::Dictionary(_, _)) => a.is_string(),
        (T::Struct(a), T::Struct(b)) => {
            return b.iter().try_for_each(|field| match a.find(field.name()) {
                Some((_, found)) => check(found, field).map_err(|e| format!("`{}`: {e}", field.name())),
                None if field.is_nullable() => Ok(()),
                None => Err(format!("there is no `{}`, which must not be null", field.name())),
            });
        }
        (T::List(a), T::List(b)) => return check(a, b),
        (T::Map(a, _), T::Map(b, _)) => {
            let (Some((ka, va)), Some((kb, vb))) = (entries(a), entries(b)) else { return Err("a map of no keys and values".to_owned()) };
            return check(ka, kb).and_then(|()| check(va, vb));
        }
        (T::FixedSizeBinary(16), T::Utf8) | (T::Utf8, T::FixedSizeBinary(16)) => true,
        (a, b) if a.is_integer() => b.is_integer() || b.is_decimal() || b.is_string() || *b == T::Float64,
        (a, b) if a.is_decimal() => b.is_string() || (b.is_decimal() && scale(a) <= scale(b)),
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) => true,
        (a, b) if a.is_floating() || *a == T::Boolean => b.is_string(),
        (T::Timestamp(..), T::Timestamp(..)) | (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Date32, T::Date64) | (T::Date64, T::Date32) => true,
        (a, b) if a.is_temporal() => b.is_string(),
        (a, b) if a.is_string() || is_binary(a) => b.is_string() || is_binary(b),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{} does not become {}", name(from.data_type()), name(to.data_type()))) }
}

fn name(data_type: &DataType) -> String {
    karez_core::sql_type::to_sql(data_type)
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => *s,
        _ => 0,
    }
}

/// Key and value of a map's entries.
fn entries(field: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match field.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

/// An array as one of another type, for which [`check`] has said yes.
fn convert(array: &ArrayRef, to: &Field) -> Result<ArrayRef, String> {
    use DataType as T;
    match (array.data_type(), to.data_type()) {
        (a, b) if a == b => Ok(Arc::clone(array)),
        (T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Dictionary(_, _), T::Dictionary(_, _)) => symbols(array, to),
        (T::FixedSizeBinary(16), T::Utf8) => Ok(uuid_text(array)),
        (T::Utf8, T::FixedSizeBinary(16)) => uuid_bytes(array),
        (T::Struct(_), T::Struct(fields)) => {
            let rows = array.as_struct();
            let columns = fields.iter().map(|field| match rows.column_by_name(field.name()) {
                Some(column) => convert(column, field).map_err(|e| format!("`{}`: {e}", field.name())),
                None => Ok(new_null_array(field.data_type(), rows.len())),
            });
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(rows.len(), rows.nulls().cloned())));
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, rows.nulls().cloned()).map_err(text)?))
        }
        (T::List(_), T::List(item)) => {
            let list = array.as_list::<i32>();
            let values = convert(list.values(), item)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned()).map_err(text)?))
        }
        (T::Map(_, _), T::Map(field, sorted)) => {
            let map = array.as_map();
            let Some((key, value)) = entries(field) else { return Err("a map of no keys and values".to_owned()) };
            let columns = vec![convert(map.keys(), key)?, convert(map.values(), value)?];
            let pairs = StructArray::try_new(Fields::from(vec![Arc::clone(key), Arc::clone(value)]), columns, None).map_err(text)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(field), map.offsets().clone(), pairs, map.nulls().cloned(), *sorted).map_err(text)?))
        }
        (_, other) => cast_with_options(array, other, &CastOptions { safe: false, ..CastOptions::default() }).map_err(text),
    }
}

#[allow(clippy::needless_pass_by_value)] // it is a function for `map_err`
fn text(error: ArrowError) -> String {
    match error {
        ArrowError::CastError(why) | ArrowError::ParseError(why) | ArrowError::InvalidArgumentError(why) | ArrowError::ArithmeticOverflow(why) => why,
        other => other.to_string(),
    }
}

/// Texts as the symbols of an enum, in the order of its schema.
fn symbols(array: &ArrayRef, to: &Field) -> Result<ArrayRef, String> {
    let known: Vec<String> = to.metadata().get(ENUM_SYMBOLS).and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    let texts = cast_with_options(array, &DataType::Utf8, &CastOptions { safe: false, ..CastOptions::default() }).map_err(text)?;
    let mut keys = Int32Builder::new();
    for value in texts.as_string::<i32>() {
        match value.map(|value| (value, known.iter().position(|k| k == value))) {
            None => keys.append_null(),
            Some((_, Some(place))) => keys.append_value(i32::try_from(place).map_err(|e| e.to_string())?),
            Some((value, None)) => return Err(format!("`{value}` is none of the symbols {}", known.join(", "))),
        }
    }
    let values = Arc::new(arrow::array::StringArray::from_iter_values(&known));
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys.finish(), values).map_err(text)?))
}

/// UUIDs as texts.
fn uuid_text(array: &ArrayRef) -> ArrayRef {
    let mut out = StringBuilder::new();
    for value in array.as_fixed_size_binary() {
        out.append_option(value.map(|bytes| {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }));
    }
    Arc::new(out.finish())
}

/// Texts as UUIDs.
fn uuid_bytes(array: &ArrayRef) -> Result<ArrayRef, String> {
    let mut out = FixedSizeBinaryBuilder::new(16);
    for value in array.as_string::<i32>() {
        let Some(value) = value else {
            out.append_null();
            continue;
        };
        let digits: String = value.chars().filter(|c| *c != '-').collect();
        let number = if digits.len() == 32 { u128::from_str_radix(&digits, 16).ok() } else { None };
        let number = number.ok_or_else(|| format!("`{value}` is no UUID"))?;
        out.append_value(number.to_be_bytes()).map_err(text)?;
    }
    Ok(Arc::new(out.finish()))
}
