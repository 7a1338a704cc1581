//! Session and count windows.

use karez_core::operator::Determinism;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Job, fold, order, orders, plan};
use crate::reference::{self, Event};
use crate::sliced_windows::{events, keyed, rows, run, window_texts};

fn session() -> Value {
    json!({ "keyBy": ["user_id"], "window": { "type": "session", "gap": "10s" }, "aggregates": { "n": "count(*)", "total": "sum(amount)" } })
}

#[test]
fn a_session_ends_when_nothing_came_for_the_gap() {
    let mut job = Job::new("window-aggregate", session());
    job.orders(&[order(1, 1.0, 0), order(1, 2.0, 25_000), order(2, 5.0, 3_000), order(1, 4.0, 9_000)]);
    job.watermark(18_998);
    assert_eq!(job.take(0), ["2|01T00:00:03|01T00:00:13|1|5.0"]);
    job.watermark(18_999);
    assert_eq!(job.take(0), ["1|01T00:00:00|01T00:00:19|2|5.0"]);
    job.restart(3);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:25|01T00:00:35|1|2.0"]);
    assert_eq!(job.checkpoint().keys("sessions"), 0);
}

#[test]
fn a_row_between_two_sessions_makes_them_one() {
    let mut job = Job::new("window-aggregate", session());
    job.orders(&[order(1, 1.0, 0), order(1, 2.0, 18_000)]);
    job.restart(2);
    job.orders(&[order(1, 4.0, 9_000)]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:00|01T00:00:28|3|7.0"]);
}

#[test]
fn a_late_row_is_taken_where_it_meets_a_session_that_is_still_open() {
    let mut job = Job::new("window-aggregate", session());
    job.orders(&[order(1, 1.0, 12_000)]);
    job.watermark(20_000);
    job.orders(&[order(1, 2.0, 5_000), order(2, 3.0, 5_000)]);
    assert_eq!(job.take(1), ["2|3.0|x|01T00:00:05"]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:05|01T00:00:22|2|3.0"]);
    assert_eq!(job.metrics.late.get(), 1);
}

#[test]
fn a_row_within_the_allowed_lateness_takes_back_the_result_it_changes() {
    let mut config = session();
    config["allowedLateness"] = json!("20s");
    let mut job = Job::new("window-aggregate", config);
    job.orders(&[order(1, 1.0, 0)]);
    job.watermark(10_000);
    job.restart(2);
    job.orders(&[order(1, 2.0, 8_000)]);
    job.end();
    assert_eq!(job.take(0), ["1|01T00:00:00|01T00:00:10|1|1.0|0", "1|01T00:00:00|01T00:00:10|1|1.0|3", "1|01T00:00:00|01T00:00:18|2|3.0|0"]);
}

#[test]
fn sessions_of_processing_time_follow_the_clock() {
    let mut job = Job::new("window-aggregate", json!({ "keyBy": ["user_id"], "window": { "type": "session", "gap": "10s", "time": "processing" } }));
    job.clock(1_000);
    job.orders(&[order(1, 0.0, 0)]);
    job.clock(8_000);
    job.orders(&[order(1, 0.0, 0)]);
    job.restart(1);
    job.clock(17_999);
    assert!(job.take(0).is_empty());
    job.clock(18_000);
    assert_eq!(job.take(0), ["1|01T00:00:01|01T00:00:18|2"]);
}

#[test]
fn firing_many_sessions_is_resumed() {
    let mut job = Job::new("window-aggregate", session()).with_capacity(1);
    for from in (0..50_000).step_by(5_000) {
        job.orders(&(from..from + 5_000).map(|i| order(i, 1.0, i)).collect::<Vec<_>>());
    }
    job.end();
    assert_eq!(job.take(0).len(), 50_000);
    assert!(job.resumed > 5);
}

#[test]
fn a_count_window_is_so_many_rows_of_a_key() {
    let config = json!({ "keyBy": ["user_id"], "window": { "type": "count", "size": 3 }, "aggregates": { "a": "count(*)", "b": "first_value(amount)", "c": "last_value(amount)" } });
    let mut job = Job::new("window-aggregate", config);
    assert!(matches!(job.spec.determinism(), Determinism::No(_)));
    let amounts = |amounts: &[i32]| amounts.iter().map(|&a| order(1, f64::from(a), 0)).collect::<Vec<_>>();
    job.orders(&amounts(&[1, 2]));
    assert!(job.take(0).is_empty());
    job.restart(4);
    job.orders(&amounts(&[3, 4, 5, 6, 7]));
    assert_eq!(job.take(0), ["1|3|1.0|3.0", "1|3|4.0|6.0"]);
    job.orders(&amounts(&[8, 9]));
    job.orders(&amounts(&[10]));
    job.end();
    assert_eq!(job.take(0), ["1|3|7.0|9.0"]);
}

#[test]
fn a_sum_of_nulls_is_null_also_beside_a_key_whose_window_goes_on() {
    let sum = json!({ "total": "sum(case when amount > 0 then amount end)" });
    let of = |window: Value, lateness: &str| {
        let config = json!({ "keyBy": ["user_id"], "window": window, "aggregates": sum, "allowedLateness": lateness });
        let mut job = Job::new("window-aggregate", config);
        job.orders(&[order(1, 5.0, 0)]);
        if lateness != "0s" {
            job.watermark(9_999);
        }
        // Key 1 goes on, key 2 is new and has nothing to add up.
        job.orders(&[order(1, 2.0, 1), order(2, 0.0, 0), order(2, 0.0, 0)]);
        job.orders(&[order(1, 2.0, 1)]);
        job.end();
        let rows = if lateness == "0s" { job.sorted(0) } else { fold(&job.take(0)) };
        rows.iter().map(|row| format!("{} {}", &row[..1], row.rsplit_once('|').unwrap().1)).collect::<Vec<_>>()
    };
    let expected = ["1 9.0", "2 -"];
    assert_eq!(of(json!({ "type": "session", "gap": "10s" }), "0s"), expected);
    assert_eq!(of(json!({ "type": "session", "gap": "10s" }), "10s"), expected);
    assert_eq!(of(json!({ "type": "tumbling", "size": "10s" }), "10s"), expected);
    assert_eq!(of(json!({ "type": "count", "size": 2 }), "0s"), ["1 7.0", "2 -"]);
}

#[test]
fn options_of_one_window_are_refused_for_another() {
    let refuse = |window: Value| plan("window-aggregate", json!({ "window": window }), &[orders()]).err().unwrap();
    assert!(refuse(json!({ "type": "session", "gap": "0s" })).contains("`window.gap`"));
    assert!(refuse(json!({ "type": "session", "size": "1s" })).contains("`size`"));
    assert!(refuse(json!({ "type": "count", "size": 0 })).contains("`window.size`"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sessions_are_those_of_the_reference_whatever_batches_watermarks_and_restarts(
        events in events(), gap in 1_i64..40, lateness in prop_oneof![Just(0_i64), 1_i64..60], parallelism in 1_usize..4, disk in prop::bool::weighted(0.2),
    ) {
        let aggregates = json!({ "n": "count(*)", "s": "sum(v)" });
        let config = json!({ "keyBy": ["k"], "window": { "type": "session", "gap": gap }, "aggregates": aggregates, "allowedLateness": lateness });
        let mut job = Job::beside(disk, plan("window-aggregate", config, &[keyed()]).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let (expected, late) = reference::sessions(&events, gap, lateness);
        let rows = if lateness == 0 { job.sorted(0) } else { fold(&job.take(0)) };
        prop_assert_eq!(rows, window_texts(&expected));
        prop_assert_eq!(job.metrics.late.get() as usize, late);
    }

    #[test]
    fn batch_boundaries_do_not_change_sessions(all in prop::collection::vec((prop::option::of(0_i64..4), -9_i64..9, 0_i64..100), 0..40), cut in 1_usize..9) {
        let run = |size: usize| {
            let config = json!({ "keyBy": ["k"], "window": { "type": "session", "gap": 10 }, "aggregates": { "n": "count(*)", "s": "sum(v)" } });
            let mut job = Job::beside(false, plan("window-aggregate", config, &[keyed()]).unwrap(), 1);
            job.watermark(40);
            all.chunks(size).for_each(|some| job.push(rows(some)));
            job.end();
            (job.sorted(0), job.sorted(1))
        };
        prop_assert_eq!(run(cut), run(1_000));
    }

    #[test]
    fn count_windows_are_those_of_the_reference(events in events(), size in 1_usize..6, parallelism in 1_usize..4, disk in prop::bool::weighted(0.2)) {
        let config = json!({ "keyBy": ["k"], "window": { "type": "count", "size": size }, "aggregates": { "n": "count(*)", "s": "sum(v)" } });
        let mut job = Job::beside(disk, plan("window-aggregate", config, &[keyed()]).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let mut values: std::collections::BTreeMap<Option<i64>, Vec<i64>> = Default::default();
        for event in &events {
            if let Event::Rows(rows) = event {
                rows.iter().for_each(|r| values.entry(r.0).or_default().push(r.1));
            }
        }
        let text = |k: &Option<i64>, some: &[i64]| format!("{}|{size}|{}", k.map_or("-".into(), |k| k.to_string()), some.iter().sum::<i64>());
        let mut expected: Vec<String> = values.iter().flat_map(|(k, all)| all.chunks_exact(size).map(|some| text(k, some)).collect::<Vec<_>>()).collect();
        expected.sort();
        prop_assert_eq!(job.sorted(0), expected);
    }
}
