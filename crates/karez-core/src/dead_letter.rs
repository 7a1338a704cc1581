//! Dead letters: records that could not be decoded, processed or written, with what they were, whence they came and why.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, StringBuilder, TimestampMillisecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::schema::StreamSchema;
use crate::{Error, Result};

/// A record at fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BadRecord {
    /// Why, for a person: column, value, cause.
    pub reason: String,
    /// Where it came from (`file=… offset=…`; behind an aggregate node and key), where known.
    pub origin: Option<String>,
    /// The bytes as they were read, for decode errors.
    pub raw: Option<Bytes>,
    /// The row as a JSON object, for others.
    pub row: Option<String>,
}

/// The schema of every dead-letter output.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("job", DataType::Utf8, false),
        Field::new("node", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("origin", DataType::Utf8, true),
        Field::new("raw", DataType::Binary, true),
        Field::new("row", DataType::Utf8, true),
    ]))
}

/// The stream schema of every dead-letter output: append-only.
#[must_use]
pub fn stream_schema() -> StreamSchema {
    StreamSchema::append_only(schema())
}

/// Letters as a batch of [`schema`].
pub fn to_batch(job: &str, node: &str, now_ms: i64, bad: &[BadRecord]) -> Result<RecordBatch> {
    let mut time = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let (mut jobs, mut nodes, mut reasons) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut origins, mut raws, mut rows) = (StringBuilder::new(), BinaryBuilder::new(), StringBuilder::new());
    for b in bad {
        time.append_value(now_ms);
        jobs.append_value(job);
        nodes.append_value(node);
        reasons.append_value(&b.reason);
        origins.append_option(b.origin.as_deref());
        raws.append_option(b.raw.as_deref());
        rows.append_option(b.row.as_deref());
    }
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(time.finish()),
            Arc::new(jobs.finish()),
            Arc::new(nodes.finish()),
            Arc::new(reasons.finish()),
            Arc::new(origins.finish()),
            Arc::new(raws.finish()),
            Arc::new(rows.finish()),
        ],
    )
    .map_err(|e| Error::internal("dead letters").caused_by(e))
}

/// A row of a batch as a bad record: its visible columns as JSON, its origin where it carries one.
pub fn row_record(batch: &RecordBatch, row: usize, reason: impl Into<String>) -> Result<BadRecord> {
    let origin = batch
        .column_by_name(crate::schema::ORIGIN_COLUMN)
        .and_then(|c| arrow::array::AsArray::as_string_opt::<i32>(c))
        .filter(|c| arrow::array::Array::is_valid(c, row))
        .map(|c| c.value(row).to_owned());
    let visible = crate::schema::visible_batch(&batch.slice(row, 1))?;
    let mut json = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut json);
    writer.write(&visible)?;
    writer.finish()?;
    let row = String::from_utf8_lossy(&json).trim_end().to_owned();
    Ok(BadRecord { reason: reason.into(), origin, raw: None, row: Some(row) })
}
