//! Lines of text.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_core::sql_type::to_sql;

use super::{EncodeError, Encoder};

/// Writes the only column, text or binary, as it is, one value per line. A null or a value with a line break is refused: neither could be read back.
#[derive(Debug)]
pub struct TextEncoder {
    schema: SchemaRef,
}

impl TextEncoder {
    /// An encoder for rows of `schema`: one column, text or binary.
    pub fn new(schema: SchemaRef) -> Result<Self, EncodeError> {
        let names = || schema.fields().iter().map(|f| format!("`{}` ({})", f.name(), to_sql(f.data_type()))).collect::<Vec<_>>().join(", ");
        match schema.fields().as_ref() {
            [field] if matches!(value_type(field.data_type()), DataType::Utf8 | DataType::Binary) => Ok(Self { schema }),
            _ => Err(EncodeError(format!(
                "format `text` takes one column of text or binary, but there are: {}; select one, or use another format",
                names()
            ))),
        }
    }
}

/// The plain type that every text or binary type is cast to.
fn value_type(t: &DataType) -> DataType {
    match t {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, v) => value_type(v),
        other => other.clone(),
    }
}

impl Encoder for TextEncoder {
    fn encode(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let name = self.schema.field(0).name();
        let values = arrow::compute::cast(batch.column(0), &DataType::LargeBinary)
            .or_else(|_| arrow::compute::cast(&arrow::compute::cast(batch.column(0), &DataType::Binary)?, &DataType::LargeBinary))
            .map_err(|e| EncodeError(format!("column `{name}`: {e}")))?;
        let values = values.as_binary::<i64>();
        if values.null_count() > 0 {
            return Err(EncodeError(format!("column `{name}`: a line of text cannot hold null")));
        }
        for value in values.iter().flatten() {
            if memchr::memchr(b'\n', value).is_some() {
                return Err(EncodeError(format!("column `{name}`: the value holds a line break")));
            }
            out.extend_from_slice(value);
            out.push(b'\n');
        }
        Ok(())
    }
}
