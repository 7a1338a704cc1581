//! Reads the row groups of a split.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use karez_core::source::{Read, ReadLimit, ReaderContext, with_origin};
use karez_core::{BadRecord, Error, Result, SplitReader};
use karez_formats::parquet::{BadRow, ParquetRows};
use serde_json::Value;

use super::bounded::parquet_file;
use super::split::{ParquetPosition, Position};
use super::window::add_column;

pub(super) struct ParquetReader {
    position: ParquetPosition,
    rows: ParquetRows,
    schema: SchemaRef,
    context: ReaderContext,
}

impl ParquetReader {
    pub(super) fn open(position: ParquetPosition, schema: SchemaRef, context: ReaderContext) -> Result<Self> {
        let (file, meta) = parquet_file(&position.file)?;
        let output = if context.with_origin { with_origin(&schema) } else { Arc::clone(&schema) };
        let mut rows = ParquetRows::try_new(file, meta, schema, position.group, position.row, position.end)
            .map_err(|e| Error::user(format!("the file `{}`: {e}", position.file.path)))?;
        rows.track_rows(context.with_origin);
        Ok(Self { position, rows, schema: output, context })
    }
}

#[async_trait]
impl SplitReader for ParquetReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        let path = &self.position.file.path;
        let mut bad = Vec::new();
        let batch = self.rows.next(limit.rows.max(1), limit.bytes.max(1), &mut bad);
        let batch = batch.map_err(|e| Error::external(format!("the file `{path}` cannot be read")).caused_by(e))?;
        (self.position.group, self.position.row) = self.rows.position();
        let Some(batch) = batch else { return Ok(Read::End) };
        self.context.metrics.bytes_in.add(batch.get_array_memory_size() as u64);
        let letter = |bad: BadRow| BadRecord { reason: bad.reason, origin: Some(format!("file={path} row={}", bad.number)), raw: None, row: bad.row };
        let bad = bad.into_iter().map(letter).collect();
        if !self.context.with_origin {
            return Ok(Read::Rows { batch, bad });
        }
        let origins: StringArray = self.rows.take_rows().into_iter().map(|row| Some(format!("file={path} row={row}"))).collect();
        Ok(Read::Rows { batch: add_column(&self.schema, &batch, Arc::new(origins))?, bad })
    }

    fn position(&self) -> Result<Value> {
        Position::Parquet(self.position.clone()).to_value()
    }
}
