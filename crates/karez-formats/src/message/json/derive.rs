//! The JSON Schema of columns.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::{Map, Value, json};

/// The title of a schema that is made.
pub(super) const TITLE: &str = "Record";

/// A schema of objects with these columns, for writing them.
pub(super) fn derive(schema: &Schema, omit_nulls: bool) -> String {
    let mut record = object(schema.fields(), omit_nulls);
    record["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    record["title"] = json!(TITLE);
    record.to_string()
}

fn object(fields: &Fields, omit_nulls: bool) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|f| (f.name().clone(), value(f, omit_nulls))).collect();
    let required: Vec<&str> = fields.iter().filter(|f| !(omit_nulls && f.is_nullable())).map(|f| f.name().as_str()).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn value(field: &Field, omit_nulls: bool) -> Value {
    let plain = of(field.data_type(), omit_nulls);
    if !field.is_nullable() {
        return plain;
    }
    let simple = plain.get("type").and_then(Value::as_str).map(str::to_owned);
    match (simple, plain) {
        (Some(name), Value::Object(mut map)) => {
            map.insert("type".to_owned(), json!([name, "null"]));
            Value::Object(map)
        }
        (_, plain) => plain,
    }
}

/// What [`crate::encode::NdjsonEncoder`] writes for a type.
fn of(data_type: &DataType, omit_nulls: bool) -> Value {
    match data_type {
        DataType::Boolean => json!({ "type": "boolean" }),
        t if t.is_integer() => json!({ "type": "integer" }),
        // What JSON has no number for is null.
        t if t.is_floating() => json!({ "type": "number" }),
        t if t.is_decimal() => json!({ "type": "number" }),
        DataType::Dictionary(_, values) => of(values, omit_nulls),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => json!({ "type": "array", "items": value(item, omit_nulls) }),
        DataType::Struct(fields) => object(fields, omit_nulls),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => json!({ "type": "object", "additionalProperties": value(&pair[1], omit_nulls) }),
            _ => json!({ "type": "object" }),
        },
        DataType::Null => json!({ "type": "null" }),
        // Texts, and what is written as text: instants, dates, times, bytes.
        _ => json!({ "type": "string" }),
    }
}
