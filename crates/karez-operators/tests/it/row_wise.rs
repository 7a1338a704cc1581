//! map, filter, split, union, flat-map.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use karez_core::schema::{change_field, origin_field};
use karez_core::{ChangeMode, StreamSchema};
use serde_json::json;

use crate::harness::{Job, batch, order, orders, plan, shown};

fn with_origin() -> (StreamSchema, RecordBatch) {
    let rows = batch(&[order(1, 10.0, 0), order(2, 0.0, 1)]);
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(origin_field()));
    let mut schema = orders();
    schema.arrow = Arc::new(Schema::new(fields));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["file=a offset=0", "file=a offset=9"])));
    (schema.clone(), RecordBatch::try_new(schema.arrow, columns).unwrap())
}

#[test]
fn map_without_columns_is_the_identity() {
    let mut job = Job::new("map", json!({}));
    job.orders(&[order(1, 2.0, 3)]);
    assert_eq!(job.spec.outputs()[0].schema, orders());
    assert_eq!(job.take(0), ["1|2.0|x|01T00:00:00.003"]);
}

#[test]
fn map_computes_columns_by_list_or_by_name() {
    for columns in [json!(["user_id", "amount * 2 AS double"]), json!({ "user_id": "user_id", "double": "amount * 2" })] {
        let mut job = Job::new("select", json!({ "columns": columns }));
        job.orders(&[order(1, 2.0, 3)]);
        let mut values: Vec<String> = job.take(0)[0].split('|').map(Into::into).collect();
        values.sort();
        assert_eq!(values, ["1", "4.0"]);
    }
}

#[test]
fn map_keeps_event_time_where_its_column_is_kept_also_under_another_name() {
    let event_time = |columns| plan("map", json!({ "columns": columns }), &[orders()]).unwrap().outputs()[0].schema.event_time.clone();
    assert_eq!(event_time(json!(["*"])), Some("ts".into()));
    assert_eq!(event_time(json!(["ts AS at"])), Some("at".into()));
    assert_eq!(event_time(json!(["ts AS at", "ts"])), Some("ts".into()));
    assert_eq!(event_time(json!(["user_id"])), None);
    assert_eq!(event_time(json!(["ts + interval '1' hour AS ts"])), None);
}

#[test]
fn hidden_columns_ride_along_and_a_bad_row_is_rejected_with_its_origin() {
    let (schema, rows) = with_origin();
    let spec = plan("map", json!({ "columns": ["user_id", "cast(10 as bigint) / cast(amount as bigint) AS share"] }), &[schema]).unwrap();
    let mut job = Job::of(spec, 1);
    job.push(rows);
    assert_eq!(job.take(0), ["1|1|file=a offset=0"]);
    let bad = &job.out.rejected[0];
    assert_eq!(bad.origin.as_deref(), Some("file=a offset=9"));
    assert_eq!(bad.row.as_deref(), Some(r#"{"user_id":2,"amount":0.0,"name":"x","ts":"1970-01-01T00:00:00.001"}"#));
    assert!(bad.reason.to_lowercase().contains("zero"), "{}", bad.reason);
}

#[test]
fn a_typo_in_an_expression_names_the_column_and_suggests() {
    let error = plan("map", json!({ "columns": ["user_id", "amout"] }), &[orders()]).err().unwrap();
    assert!(error.starts_with("`columns[1]`: unknown column `amout`") && error.ends_with("did you mean `amount`?"), "{error}");
    let error = plan("filter", json!({ "wher": "true" }), &[orders()]).err().unwrap();
    assert!(error.contains("did you mean `where`?"), "{error}");
}

#[test]
fn filter_keeps_rows_for_which_the_condition_is_true_not_null() {
    let mut job = Job::new("filter", json!({ "where": "user_id > 1" }));
    job.orders(&[order(1, 1.0, 0), (None, 2.0, "x", 0), order(2, 3.0, 0)]);
    assert_eq!(job.take(0), ["2|3.0|x|01T00:00:00"]);
    assert_eq!(job.spec.predicate(), Some("user_id > 1"));
    assert_eq!(job.spec.required_columns(0), Some(vec![0]));
}

#[test]
fn filter_by_a_condition_on_the_clock_is_not_pushed_down_nor_deterministic() {
    let spec = plan("filter", json!({ "where": "ts < now()" }), &[orders()]).unwrap();
    assert_eq!(spec.predicate(), None);
    assert!(matches!(spec.determinism(), karez_core::operator::Determinism::No(_)));
}

#[test]
fn split_sends_the_rows_of_a_slice_where_their_whole_batch_would_have_sent_them() {
    let rows = batch(&[order(1, 0.0, 0), (None, 1.0, "x", 0), order(2, 2.0, 0)]);
    let mut job = Job::new("split", json!({ "routes": { "small": "amount < 1", "nobody": "user_id is null" } }));
    (0..3).for_each(|row| job.push(rows.slice(row, 1)));
    assert_eq!([1, 2, 0].map(|port| job.take(port)), [["1|0.0|x|01T00:00:00"], ["-|1.0|x|01T00:00:00"], ["2|2.0|x|01T00:00:00"]]);
}

#[test]
fn split_sends_a_row_to_the_first_route_or_to_all() {
    let rows = [order(1, 1.0, 0), order(2, 20.0, 0), order(3, 30.0, 0)];
    let routes = json!({ "b": "amount > 10", "a": "amount > 25" });
    let mut first = Job::new("split", json!({ "routes": routes })).with_capacity(1);
    first.orders(&rows);
    assert_eq!((first.take(0).len(), first.take(1).len(), first.take(2).len()), (1, 2, 0));
    let mut all = Job::new("route", json!({ "routes": routes, "mode": "all", "otherwise": "drop" })).with_capacity(1);
    all.orders(&rows);
    assert_eq!((all.take(0).len(), all.take(1).len(), all.take(2).len()), (0, 2, 1));
    assert_eq!(all.metrics.read().custom["unrouted"], 1);
}

#[test]
fn map_gives_columns_in_their_written_order() {
    let spec = plan("map", json!({ "columns": { "z": "user_id", "a": "amount", "m": "name" } }), &[orders()]).unwrap();
    let names: Vec<_> = spec.outputs()[0].schema.arrow.fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn union_matches_columns_by_name_and_refuses_others() {
    let swapped = StreamSchema::append_only(Arc::new(orders().arrow.project(&[3, 2, 1, 0]).unwrap())).with_event_time(Some("ts".into()));
    let mut job = Job::of(plan("union", json!({}), &[orders(), swapped.clone()]).unwrap(), 1);
    job.push(batch(&[order(1, 1.0, 0)]));
    job.push_to(1, batch(&[order(2, 2.0, 0)]).project(&[3, 2, 1, 0]).unwrap());
    assert_eq!(job.take(0), ["1|1.0|x|01T00:00:00", "2|2.0|x|01T00:00:00"]);
    assert_eq!(job.spec.outputs()[0].schema.event_time.as_deref(), Some("ts"));

    let other = StreamSchema::append_only(Arc::new(orders().arrow.project(&[0, 1, 2]).unwrap())).with_event_time(Some("ts".into()));
    let error = plan("union", json!({}), &[orders(), other]).err().unwrap();
    assert!(error.contains("`inputs[1]`") && error.contains("`ts`"), "{error}");
}

#[test]
fn union_of_an_append_only_stream_and_a_changelog_is_a_changelog() {
    let mut fields: Vec<_> = orders().arrow.fields().iter().cloned().collect();
    fields.push(Arc::new(change_field()));
    let changelog = StreamSchema { arrow: Arc::new(Schema::new(fields)), change_mode: ChangeMode::Changelog, ..orders() };
    let mut job = Job::of(plan("union", json!({}), &[orders(), changelog]).unwrap(), 1);
    job.push(batch(&[order(1, 1.0, 0)]));
    assert_eq!(job.take(0), ["1|1.0|x|01T00:00:00|0"]);
    assert_eq!(job.spec.outputs()[0].schema.change_mode, ChangeMode::Changelog);
}

fn baskets() -> RecordBatch {
    let items = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(7), None]), Some(vec![]), None, Some(vec![Some(9)])]);
    RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef), ("items", Arc::new(items))]).unwrap()
}

