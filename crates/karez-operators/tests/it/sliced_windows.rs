//! Tumbling and sliding windows.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use karez_core::operator::Determinism;
use karez_core::{ChangeMode, Distribution, StreamSchema};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Job, concat, fold, order, orders, plan, plan_as, shown};
use crate::reference::{self, Event};

fn tumbling() -> Value {
    json!({ "keyBy": ["user_id"], "window": { "type": "tumbling", "size": "10s" }, "aggregates": { "n": "count(*)", "total": "sum(amount)" } })
}

#[test]
fn a_tumbling_window_fires_when_the_watermark_passes_its_end() {
    let mut job = Job::new("window-aggregate", tumbling());
    job.orders(&[order(1, 1.0, 0), order(2, 5.0, 9_999), order(1, 2.0, 3_000), order(1, 4.0, 10_000)]);
    job.watermark(9_998);
    assert!(job.take(0).is_empty());
    job.watermark(9_999);
    assert_eq!(job.sorted(0), ["1|01T00:00:00|01T00:00:10|2|3.0", "2|01T00:00:00|01T00:00:10|1|5.0"]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:10|01T00:00:20|1|4.0"]);
}

#[test]
fn without_keys_and_aggregates_all_rows_of_a_window_are_counted() {
    let mut job = Job::new("window-aggregate", json!({ "window": { "type": "tumbling", "size": "10s" } }));
    assert_eq!(job.spec.distribution(0), Distribution::Global);
    job.orders(&[order(1, 1.0, 0), order(2, 5.0, 1)]);
    job.restart(1);
    job.orders(&[order(3, 1.0, 0)]);
    job.end();
    assert_eq!(job.take(0), ["01T00:00:00|01T00:00:10|3"]);
}

#[test]
fn a_sliding_window_shares_rows_with_the_windows_it_overlaps() {
    let config = json!({ "keyBy": ["user_id"], "window": { "type": "sliding", "size": "10s", "slide": "4s", "offset": "1s" } });
    let mut job = Job::new("window-aggregate", config);
    job.orders(&[order(1, 1.0, 6_000)]);
    job.end();
    assert_eq!(job.take(0), ["1|31T23:59:57|01T00:00:07|1", "1|01T00:00:01|01T00:00:11|1", "1|01T00:00:05|01T00:00:15|1"]);
}

#[test]
fn late_rows_go_to_the_side_output_and_are_counted() {
    let mut config = tumbling();
    config["lateOutput"] = json!("tardy");
    let mut job = Job::new("window-aggregate", config);
    assert_eq!(job.spec.outputs()[1].name, "tardy");
    job.watermark(10_000);
    job.orders(&[order(1, 1.0, 9_999), order(1, 2.0, 10_000)]);
    assert_eq!(job.take(1), ["1|1.0|x|01T00:00:09.999"]);
    assert_eq!(job.metrics.late.get(), 1);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:10|01T00:00:20|1|2.0"]);
}

#[test]
fn a_late_row_is_late_after_a_restart_too() {
    let mut job = Job::new("window-aggregate", tumbling());
    job.orders(&[order(1, 1.0, 5_000)]);
    job.watermark(10_000);
    assert_eq!(job.take(0).len(), 1);
    job.restart(2);
    job.orders(&[order(1, 1.0, 5_000)]);
    job.end();
    assert_eq!((job.take(0).len(), job.metrics.late.get()), (0, 1));
}

#[test]
fn a_row_without_event_time_is_rejected() {
    let mut job = Job::new("window-aggregate", tumbling());
    let rows = crate::harness::batch(&[order(1, 1.0, 0), order(2, 1.0, 0)]);
    let mut columns = rows.columns().to_vec();
    columns[3] = Arc::new(TimestampMillisecondArray::from(vec![None, Some(3)]));
    job.push(RecordBatch::try_new(rows.schema(), columns).unwrap());
    job.end();
    assert_eq!(job.take(0).len(), 1);
    assert_eq!(job.out.rejected[0].reason, "the event time `ts` is null");
}

#[test]
fn a_row_on_which_an_argument_fails_is_rejected_and_a_result_that_fails_names_its_key_and_window() {
    let aggregates = json!({ "a": "sum(cast(name as bigint))", "b": "10 / (count(*) - 1)" });
    let mut job =
        Job::new("window-aggregate", json!({ "keyBy": ["user_id"], "window": { "type": "tumbling", "size": "1s" }, "aggregates": aggregates }));
    job.orders(&[(Some(1), 0.0, "5", 0), (Some(1), 0.0, "6", 0), (Some(1), 0.0, "x", 0), (Some(2), 0.0, "1", 0)]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:00|01T00:00:01|11|10"]);
    assert_eq!(job.out.rejected.len(), 2);
    assert!(job.out.rejected[0].row.as_ref().unwrap().contains(r#""name":"x""#));
    let result = job.out.rejected[1].clone();
    assert_eq!(result.origin.unwrap(), r#"node=node key={"user_id":2} window=[1970-01-01T00:00:00.000Z, 1970-01-01T00:00:01.000Z)"#);
    let columns_without_b = r#"{"user_id":2,"window_start":"1970-01-01T00:00:00","window_end":"1970-01-01T00:00:01","a":1}"#;
    assert_eq!(result.row.unwrap(), columns_without_b);
}

#[test]
fn day_windows_follow_the_clock_of_their_time_zone() {
    let config = json!({ "window": { "type": "tumbling", "size": "1d", "timeZone": "America/New_York" } });
    let mut job = Job::new("window-aggregate", config);
    let hour = 3_600_000;
    // 2024-03-10, when New York sets its clock forward: midnight is 05:00 UTC, the next one 04:00 UTC.
    let midnight = 1_710_046_800_000;
    job.orders(&[order(1, 0.0, midnight - 1), order(1, 0.0, midnight), order(1, 0.0, midnight + 23 * hour - 1), order(1, 0.0, midnight + 23 * hour)]);
    job.end();
    assert_eq!(job.take(0), ["09T05:00:00|10T05:00:00|1", "10T05:00:00|11T04:00:00|2", "11T04:00:00|12T04:00:00|1"]);
}

#[test]
fn windows_of_processing_time_fire_by_the_clock() {
    let config = json!({ "keyBy": ["user_id"], "window": { "type": "tumbling", "size": "10s", "time": "processing" } });
    let mut job = Job::new("window-aggregate", config);
    assert!(matches!(job.spec.determinism(), Determinism::No(_)));
    job.clock(3_000);
    job.orders(&[order(1, 0.0, 77_000)]);
    job.watermark(i64::MAX - 1);
    job.clock(9_999);
    assert!(job.take(0).is_empty());
    job.restart(1);
    job.clock(10_000);
    assert_eq!(job.take(0), ["1|01T00:00:00Z|01T00:00:10Z|1".replace('Z', "")]);
    job.orders(&[order(1, 0.0, 0)]);
    job.end();
    assert_eq!(job.take(0).len(), 1);
}

#[test]
fn window_time_is_the_last_millisecond_and_event_time_of_the_output() {
    let mut config = tumbling();
    config["windowTime"] = json!(true);
    let mut job = Job::new("window-aggregate", config);
    job.orders(&[order(1, 1.0, 0)]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:00|01T00:00:10|01T00:00:09.999|1|1.0"]);
    assert_eq!(job.spec.outputs()[0].schema.event_time.as_deref(), Some("window_time"));
}

#[test]
fn within_the_allowed_lateness_a_row_updates_the_result() {
    let mut config = tumbling();
    config["allowedLateness"] = json!("5s");
    let mut job = Job::new("window-aggregate", config.clone());
    let schema = &job.spec.outputs()[0].schema;
    assert_eq!((schema.change_mode, schema.key.join(",")), (ChangeMode::Changelog, "user_id,window_start,window_end".into()));
    job.orders(&[order(1, 1.0, 0), order(2, 1.0, 0)]);
    job.watermark(9_999);
    assert_eq!(job.sorted(0), ["1|01T00:00:00|01T00:00:10|1|1.0|0", "2|01T00:00:00|01T00:00:10|1|1.0|0"]);
    job.orders(&[order(1, 2.0, 1), order(3, 7.0, 2)]);
    job.restart(2);
    job.watermark(12_000);
    assert_eq!(job.sorted(0), ["1|01T00:00:00|01T00:00:10|1|1.0|1", "1|01T00:00:00|01T00:00:10|2|3.0|2", "3|01T00:00:00|01T00:00:10|1|7.0|0"]);
    job.watermark(14_999);
    job.orders(&[order(1, 2.0, 1)]);
    assert_eq!((job.take(1).len(), job.metrics.late.get()), (1, 1));
    job.end();
    assert!(job.take(0).is_empty());
    let batch = plan_as("window-aggregate", config, &[orders()], true).unwrap();
    assert_eq!(batch.outputs()[0].schema.change_mode, ChangeMode::AppendOnly);
}

#[test]
fn a_checkpoint_holds_partials_that_are_new_and_compaction_keeps_them_few() {
    let config = json!({ "keyBy": ["user_id"], "window": { "type": "tumbling", "size": "1d" }, "aggregates": { "n": "count(*)" } });
    let mut job = Job::new("window-aggregate", config);
    let rows: Vec<_> = (0..8192).map(|i| order(i, 1.0, i)).collect();
    let mut most = 0;
    for _ in 0..60 {
        job.orders(&rows);
        most = most.max(job.checkpoint().pane_rows("panes"));
    }
    assert!(most < 20 * 8192, "{most} rows of 8192 keys");
    job.end();
    let rows = concat(&job.out.batches[&0]);
    assert_eq!(rows.num_rows(), 8192);
    assert!(rows.column(3).as_primitive::<Int64Type>().values().iter().all(|&n| n == 60));
}

#[test]
fn a_watermark_that_fires_many_windows_is_resumed_and_emits_full_batches() {
    let config = json!({ "keyBy": ["user_id"], "window": { "type": "sliding", "size": "100s", "slide": "1s" } });
    let mut job = Job::new("window-aggregate", config).with_capacity(1);
    job.orders(&(0..1_000).map(|i| order(i, 1.0, 500)).collect::<Vec<_>>());
    job.end();
    let batches = &job.out.batches[&0];
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
    assert!(job.resumed >= batches.len() - 1 && batches.len() <= 13, "{} resumed, {} batches", job.resumed, batches.len());
    assert_eq!(job.checkpoint().pane_rows("panes"), 0);
}

#[test]
fn what_cannot_be_planned_is_refused_with_its_place() {
    let refuse = |config: Value| plan("window-aggregate", config, &[orders()]).err().unwrap();
    let window = |w: Value| refuse(json!({ "window": w }));
    assert!(window(json!({ "type": "sliding", "size": "1s", "slide": "2s" })).contains("`window.slide`"));
    assert!(window(json!({ "type": "tumbling", "size": "0s" })).contains("`window.size`"));
    assert!(window(json!({ "type": "tumbling", "size": "1h", "timeZone": "Europe/Berlin" })).contains("whole days"));
    assert!(window(json!({ "type": "tumbling", "size": "1d", "timeZone": "Europe/Berln" })).contains("`Europe/Berlin`"));
    assert!(window(json!({ "type": "tumblin", "size": "1d" })).contains("tumbling"));
    let key = refuse(json!({ "keyBy": ["user_d"], "window": { "type": "tumbling", "size": "1s" } }));
    assert!(key.contains("`keyBy[0]`") && key.contains("did you mean `user_id`?"), "{key}");
    let timeless = StreamSchema { event_time: None, ..orders() };
    assert!(plan("window-aggregate", tumbling(), &[timeless]).err().unwrap().contains("no event time"));
    let changelog = StreamSchema { change_mode: ChangeMode::Changelog, ..orders() };
    assert!(plan("window-aggregate", tumbling(), &[changelog]).err().unwrap().contains("cannot take"));
}

#[test]
fn the_identity_names_keys_with_types_window_and_aggregates() {
    let identity = plan("window-aggregate", tumbling(), &[orders()]).unwrap().identity();
    assert_eq!(
        identity,
        r#"keyBy [user_id: Int64] aggregates [n = count(*), total = sum(amount)] window tumbling 10s offset 0s zone none time Event"#
    );
}

// ===== against the reference =====

pub fn keyed() -> StreamSchema {
    let schema = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, false),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]);
    StreamSchema::append_only(Arc::new(schema)).with_event_time(Some("t".into()))
}

pub fn rows(rows: &[(Option<i64>, i64, i64)]) -> RecordBatch {
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.2))),
    ];
    RecordBatch::try_new(keyed().arrow, columns).unwrap()
}

