//! The one interface behind which formats made of lines stand, for whoever has bytes: files, sockets, messages.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::RecordError;

/// Turns blocks of lines into batches of one schema.
///
/// The caller keeps what [`decode_lines`](Self::decode_lines) has not done with, and gives it again with more behind it. So the number of bytes
/// done with is exactly the position behind the rows buffered and the errors reported.
pub trait LineDecoder: Send {
    /// Decodes complete records of `block` until `max_rows` rows are buffered, and returns how many bytes it has done with.
    ///
    /// A last record without its line feed counts only when `last` is true. Bad records are added to `errors` in their order; their offsets are
    /// relative to `block`.
    fn decode_lines(&mut self, block: &[u8], last: bool, max_rows: usize, errors: &mut Vec<RecordError>) -> usize;

    /// Rows buffered.
    fn rows(&self) -> usize;

    /// Bytes that the buffered rows hold, about.
    fn bytes(&self) -> usize;

    /// Takes the buffered rows; `None` if there are none.
    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError>;

    /// Whether to keep the offset of each row's record, for [`take_offsets`](Self::take_offsets).
    fn track_offsets(&mut self, on: bool);

    /// For each row since the last call, in their order, the offset of its record in the block it was decoded from.
    fn take_offsets(&mut self) -> Vec<u64>;
}

#[cfg(any(feature = "csv", feature = "json", feature = "text"))]
macro_rules! line_decoder {
    ($type:ty) => {
        impl LineDecoder for $type {
            fn decode_lines(&mut self, block: &[u8], last: bool, max_rows: usize, errors: &mut Vec<RecordError>) -> usize {
                <$type>::decode_lines(self, block, last, max_rows, errors)
            }

            fn rows(&self) -> usize {
                <$type>::rows(self)
            }

            fn bytes(&self) -> usize {
                <$type>::bytes(self)
            }

            fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
                <$type>::flush(self)
            }

            fn track_offsets(&mut self, on: bool) {
                <$type>::track_offsets(self, on);
            }

            fn take_offsets(&mut self) -> Vec<u64> {
                <$type>::take_offsets(self)
            }
        }
    };
}

#[cfg(feature = "csv")]
line_decoder!(crate::csv::CsvDecoder);
#[cfg(feature = "json")]
line_decoder!(crate::json::JsonDecoder);
#[cfg(feature = "text")]
line_decoder!(crate::text::TextDecoder);
