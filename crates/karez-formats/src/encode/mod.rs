//! Batches to bytes: one [`Encoder`] per line format, and [`parquet`] for files of columns.
//!
//! An encoder appends whole records to a buffer of the caller and keeps nothing between two calls, so a file can be cut after any call: what
//! has been encoded up to there is a valid file. A record that the format cannot hold is refused by itself, not with its batch
//! ([`encode_or_reject`]).

#[cfg(feature = "csv")]
mod csv;
#[cfg(feature = "json")]
mod instant;
#[cfg(feature = "json")]
mod ndjson;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "text")]
mod text;

#[cfg(any(feature = "csv", feature = "json"))]
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use karez_core::BadRecord;

#[cfg(feature = "csv")]
pub use csv::{CsvEncoder, CsvOptions};
#[cfg(feature = "json")]
pub use ndjson::{NdjsonEncoder, NdjsonOptions};
#[cfg(feature = "text")]
pub use text::TextEncoder;

/// A format that cannot take the rows it is asked to: what is wrong, for a person, the column named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// Writes records of one schema.
pub trait Encoder: Send {
    /// What stands once at the beginning of a file; empty for most formats.
    fn header(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Appends every row of a batch of the encoder's schema. On an error `out` holds an unfinished record behind what it held before.
    fn encode(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Appends a batch; rows that the format cannot hold are left out and given back with the reason. Costs a second pass over the batch only when
/// there is such a row.
pub fn encode_or_reject(encoder: &dyn Encoder, batch: &RecordBatch, out: &mut Vec<u8>) -> Vec<BadRecord> {
    let start = out.len();
    if encoder.encode(batch, out).is_ok() {
        return Vec::new();
    }
    out.truncate(start);
    let mut rejects = Vec::new();
    for row in 0..batch.num_rows() {
        let before = out.len();
        let one = batch.slice(row, 1);
        if let Err(e) = encoder.encode(&one, out) {
            out.truncate(before);
            // Where a type has no form in JSON at all, the reason stands alone.
            rejects.push(BadRecord { reason: e.0, row: karez_core::row_json::rows(&one, false).ok(), ..BadRecord::default() });
        }
    }
    rejects
}

/// The first column whose type `refused` names a reason for.
#[cfg(any(feature = "csv", feature = "json"))]
fn refuse_types(schema: &SchemaRef, refused: impl Fn(&arrow::datatypes::DataType) -> Option<&'static str>) -> Result<(), EncodeError> {
    match schema.fields().iter().find_map(|f| refused(f.data_type()).map(|why| (f, why))) {
        Some((field, why)) => Err(EncodeError(format!("column `{}` ({}): {why}", field.name(), karez_core::sql_type::to_sql(field.data_type())))),
        None => Ok(()),
    }
}
