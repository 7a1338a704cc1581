//! P3: one topic, two branches with windows of their own, two tables, one checkpoint.

use std::collections::BTreeMap;

use karez_testkit::{Database, unique};

use super::{Scenario, amount, cents, of_day_ms, records, rows, time, until_there};

const JOB: &str = "examples/two-branches/job.yaml";

/// Per shop and window of so many minutes: how many events of a kind, and what `fold` makes of their amounts.
fn expected(kind: &str, minutes: i64, fold: impl Fn(i64, i64) -> i64) -> Vec<String> {
    let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
    for event in records("two-branches/events.ndjson").iter().filter(|e| e["kind"] == kind) {
        let length = minutes * 60_000;
        let window = of_day_ms(&event["ts"]) / length * length;
        let (count, value) = windows.entry((event["shop"].as_str().unwrap().to_owned(), window)).or_default();
        *count += 1;
        *value = fold(*value, cents(&event["amount"]));
    }
    windows.iter().map(|((shop, window), (count, value))| format!("{shop}|{}|{count}|{}", time(*window), amount(*value))).collect()
}

#[test]
fn both_tables_hold_every_window_once_through_a_kill() {
    let (turnover, refunds) = (unique("turnover"), unique("refunds"));
    let (scenario, _) = Scenario::new().with("TURNOVER", &turnover).with("REFUNDS", &refunds).with_topic("SHOP_EVENTS", 3);
    let running = scenario.start(JOB);
    scenario.run("examples/two-branches/produce.yaml");
    let running = scenario.kill_and_restart(JOB, running);
    let orders = expected("order", 5, |sum, amount| sum + amount);
    let refunded = expected("refund", 10, i64::max);
    let read = |columns: &str, table: &str| {
        rows(
            Database::Postgres,
            &format!("SELECT shop, to_char(window_start, 'HH24:MI:SS'), {columns} FROM {table} ORDER BY shop COLLATE \"C\", window_start"),
        )
    };
    until_there("all turnover", orders.len(), || read("orders, turnover", &turnover).len());
    until_there("all refunds", refunded.len(), || read("refunds, largest", &refunds).len());
    scenario.stop("shop-turnover", running);
    assert_eq!(read("orders, turnover", &turnover), orders);
    assert_eq!(read("refunds, largest", &refunds), refunded);
}
