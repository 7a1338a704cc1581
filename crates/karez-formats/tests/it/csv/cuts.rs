//! CSV decoded piece by piece. Shared with the fuzz target `csv`.

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use karez_formats::csv::{CsvDecoder, CsvOptions};

/// What came out of a text: the rows, the offset of each, and the offset, length and reason of the bad records.
pub(super) type Decoded = (RecordBatch, Vec<u64>, Vec<(usize, usize, String)>);

/// Decodes `text`, whose records have `width` fields, of which the first are the columns of `schema`: in pieces that end at `cuts`, in batches of at
/// most `max_rows`.
pub(super) fn decoded(schema: &SchemaRef, width: usize, options: &CsvOptions, text: &[u8], cuts: &[usize], max_rows: usize) -> Decoded {
    let sources: Vec<_> = (0..schema.fields().len()).collect();
    let mut decoder = CsvDecoder::try_new(SchemaRef::clone(schema), &sources, width, options).unwrap();
    decoder.track_offsets(true);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(text.len());
    let (mut batches, mut offsets, mut bad, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (at, cut) in cuts.iter().enumerate() {
        loop {
            let mut errors = Vec::new();
            let last = at + 1 == cuts.len();
            let read = decoder.decode_lines(&text[start..(*cut).max(start)], last, max_rows, &mut errors);
            bad.extend(errors.into_iter().map(|e| (start + e.offset, e.length, e.reason)));
            offsets.extend(decoder.take_offsets().into_iter().map(|offset| offset + start as u64));
            start += read;
            assert!(decoder.rows() <= max_rows);
            let is_full = decoder.rows() == max_rows;
            batches.extend(flushed(&mut decoder));
            if !is_full {
                break;
            }
        }
    }
    assert_eq!(start, text.len(), "stopped for no reason");
    (concat_batches(schema, &batches).unwrap(), offsets, bad)
}

/// Takes the rows, and checks that they are well formed.
fn flushed(decoder: &mut CsvDecoder) -> Option<RecordBatch> {
    let rows = decoder.rows();
    let batch = decoder.flush().unwrap();
    assert_eq!(batch.as_ref().map_or(0, RecordBatch::num_rows), rows);
    if let Some(batch) = &batch {
        batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
    }
    batch
}
