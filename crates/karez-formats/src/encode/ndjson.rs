//! One JSON object per line, on `arrow-json`'s encoders.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::instant::Instants;
use super::{EncodeError, Encoder, refuse_types};

/// How NDJSON is written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NdjsonOptions {
    /// Leave keys out whose value is null, instead of writing `null`. With all keys in every record a reader can predict the layout.
    pub omit_nulls: bool,
}

/// Writes NDJSON. Timestamps are ISO 8601, binary is hexadecimal, NaN and infinities, which JSON does not have, are `null`.
#[derive(Debug)]
pub struct NdjsonEncoder {
    field: FieldRef,
    options: EncoderOptions,
    faults: Arc<Faults>,
}

impl NdjsonEncoder {
    /// An encoder for rows of `schema`. Refuses what JSON has no form for.
    pub fn new(schema: SchemaRef, options: &NdjsonOptions) -> Result<Self, EncodeError> {
        refuse_types(&schema, |t| unsupported(t).then_some("JSON has no form for it; cast it"))?;
        let faults = Arc::new(Faults::default());
        let encoders =
            EncoderOptions::default().with_explicit_nulls(!options.omit_nulls).with_encoder_factory(Arc::clone(&faults) as Arc<dyn EncoderFactory>);
        Ok(Self { field: Arc::new(Field::new_struct("", schema.fields().clone(), false)), options: encoders, faults })
    }
}

fn unsupported(t: &DataType) -> bool {
    match t {
        DataType::Union(_, _) => true,
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                !matches!(fields[0].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) || unsupported(fields[1].data_type())
            }
            _ => true,
        },
        DataType::Struct(fields) => fields.iter().any(|f| unsupported(f.data_type())),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::RunEndEncoded(_, f) => unsupported(f.data_type()),
        DataType::Dictionary(_, v) => unsupported(v),
        _ => false,
    }
}

impl NdjsonEncoder {
    /// Calls `each` for every row of a batch with what appends its object, without a line feed, or says why it cannot.
    pub(crate) fn each_row(
        &self,
        batch: &RecordBatch,
        mut each: impl FnMut(&mut dyn FnMut(&mut Vec<u8>) -> Result<(), String>),
    ) -> Result<(), EncodeError> {
        let rows = StructArray::from(batch.clone());
        let mut encoder = make_encoder(&self.field, &rows, &self.options).map_err(|e| EncodeError(e.to_string()))?;
        for row in 0..batch.num_rows() {
            each(&mut |out| {
                encoder.encode(row, out);
                self.faults.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
            });
        }
        Ok(())
    }
}

impl Encoder for NdjsonEncoder {
    fn encode(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut outcome = Ok(());
        self.each_row(batch, |append| {
            let appended = append(out);
            out.push(b'\n');
            if outcome.is_ok() {
                outcome = appended.map_err(EncodeError);
            }
        })?;
        outcome
    }
}

/// Encoders where `arrow-json`'s do not serve: text is looked through and copied, not gone through byte by byte; and of dates and times a value that has no
/// text (a year past 262,142, say) is remembered, in whose place `arrow-json` writes the text of the error.
#[derive(Debug, Default)]
struct Faults(Arc<Mutex<Option<String>>>);

impl EncoderFactory for Faults {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if let Some(texts) = array.as_string_opt::<i32>() {
            return Ok(Some(NullableEncoder::new(Box::new(Text(texts)), array.nulls().cloned())));
        }
        if !array.data_type().is_temporal() {
            return Ok(None);
        }
        const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
        let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
        let encoder = Temporal { column: field.name(), instants: Instants::of(array), formatter, text: String::new(), faults: Arc::clone(&self.0) };
        Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
    }
}

/// Text, most of which has nothing that JSON escapes.
struct Text<'a>(&'a StringArray);

impl arrow::json::writer::Encoder for Text<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = self.0.value(row);
        // Without a way out in the middle this is compiled to vector instructions.
        let escaped = text.bytes().fold(false, |any, b| any | (b < b' ') | (b == b'"') | (b == b'\\'));
        if escaped {
            return escape(text, out);
        }
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

fn escape(text: &str, out: &mut Vec<u8>) {
    // Writing to a vector does not fail.
    let _ = serde_json::to_writer(out, text);
}

struct Temporal<'a> {
    column: &'a str,
    instants: Option<Instants<'a>>,
    formatter: ArrayFormatter<'a>,
    text: String,
    faults: Arc<Mutex<Option<String>>>,
}

impl arrow::json::writer::Encoder for Temporal<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        // Its text is digits, signs and letters: nothing that JSON escapes.
        out.push(b'"');
        if self.instants.as_ref().is_some_and(|i| i.write(row, out)) {
            out.push(b'"');
            return;
        }
        self.text.clear();
        if let Err(e) = self.formatter.value(row).write(&mut self.text) {
            self.faults.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| format!("column `{}`: {e}", self.column));
        }
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_escaped_as_serde_json_does_wherever_the_character_stands() {
        let characters = (0..=0x7f_u8).map(char::from).chain(['é', '中', '\u{2028}', '🦀']);
        let texts: Vec<String> = characters.flat_map(|c| [0, 1, 15, 16, 40].map(|n| format!("{0}{c}{0}", "x".repeat(n)))).collect();
        let column: Arc<dyn Array> = Arc::new(StringArray::from_iter(texts.iter().map(Some).chain([None])));
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let mut out = Vec::new();
        NdjsonEncoder::new(batch.schema(), &NdjsonOptions::default()).unwrap().encode(&batch, &mut out).unwrap();
        let expected: String = texts.iter().map(|t| format!("{}\n", serde_json::json!({ "text": t }))).chain(["{\"text\":null}\n".into()]).collect();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
