//! What is in the files: which decoder, which columns, and what a file's header says about them.

use std::io::{self, Read};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use karez_core::error::did_you_mean;
use karez_core::{Error, Result};
use karez_formats::LineDecoder;
use karez_formats::csv::{CsvDecoder, CsvOptions, first_record};
use karez_formats::json::{JsonDecoder, JsonOptions};
use karez_formats::text::TextDecoder;

/// The mark that some editors put in front of UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A header, or a sample for inference, is no longer than this.
pub(super) const SAMPLE_BYTES: usize = 4 << 20;

/// A format made of lines.
#[derive(Clone, Debug)]
pub(super) enum LineFormat {
    Csv { options: CsvOptions, header: bool },
    Json,
    Text,
}

/// A format made of lines, and the columns to read.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) format: LineFormat,
    /// All columns.
    pub(super) schema: SchemaRef,
    /// Those to read: indices into `schema`, ascending.
    pub(super) columns: Vec<usize>,
}

impl Lines {
    /// Whether each file begins with a header.
    pub(super) const fn has_header(&self) -> bool {
        matches!(self.format, LineFormat::Csv { header: true, .. })
    }

    /// Whether every line feed ends a record, so that a file can be read from its middle.
    pub(super) const fn can_be_split(&self) -> bool {
        match &self.format {
            LineFormat::Csv { options, .. } => !options.multiline,
            LineFormat::Json | LineFormat::Text => true,
        }
    }

    /// The rows to read.
    pub(super) fn output(&self) -> SchemaRef {
        project(&self.schema, &self.columns)
    }

    /// What stands before the first record in `start`, the first bytes of a file (all of them if `last`): its header, and the position behind it.
    /// `None`: more bytes are needed.
    pub(super) fn preamble(&self, start: &[u8], last: bool) -> Result<Option<(Vec<String>, usize)>, String> {
        if start.len() < BYTE_ORDER_MARK.len() && !last && BYTE_ORDER_MARK.starts_with(start) {
            return Ok(None);
        }
        let mark = if start.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let LineFormat::Csv { options, header: true } = &self.format else { return Ok(Some((Vec::new(), mark))) };
        let found = first_record(&start[mark..], last, options).map_err(|e| format!("its header cannot be read: {e}"))?;
        Ok(found.map(|(names, end)| (names, mark + end)))
    }

    /// A decoder for a file with this header (empty where files have none).
    pub(super) fn decoder(&self, path: &str, header: &[String]) -> Result<Box<dyn LineDecoder>> {
        let schema = self.output();
        let cannot = |e| Error::user(format!("the file `{path}` cannot be decoded")).caused_by(e);
        Ok(match &self.format {
            LineFormat::Json => Box::new(JsonDecoder::try_new(schema, JsonOptions::default()).map_err(cannot)?),
            LineFormat::Text => Box::new(TextDecoder::try_new(schema).map_err(cannot)?),
            LineFormat::Csv { options, header: false } => {
                Box::new(CsvDecoder::try_new(schema, &self.columns, self.schema.fields().len(), options).map_err(cannot)?)
            }
            LineFormat::Csv { options, header: true } => {
                let sources: Result<Vec<_>, String> = schema.fields().iter().map(|f| find_column(f, header)).collect();
                let sources = sources.map_err(|e| Error::user(format!("the file `{path}`: {e}")))?;
                Box::new(CsvDecoder::try_new(schema, &sources, header.len(), options).map_err(cannot)?)
            }
        })
    }
}

/// The columns of a projection.
pub(super) fn project(schema: &SchemaRef, columns: &[usize]) -> SchemaRef {
    if columns.len() == schema.fields().len() {
        return Arc::clone(schema);
    }
    Arc::new(Schema::new(columns.iter().map(|&c| Arc::clone(&schema.fields()[c])).collect::<Vec<_>>()))
}

/// Where a column stands in a header.
fn find_column(field: &Field, header: &[String]) -> Result<usize, String> {
    let mut places = header.iter().enumerate().filter(|(_, h)| h.trim_ascii() == field.name());
    match (places.next(), places.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some(_), Some(_)) => Err(format!("its header names the column `{}` twice", field.name())),
        (None, _) => Err(missing(field.name(), header)),
    }
}

/// The error for a column that a file does not have.
pub(super) fn missing(name: &str, known: &[String]) -> String {
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no column `{name}`; did you mean `{near}`?"),
        None => format!("there is no column `{name}`; its columns are {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The header of a file, which begins anew in `input`. `None`: it is not complete. `grows`: a header without its line feed is not.
pub(super) fn read_header(lines: &Lines, path: &str, mut input: Box<dyn Read + Send>, grows: bool) -> Result<Option<Vec<String>>> {
    let mut start = Vec::new();
    loop {
        let before = start.len();
        let wanted = (before.max(8 << 10)) as u64;
        let last = match input.by_ref().take(wanted).read_to_end(&mut start) {
            Ok(n) => n == 0,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(super::input::cannot_read(path, e)),
        };
        match lines.preamble(&start, last && !grows).map_err(|e| Error::user(format!("the file `{path}`: {e}")))? {
            Some((header, _)) => return Ok(Some(header)),
            None if last => return Ok(None),
            None if start.len() > SAMPLE_BYTES => {
                return Err(Error::user(format!("the file `{path}`: its header is longer than {SAMPLE_BYTES} bytes")));
            }
            None => {}
        }
    }
}

/// The schema of lines of text.
pub(super) fn text_schema(column: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(column, DataType::Utf8, false)]))
}
