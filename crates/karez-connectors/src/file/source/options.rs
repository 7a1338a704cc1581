//! The options of the `file` source. The doc comments are its reference page.

use karez_core::config::{ByteSize, ConfigError, Span};
use karez_formats::csv::CsvOptions;
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of the `file` source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSourceOptions {
    /// The files: a path, or a list of paths. `*`, `?`, `[…]`, `{a,b}` match within one folder, `**` over folders. Names that begin with `.` are left
    /// out unless the pattern's last part begins with `.` too. Files are read in the order of their paths.
    pub path: OneOrMany,
    /// What is in them.
    pub format: FileFormat,
    /// How they are compressed. Default: `auto`.
    #[serde(default)]
    pub compression: CompressionOption,
    /// How CSV is written.
    #[serde(default)]
    pub csv: CsvSourceOptions,
    /// The name of the one column of `format: text`. Default: the name of the declared column, or `line`.
    #[serde(default)]
    pub text_column: Option<String>,
    /// An uncompressed file larger than this is read in parts of this size, at the same time where parallelism allows: CSV only with `multiline: false`,
    /// Parquet by row groups. Default: 32m.
    #[serde(default = "split_size")]
    pub split_size: ByteSize,
    /// A longer record is a bad record. Default: 16m.
    #[serde(default = "max_record_size")]
    pub max_record_size: ByteSize,
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

const fn max_record_size() -> ByteSize {
    ByteSize(16 << 20)
}

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

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// Comma-separated values.
    Csv,
    /// A JSON object on each line.
    #[serde(alias = "json")]
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Lines of text, each a row of one column.
    Text,
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

/// How CSV is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CsvSourceOptions {
    /// Between two fields: one ASCII character. Default: `,`.
    pub delimiter: char,
    /// Around fields that hold delimiters, line feeds or quotes; empty: there are no quotes. Default: `"`.
    pub quote: String,
    /// Before a quote inside a quoted field. Without it a quote is doubled.
    pub escape: Option<char>,
    /// Lines that begin with it are skipped.
    pub comment: Option<char>,
    /// Whether the first record of each file names the columns. Then columns are found by name, in each file by its own header, and columns that are
    /// not declared are left out; otherwise columns are found by position, and every field must be declared. Default: true.
    pub header: bool,
    /// What stands for null. In string columns a quoted marker is text. Default: `[""]`.
    pub null_markers: Vec<String>,
    /// Whether quoted fields may hold line feeds. With `false` large files are read in parts. Default: true.
    pub multiline: bool,
}

impl Default for CsvSourceOptions {
    fn default() -> Self {
        Self { delimiter: ',', quote: "\"".to_owned(), escape: None, comment: None, header: true, null_markers: vec![String::new()], multiline: true }
    }
}

impl CsvSourceOptions {
    /// The decoder's options, or what is wrong with these.
    pub(super) fn validate(&self, errors: &mut Vec<ConfigError>) -> CsvOptions {
        let mut ascii = |key: &str, c: char| {
            if !c.is_ascii() || matches!(c, '\n' | '\r') {
                errors.push(ConfigError::new(
                    format!("csv.{key}"),
                    format!("`{}` is not one ASCII character other than a line break", c.escape_debug()),
                ));
            }
            u8::try_from(c).unwrap_or(b'?')
        };
        let delimiter = ascii("delimiter", self.delimiter);
        let quote = self.quote.chars().next().map(|c| ascii("quote", c));
        let options = CsvOptions {
            delimiter,
            quote,
            escape: self.escape.map(|c| ascii("escape", c)),
            comment: self.comment.map(|c| ascii("comment", c)),
            multiline: self.multiline,
            null_markers: self.null_markers.clone(),
        };
        if self.quote.chars().count() > 1 {
            errors.push(ConfigError::new("csv.quote", format!("`{}` is more than one character", self.quote)));
        }
        if quote == Some(delimiter) {
            errors.push(ConfigError::new("csv.quote", "quote and delimiter are the same"));
        }
        options
    }
}
