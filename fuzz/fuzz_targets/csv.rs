//! Any bytes as CSV: the same rows and errors, however the bytes are cut.
//!
//! The first six bytes of an input choose the columns, the dialect, where the text is cut and how large batches are; the rest is the text.
#![no_main]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use karez_formats::csv::{CsvOptions, Inference, first_record};
use libfuzzer_sys::{Corpus, fuzz_target};

#[path = "../../crates/karez-formats/tests/it/csv/cuts.rs"]
mod cuts;

const ALL_OF_IT: &[usize] = &[];

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&[columns, dialect, first, second, third, max_rows], text)) = data.split_first_chunk() else { return Corpus::Reject };
    let options = options(dialect);
    let (schema, width) = columns_of(columns);
    let whole = cuts::decoded(&schema, width, &options, text, ALL_OF_IT, usize::MAX);
    // Cuts near the beginning are as good as any, and short inputs have all of theirs there.
    let cuts = [first, second, third].map(usize::from);
    let in_pieces = cuts::decoded(&schema, width, &options, text, &cuts, usize::from(max_rows) % 16 + 1);
    assert_eq!(in_pieces, whole, "{options:?} {cuts:?}");
    infer(text, &options);
    Corpus::Keep
});

/// Reads the first record as a header, and decodes the others with the types that their values look like.
fn infer(text: &[u8], options: &CsvOptions) {
    let Ok(Some((names, header))) = first_record(text, true, options) else { return };
    let records = &text[header..];
    let mut inference = Inference::new(names.len());
    let seen = inference.look(records, true, usize::MAX, options);
    let schema = Arc::new(inference.schema(&names));
    let (rows, _, bad) = cuts::decoded(&schema, names.len(), options, records, ALL_OF_IT, usize::MAX);
    assert_eq!(rows.num_rows(), seen, "types were inferred that do not fit: {schema:?} {bad:?}");
}

/// Columns, and how many fields a record has.
fn columns_of(choice: u8) -> (SchemaRef, usize) {
    let timestamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
    let types = match choice % 8 {
        0 => vec![DataType::Utf8, DataType::Utf8],
        1 => vec![DataType::Int64, DataType::Float64, DataType::Utf8],
        2 => vec![DataType::Boolean, DataType::Date32, DataType::Decimal128(10, 2)],
        3 => vec![timestamp(TimeUnit::Millisecond, None), timestamp(TimeUnit::Nanosecond, None), timestamp(TimeUnit::Second, Some("Europe/Berlin"))],
        4 => vec![DataType::Utf8View, DataType::LargeUtf8, DataType::UInt8],
        5 => vec![DataType::Decimal128(38, 0), DataType::Float32, DataType::Int8],
        6 => vec![DataType::Time32(TimeUnit::Millisecond), DataType::Time64(TimeUnit::Microsecond), DataType::Date64],
        _ => vec![DataType::Utf8],
    };
    let names = ["a", "b", "c"];
    let fields: Vec<_> = types.into_iter().zip(names).map(|(kind, name)| Field::new(name, kind, name != "c" || choice < 128)).collect();
    // Sometimes a field that no column reads.
    let width = fields.len() + usize::from(choice & 64 != 0);
    (Arc::new(Schema::new(fields)), width)
}

fn options(choice: u8) -> CsvOptions {
    CsvOptions {
        delimiter: if choice & 1 == 0 { b',' } else { b'\t' },
        quote: match choice >> 1 & 3 {
            0 | 1 => Some(b'"'),
            2 => Some(b'\''),
            _ => None,
        },
        escape: (choice & 8 != 0).then_some(b'\\'),
        comment: (choice & 16 != 0).then_some(b'#'),
        multiline: choice & 32 == 0,
        null_markers: if choice & 64 == 0 { vec![String::new()] } else { vec!["NA".into(), "NULL".into()] },
    }
}
