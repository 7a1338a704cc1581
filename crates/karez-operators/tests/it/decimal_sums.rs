//! Sums and averages of decimals that have more digits than their type: bad records of the node, never a wrong number, whatever the operator.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Decimal256Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit, i256};
use karez_core::StreamSchema;
use serde_json::{Value, json};

use crate::harness::{Job, fold, plan, plan_as};

/// The greatest decimal of 38 digits.
const MOST: i128 = 10_i128.pow(38) - 1;

/// `k, v, ts`.
fn amounts(v: DataType) -> StreamSchema {
    let schema = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", v, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]);
    StreamSchema::append_only(Arc::new(schema)).with_event_time(Some("ts".into()))
}

fn whole() -> StreamSchema {
    amounts(DataType::Decimal128(38, 0))
}

/// Rows of [`whole`].
fn batch(rows: &[(i64, i128, i64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Decimal128Array>().with_precision_and_scale(38, 0).unwrap()),
        Arc::new(rows.iter().map(|r| Some(r.2)).collect::<TimestampMillisecondArray>()),
    ];
    RecordBatch::try_new(whole().arrow, columns).unwrap()
}

fn job(operator: &str, config: Value) -> Job {
    Job::of(plan(operator, config, &[whole()]).unwrap(), 1)
}

/// Takes what was rejected: reasons, and keys with windows.
fn letters(job: &mut Job) -> Vec<(String, String)> {
    job.take_rejected().into_iter().map(|bad| (bad.reason, bad.origin.unwrap())).collect()
}

