//! P1: a topic, parsed, filtered, counted and summed per user in windows of five minutes, into a table of MySQL and of PostgreSQL.

use std::collections::BTreeMap;

use karez_testkit::{Database, unique};

use super::{Scenario, amount, cents, of_day_ms, records, rows, time, until_there};

const JOB: &str = "examples/user-stats/job.yaml";
const WINDOW_MS: i64 = 300_000;

/// What must stand in the table: user, begin of the window, purchases, spend.
fn expected() -> Vec<String> {
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for event in records("user-stats/events.ndjson").iter().filter(|e| e["action"] == "buy") {
        let window = of_day_ms(&event["ts"]) / WINDOW_MS * WINDOW_MS;
        let (purchases, spend) = windows.entry((event["user_id"].as_i64().unwrap(), window)).or_default();
        *purchases += 1;
        *spend += cents(&event["amount"]);
    }
    windows.iter().map(|((user, window), (purchases, spend))| format!("{user}|{}|{purchases}|{}", time(*window), amount(*spend))).collect()
}

/// Events come in two parts; the job is killed while it reads the first and started again.
fn counts_and_sums_are_right(database: Database, url: String, times: &str) {
    let table = unique("user_stats");
    let (scenario, _) = Scenario::new().with("WAREHOUSE_URL", url).with("USER_STATS", &table).with_topic("USER_EVENTS", 4);
    let running = scenario.start(JOB);
    scenario.run("examples/user-stats/produce.yaml");
    let running = scenario.kill_and_restart(JOB, running);
    let expected = expected();
    let select = format!("SELECT user_id, {times}, purchases, spend FROM {table} ORDER BY user_id, window_start");
    until_there("all windows in the table", expected.len(), || rows(database, &select).len());
    scenario.stop("user-etl-job", running);
    assert_eq!(rows(database, &select), expected);
}

#[test]
fn counts_and_sums_per_user_are_right_in_mysql() {
    let url = format!("jdbc:{}", Database::Mysql.url());
    counts_and_sums_are_right(Database::Mysql, url, "date_format(window_start, '%H:%i:%s')");
}

#[test]
fn counts_and_sums_per_user_are_right_in_postgres() {
    counts_and_sums_are_right(Database::Postgres, Database::Postgres.url(), "to_char(window_start, 'HH24:MI:SS')");
}
