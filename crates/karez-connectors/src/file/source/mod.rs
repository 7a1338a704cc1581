//! The `file` source: finds files, splits them, reads them; once, or for ever.
//!
//! ```text
//!  plan() ──► FileSource ──► BoundedEnumerator ──► LinesReader, ParquetReader      files as they are when the run begins
//!                       └──► FollowEnumerator  ──► FollowReader                    files that grow, move and come
//!                                                       └── Window: bytes read, not yet consumed, and the decoder
//! ```

mod bounded;
mod follow;
mod format;
mod glob;
mod infer;
mod input;
mod letters;
mod options;
mod parquet;
mod split;
mod window;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors, parse};
use karez_core::source::{Boundedness, ReaderContext, Replay, SplitAssignment};
use karez_core::{Error, LetterDecoder, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema, Whose};
use karez_formats::parquet::{ParquetMeta, ParquetRows};
use serde_json::Value;

use format::{LineFormat, Lines, read_header};
use glob::Patterns;
use input::{Compression, cannot_read, open, stream};
pub use options::{CompressionOption, FileSourceOptions, From, OneOrMany};
use split::Position;

use super::format::Format;

/// What all parts of a source share.
#[derive(Debug)]
struct Plan {
    patterns: Patterns,
    /// `None`: Parquet.
    lines: Option<Lines>,
    /// All columns.
    schema: SchemaRef,
    compression: CompressionOption,
    split_size: u64,
    record_limit: usize,
    follow: Option<Follow>,
}

/// How files are followed.
#[derive(Clone, Copy, Debug)]
struct Follow {
    interval_ms: u64,
    from: From,
}

impl Plan {
    /// The files there are; an error if there are none and none will come.
    fn files(&self) -> Result<Vec<String>> {
        let files = self.patterns.list()?;
        if files.is_empty() && self.follow.is_none() {
            return Err(Error::user(format!("no file matches {}", self.patterns.text())));
        }
        Ok(files)
    }

    /// Whether a file can be read with this plan's columns.
    fn check(&self, path: &str, schema: &SchemaRef) -> Result<()> {
        let file = open(path)?;
        if file.metadata().map_err(|e| cannot_read(path, e))?.len() == 0 {
            return Ok(());
        }
        let Some(lines) = &self.lines else {
            let meta = ParquetMeta::read(&file).map_err(|e| Error::user(format!("the file `{path}` is not Parquet, or is damaged")).caused_by(e))?;
            let names: Vec<_> = meta.schema().fields().iter().map(|f| f.name().clone()).collect();
            if let Some(field) = schema.fields().iter().find(|f| !names.contains(f.name())) {
                return Err(Error::user(format!("the file `{path}`: {}", format::missing(field.name(), &names))));
            }
            ParquetRows::try_new(file, meta, Arc::clone(schema), 0, 0, 0).map_err(|e| Error::user(format!("the file `{path}`: {e}")))?;
            return Ok(());
        };
        let compression = Compression::of(path, &file, self.compression).map_err(|e| cannot_read(path, e))?;
        if lines.has_header() {
            let start = stream(file, compression, 0).map_err(|e| cannot_read(path, e))?;
            if let Some(header) = read_header(lines, path, start, self.follow.is_some())? {
                lines.decoder(path, &header)?;
            }
        }
        Ok(())
    }
}

