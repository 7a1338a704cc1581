//! Bytes to batches and back: blocks of lines (json, csv, text), files of columns (parquet), and [`message`]s (json, csv, raw, avro, protobuf,
//! debezium-json).

#[cfg(feature = "csv")]
pub mod csv;
#[cfg(any(feature = "json", feature = "avro"))]
mod culprit;
mod decoder;
pub mod encode;
#[cfg(feature = "json")]
pub mod json;
pub mod message;
#[cfg(feature = "parquet")]
pub mod parquet;
#[cfg(feature = "text")]
pub mod text;

pub use decoder::LineDecoder;

/// A record that could not be decoded; nothing of it is in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Where the record's first byte lies in the block given.
    pub offset: usize,
    /// Bytes of the record, without its line feed.
    pub length: usize,
    /// What is wrong with it.
    pub reason: String,
}
