//! The generator as a source: splits deal the row numbers out, a position is the next number.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::source::{Discovery, ReadLimit, ReaderContext, Replay, SplitAssignment, with_origin};
use karez_core::{Boundedness, Error, Read, Result, Source, SourceContext, Split, SplitEnumerator, SplitReader, StreamSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields;
use super::nexmark::Nexmark;
use super::options::{FieldsOptions, GeneratorOptions, parse};

const MAX_SPLITS: u32 = 4_096;

/// Validates the options.
pub(super) fn plan(context: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
    let options = parse(context.config)?;
    let mut errors = Vec::new();
    if context.schema.is_some() {
        errors.push(ConfigError::new("schema", "the generator's options say which columns there are").hint("remove `schema`"));
    }
    let (rows, splits) = match &options {
        GeneratorOptions::Nexmark(o) => (o.rows, o.splits),
        GeneratorOptions::Fields(o) => (o.rows, o.splits),
    };
    if context.batch && rows.is_none() {
        errors.push(ConfigError::new("rows", "a batch job needs an end").hint("say how many rows there are"));
    }
    if !(1..=MAX_SPLITS).contains(&splits) {
        errors.push(ConfigError::new("splits", format!("must lie between 1 and {MAX_SPLITS}")));
    }
    let rows_of = match options {
        GeneratorOptions::Nexmark(o) => {
            if o.events_per_second == 0 || o.events_per_second > 1_000_000_000 {
                errors.push(ConfigError::new("eventsPerSecond", "must lie between 1 and 1000000000"));
                return Err(ConfigErrors(errors));
            }
            match Nexmark::new(&o) {
                Ok(nexmark) => RowsOf::Nexmark(Box::new(nexmark)),
                Err(e) => {
                    errors.push(ConfigError::new("startTime", e));
                    return Err(ConfigErrors(errors));
                }
            }
        }
        GeneratorOptions::Fields(o) => {
            if o.fields.is_empty() {
                errors.push(ConfigError::new("fields", "needs at least one column"));
            }
            for (i, field) in o.fields.iter().enumerate() {
                errors.extend(field.check(&format!("fields[{i}]")));
                if o.fields[..i].iter().any(|f| f.name() == field.name()) {
                    errors.push(ConfigError::new(format!("fields[{i}].name"), format!("there are two columns `{}`", field.name())));
                }
            }
            RowsOf::Fields(o)
        }
    };
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let schema = rows_of.schema();
    let columns = (0..schema.fields().len()).collect();
    Ok(Arc::new(Generator { rows_of, schema, columns, rows, splits }))
}

#[derive(Clone, Debug)]
enum RowsOf {
    Nexmark(Box<Nexmark>),
    Fields(FieldsOptions),
}

impl RowsOf {
    fn schema(&self) -> SchemaRef {
        Arc::new(match self {
            Self::Nexmark(nexmark) => Schema::new(nexmark.fields()),
            Self::Fields(o) => Schema::new(o.fields.iter().map(fields::field).collect::<Vec<_>>()),
        })
    }

    /// Some columns of rows `first, first + step, …`.
    fn columns(&self, first: u64, step: u64, rows: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        Ok(match self {
            Self::Nexmark(nexmark) => {
                let all = nexmark.columns(first, step, rows)?;
                columns.iter().map(|c| Arc::clone(&all[*c])).collect()
            }
            Self::Fields(o) => {
                let numbers: Vec<u64> = (0..rows as u64).map(|i| first + i * step).collect();
                columns.iter().map(|c| fields::values(&o.fields[*c], o.seed, *c, &numbers)).collect()
            }
        })
    }

    fn row_bytes(&self) -> usize {
        match self {
            Self::Nexmark(nexmark) => nexmark.row_bytes(),
            Self::Fields(o) => o.fields.iter().map(fields::value_bytes).sum::<usize>().max(1),
        }
    }
}

#[derive(Clone, Debug)]
struct Generator {
    rows_of: RowsOf,
    /// Of the columns below.
    schema: SchemaRef,
    /// Which of all columns it gives.
    columns: Vec<usize>,
    rows: Option<u64>,
    splits: u32,
}

#[async_trait]
impl Source for Generator {
    fn schema(&self) -> StreamSchema {
        StreamSchema::append_only(Arc::clone(&self.schema))
    }

    fn boundedness(&self) -> Boundedness {
        if self.rows.is_some() { Boundedness::Bounded } else { Boundedness::Unbounded }
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn assignment(&self) -> SplitAssignment {
        // In turn, so that the event times of all splits go up together.
        SplitAssignment::AllAtOnce
    }

    fn max_parallelism(&self) -> Option<usize> {
        Some(self.splits as usize)
    }

    fn project(&self, columns: &[usize]) -> Option<Arc<dyn Source>> {
        let schema = Arc::new(self.schema.project(columns).ok()?);
        let columns = columns.iter().map(|c| self.columns[*c]).collect();
        Some(Arc::new(Self { schema, columns, ..self.clone() }))
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn enumerator(&self, state: Option<Value>) -> Result<Box<dyn SplitEnumerator>> {
        Ok(Box::new(Enumerator { splits: self.splits, given: state.is_some_and(|s| s == Value::Bool(true)) }))
    }

    async fn open(&self, split: &Split, context: ReaderContext) -> Result<Box<dyn SplitReader>> {
        let position = Position::deserialize(&split.position).map_err(|e| Error::internal("the generator's position cannot be read").caused_by(e))?;
        let schema = if context.with_origin { with_origin(&self.schema) } else { Arc::clone(&self.schema) };
        Ok(Box::new(Reader { generator: self.clone(), schema, with_origin: context.with_origin, position }))
    }
}

/// The next row number, and how far apart the split's rows are: kept with it, so that a job whose `splits` changed reads its old splits to their end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Position {
    next: u64,
    step: u64,
}

impl Position {
    fn to_value(self) -> Result<Value> {
        serde_json::to_value(self).map_err(|e| Error::internal("the generator's position").caused_by(e))
    }
}

struct Enumerator {
    splits: u32,
    given: bool,
}

#[async_trait]
impl SplitEnumerator for Enumerator {
    async fn discover(&mut self) -> Result<Discovery> {
        let first = if std::mem::replace(&mut self.given, true) { self.splits } else { 0 };
        let splits = (first..self.splits)
            .map(|i| {
                let position = Position { next: u64::from(i), step: u64::from(self.splits) };
                Ok(Split { id: format!("{i} of {}", self.splits), position: position.to_value()? })
            })
            .collect::<Result<_>>()?;
        Ok(Discovery { splits, done: true })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(Value::Bool(self.given))
    }
}

struct Reader {
    generator: Generator,
    schema: SchemaRef,
    with_origin: bool,
    position: Position,
}

#[async_trait]
impl SplitReader for Reader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        let Position { next, step } = self.position;
        let left = self.generator.rows.map_or(u64::MAX, |rows| rows.saturating_sub(next).div_ceil(step));
        let most = limit.rows.min(limit.bytes / self.generator.rows_of.row_bytes()).max(1);
        let rows = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if rows == 0 {
            return Ok(Read::End);
        }
        let mut columns = self.generator.rows_of.columns(next, step, rows, &self.generator.columns)?;
        if self.with_origin {
            let origins = (0..rows as u64).map(|i| format!("generator row={}", next + i * step));
            columns.push(Arc::new(StringArray::from_iter_values(origins)));
        }
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.position.next = next + rows as u64 * step;
        Ok(Read::Rows { batch, bad: Vec::new() })
    }

    fn position(&self) -> Result<Value> {
        self.position.to_value()
    }
}
