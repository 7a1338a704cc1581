//! The reference of the JSON decoder: what arrow-json makes of each record alone. Shared with the fuzz target `ndjson`.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use karez_formats::RecordError;
use karez_formats::json::JsonDecoder;

/// What came out of a block: the rows, the offset of each, and the offset and length of the bad records.
pub(super) type Decoded = (RecordBatch, Vec<u64>, Vec<(usize, usize)>);

/// What arrow-json makes of one record alone; `None` if it is not exactly one row.
pub(super) fn arrow_row(schema: &SchemaRef, record: &[u8]) -> Option<RecordBatch> {
    let mut decoder = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(4).build_decoder().unwrap();
    let read = decoder.decode(record).ok()?;
    let batch = decoder.flush().ok()??;
    (read == record.len() && batch.num_rows() == 1).then_some(batch)
}

/// What is to come out of `block`, where `row` gives the row of a good record.
pub(super) fn expected(schema: &SchemaRef, block: &[u8], row: impl Fn(&SchemaRef, &[u8]) -> Option<RecordBatch>) -> Decoded {
    let (mut rows, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let mut offset = 0;
    for line in block.split(|&byte| byte == b'\n') {
        if !line.iter().all(|byte| b" \t\r".contains(byte)) {
            match row(schema, line) {
                Some(row) => {
                    rows.push(row);
                    offsets.push(offset as u64);
                }
                None => bad.push((offset, line.len())),
            }
        }
        offset += line.len() + 1;
    }
    (concat_batches(schema, &rows).unwrap(), offsets, bad)
}

/// Decodes `block` in pieces that grow by `step`, in batches of at most `max_rows`.
pub(super) fn decoded(decoder: &mut JsonDecoder, schema: &SchemaRef, block: &[u8], step: usize, max_rows: usize) -> Decoded {
    let (mut batches, mut offsets, mut bad) = (Vec::new(), Vec::new(), Vec::new());
    let (mut begin, mut end) = (0, step.min(block.len()));
    decoder.track_offsets(true);
    loop {
        let mut errors = Vec::new();
        let last = end == block.len();
        let read = decoder.decode_lines(&block[begin..end], last, max_rows, &mut errors);
        bad.extend(errors.iter().map(|error: &RecordError| (begin + error.offset, error.length)));
        offsets.extend(decoder.take_offsets().into_iter().map(|offset| offset + begin as u64));
        begin += read;
        assert!(decoder.rows() <= max_rows);
        if decoder.rows() == max_rows {
            batches.extend(flushed(decoder));
        } else if begin == block.len() {
            break;
        } else {
            assert!(!last, "stopped at {begin} of {} for no reason", block.len());
            end = (end + step).min(block.len());
        }
    }
    batches.extend(flushed(decoder));
    (concat_batches(schema, &batches).unwrap(), offsets, bad)
}

/// Takes the rows, and checks that they are well formed.
pub(super) fn flushed(decoder: &mut JsonDecoder) -> Option<RecordBatch> {
    let rows = decoder.rows();
    let batch = decoder.flush().unwrap();
    assert_eq!(batch.as_ref().map_or(0, RecordBatch::num_rows), rows);
    if let Some(batch) = &batch {
        // Built unchecked in part: check it here.
        batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
    }
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
    batch
}

/// Asserts that what came out is what was to come out.
pub(super) fn assert_same(found: &Decoded, expected: &Decoded, block: &[u8]) {
    let text = String::from_utf8_lossy(block);
    assert_eq!(found.2, expected.2, "bad records of:\n{text}");
    assert_eq!(found.1, expected.1, "offsets of:\n{text}");
    assert_eq!(found.0, expected.0, "rows of:\n{text}");
    for (ours, theirs) in found.0.columns().iter().zip(expected.0.columns()) {
        // `==` takes NaN and the two zeros for what they are in bits, so this is as good as byte for byte.
        assert_eq!(ours.data_type(), theirs.data_type());
        assert_eq!(ours.null_count(), theirs.null_count());
    }
}
