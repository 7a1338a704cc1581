//! A row as JSON text, for people and for dead letters.

use std::sync::Arc;

use arrow::array::types::Int64Type;
use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows of a batch as JSON objects, one on each line. A date or an instant that has no text, of a year past 262,142 say, is its number: days, or the
/// units of its type since 1970, as [`crate::dead_letter::row_batch`] takes it back.
///
/// # Errors
/// JSON has no form for a type.
pub fn rows(batch: &RecordBatch, explicit_nulls: bool) -> Result<String, ArrowError> {
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(explicit_nulls).with_encoder_factory(Arc::new(Temporals));
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    writer.write(batch)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Encoders of dates and times: `arrow-json`'s write the text of an error in the place of a value that has none.
#[derive(Debug)]
struct Temporals;

impl EncoderFactory for Temporals {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let width = match array.data_type() {
            DataType::Date32 | DataType::Time32(_) => DataType::Int32,
            DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(_, _) => DataType::Int64,
            _ => return Ok(None),
        };
        const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
        let numbers = cast(&cast(array, &width)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        let encoder = Temporal { formatter: ArrayFormatter::try_new(array, &OPTIONS)?, numbers, text: String::new() };
        Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
    }
}

struct Temporal<'a> {
    formatter: ArrayFormatter<'a>,
    numbers: PrimitiveArray<Int64Type>,
    text: String,
}

impl Encoder for Temporal<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.text.clear();
        // Its text is digits, signs and letters: nothing that JSON escapes.
        match self.formatter.value(row).write(&mut self.text) {
            Ok(()) => out.extend([b"\"", self.text.as_bytes(), b"\""].concat()),
            Err(_) => out.extend(self.numbers.value(row).to_string().bytes()),
        }
    }
}
