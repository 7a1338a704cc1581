//! The `.proto` text of columns.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, Field, Fields, Schema};

/// The name of the message that is made.
pub(super) const MESSAGE: &str = "Record";

/// A schema of one message with these columns, numbered in their order, for writing them.
pub(super) fn derive(schema: &Schema) -> Result<String, String> {
    let mut timestamps = false;
    let message = message(schema.fields(), MESSAGE, "", &mut timestamps)?;
    let import = if timestamps { "import \"google/protobuf/timestamp.proto\";\n" } else { "" };
    Ok(format!("syntax = \"proto3\";\n{import}{message}"))
}

fn message(fields: &Fields, name: &str, indent: &str, timestamps: &mut bool) -> Result<String, String> {
    let mut out = format!("{indent}message {name} {{\n");
    let inner = format!("{indent}  ");
    for (number, field) in fields.iter().enumerate() {
        if !is_name(field.name()) {
            return Err(format!("column `{}` is no Protobuf name (letters, digits and `_`, no digit first); rename it", field.name()));
        }
        let (label, value) = match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) => ("repeated ", item.as_ref().clone().with_name(field.name())),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && is_key(pair[0].data_type()) => {
                    let key = type_name(&pair[0], &mut out, &inner, timestamps)?;
                    let value = type_name(&pair[1].as_ref().clone().with_name(field.name()), &mut out, &inner, timestamps)?;
                    // Writing to a string does not fail.
                    let _ = writeln!(out, "{inner}map<{key}, {value}> {} = {};", field.name(), number + 1);
                    continue;
                }
                _ => return Err(format!("column `{}`: a map in Protobuf has strings, integers or booleans for keys", field.name())),
            },
            _ => (if field.is_nullable() { "optional " } else { "" }, field.as_ref().clone()),
        };
        let value = type_name(&value, &mut out, &inner, timestamps)?;
        let _ = writeln!(out, "{inner}{label}{value} {} = {};", field.name(), number + 1);
    }
    let _ = writeln!(out, "{indent}}}");
    Ok(out)
}

/// The type of a value; a row's is defined in `out` first.
fn type_name(field: &Field, out: &mut String, indent: &str, timestamps: &mut bool) -> Result<String, String> {
    let name = match field.data_type() {
        DataType::Boolean => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        t if t.is_string() => "string",
        // ISO 8601, and digits with their point.
        t if t.is_decimal() => "string",
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => "string",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        DataType::Timestamp(_, _) => {
            *timestamps = true;
            "google.protobuf.Timestamp"
        }
        DataType::Dictionary(_, values) => {
            return type_name(&Field::new(field.name(), values.as_ref().clone(), true), out, indent, timestamps);
        }
        DataType::Struct(fields) => {
            let name: String = field.name().split('_').map(capitalised).collect::<String>() + "Row";
            let definition = message(fields, &name, indent, timestamps)?;
            out.push_str(&definition);
            return Ok(name);
        }
        other => {
            return Err(format!("column `{}`: Protobuf has no form for {} here", field.name(), karez_core::sql_type::to_sql(other)));
        }
    };
    Ok(name.to_owned())
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn is_key(data_type: &DataType) -> bool {
    data_type.is_string() || data_type.is_integer() || *data_type == DataType::Boolean
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
}
