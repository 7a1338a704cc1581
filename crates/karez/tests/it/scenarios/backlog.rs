//! P13: a backlog is drained by more subtasks than the topic has partitions, and each key keeps its order.

use std::collections::BTreeMap;

use super::{Scenario, amount, cents, records, until_there, values};

const JOB: &str = "examples/backlog/job.yaml";

/// Statements by account, each as first and last number, count and turnover.
type Statements = BTreeMap<String, Vec<(i64, i64, i64, String)>>;

fn expected() -> Statements {
    let mut bookings: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for booking in records("backlog/messages.ndjson") {
        bookings.entry(booking["account"].as_str().unwrap().to_owned()).or_default().push(cents(&booking["amount"]));
    }
    let statements = |amounts: Vec<i64>| {
        let full = amounts.chunks_exact(10).zip(0_i64..);
        full.map(|(ten, n)| (n * 10 + 1, n * 10 + 10, 10, amount(ten.iter().sum()))).collect()
    };
    bookings.into_iter().map(|(account, amounts)| (account, statements(amounts))).collect()
}

/// It begins with one subtask, is killed, and goes on with six, above the three partitions.
#[test]
fn more_subtasks_than_partitions_drain_it_with_each_key_in_order() {
    let (scenario, _) = Scenario::new().with("RATE", "3000").with_topic("BOOKINGS", 3);
    let (scenario, statements) = scenario.with_topic("STATEMENTS", 3);
    scenario.run("examples/backlog/produce.yaml");
    let scenario = scenario.with("PARALLELISM", "1");
    let mut one = scenario.start(JOB);
    one.until("CHECKPOINT_COMPLETED");
    one.kill();
    let expected = expected();
    let scenario = scenario.with("PARALLELISM", "6").with("RATE", "1000000");
    let six = scenario.start(JOB);
    let all: usize = expected.values().map(Vec::len).sum();
    until_there("all statements", all, || values(&statements).len());
    scenario.stop("backlog", six);
    let mut found = Statements::new();
    for statement in values(&statements) {
        let number = |key: &str| statement[key].as_i64().unwrap();
        let line = (number("first_seq"), number("last_seq"), number("bookings"), amount(cents(&statement["turnover"])));
        found.entry(statement["account"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    assert_eq!(found, expected);
}