fn too_large(job: &mut Job, key: i64) {
    let letters = letters(job);
    let [(reason, origin)] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(reason.contains("more than the 38 digits of decimal(38, "), "{reason}");
    assert!(origin.starts_with(&format!(r#"node=node key={{"k":{key}}}"#)), "{origin}");
}

#[test]
fn a_running_sum_that_is_too_large_takes_its_result_back_until_it_fits_again() {
    let mut job = job("aggregate", json!({ "keyBy": ["k"], "aggregates": { "s": "sum(v)" } }));
    job.push(batch(&[(1, MOST, 0), (2, 5, 0)]));
    assert_eq!(job.take(0), [format!("1|{MOST}|0"), "2|5|0".into()]);
    job.push(batch(&[(1, MOST, 0), (2, 1, 0)]));
    assert_eq!(job.sorted(0), [format!("1|{MOST}|3"), "2|5|1".into(), "2|6|2".into()]);
    too_large(&mut job, 1);
    job.restart(2);
    job.push(batch(&[(1, 7, 0)]));
    assert!(job.take(0).is_empty());
    too_large(&mut job, 1);
    job.restart(1);
    job.push(batch(&[(1, -MOST, 0), (1, -8, 0)]));
    assert_eq!(job.take(0), [format!("1|{}|0", MOST - 1)]);
    assert!(letters(&mut job).is_empty());
}

#[test]
fn the_operators_that_give_a_result_once_reject_the_one_that_is_too_large() {
    let window = |window: Value| json!({ "keyBy": ["k"], "window": window, "aggregates": { "s": "sum(v)" } });
    let cases = [
        ("aggregate", json!({ "keyBy": ["k"], "aggregates": { "s": "sum(v)" } })),
        ("window-aggregate", window(json!({ "type": "tumbling", "size": "1m" }))),
        ("window-aggregate", window(json!({ "type": "sliding", "size": "1m", "slide": "1m" }))),
        ("window-aggregate", window(json!({ "type": "session", "gap": "1m" }))),
        ("window-aggregate", window(json!({ "type": "count", "size": 4 }))),
    ];
    for (operator, config) in cases {
        let bounded = operator == "aggregate";
        let mut job = Job::of(plan_as(operator, config.clone(), &[whole()], bounded).unwrap(), 1);
        // Of key 1 too large, of key 2 only on the way.
        job.push(batch(&[(1, MOST, 0), (2, MOST, 0), (3, 1, 0)]));
        job.push(batch(&[(1, MOST, 10), (2, MOST, 10), (3, 1, 10)]));
        job.restart(2);
        job.push(batch(&[(1, 1, 20), (2, -MOST, 20), (3, 1, 20)]));
        job.restart(1);
        job.push(batch(&[(1, 0, 30), (2, -4, 30), (3, 1, 30)]));
        job.end();
        let results: Vec<(String, String)> =
            job.sorted(0).iter().map(|row| (row.split('|').next().unwrap().to_owned(), row.rsplit('|').next().unwrap().to_owned())).collect();
        assert_eq!(results, [("2".into(), (MOST - 4).to_string()), ("3".into(), "4".into())], "{config}");
        too_large(&mut job, 1);
    }
}

#[test]
fn a_late_row_can_take_a_windows_sum_out_of_range_and_another_back() {
    let config = json!({
        "keyBy": ["k"], "window": { "type": "tumbling", "size": "1s" }, "allowedLateness": "1m", "aggregates": { "s": "sum(v)" }
    });
    let mut job = job("window-aggregate", config);
    job.push(batch(&[(1, MOST, 0)]));
    job.watermark(1_000);
    let result = |sum: i128| format!("1|01T00:00:00|01T00:00:01|{sum}");
    assert_eq!(job.take(0), [format!("{}|0", result(MOST))]);
    job.push(batch(&[(1, 1, 1)]));
    job.watermark(2_000);
    assert_eq!(job.take(0), [format!("{}|3", result(MOST))]);
    too_large(&mut job, 1);
    job.restart(2);
    job.push(batch(&[(1, -3, 2)]));
    job.watermark(3_000);
    assert_eq!(job.take(0), [format!("{}|0", result(MOST - 2))]);
    assert!(letters(&mut job).is_empty());
}

#[test]
fn merged_sessions_and_distinct_values_are_added_up_without_wrapping() {
    let config = json!({ "keyBy": ["k"], "window": { "type": "session", "gap": "1s" }, "aggregates": { "s": "sum(distinct v)" } });
    let mut job = job("window-aggregate", config);
    job.push(batch(&[(1, MOST, 0), (1, MOST, 0), (2, MOST, 0)]));
    job.push(batch(&[(1, MOST - 1, 1_500), (2, -MOST, 1_500), (2, 3, 1_600)]));
    job.restart(2);
    // They are one session with this row.
    job.push(batch(&[(1, MOST, 800), (2, MOST, 800)]));
    job.end();
    assert_eq!(job.take(0), ["2|01T00:00:00|01T00:00:02.600|3"]);
    too_large(&mut job, 1);
}

#[test]
fn an_average_that_is_too_large_is_a_bad_record_and_the_others_go_on() {
    let window = json!({ "type": "tumbling", "size": "1s" });
    for (operator, window) in [("aggregate", None), ("window-aggregate", Some(window))] {
        for call in ["avg(v)", "avg(distinct v)"] {
            let mut config = json!({ "keyBy": ["k"], "aggregates": { "a": call } });
            if let Some(window) = &window {
                config["window"] = window.clone();
            }
            let mut job = job(operator, config);
            job.push(batch(&[(1, MOST, 0), (2, 3, 0), (2, 4, 0)]));
            job.end();
            let rows = if window.is_some() { job.take(0) } else { fold(&job.take(0)) };
            assert!(rows.len() == 1 && rows[0].starts_with("2|") && rows[0].ends_with("|3.5000"), "{rows:?}");
            too_large(&mut job, 1);
        }
    }
}

/// Columns `k, v, ts` with decimals of 76 digits.
fn widest(rows: &[(i64, i256)]) -> (StreamSchema, RecordBatch) {
    let schema = amounts(DataType::Decimal256(76, 0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<Decimal256Array>().with_precision_and_scale(76, 0).unwrap()),
        Arc::new(rows.iter().map(|_| Some(0)).collect::<TimestampMillisecondArray>()),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema.arrow), columns).unwrap();
    (schema, batch)
}

#[test]
fn a_letter_of_results_holds_those_that_could_be_computed_under_their_names() {
    let most = i256::from_string(&"9".repeat(76)).unwrap();
    let aggregates =
        json!({ "rows": "count(*)", "mean": "avg(v)", "more": "avg(v) + 1", "greatest": "max(v)", "none": "max(v) filter (where k > 9)" });
    for (keys, key) in [(json!(["k"]), r#""k":1,"#), (json!([]), "")] {
        let (schema, batch) = widest(&[(1, most), (1, most)]);
        let config = json!({ "keyBy": keys, "aggregates": aggregates });
        let mut job = Job::of(plan_as("aggregate", config, &[schema], true).unwrap(), 1);
        job.push(batch);
        job.end();
        let rows: Vec<String> = job.take_rejected().into_iter().map(|bad| bad.row.unwrap()).collect();
        assert_eq!(rows, [format!(r#"{{{key}"rows":2,"greatest":{most},"none":null}}"#)]);
    }
    let (schema, batch) = widest(&[(1, most), (1, most)]);
    let mut job = Job::of(plan_as("aggregate", json!({ "aggregates": { "mean": "avg(v)" } }), &[schema], true).unwrap(), 1);
    job.push(batch);
    job.end();
    assert_eq!(job.take_rejected()[0].row.as_deref(), Some("{}"));
}

#[test]
fn a_sum_of_76_digits_that_is_lost_stays_an_error() {
    let most = i256::from_string(&"9".repeat(76)).unwrap();
    let schema = amounts(DataType::Decimal256(76, 0));
    let batch = |rows: &[(i64, i256)]| widest(rows).1;
    let config = json!({ "keyBy": ["k"], "aggregates": { "s": "sum(v)" } });
    let mut job = Job::of(plan("aggregate", config, std::slice::from_ref(&schema)).unwrap(), 1);
    job.push(batch(&[(1, most), (2, most), (1, most), (2, i256::ONE)]));
    assert_eq!((job.take(0).len(), letters(&mut job).len()), (0, 2));
    job.restart(2);
    job.push(batch(&[(1, -most), (2, i256::MINUS_ONE)]));
    assert_eq!(job.sorted(0), [format!("1|{most}|0"), format!("2|{most}|0")]);
    // Twelve times is beyond 256 bits, and would be within 76 digits if it wrapped.
    job.push(batch(&[(1, most); 11]));
    assert_eq!((job.take(0), letters(&mut job).len()), (vec![format!("1|{most}|3")], 1));
    job.restart(1);
    job.push(batch(&[(1, -most); 11]));
    let letters = letters(&mut job);
    assert_eq!(
        (job.take(0).len(), letters.len(), letters[0].0.as_str()),
        (0, 1, "sum(v) is more than the 76 digits of decimal(76, 0) (in `sum(v)`)")
    );
}

#[test]
fn state_of_values_of_another_type_is_not_taken_for_that_of_these() {
    let identity = |v: DataType, aggregate: &str| {
        let config = json!({ "keyBy": ["k"], "aggregates": { "s": aggregate } });
        plan("aggregate", config, &[amounts(v)]).unwrap().identity()
    };
    let of = |aggregate: &str, states: &str| format!("keyBy [k: Int64] aggregates [s = {aggregate}] running with states [{states}]");
    assert_eq!(identity(DataType::Decimal128(28, 2), "sum(v)"), of("sum(v)", "Decimal128(38, 2)"));
    assert_eq!(identity(DataType::Decimal128(29, 2), "sum(v)"), of("sum(v) in Decimal256(76, 2)", "Decimal256(76, 2)"));
    for aggregate in ["max(v)", "sum(v)", "avg(v)", "sum(distinct v)", "median(v)", "approx_distinct(v)"] {
        let [narrow, wide] = [2, 3].map(|scale| identity(DataType::Decimal128(10, scale), aggregate));
        assert_ne!(narrow, wide);
    }
    assert_eq!(identity(DataType::Decimal128(10, 2), "count(v)"), identity(DataType::Int64, "count(v)"));
}
