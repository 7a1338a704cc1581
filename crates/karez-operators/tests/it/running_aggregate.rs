//! `aggregate` over the whole stream.

use std::collections::BTreeMap;

use karez_core::operator::Determinism;
use karez_core::{ChangeMode, Distribution};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Job, fold, order, orders, plan, plan_as};
use crate::reference::Event;
use crate::sliced_windows::{events, keyed, run};

fn spend() -> Value {
    json!({ "keyBy": ["user_id"], "aggregates": { "n": "count(*)", "ratio": "sum(amount) / count(amount)" } })
}

#[test]
fn of_unbounded_input_each_batch_changes_a_key_once() {
    let mut job = Job::new("aggregate", spend());
    let schema = &job.spec.outputs()[0].schema;
    assert_eq!((schema.change_mode, schema.key.as_slice()), (ChangeMode::Changelog, &["user_id".to_owned()][..]));
    job.orders(&[order(1, 1.0, 0), order(2, 5.0, 0), order(1, 2.0, 0)]);
    assert_eq!(job.take(0), ["1|2|1.5|0", "2|1|5.0|0"]);
    job.restart(2);
    job.orders(&[order(1, 6.0, 0)]);
    assert_eq!(job.take(0), ["1|2|1.5|1", "1|3|3.0|2"]);
}

#[test]
fn of_bounded_input_there_is_one_result_per_key_at_the_end() {
    let spec = plan_as("aggregate", spend(), &[orders()], true).unwrap();
    assert_eq!(spec.outputs()[0].schema.change_mode, ChangeMode::AppendOnly);
    let mut job = Job::of(spec, 1);
    job.orders(&[order(1, 1.0, 0), order(2, 5.0, 0)]);
    job.restart(3);
    job.orders(&[order(1, 2.0, 0)]);
    assert!(job.take(0).is_empty());
    job.end();
    assert_eq!(job.sorted(0), ["1|2|1.5", "2|1|5.0"]);
}

#[test]
fn results_stand_in_their_written_order_and_state_does_not_depend_on_it() {
    let plan = |aggregates: Value| plan_as("aggregate", json!({ "keyBy": ["user_id"], "aggregates": aggregates }), &[orders()], true).unwrap();
    let first = plan(json!({ "total": "sum(amount)", "n": "count(*)", "most": "max(amount)" }));
    let reordered = plan(json!({ "n": "count(*)", "most": "max(amount)", "total": "sum(amount)" }));
    assert_eq!(first.identity(), reordered.identity());
    let mut job = Job::of(first, 1);
    job.orders(&[order(1, 1.0, 0), order(1, 5.0, 0)]);
    job.restart_as(reordered, 2);
    job.orders(&[order(1, 2.0, 0)]);
    job.end();
    assert_eq!(job.take(0), ["1|3|5.0|8.0"]);
}

#[test]
fn results_at_the_end_come_before_event_time_ends() {
    // Behind its end a window or a `deduplicate` would find them late.
    let mut job = Job::of(plan_as("aggregate", spend(), &[orders()], true).unwrap(), 1);
    job.orders(&[order(1, 1.0, 0)]);
    job.watermark(i64::MAX);
    assert_eq!(job.take(0), ["1|1|1.0"]);
    for window in [json!({ "type": "tumbling", "size": "1s", "time": "processing" }), json!({ "type": "session", "gap": "1s", "time": "processing" })]
    {
        let mut job = Job::new("window-aggregate", json!({ "window": window }));
        job.orders(&[order(1, 1.0, 0)]);
        job.watermark(i64::MAX);
        assert_eq!(job.take(0), ["01T00:00:00|01T00:00:01|1"]);
    }
}

#[test]
fn without_keys_there_is_one_result() {
    let mut job = Job::new("aggregate", json!({}));
    assert_eq!(job.spec.distribution(0), Distribution::Global);
    job.orders(&[order(1, 1.0, 0), order(2, 1.0, 0)]);
    job.restart(1);
    job.orders(&[order(3, 1.0, 0)]);
    assert_eq!(job.take(0), ["2|0", "2|1", "3|2"]);
}

