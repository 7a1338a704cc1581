//! Avro schemas as JSON: references put in, the record that a batch needs at the top, the columns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow_avro::codec::Tz;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use serde_json::{Map, Value, json};

use crate::message::RegisteredSchema;

/// The fingerprint that every schema has here, one to a decoder: [`PREFIX`] says so to `arrow-avro`.
const FINGERPRINT: Fingerprint = Fingerprint::Id(0);

/// What `arrow-avro` wants before a datum.
pub(super) const PREFIX: [u8; 5] = [0; 5];

/// Most levels of a schema.
const DEPTH_LIMIT: usize = 64;

/// A schema whose top is a record. Of another, the record of one field that is encoded in the same way.
#[derive(Clone, Debug)]
pub(super) struct RecordSchema {
    json: Value,
    /// The schema was no record: it is the only field.
    pub(super) wrapped: bool,
}

impl RecordSchema {
    /// Parses a text. `only`: the name of the field that a schema which is no record becomes.
    pub(super) fn parse(text: &str, only: Option<&str>) -> Result<Self, String> {
        let json = match serde_json::from_str::<Value>(text) {
            Ok(json) => json,
            // A bare name, as in `schema: long`.
            Err(_) if text.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)) => Value::String(text.to_owned()),
            Err(e) => return Err(format!("the Avro schema is no JSON: {e}")),
        };
        Self::new(json, only)
    }

    /// A registry's, with what it refers to put in.
    pub(super) fn of(schema: &RegisteredSchema, only: Option<&str>) -> Result<Self, String> {
        if schema.references.is_empty() {
            return Self::parse(&schema.text, only);
        }
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| format!("the Avro schema is no JSON: {e}"));
        let known = schema.references.iter().map(|r| Ok((r.name.clone(), parse(&r.text)?))).collect::<Result<HashMap<_, _>, String>>()?;
        let mut json = parse(&schema.text)?;
        Inline { known, defined: HashSet::new() }.visit(&mut json, None, 0)?;
        Self::new(json, only)
    }

    fn new(json: Value, only: Option<&str>) -> Result<Self, String> {
        // `{"type": {"type": "record", …}}` is what it holds.
        let json = match json {
            Value::Object(mut map) if map.get("type").is_some_and(Value::is_object) => map.remove("type").unwrap_or_default(),
            other => other,
        };
        if json.get("type").and_then(Value::as_str) == Some("record") && json.get("fields").is_some_and(Value::is_array) {
            return Ok(Self { json, wrapped: false });
        }
        let Some(name) = only else {
            return Err("the Avro schema is no record, so its value is one column: declare just that".to_owned());
        };
        Ok(Self { json: json!({ "type": "record", "name": "karez_value", "fields": [{ "name": name, "type": json }] }), wrapped: true })
    }

    /// The names of its fields.
    pub(super) fn fields(&self) -> Vec<&str> {
        let fields = self.json.get("fields").and_then(Value::as_array);
        fields.into_iter().flatten().filter_map(|f| f.get("name").and_then(Value::as_str)).collect()
    }

    /// The record's full name.
    pub(super) fn full_name(&self) -> String {
        let text = |key: &str| self.json.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        match (text("namespace"), text("name").unwrap_or_default()) {
            (Some(namespace), name) if !name.contains('.') => format!("{namespace}.{name}"),
            (_, name) => name.to_owned(),
        }
    }

    /// Its text; of a wrapped one, that of the schema inside.
    pub(super) fn text(&self) -> String {
        if self.wrapped { self.json["fields"][0]["type"].to_string() } else { self.json.to_string() }
    }

    pub(super) fn avro(&self) -> AvroSchema {
        AvroSchema::new(self.json.to_string())
    }

    /// The fingerprint of the single-object encoding.
    pub(super) fn fingerprint(&self) -> Result<u64, String> {
        match AvroSchema::new(self.text()).fingerprint(FingerprintAlgorithm::Rabin).map_err(|e| e.to_string())? {
            Fingerprint::Rabin(fingerprint) => Ok(fingerprint),
            _ => Err("no fingerprint".to_owned()),
        }
    }

    /// A decoder of data that were written with this schema to the fields at `projection` of `reader`, or of itself.
    pub(super) fn decoder(&self, reader: Option<&Self>, projection: &[usize]) -> Result<Decoder, String> {
        let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
        store.set(FINGERPRINT, self.avro()).map_err(|e| e.to_string())?;
        let mut builder = ReaderBuilder::new()
            .with_writer_schema_store(store)
            .with_active_fingerprint(FINGERPRINT)
            .with_batch_size(1 << 31)
            .with_tz(Tz::Utc)
            .with_projection(projection.to_vec());
        if let Some(reader) = reader {
            builder = builder.with_reader_schema(reader.avro());
        }
        builder.build_decoder().map_err(|e| e.to_string())
    }

    /// Its columns as `arrow-avro` has them.
    pub(super) fn arrow(&self) -> Result<SchemaRef, String> {
        let every: Vec<usize> = (0..self.fields().len()).collect();
        Ok(self.decoder(None, &every)?.schema())
    }

    /// Its columns as a job has them: enums and UUIDs are strings.
    pub(super) fn columns(&self) -> Result<SchemaRef, String> {
        let fields = self.arrow()?.fields().iter().map(|f| plain(f)).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// A column without what is Avro's own.
fn plain(field: &Field) -> Result<Arc<Field>, String> {
    let inner = |f: &Arc<Field>| plain(f);
    let data_type = match field.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::FixedSizeBinary(16) if is_uuid(field) => DataType::Utf8,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Result<Fields, _>>()?),
        DataType::List(item) => DataType::List(plain(item)?),
        DataType::Map(entries, sorted) => DataType::Map(plain(entries)?, *sorted),
        DataType::Union(_, _) => {
            return Err(format!(
                "`{}` is a union of several types, for which there is no column type: leave it out of the declared columns",
                field.name()
            ));
        }
        DataType::Interval(_) => return Err(format!("`{}` is a duration, for which there is no column type: leave it out", field.name())),
        other => other.clone(),
    };
    Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
}

