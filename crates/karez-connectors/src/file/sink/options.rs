//! The options of the file sink, and the plan made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::SinkContext;
use karez_core::config::{ByteSize, ConfigError, ConfigErrors, Span};
use karez_formats::encode::parquet::{ParquetCompression, ParquetEncoder};
use karez_formats::encode::{CsvEncoder, CsvOptions, EncodeError, Encoder, NdjsonEncoder, NdjsonOptions, TextEncoder};
use schemars::JsonSchema;
use serde::Deserialize;

use super::template::PathTemplate;
use crate::file::format::{Format, character, refuse_foreign};

/// The options of the file sink.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSinkOptions {
    /// A folder, which the sink fills with files of its own names, or one file: a path whose last part has an extension (`out/result.csv`) is a
    /// file, any other (and each that ends in `/`) a folder. Missing folders are created.
    ///
    /// `{date}` stands for the day the run was scheduled for, `{date:COLUMN}` for the day in a date or timestamp column of each row (UTC, or the
    /// column's own time zone; `null` for null): rows go to the file of their day. Both take a format: `{date:%Y%m%d}`, `{date:COLUMN:%Y-%m}`.
    pub path: String,
    /// How rows are written. Default for one file: what its extension says.
    pub format: Option<Format>,
    /// How files are compressed. Default: for Parquet `snappy`, for one file what its extension says, otherwise `none`.
    pub compression: Option<Compression>,
    /// CSV: the character between two fields (`\t` for a tab). Default: `,`, for a file named `….tsv` a tab.
    pub delimiter: Option<String>,
    /// CSV: the character around fields that need it. Default: `"`.
    pub quote: Option<String>,
    /// CSV: what stands for null; a text that equals it is quoted. Default: nothing at all.
    #[serde(default, deserialize_with = "crate::file::format::null_value")]
    pub null_value: Option<String>,
    /// CSV: whether each file begins with the names of the columns. Default: true.
    pub header: Option<bool>,
    /// NDJSON: leave keys out whose value is null. Default: false.
    pub omit_nulls: Option<bool>,
    /// A folder's files are closed at this size (looked at after each batch). Default: 128m.
    pub roll_size: Option<ByteSize>,
    /// A folder's files are closed at this age; their rows become visible with the next checkpoint. Parquet files end at each checkpoint in any
    /// case. Default: 1m.
    pub roll_interval: Option<Span>,
    /// One file: what happens if it is there already when the run begins. Default: fail.
    pub if_exists: Option<IfExists>,
    /// How many files a subtask has open at once, where `{date:COLUMN}` makes many; beyond it the one not written to for longest is closed.
    /// Default: 64.
    pub max_open_files: Option<usize>,
}

/// A compression of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None.
    None,
    /// gzip (not for Parquet).
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy (Parquet only).
    Snappy,
}

/// What is done about a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfExists {
    /// The job does not start.
    #[default]
    Fail,
    /// It is replaced when the input ends.
    Replace,
    /// The rows are added to it: a copy of it with the new rows takes its place when the input ends. Whoever else writes to it meanwhile stops the
    /// job at that moment.
    Append,
}

/// Options that have been validated against the rows.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) template: PathTemplate,
    /// One file (or one for each `{date:COLUMN}`), written to the end of the input.
    pub(super) fixed: bool,
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) csv: CsvOptions,
    pub(super) json: NdjsonOptions,
    pub(super) roll_size_bytes: u64,
    pub(super) roll_interval_ms: i64,
    pub(super) if_exists: IfExists,
    pub(super) max_open_files: usize,
    /// The columns written: no hidden ones.
    pub(super) schema: SchemaRef,
}

const DEFAULT_ROLL_SIZE: ByteSize = ByteSize(128 << 20);
const DEFAULT_ROLL_INTERVAL: Span = Span::millis(60_000);
const DEFAULT_MAX_OPEN_FILES: usize = 64;