#[test]
fn flat_map_gives_a_row_for_each_element() {
    let input = StreamSchema::append_only(baskets().schema());
    let run = |keep_empty| {
        let config = json!({ "unnest": "items", "as": "item", "keepEmpty": keep_empty });
        let mut job = Job::of(plan("flat-map", config, std::slice::from_ref(&input)).unwrap(), 1);
        job.push(baskets().slice(0, 2));
        job.push(baskets().slice(2, 2));
        job.take(0)
    };
    assert_eq!(run(false), ["1|7", "1|-", "4|9"]);
    assert_eq!(run(true), ["1|7", "1|-", "2|-", "3|-", "4|9"]);
}

#[test]
fn flat_map_flattens_structs() {
    let fields = Fields::from(vec![Field::new("sku", DataType::Utf8, false), Field::new("n", DataType::Int64, true)]);
    let structs = StructArray::new(
        fields.clone(),
        vec![Arc::new(StringArray::from(vec!["a", "b", "c"])), Arc::new(Int64Array::from(vec![1, 2, 3]))],
        Some(NullBuffer::from(vec![true, true, false])),
    );
    let list = ListArray::new(Arc::new(Field::new("item", DataType::Struct(fields), true)), OffsetBuffer::from_lengths([3]), Arc::new(structs), None);
    let rows = RecordBatch::try_from_iter([("items", Arc::new(list) as ArrayRef), ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let spec = plan("flat-map", json!({ "unnest": "items", "flatten": true }), &[StreamSchema::append_only(rows.schema())]).unwrap();
    let mut job = Job::of(spec, 1);
    job.push(rows);
    assert_eq!(job.take(0), ["a|1|1", "b|2|1", "-|-|1"]);
}

#[test]
fn flat_map_of_a_long_list_stays_within_the_bound_of_a_batch() {
    let n = 1_000_000;
    let list = ListArray::new(
        Arc::new(Field::new("item", DataType::Int64, true)),
        OffsetBuffer::from_lengths([n]),
        Arc::new(Int64Array::from_iter_values(0..n as i64)),
        None,
    );
    let rows = RecordBatch::try_from_iter([("items", Arc::new(list) as ArrayRef)]).unwrap();
    let spec = plan("flat-map", json!({ "unnest": "items" }), &[StreamSchema::append_only(rows.schema())]).unwrap();
    let mut job = Job::of(spec, 1).with_capacity(1);
    job.push(rows);
    let batches = &job.out.batches[&0];
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), n);
    assert_eq!(job.resumed, batches.len() - 1);
    assert_eq!(shown(batches.last().unwrap()).last().unwrap(), "999999");
    assert!(batches.iter().all(|b| b.column(0).len() <= 8192));
}
