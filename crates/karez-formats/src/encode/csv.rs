//! CSV as RFC 4180 has it, with a null that is told from every text.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{EncodeError, Encoder, refuse_types};

/// How CSV is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// The byte between two fields.
    pub delimiter: u8,
    /// The byte around a field that holds a delimiter, a quote or a line break; doubled inside.
    pub quote: u8,
    /// What stands for null. A text that equals it is quoted, so that the two can be told apart.
    pub null_marker: String,
    /// Whether a file begins with the names of the columns.
    pub header: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', quote: b'"', null_marker: String::new(), header: true }
    }
}

/// Writes CSV with `\n` behind each record. Timestamps are ISO 8601, binary is hexadecimal.
#[derive(Debug)]
pub struct CsvEncoder {
    schema: SchemaRef,
    options: CsvOptions,
    /// Whether a byte makes a field need quotes.
    special: [bool; 256],
}

impl CsvEncoder {
    /// An encoder for rows of `schema`. Refuses nested columns and options that could not be read back.
    pub fn new(schema: SchemaRef, options: CsvOptions) -> Result<Self, EncodeError> {
        refuse_types(&schema, |t| {
            let nested = match t {
                DataType::Dictionary(_, values) => values.is_nested(),
                DataType::RunEndEncoded(_, values) => values.data_type().is_nested(),
                other => other.is_nested(),
            };
            nested.then_some("CSV holds no nested values; select its parts, or write NDJSON or Parquet")
        })?;
        let CsvOptions { delimiter, quote, null_marker, .. } = &options;
        if delimiter == quote || [*delimiter, *quote].iter().any(|b| matches!(b, b'\n' | b'\r')) {
            return Err(EncodeError("delimiter and quote must differ, and neither may be a line break".to_owned()));
        }
        if null_marker.bytes().any(|b| b == *delimiter || b == *quote || b == b'\n' || b == b'\r') {
            return Err(EncodeError(format!("the null value `{null_marker}` holds a delimiter, a quote or a line break")));
        }
        let mut special = [false; 256];
        for b in [options.delimiter, options.quote, b'\n', b'\r'] {
            special[usize::from(b)] = true;
        }
        Ok(Self { schema, options, special })
    }

    fn field(&self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(text);
        self.quote_if_needed(start, out);
    }

    /// Quotes what has been appended from `start` on, where it needs that.
    fn quote_if_needed(&self, start: usize, out: &mut Vec<u8>) {
        let text = &out[start..];
        // A single empty column would be an empty line, which readers pass over.
        let lonely = text.is_empty() && self.schema.fields().len() == 1;
        if !lonely && text != self.options.null_marker.as_bytes() && !text.iter().any(|b| self.special[usize::from(*b)]) {
            return;
        }
        let quote = self.options.quote;
        let text = out.split_off(start);
        out.push(quote);
        for b in text {
            if b == quote {
                out.push(quote);
            }
            out.push(b);
        }
        out.push(quote);
    }
}

/// One column of a batch, bound to the fastest way of writing it.
enum Column<'a> {
    Utf8(&'a arrow::array::StringArray),
    Utf8View(&'a arrow::array::StringViewArray),
    Signed(Box<dyn Fn(usize) -> i64 + 'a>),
    Unsigned(Box<dyn Fn(usize) -> u64 + 'a>),
    Other(ArrayFormatter<'a>),
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Result<Self, EncodeError> {
        macro_rules! integer {
            ($variant:ident, $type:ty) => {{
                let values = array.as_primitive::<$type>().values();
                Self::$variant(Box::new(move |row| values[row].into()))
            }};
        }
        Ok(match array.data_type() {
            DataType::Utf8 => Self::Utf8(array.as_string()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view()),
            DataType::Int8 => integer!(Signed, Int8Type),
            DataType::Int16 => integer!(Signed, Int16Type),
            DataType::Int32 => integer!(Signed, Int32Type),
            DataType::Int64 => integer!(Signed, Int64Type),
            DataType::UInt8 => integer!(Unsigned, UInt8Type),
            DataType::UInt16 => integer!(Unsigned, UInt16Type),
            DataType::UInt32 => integer!(Unsigned, UInt32Type),
            DataType::UInt64 => integer!(Unsigned, UInt64Type),
            _ => {
                const OPTIONS: FormatOptions<'static> = FormatOptions::new().with_display_error(false);
                Self::Other(ArrayFormatter::try_new(array, &OPTIONS).map_err(|e| EncodeError(e.to_string()))?)
            }
        })
    }
}

impl Encoder for CsvEncoder {
    fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.options.header {
            for (i, field) in self.schema.fields().iter().enumerate() {
                if i > 0 {
                    out.push(self.options.delimiter);
                }
                self.field(field.name().as_bytes(), &mut out);
            }
            out.push(b'\n');
        }
        out
    }

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

impl CsvEncoder {
    /// Calls `each` for every row of a batch with what appends its record, without a line feed, or says why it cannot.
    pub(crate) fn each_row(
        &self,
        batch: &RecordBatch,
        mut each: impl FnMut(&mut dyn FnMut(&mut Vec<u8>) -> Result<(), String>),
    ) -> Result<(), EncodeError> {
        let columns = batch.columns().iter().map(|c| Ok((Column::of(c)?, c.logical_nulls()))).collect::<Result<Vec<_>, EncodeError>>()?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            each(&mut |out| self.row(&columns, row, &mut text, out));
        }
        Ok(())
    }

    /// Appends the record of a row; `text` is for values that are formatted.
    fn row(&self, columns: &[(Column<'_>, Option<NullBuffer>)], row: usize, text: &mut String, out: &mut Vec<u8>) -> Result<(), String> {
        for (i, (column, nulls)) in columns.iter().enumerate() {
            if i > 0 {
                out.push(self.options.delimiter);
            }
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                out.extend_from_slice(self.options.null_marker.as_bytes());
                continue;
            }
            let start = out.len();
            match column {
                Column::Utf8(a) => out.extend_from_slice(a.value(row).as_bytes()),
                Column::Utf8View(a) => out.extend_from_slice(a.value(row).as_bytes()),
                // Writing to a Vec cannot fail; the formatter's own failure is a value without a text.
                Column::Signed(value) => write!(out, "{}", value(row)).map_err(|e| e.to_string())?,
                Column::Unsigned(value) => write!(out, "{}", value(row)).map_err(|e| e.to_string())?,
                Column::Other(formatter) => {
                    text.clear();
                    let written = formatter.value(row).write(text);
                    written.map_err(|e| format!("column `{}`: {e}", self.schema.field(i).name()))?;
                    out.extend_from_slice(text.as_bytes());
                }
            }
            self.quote_if_needed(start, out);
        }
        Ok(())
    }
}