impl Plan {
    pub(super) fn new(context: SinkContext<'_>) -> Result<Self, ConfigErrors> {
        let options: FileSinkOptions = karez_core::config::parse(context.config)?;
        let schema = context.input.visible();
        let template = PathTemplate::parse(&options.path, &schema)?;
        let fixed = template.is_file();
        let name = template.file_name();
        let mut errors = Vec::new();

        let (by_extension, compression_by_extension) = if fixed { by_extension(&name) } else { (None, None) };
        let Some(format) = options.format.or(by_extension) else {
            let what = if fixed { format!("the extension of `{name}` names no format") } else { "a folder of files needs a format".to_owned() };
            return Err(ConfigError::new("format", what).hint("give `format`: csv, ndjson, parquet or text").into());
        };
        let default_compression = if format == Format::Parquet { Compression::Snappy } else { compression_by_extension.unwrap_or(Compression::None) };
        let compression = options.compression.unwrap_or(default_compression);
        match (format, compression) {
            (Format::Parquet, Compression::Gzip) => {
                errors.push(ConfigError::new("compression", "Parquet files are compressed with `snappy`, `zstd` or `none`"))
            }
            (Format::Csv | Format::Ndjson | Format::Text, Compression::Snappy) => {
                errors.push(ConfigError::new("compression", "files of lines are compressed with `gzip`, `zstd` or `none`"));
            }
            _ => {}
        }
        if format != Format::Parquet && compression_by_extension.is_some_and(|by_name| by_name != compression) {
            errors.push(ConfigError::new("compression", format!("the name `{name}` promises another compression")).hint("change one of the two"));
        }

        let csv_only = [
            ("delimiter", options.delimiter.is_some()),
            ("quote", options.quote.is_some()),
            ("nullValue", options.null_value.is_some()),
            ("header", options.header.is_some()),
        ];
        let folder_only = [("rollSize", options.roll_size.is_some()), ("rollInterval", options.roll_interval.is_some())];
        let not_for =
            |keys: &[(&str, bool)], why: &str| keys.iter().filter(|(_, given)| *given).map(|(k, _)| ConfigError::new(*k, why)).collect::<Vec<_>>();
        refuse_foreign(format, &[Format::Csv], &csv_only, &mut errors);
        refuse_foreign(format, &[Format::Ndjson], &[("omitNulls", options.omit_nulls.is_some())], &mut errors);
        if fixed {
            errors.extend(not_for(&folder_only, "one file does not roll; give a folder as `path`, or leave this out"));
        } else {
            errors.extend(not_for(&[("ifExists", options.if_exists.is_some())], "files in a folder get names of their own; only for one file"));
        }
        if options.max_open_files == Some(0) {
            errors.push(ConfigError::new("maxOpenFiles", "must be at least 1"));
        }
        if options.roll_size == Some(ByteSize(0)) {
            errors.push(ConfigError::new("rollSize", "must be at least 1"));
        }

        let mut byte = |key: &str, text: &Option<String>, default: u8| character(key, text.as_deref(), &mut errors).unwrap_or(default);
        let csv = CsvOptions {
            delimiter: byte("delimiter", &options.delimiter, if name.ends_with(".tsv") { b'\t' } else { b',' }),
            quote: byte("quote", &options.quote, b'"'),
            null_marker: options.null_value.clone().unwrap_or_default(),
            header: options.header.unwrap_or(true),
        };
        let plan = Self {
            template,
            fixed,
            format,
            compression,
            csv,
            json: NdjsonOptions { omit_nulls: options.omit_nulls.unwrap_or(false) },
            roll_size_bytes: options.roll_size.unwrap_or(DEFAULT_ROLL_SIZE).0,
            roll_interval_ms: options.roll_interval.unwrap_or(DEFAULT_ROLL_INTERVAL).as_millis(),
            if_exists: options.if_exists.unwrap_or_default(),
            max_open_files: options.max_open_files.unwrap_or(DEFAULT_MAX_OPEN_FILES),
            schema,
        };
        if plan.schema.fields().is_empty() {
            errors.push(ConfigError::new("", "there is no column to write"));
        } else if errors.is_empty() {
            let unfit = if plan.format == Format::Parquet { plan.parquet(std::io::sink()).err() } else { plan.encoder().err() };
            errors.extend(unfit.map(|e| ConfigError::new("format", e.0)));
        }
        if errors.is_empty() { Ok(plan) } else { Err(ConfigErrors(errors)) }
    }

    /// The encoder of a line format; Parquet has none.
    pub(super) fn encoder(&self) -> Result<Option<Arc<dyn Encoder + Sync>>, EncodeError> {
        let schema = Arc::clone(&self.schema);
        Ok(match self.format {
            Format::Csv => Some(Arc::new(CsvEncoder::new(schema, self.csv.clone())?)),
            Format::Ndjson => Some(Arc::new(NdjsonEncoder::new(schema, &self.json)?)),
            Format::Text => Some(Arc::new(TextEncoder::new(schema)?)),
            Format::Parquet => None,
        })
    }

    /// A Parquet file.
    pub(super) fn parquet<W: std::io::Write + Send>(&self, out: W) -> Result<ParquetEncoder<W>, EncodeError> {
        let compression = match self.compression {
            Compression::Zstd => ParquetCompression::Zstd,
            Compression::None | Compression::Gzip => ParquetCompression::None,
            Compression::Snappy => ParquetCompression::Snappy,
        };
        ParquetEncoder::new(Arc::clone(&self.schema), compression, out)
    }

    /// What the names of a folder's files end in.
    pub(super) fn extension(&self) -> String {
        let format = match self.format {
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
            Format::Parquet => return "parquet".to_owned(),
            Format::Text => "txt",
        };
        match self.compression {
            Compression::Gzip => format!("{format}.gz"),
            Compression::Zstd => format!("{format}.zst"),
            Compression::None | Compression::Snappy => format.to_owned(),
        }
    }

    /// Tells files apart that cannot be continued by one another: other columns, other format. Compared for equality alone, so a text will do.
    pub(super) fn layout(&self) -> String {
        let columns = self.schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect::<Vec<_>>().join(",");
        format!("{:?}/{:?}/{:?}/{:?}({columns})", self.format, self.compression, self.csv, self.json)
    }
}

/// Format and compression that a file name's extensions stand for.
fn by_extension(name: &str) -> (Option<Format>, Option<Compression>) {
    let path = Path::new(name);
    let extension = |p: &Path| p.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let (inner, compression) = match extension(path).as_deref() {
        Some("gz") => (PathBuf::from(path.file_stem().unwrap_or_default()), Some(Compression::Gzip)),
        Some("zst" | "zstd") => (PathBuf::from(path.file_stem().unwrap_or_default()), Some(Compression::Zstd)),
        _ => (path.to_owned(), None),
    };
    let format = match extension(&inner).as_deref() {
        Some("csv" | "tsv") => Some(Format::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
        Some("parquet") => Some(Format::Parquet),
        Some("txt" | "log") => Some(Format::Text),
        _ => None,
    };
    (format, compression)
}
