//! The Avro schema of columns.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde_json::{Value, json};

/// The schema of a record of these columns, for writing them.
pub(super) fn derive(schema: &Schema, name: &str, namespace: Option<&str>) -> Result<String, String> {
    let mut record = record(schema.fields(), name)?;
    if let Some(namespace) = namespace {
        if !namespace.split('.').all(is_name) {
            return Err(format!("`{namespace}` is no Avro namespace"));
        }
        record["namespace"] = Value::String(namespace.to_owned());
    }
    Ok(record.to_string())
}

fn record(fields: &Fields, name: &str) -> Result<Value, String> {
    if !is_name(name) {
        return Err(format!("`{name}` is no Avro name (letters, digits and `_`, no digit first); rename it, or give a `schema`"));
    }
    let fields = fields.iter().map(|field| {
        if !is_name(field.name()) {
            return Err(format!("column `{}` is no Avro name (letters, digits and `_`, no digit first); rename it", field.name()));
        }
        let inner = value(field, name)?;
        Ok(if field.is_nullable() {
            json!({ "name": field.name(), "type": inner, "default": null })
        } else {
            json!({ "name": field.name(), "type": inner })
        })
    });
    Ok(json!({ "type": "record", "name": name, "fields": fields.collect::<Result<Vec<_>, _>>()? }))
}

/// The type of a field inside the record `parent`.
fn value(field: &Field, parent: &str) -> Result<Value, String> {
    let plain = of(field, parent)?;
    Ok(if field.is_nullable() { json!(["null", plain]) } else { plain })
}

fn of(field: &Field, parent: &str) -> Result<Value, String> {
    let logical = |base: &str, logical: &str| json!({ "type": base, "logicalType": logical });
    let instant = |unit: &str, zone: bool| logical("long", &if zone { format!("timestamp-{unit}") } else { format!("local-timestamp-{unit}") });
    Ok(match field.data_type() {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => json!("long"),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        t if t.is_string() => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => json!("bytes"),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) if *s >= 0 => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": p, "scale": s })
        }
        DataType::Date32 | DataType::Date64 => logical("int", "date"),
        DataType::Time32(_) => logical("int", "time-millis"),
        DataType::Time64(TimeUnit::Microsecond) => logical("long", "time-micros"),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => instant("millis", zone.is_some()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => instant("micros", zone.is_some()),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => instant("nanos", zone.is_some()),
        DataType::Dictionary(_, values) => of(&Field::new(field.name(), values.as_ref().clone(), true), parent)?,
        DataType::List(item) => json!({ "type": "array", "items": value(&item.as_ref().clone().with_name(field.name()), parent)? }),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 && pair[0].data_type().is_string() => {
                json!({ "type": "map", "values": value(&pair[1].as_ref().clone().with_name(field.name()), parent)? })
            }
            _ => return Err(format!("column `{}`: a map in Avro has strings for keys", field.name())),
        },
        DataType::Struct(fields) => record(fields, &format!("{parent}_{}", field.name()))?,
        other => {
            return Err(format!("column `{}`: Avro has no form for {}; cast it", field.name(), karez_core::sql_type::to_sql(other)));
        }
    })
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}
