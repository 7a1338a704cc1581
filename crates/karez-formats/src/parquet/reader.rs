//! Reads row groups of a Parquet file, from any row on.
//!
//! Columns are found by name; one of another type is cast, and a row whose value the declared type cannot hold as it is is a bad record.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use karez_core::exact::{can_cast, cast_rows};
use karez_core::row_json;
use karez_core::sql_type::to_sql;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

/// Rows decoded in one go.
const BATCH_ROWS: usize = 8_192;

/// The footer of a file.
#[derive(Clone, Debug)]
pub struct ParquetMeta(ArrowReaderMetadata);

/// The size of a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroup {
    /// Its rows.
    pub rows: u64,
    /// Its bytes in the file.
    pub bytes: u64,
}

impl ParquetMeta {
    /// Reads the footer.
    ///
    /// # Errors
    ///
    /// The file is no Parquet file, or cannot be read.
    pub fn read(file: &File) -> Result<Self, ArrowError> {
        Ok(Self(ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?))
    }

    /// Its columns, without metadata.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.0.schema().fields().clone()))
    }

    /// Its row groups.
    #[must_use]
    pub fn row_groups(&self) -> Vec<RowGroup> {
        let size = |n: i64| u64::try_from(n).unwrap_or(0);
        self.0.metadata().row_groups().iter().map(|g| RowGroup { rows: size(g.num_rows()), bytes: size(g.compressed_size()) }).collect()
    }
}

/// A row that does not fit the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Its number in the file.
    pub number: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Those of its columns that fit and are not null, as a JSON object, where they have that form.
    pub row: Option<String>,
}

/// The rows of some row groups, in order.
pub struct ParquetRows {
    file: File,
    meta: ParquetMeta,
    schema: SchemaRef,
    /// For each column of `schema`, its place among the columns read.
    places: Vec<usize>,
    mask: ProjectionMask,
    /// The row group being read.
    group: usize,
    /// The first one not to be read.
    end: usize,
    /// The next row of the row group.
    row: u64,
    /// Rows of the file before the row group.
    rows_before: u64,
    reader: Option<ParquetRecordBatchReader>,
    /// Decoded and not yet given.
    pending: Option<RecordBatch>,
    track_rows: bool,
    rows: Vec<u64>,
}

impl ParquetRows {
    /// The rows of the row groups from `group` (from its row `row` on) to before `end`, as batches of `schema`.
    ///
    /// # Errors
    ///
    /// A column of `schema` that is not in the file, or has a type that cannot be cast to the wanted one.
    pub fn try_new(file: File, meta: ParquetMeta, schema: SchemaRef, group: usize, row: u64, end: usize) -> Result<Self, String> {
        let found = meta.schema();
        let mut roots = Vec::new();
        for field in schema.fields() {
            let (root, of_file) = found.column_with_name(field.name()).ok_or_else(|| format!("there is no column `{}`", field.name()))?;
            if !can_cast(of_file.data_type(), field.data_type()) {
                let (from, to) = (to_sql(of_file.data_type()), to_sql(field.data_type()));
                return Err(format!("column `{}` is a {from}, which cannot be read as {to}", field.name()));
            }
            roots.push(root);
        }
        let mut sorted = roots.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let places = roots.iter().map(|r| sorted.partition_point(|s| s < r)).collect();
        let mask = ProjectionMask::roots(meta.0.parquet_schema(), sorted);
        let groups = meta.row_groups();
        let end = end.min(groups.len());
        let rows_before = groups.iter().take(group).map(|g| g.rows).sum();
        let rows = Vec::new();
        Ok(Self { file, meta, schema, places, mask, group, end, row, rows_before, reader: None, pending: None, track_rows: false, rows })
    }

