use std::sync::Arc;

use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use karez_core::schema::change_field;
use karez_formats::message::{EncodePlan, EncodeRequest};

use super::{batch, columns, encoder, format, texts};

/// Rows with their change kinds.
pub(super) fn changes(schema: &SchemaRef, rows: &[&str], kinds: Vec<i8>) -> RecordBatch {
    let rows = batch(schema, rows);
    let fields: Vec<_> = schema.fields().iter().cloned().chain([Arc::new(change_field())]).collect();
    let columns = rows.columns().iter().cloned().chain([Arc::new(Int8Array::from(kinds)) as _]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn changes_are_written_by_key_with_tombstones_for_deletes() {
    let schema = columns("id bigint");
    let rows = changes(&schema, &[r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#], vec![0, 1, 2, 3]);
    let plan = EncodePlan::new(EncodeRequest { format: &format(r#""json""#), schema: &rows.schema(), registry: false }).unwrap();
    assert!(plan.is_upsert());
    assert_eq!(texts(plan.encoder().unwrap().as_mut(), &rows), [r#"{"id":1}"#, "nothing", r#"{"id":2}"#, "tombstone"]);
}

#[test]
fn debezium_writes_every_change() {
    let schema = columns("id bigint");
    let rows = changes(&schema, &[r#"{"id":1}"#, r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#], vec![0, 1, 2, 3]);
    let written = texts(encoder(r#""debezium-json""#, &rows.schema()).as_mut(), &rows);
    let expected = [
        r#"{"before":null,"after":{"id":1},"op":"c"}"#,
        r#"{"before":{"id":1},"after":null,"op":"d"}"#,
        r#"{"before":null,"after":{"id":2},"op":"c"}"#,
        r#"{"before":{"id":3},"after":null,"op":"d"}"#,
    ];
    assert_eq!(written, expected);
}