pub fn run(job: &mut Job, events: &[Event]) {
    for event in events {
        match event {
            Event::Rows(r) => job.push(rows(r)),
            Event::Watermark(w) => job.watermark(*w),
            Event::Restart(parallelism) => job.restart(*parallelism),
        }
    }
    job.end();
}

fn results(job: &Job) -> Vec<reference::WindowResult> {
    let Some(batches) = job.out.batches.get(&0) else {
        return Vec::new();
    };
    let rows = concat(batches);
    let mut results: Vec<_> = (0..rows.num_rows())
        .map(|i| {
            let int = |c: usize| rows.column(c).as_primitive::<Int64Type>();
            let key = int(0).is_valid(i).then(|| int(0).value(i));
            (key, rows.column(1).as_primitive::<TimestampMillisecondType>().value(i), int(3).value(i), int(4).value(i))
        })
        .collect();
    results.sort_unstable();
    results
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let row = (prop::option::weighted(0.9, 0_i64..6), -50_i64..50, -40_i64..200);
    let event = prop_oneof![
        4 => prop::collection::vec(row, 1..12).prop_map(Event::Rows),
        2 => (-50_i64..200).prop_map(Event::Watermark),
        1 => (1_usize..5).prop_map(Event::Restart),
    ];
    prop::collection::vec(event, 0..25)
}

