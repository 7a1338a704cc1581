//! The options of the `file` source. The doc comments are its reference page.

use karez_core::config::{ByteSize, ConfigError, Span};
use karez_formats::csv::CsvOptions;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::format::{Format, character, refuse_foreign};

/// Options of the `file` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSourceOptions {
    /// The files: a path, or a list of paths. `*`, `?`, `[…]`, `{a,b}` match within one folder, `**` over folders. Names that begin with `.` are left
    /// out unless the pattern's last part begins with `.` too. Files are read in the order of their paths.
    pub path: OneOrMany,
    /// What is in them.
    pub format: Format,
    /// CSV, NDJSON, text: how they are compressed. Default: `auto`.
    pub compression: Option<CompressionOption>,
    /// CSV: the character between two fields (`\t` for a tab). Default: `,`.
    pub delimiter: Option<String>,
    /// CSV: the character around fields that hold delimiters, line feeds or quotes; empty: there are no quotes. Default: `"`.
    pub quote: Option<String>,
    /// CSV: the character before a quote inside a quoted field. Without it a quote is doubled.
    pub escape: Option<String>,
    /// CSV: lines that begin with this character are skipped.
    pub comment: Option<String>,
    /// CSV: whether the first record of each file names the columns. Then columns are found by name, in each file by its own header, and columns that
    /// are not declared are left out; otherwise columns are found by position, and every field must be declared. Default: true.
    pub header: Option<bool>,
    /// CSV: what stands for null, one text or a list. In string columns a quoted one is text. Default: nothing at all.
    #[serde(default, deserialize_with = "crate::file::format::null_value")]
    pub null_value: Option<OneOrMany>,
    /// CSV: whether quoted fields may hold line feeds. With `false` large files are read in parts. Default: true.
    pub multiline: Option<bool>,
    /// Text: the name of the one column. Default: the name of the declared column, or `line`.
    pub text_column: Option<String>,
    /// An uncompressed file larger than this is read in parts of this size, at the same time where parallelism allows: CSV only with `multiline: false`,
    /// Parquet by row groups. Default: 32m.
    #[serde(default = "split_size")]
    pub split_size: ByteSize,
    /// CSV, NDJSON, text: a longer record is a bad record. Default: 16m.
    pub max_record_size: Option<ByteSize>,
    /// Go on reading: lines that are appended, files that are added. A file is known by device, inode and its first bytes, so it may be renamed, and
    /// compressed, while the job runs or not. A line counts when its line feed is there. Not for Parquet. Default: false.
    #[serde(default)]
    pub follow: bool,
    /// How often `follow` looks for new files. Default: 5s.
    #[serde(default = "discovery_interval")]
    pub discovery_interval: Span,
    /// Where `follow` begins in files that are there when the job first starts; files that come later are read from their start. Default: `start`.
    #[serde(default)]
    pub from: From,
}

const fn split_size() -> ByteSize {
    ByteSize(32 << 20)
}

const MAX_RECORD_SIZE: ByteSize = ByteSize(16 << 20);

const fn discovery_interval() -> Span {
    Span::millis(5_000)
}

/// One text or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CompressionOption {
    /// As each file's first bytes say.
    #[default]
    Auto,
    /// They are not.
    None,
    /// gzip, also of several members.
    Gzip,
    /// Zstandard, also of several frames.
    Zstd,
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// At the start.
    #[default]
    Start,
    /// Behind the last line feed.
    End,
}

impl FileSourceOptions {
    /// Refuses what does not belong to the format; gives how CSV is to be read.
    pub(super) fn validate(&self, errors: &mut Vec<ConfigError>) -> CsvOptions {
        let csv_only = [
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
            ("escape", self.escape.is_some()),
            ("comment", self.comment.is_some()),
            ("header", self.header.is_some()),
            ("nullValue", self.null_value.is_some()),
            ("multiline", self.multiline.is_some()),
        ];
        refuse_foreign(self.format, &[Format::Csv], &csv_only, errors);
        refuse_foreign(self.format, &[Format::Text], &[("textColumn", self.text_column.is_some())], errors);
        let of_lines = [("compression", self.compression.is_some()), ("maxRecordSize", self.max_record_size.is_some())];
        refuse_foreign(self.format, &[Format::Csv, Format::Ndjson, Format::Text], &of_lines, errors);

        let defaults = CsvOptions::default();
        let mut given = |key: &str, text: &Option<String>| character(key, text.as_deref(), errors);
        let delimiter = given("delimiter", &self.delimiter).unwrap_or(defaults.delimiter);
        let quote = match self.quote.as_deref() {
            Some("") => None,
            _ => given("quote", &self.quote).or(defaults.quote),
        };
        let options = CsvOptions {
            delimiter,
            quote,
            escape: given("escape", &self.escape),
            comment: given("comment", &self.comment),
            multiline: self.multiline.unwrap_or(true),
            null_markers: self.null_value.as_ref().map_or_else(|| vec![String::new()], |values| values.as_slice().to_vec()),
        };
        if quote == Some(delimiter) {
            errors.push(ConfigError::new("quote", "quote and delimiter are the same"));
        }
        options
    }

    /// Whether the files of CSV begin with a header.
    pub(super) fn header(&self) -> bool {
        self.header.unwrap_or(true)
    }

    /// In bytes.
    pub(super) fn max_record_size(&self) -> u64 {
        self.max_record_size.unwrap_or(MAX_RECORD_SIZE).0
    }
}