/// Makes the source of a node.
pub fn plan(context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
    let options: FileSourceOptions = parse(context.config)?;
    let mut errors = Vec::new();
    let csv = options.validate(&mut errors);
    let (compression, max_record_size) = (options.compression.unwrap_or_default(), options.max_record_size());
    let at_least_one = [("splitSize", options.split_size.0), ("maxRecordSize", max_record_size)];
    errors.extend(at_least_one.iter().filter(|(_, n)| *n == 0).map(|(key, _)| ConfigError::new(*key, "must be more than 0")));
    if max_record_size > 256 << 20 {
        errors.push(ConfigError::new("maxRecordSize", "must be at most 256m"));
    }
    if options.follow && options.format == Format::Parquet {
        errors.push(ConfigError::new("follow", "a Parquet file does not grow line by line; it cannot be followed"));
    }
    if options.follow && context.batch {
        errors
            .push(ConfigError::new("follow", "a job of `type: batch` needs a source that ends").hint("leave out `follow`, or set `type: streaming`"));
    }
    let patterns = Patterns::new(options.path.as_slice()).map_err(|e| errors.extend(e)).ok();
    let (Some(patterns), true) = (patterns, errors.is_empty()) else { return Err(ConfigErrors(errors)) };

    let follow =
        options.follow.then(|| Follow { interval_ms: u64::try_from(options.discovery_interval.as_millis()).unwrap_or(0).max(1), from: options.from });
    let files = patterns.list().map_err(|e| ConfigError::new("path", e.to_string()))?;
    if files.is_empty() && follow.is_none() {
        return Err(ConfigError::new("path", format!("no file matches {}", patterns.text()))
            .hint("check the path; relative ones begin where karez was started")
            .into());
    }
    let format = match options.format {
        Format::Csv => Some(LineFormat::Csv { options: csv.clone(), header: options.header() }),
        Format::Ndjson => Some(LineFormat::Json),
        Format::Text => Some(LineFormat::Text),
        Format::Parquet => None,
    };
    let schema = match (context.schema, options.format) {
        (Some(declared), Format::Text) if declared.fields().len() != 1 || declared.field(0).data_type() != &DataType::Utf8 => {
            return Err(ConfigError::new("schema", "`format: text` has one column, of type string").into());
        }
        (Some(declared), _) => Arc::clone(declared),
        (None, Format::Text) => format::text_schema(options.text_column.as_deref().unwrap_or("line")),
        (None, Format::Csv) => infer::csv(&files, compression, &csv, options.header(), options.follow).map_err(|e| not_planned(&e))?,
        (None, Format::Ndjson) => infer::json(&files, compression).map_err(|e| not_planned(&e))?,
        (None, Format::Parquet) => infer::parquet(&files).map_err(|e| not_planned(&e))?,
    };
    let columns: Vec<_> = (0..schema.fields().len()).collect();
    let lines = format.map(|format| Lines { format, schema: Arc::clone(&schema), columns: columns.clone() });
    if let Some(lines) = lines.as_ref().filter(|l| !l.has_header()) {
        // A type that the format has no form for.
        lines.decoder("", &[]).map_err(|e| ConfigError::new("schema", e.to_string()))?;
    }
    let plan = Plan {
        patterns,
        lines,
        schema: Arc::clone(&schema),
        compression,
        split_size: options.split_size.0,
        record_limit: usize::try_from(max_record_size).unwrap_or(usize::MAX / 4),
        follow,
    };
    if let Some(first) = files.first() {
        plan.check(first, &schema).map_err(|e| not_planned(&e))?;
    }
    Ok(Arc::new(FileSource { plan: Arc::new(plan), columns, schema }))
}

/// Whether a file matches a pattern.
pub(super) fn any_file(pattern: &str) -> Result<bool, ConfigErrors> {
    let patterns = Patterns::new(&[pattern.to_owned()]).map_err(ConfigErrors)?;
    let files = patterns.list().map_err(|e| ConfigError::new("path", e.to_string()))?;
    Ok(!files.is_empty())
}

/// The error of a file that has been looked at: it cannot be read, or does not go with the schema.
fn not_planned(e: &Error) -> ConfigError {
    ConfigError::new(if e.whose() == Whose::User { "schema" } else { "path" }, e.to_string())
}

/// The source, planned.
#[derive(Debug)]
struct FileSource {
    plan: Arc<Plan>,
    /// The columns to read: indices into the plan's schema.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl FileSource {
    /// The format and the columns to read; none for Parquet.
    fn lines(&self) -> Option<Lines> {
        self.plan.lines.as_ref().map(|lines| Lines { columns: self.columns.clone(), ..lines.clone() })
    }
}

#[async_trait]
impl Source for FileSource {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Arc::clone(&self.schema))
    }

    fn boundedness(&self) -> Boundedness {
        if self.plan.follow.is_some() { Boundedness::Unbounded } else { Boundedness::Bounded }
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn assignment(&self) -> SplitAssignment {
        if self.plan.follow.is_some() { SplitAssignment::AllAtOnce } else { SplitAssignment::OneAtATime }
    }

    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let columns: Option<Vec<_>> = columns.iter().map(|&c| self.columns.get(c).copied()).collect();
        let columns = columns?;
        let schema = format::project(&self.plan.schema, &columns);
        Some(Arc::new(Self { plan: Arc::clone(&self.plan), columns, schema }))
    }

    async fn check(&self) -> Result<()> {
        for path in self.plan.files()? {
            self.plan.check(&path, &self.schema)?;
        }
        Ok(())
    }

    fn letter_decoder(&self) -> Result<Box<dyn LetterDecoder>> {
        match self.lines() {
            Some(lines) => Ok(Box::new(letters::FileLetters::new(Arc::clone(&self.plan), lines))),
            None => Err(Error::user("a row of a Parquet file has no bytes of its own; give the letter a `row`")),
        }
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        Ok(match self.plan.follow {
            None => Box::new(bounded::BoundedEnumerator::new(Arc::clone(&self.plan), state.as_ref())),
            Some(follow) => Box::new(follow::FollowEnumerator::new(Arc::clone(&self.plan), follow, state)?),
        })
    }

    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let limit = self.plan.record_limit;
        Ok(match (Position::of(split)?, self.lines()) {
            (Position::Parquet(at), None) => Box::new(parquet::ParquetReader::open(at, Arc::clone(&self.schema), context)?),
            (Position::Lines(at), Some(lines)) => Box::new(bounded::LinesReader::open(at, &lines, limit, context)?),
            (Position::Follow(at), Some(lines)) => Box::new(follow::FollowReader::open(Arc::clone(&self.plan), at, lines, context)?),
            _ => return Err(Error::user(format!("the split `{}` is of another format or mode than this source's; start afresh", split.id))),
        })
    }
}
