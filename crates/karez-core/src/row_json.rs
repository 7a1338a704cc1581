//! A row as JSON text, for people and for dead letters.

use std::sync::Arc;

use arrow::array::types::{ArrowPrimitiveType, Float32Type, Float64Type, Int64Type};
use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;

/// The rows of a batch as JSON objects, one on each line. A date or an instant that has no text, of a year past 262,142 say, is its number: days, or the
/// units of its type since 1970, and NaN and infinities are texts, as [`crate::dead_letter::row_batch`] takes them back.
///
/// # Errors
/// JSON has no form for a type.
pub fn rows(batch: &RecordBatch, explicit_nulls: bool) -> Result<String, ArrowError> {
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(explicit_nulls).with_encoder_factory(Arc::new(Whole));
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    writer.write(batch)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// Encoders of values that `arrow-json`'s do not write whole: in the place of a date or time without text they write that of an error, and null for NaN and
/// infinities.
#[derive(Debug)]
struct Whole;

impl EncoderFactory for Whole {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let nulls = || array.nulls().cloned();
        let width = match array.data_type() {
            DataType::Float32 => return Ok(Some(NullableEncoder::new(Box::new(Float(array.as_primitive::<Float32Type>())), nulls()))),
            DataType::Float64 => return Ok(Some(NullableEncoder::new(Box::new(Float(array.as_primitive::<Float64Type>())), nulls()))),
            DataType::Date32 | DataType::Time32(_) => DataType::Int32,
            DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(_, _) => DataType::Int64,
            _ => return Ok(None),
        };
        const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
        let numbers = cast(&cast(array, &width)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        let encoder = Temporal { formatter: ArrayFormatter::try_new(array, &OPTIONS)?, numbers, text: String::new() };
        Ok(Some(NullableEncoder::new(Box::new(encoder), nulls())))
    }
}

struct Float<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType> Encoder for Float<'_, T>
where
    T::Native: Into<f64> + Serialize,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let double: f64 = value.into();
        if double.is_finite() {
            // Writing to a vector does not fail.
            let _ = serde_json::to_writer(out, &value);
        } else if double.is_nan() {
            out.extend(b"\"NaN\"");
        } else {
            out.extend(if double > 0.0 { &b"\"Infinity\""[..] } else { b"\"-Infinity\"" });
        }
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
