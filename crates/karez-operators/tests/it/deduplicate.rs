//! `deduplicate`.

use karez_core::ChangeMode;
use proptest::prelude::*;
use serde_json::json;

use crate::harness::{Job, fold, order, orders, plan, plan_as, plan_in};
use crate::reference::Event;
use crate::sliced_windows::{events, keyed, run};

#[test]
fn the_first_row_of_a_key_passes_and_later_ones_do_not() {
    let mut job = Job::new("deduplicate", json!({ "keyBy": ["user_id"] }));
    assert_eq!(job.spec.outputs()[0].schema, orders());
    assert!(!job.spec.gives_at_end());
    job.orders(&[order(1, 1.0, 0), order(2, 2.0, 0), order(1, 3.0, 0)]);
    job.restart(3);
    job.orders(&[order(2, 4.0, 0), order(3, 5.0, 0)]);
    assert_eq!(job.take(0), ["1|1.0|x|01T00:00:00", "2|2.0|x|01T00:00:00", "3|5.0|x|01T00:00:00"]);
}

#[test]
fn the_last_row_of_a_key_replaces_the_one_before() {
    let mut job = Job::new("deduplicate", json!({ "keyBy": ["user_id"], "keep": "last" }));
    let schema = &job.spec.outputs()[0].schema;
    assert_eq!((schema.change_mode, schema.key.as_slice()), (ChangeMode::Changelog, &["user_id".to_owned()][..]));
    assert!(!job.spec.gives_at_end());
    job.orders(&[order(1, 1.0, 0), order(1, 2.0, 0)]);
    assert_eq!(job.take(0), ["1|2.0|x|01T00:00:00|0"]);
    job.restart(2);
    job.orders(&[order(1, 3.0, 0)]);
    job.orders(&[order(1, 3.0, 0)]);
    assert_eq!(job.take(0), ["1|2.0|x|01T00:00:00|1", "1|3.0|x|01T00:00:00|2"]);
}

#[test]
fn of_a_batch_job_the_last_rows_come_at_the_end() {
    let config = json!({ "keyBy": ["user_id"], "keep": "last" });
    let mut job = Job::of(plan_as("deduplicate", config, &[orders()], true).unwrap(), 1).with_capacity(1);
    assert!(job.spec.gives_at_end());
    for part in [0..15_000, 5_000..20_000] {
        let rows: Vec<_> = part.clone().map(|i| order(i, part.start as f64, 0)).collect();
        rows.chunks(8192).for_each(|rows| job.orders(rows));
    }
    assert!(job.take(0).is_empty());
    job.end();
    let rows = job.take(0);
    assert_eq!(rows.len(), 20_000);
    assert_eq!(rows.iter().filter(|row| row.contains("|5000.0|")).count(), 15_000);
    assert!(job.resumed >= 2);
}

#[test]
fn rows_held_until_the_end_come_before_event_time_ends_and_not_again_after_a_restart_behind_it() {
    let config = json!({ "keyBy": ["user_id"], "keep": "last" });
    let mut job = Job::of(plan_as("deduplicate", config, &[orders()], true).unwrap(), 1);
    job.orders(&[order(1, 1.0, 0), order(2, 2.0, 0)]);
    job.watermark(i64::MAX);
    assert_eq!(job.sorted(0), ["1|1.0|x|01T00:00:00", "2|2.0|x|01T00:00:00"]);
    job.end();
    // The other inputs of the job go on, and so do its checkpoints.
    job.restart(2);
    job.end();
    assert!(job.take(0).is_empty());
}

#[test]
fn rows_held_while_the_watermark_goes_on_have_no_event_time() {
    let config = json!({ "keyBy": ["user_id"], "keep": "last" });
    let event_time =
        |bounded, batch| plan_in("deduplicate", config.clone(), &[orders()], bounded, batch).unwrap().outputs()[0].schema.event_time.clone();
    assert_eq!(event_time(true, false), None);
    assert_eq!(event_time(true, true).as_deref(), Some("ts"));
    assert_eq!(event_time(false, false).as_deref(), Some("ts"));
}

#[test]
fn a_key_is_new_again_after_its_time_to_live() {
    let mut job = Job::new("deduplicate", json!({ "keyBy": ["user_id"], "ttl": "10s" }));
    job.orders(&[order(1, 1.0, 0)]);
    job.clock(9_999);
    job.orders(&[order(1, 2.0, 0)]);
    assert_eq!(job.take(0).len(), 1);
    job.clock(12_500);
    assert_eq!(job.checkpoint().keys("seen"), 0);
    job.orders(&[order(1, 3.0, 0)]);
    assert_eq!(job.take(0).len(), 1);
}

#[test]
fn without_keys_it_is_refused() {
    assert!(plan("deduplicate", json!({ "keyBy": [] }), &[orders()]).err().unwrap().contains("`keyBy`"));
    assert!(plan("deduplicate", json!({}), &[orders()]).err().unwrap().contains("keyBy"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn one_row_of_each_key_is_kept(events in events(), last in any::<bool>(), parallelism in 1_usize..4, disk in prop::bool::weighted(0.2)) {
        let config = json!({ "keyBy": ["k"], "keep": if last { "last" } else { "first" } });
        let mut job = Job::beside(disk, plan("deduplicate", config, &[keyed()]).unwrap(), parallelism).with_capacity(1);
        run(&mut job, &events);
        let mut kept: std::collections::BTreeMap<Option<i64>, i64> = Default::default();
        for event in &events {
            if let Event::Rows(rows) = event {
                for row in rows {
                    if last { kept.insert(row.0, row.1); } else { kept.entry(row.0).or_insert(row.1); }
                }
            }
        }
        let rows = if last { fold(&job.take(0)) } else { job.sorted(0) };
        let rows: Vec<String> = rows.iter().map(|row| row.rsplit_once('|').unwrap().0.to_owned()).collect();
        let mut expected: Vec<String> = kept.iter().map(|(k, v)| format!("{}|{v}", k.map_or("-".into(), |k| k.to_string()))).collect();
        expected.sort();
        prop_assert_eq!({ let mut rows = rows; rows.sort(); rows }, expected);
    }
}