#[test]
fn a_result_that_does_not_change_gives_no_row() {
    let mut job = Job::new("aggregate", json!({ "keyBy": ["user_id"], "aggregates": { "most": "max(amount)" } }));
    job.orders(&[order(1, 9.0, 0)]);
    job.orders(&[order(1, 3.0, 0)]);
    assert_eq!(job.take(0), ["1|9.0|0"]);
}

#[test]
fn a_key_is_forgotten_after_its_time_to_live() {
    let mut config = spend();
    config["ttl"] = json!("10s");
    let mut job = Job::new("aggregate", config);
    assert!(matches!(job.spec.determinism(), Determinism::No(_)));
    job.orders(&[order(1, 1.0, 0), order(2, 1.0, 0)]);
    job.clock(9_000);
    job.orders(&[order(1, 1.0, 0)]);
    job.take(0);
    job.clock(18_000);
    assert_eq!(job.checkpoint().keys("groups"), 1);
    job.orders(&[order(1, 1.0, 0), order(2, 3.0, 0)]);
    assert_eq!(job.take(0), ["1|2|1.0|1", "1|3|1.0|2", "2|1|3.0|0"]);
}

#[test]
fn all_kinds_of_aggregates_survive_a_restart() {
    let aggregates = json!({
        "a": "count(distinct name)", "b": "count(*) filter (where amount > 2)", "c": "median(amount)", "d": "stddev(amount)",
        "e": "array_agg(distinct name order by name)", "f": "approx_percentile_cont(amount, 0.5)", "g": "bool_or(amount > 3)"
    });
    let run = |restart: bool, operator: &str, window: Option<Value>| {
        let mut config = json!({ "keyBy": ["user_id"], "aggregates": aggregates });
        if let Some(window) = window {
            config["window"] = window;
        }
        let mut job = Job::of(plan(operator, config, &[orders()]).unwrap(), 1);
        job.orders(&[(Some(1), 1.0, "a", 0), (Some(1), 4.0, "b", 0), (Some(2), 2.5, "a", 0)]);
        if restart {
            job.restart(2);
        }
        job.orders(&[(Some(1), 3.0, "b", 0), (Some(2), 2.5, "c", 0)]);
        job.end();
        if operator == "aggregate" { fold(&job.take(0)) } else { job.sorted(0) }
    };
    assert_eq!(run(false, "aggregate", None), ["1|2|2|3.0|1.5275252316519468|[a, b]|3.0|true", "2|2|2|2.5|0.0|[a, c]|2.5|false"]);
    assert_eq!(run(true, "aggregate", None), run(false, "aggregate", None));
    for window in [json!({ "type": "tumbling", "size": "1s" }), json!({ "type": "session", "gap": "1s" })] {
        assert_eq!(run(true, "window-aggregate", Some(window.clone())), run(false, "window-aggregate", Some(window)));
    }
}

#[test]
fn keys_of_floats_are_equal_as_numbers() {
    let mut job = Job::new("aggregate", json!({ "keyBy": ["amount"] }));
    job.orders(&[order(1, 0.0, 0), order(1, f64::NAN, 0)]);
    job.restart(2);
    job.orders(&[order(1, -0.0, 0), order(1, -f64::NAN, 0)]);
    assert_eq!(fold(&job.take(0)), ["0.0|2", "NaN|2"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_changelog_folds_to_the_sums_of_all_rows(events in events(), parallelism in 1_usize..4, disk in prop::bool::weighted(0.2), batch in any::<bool>()) {
        let config = json!({ "keyBy": ["k"], "aggregates": { "n": "count(*)", "s": "sum(v)" } });
        let mut job = Job::beside(disk, plan_as("aggregate", config, &[keyed()], batch).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let mut sums: BTreeMap<Option<i64>, (i64, i64)> = BTreeMap::new();
        for event in &events {
            if let Event::Rows(rows) = event {
                for row in rows {
                    let (n, s) = sums.entry(row.0).or_default();
                    (*n, *s) = (*n + 1, *s + row.1);
                }
            }
        }
        let mut expected: Vec<String> = sums.iter().map(|(k, (n, s))| format!("{}|{n}|{s}", k.map_or("-".into(), |k| k.to_string()))).collect();
        expected.sort();
        let rows = if batch { job.sorted(0) } else { fold(&job.take(0)) };
        prop_assert_eq!(rows, expected);
    }
}