fn is_uuid(field: &Field) -> bool {
    field.metadata().get("logicalType").is_some_and(|t| t == "uuid")
}

/// Puts in the definitions of names that other schemas define: where a name stands first.
struct Inline {
    known: HashMap<String, Value>,
    defined: HashSet<String>,
}

impl Inline {
    fn visit(&mut self, schema: &mut Value, namespace: Option<&str>, depth: usize) -> Result<(), String> {
        if depth > DEPTH_LIMIT {
            return Err(format!("the Avro schema nests more than {DEPTH_LIMIT} levels deep"));
        }
        match schema {
            Value::String(name) => {
                let full = if name.contains('.') { name.clone() } else { namespace.map_or_else(|| name.clone(), |ns| format!("{ns}.{name}")) };
                let found = [&full, name].into_iter().find(|n| self.known.contains_key(*n)).cloned();
                let Some((full, mut definition)) = found.and_then(|n| self.known.get(&n).cloned().map(|d| (n, d))) else { return Ok(()) };
                if self.defined.insert(full.clone()) {
                    // In no other namespace than its own.
                    if let Value::Object(map) = &mut definition {
                        let own = map.get("name").and_then(Value::as_str).is_some_and(|n| n.contains('.'));
                        if !own && !map.contains_key("namespace") {
                            map.insert("namespace".to_owned(), Value::String(String::new()));
                        }
                    }
                    self.visit(&mut definition, None, depth + 1)?;
                    *schema = definition;
                } else {
                    *schema = Value::String(full);
                }
                Ok(())
            }
            Value::Array(branches) => branches.iter_mut().try_for_each(|branch| self.visit(branch, namespace, depth + 1)),
            Value::Object(map) => self.object(map, namespace, depth),
            _ => Ok(()),
        }
    }

    fn object(&mut self, map: &mut Map<String, Value>, namespace: Option<&str>, depth: usize) -> Result<(), String> {
        let own = map.get("namespace").and_then(Value::as_str).map(str::to_owned);
        let by_name = map.get("name").and_then(Value::as_str).and_then(|n| n.rsplit_once('.')).map(|(ns, _)| ns.to_owned());
        let namespace = by_name.or(own).or_else(|| namespace.map(str::to_owned)).filter(|ns| !ns.is_empty());
        let namespace = namespace.as_deref();
        for key in ["type", "items", "values"] {
            if let Some(inner) = map.get_mut(key) {
                self.visit(inner, namespace, depth + 1)?;
            }
        }
        for field in map.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(inner) = field.get_mut("type") {
                self.visit(inner, namespace, depth + 1)?;
            }
        }
        Ok(())
    }
}