    /// The next rows, at most `max_rows` and about `max_bytes`; `None` at the end. Rows that do not fit the schema are reported in `bad`, and left out; so a
    /// batch may be empty.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read.
    pub fn next(&mut self, max_rows: usize, max_bytes: usize, bad: &mut Vec<BadRow>) -> Result<Option<RecordBatch>, ArrowError> {
        let batch = loop {
            if let Some(batch) = self.pending.take() {
                break batch;
            }
            if self.group >= self.end {
                return Ok(None);
            }
            let rows_of_group = self.meta.row_groups().get(self.group).map_or(0, |g| g.rows);
            if self.row < rows_of_group {
                let batch = match &mut self.reader {
                    Some(reader) => reader.next().transpose()?,
                    None => {
                        let reader = self.open_group()?;
                        self.reader.insert(reader).next().transpose()?
                    }
                };
                if batch.as_ref().is_some_and(|b| b.num_rows() > 0) {
                    self.pending = batch;
                    continue;
                }
                let (group, row) = (self.group, self.row);
                return Err(ArrowError::ParquetError(format!("row group {group} ends at row {row} of {rows_of_group}")));
            }
            self.reader = None;
            self.rows_before += rows_of_group;
            self.group += 1;
            self.row = 0;
        };
        let row_bytes = (batch.get_array_memory_size() / batch.num_rows().max(1)).max(1);
        let count = batch.num_rows().min(max_rows).min(max_bytes / row_bytes).max(1);
        if count < batch.num_rows() {
            self.pending = Some(batch.slice(count, batch.num_rows() - count));
        }
        let first = self.rows_before + self.row;
        self.row += count as u64;
        self.conform(&batch.slice(0, count), first, bad).map(Some)
    }

    fn open_group(&self) -> Result<ParquetRecordBatchReader, ArrowError> {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.try_clone()?, self.meta.0.clone());
        let skipped = usize::try_from(self.row).map_err(|e| ArrowError::ParquetError(e.to_string()))?;
        let builder = builder.with_row_groups(vec![self.group]).with_projection(self.mask.clone()).with_batch_size(BATCH_ROWS);
        Ok(if skipped > 0 { builder.with_offset(skipped) } else { builder }.build()?)
    }

    /// The batch in the order and the types of the schema. `first`: the row number of its first row.
    fn conform(&mut self, batch: &RecordBatch, first: u64, bad: &mut Vec<BadRow>) -> Result<RecordBatch, ArrowError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.places.len());
        let mut faults: Option<Vec<Option<String>>> = None;
        for (field, &place) in self.schema.fields().iter().zip(&self.places) {
            let read = batch.column(place);
            let (column, misfits) = cast_rows(read, field)?;
            let has_nulls = !field.is_nullable() && read.logical_null_count() > 0;
            if has_nulls || !misfits.is_empty() {
                let reasons = faults.get_or_insert_with(|| vec![None; batch.num_rows()]);
                for (row, why) in misfits {
                    reasons[row].get_or_insert_with(|| format!("column `{}`: {why}", field.name()));
                }
                for (_, reason) in reasons.iter_mut().enumerate().filter(|(row, _)| has_nulls && read.is_null(*row)) {
                    reason.get_or_insert_with(|| format!("column `{}` is null but must not be", field.name()));
                }
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let numbers = first..first + batch.num_rows() as u64;
        let Some(faults) = faults.filter(|f| f.iter().any(Option::is_some)) else {
            if self.track_rows {
                self.rows.extend(numbers);
            }
            return RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        };
        // Only behind the filter do the columns keep the schema's promise of values that are never null.
        let loose = Schema::new(self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>());
        let all = RecordBatch::try_new_with_options(Arc::new(loose), columns, &options)?;
        let good = BooleanArray::new(faults.iter().map(Option::is_none).collect::<BooleanBuffer>(), None);
        let kept = filter_record_batch(&all, &good)?;
        for (row, (number, fault)) in numbers.zip(faults).enumerate() {
            match fault {
                Some(reason) => bad.push(BadRow { number, reason, row: row_json::rows(&all.slice(row, 1), false).ok() }),
                None if self.track_rows => self.rows.push(number),
                None => {}
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), kept.columns().to_vec(), &options)
    }

    /// Where reading goes on: row group, and row in it.
    #[must_use]
    pub const fn position(&self) -> (usize, u64) {
        (self.group, self.row)
    }

    /// Whether to keep the number of each row, for [`take_rows`](Self::take_rows).
    pub fn track_rows(&mut self, on: bool) {
        self.track_rows = on;
    }

    /// For each row since the last call, its number in the file.
    pub fn take_rows(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.rows)
    }
}

impl fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetRows").field("schema", &self.schema).field("group", &self.group).field("row", &self.row).finish_non_exhaustive()
    }
}