/// Results (key, start, end, count, sum) as they are shown, sorted.
pub fn window_texts(results: &[(Option<i64>, i64, i64, i64, i64)]) -> Vec<String> {
    let time = |ms: i64| shown(&RecordBatch::try_from_iter([("t", Arc::new(TimestampMillisecondArray::from(vec![ms])) as _)]).unwrap()).remove(0);
    let text = |&(k, start, end, n, s): &(Option<i64>, i64, i64, i64, i64)| {
        format!("{}|{}|{}|{n}|{s}", k.map_or("-".into(), |k| k.to_string()), time(start), time(end))
    };
    let mut rows: Vec<String> = results.iter().map(text).collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn windows_are_those_of_the_reference_whatever_batches_watermarks_and_restarts(
        events in events(), size in 1_i64..8, slide in 1_i64..8, parallelism in 1_usize..4, disk in prop::bool::weighted(0.2),
    ) {
        let (size, slide) = (size * 10, slide.min(size) * 10);
        let window = json!({ "type": "sliding", "size": size, "slide": slide });
        let config = json!({ "keyBy": ["k"], "window": window, "aggregates": { "n": "count(*)", "s": "sum(v)" } });
        let mut job = Job::beside(disk, plan("window-aggregate", config, &[keyed()]).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let (expected, late) = reference::sliced(&events, size, slide, 0);
        prop_assert_eq!(results(&job), expected);
        prop_assert_eq!(job.metrics.late.get() as usize, late);
    }

    #[test]
    fn a_changelog_of_late_updates_folds_to_the_reference(
        events in events(), size in 1_i64..8, slide in 1_i64..8, lateness in 1_i64..60, parallelism in 1_usize..4, disk in prop::bool::weighted(0.2),
    ) {
        let (size, slide) = (size * 10, slide.min(size) * 10);
        let window = json!({ "type": "sliding", "size": size, "slide": slide });
        let config = json!({ "keyBy": ["k"], "window": window, "aggregates": { "n": "count(*)", "s": "sum(v)" }, "allowedLateness": lateness });
        let mut job = Job::beside(disk, plan("window-aggregate", config, &[keyed()]).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let (expected, late) = reference::sliced(&events, size, slide, lateness);
        let expected: Vec<(Option<i64>, i64, i64, i64, i64)> = expected.iter().map(|&(k, start, n, s)| (k, start, start + size, n, s)).collect();
        prop_assert_eq!(fold(&job.take(0)), window_texts(&expected));
        prop_assert_eq!(job.metrics.late.get() as usize, late);
    }
}
