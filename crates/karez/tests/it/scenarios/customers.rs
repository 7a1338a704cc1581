//! P6: customers of a topic into a table of MySQL that numbers them itself.

use karez_testkit::{Database, unique};

use super::{Scenario, amount, cents, records, rows, until_there};

const JOB: &str = "examples/customers/job.yaml";

#[test]
fn every_customer_has_one_number_through_a_kill() {
    let table = unique("customers");
    let create = include_str!("../../../../../examples/customers/customers.sql").replace("CREATE TABLE customers", &format!("CREATE TABLE {table}"));
    let create: String = create.lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join("\n");
    Database::Mysql.run_blocking(&Database::Mysql.url(), create.trim_end().trim_end_matches(';')).unwrap();
    let (scenario, _) = Scenario::new().with("CUSTOMERS", &table).with_topic("CUSTOMERS_TOPIC", 2);
    let running = scenario.start(JOB);
    scenario.run("examples/customers/produce.yaml");
    let running = scenario.kill_and_restart(JOB, running);
    let mut expected: Vec<String> = records("customers/customers.ndjson")
        .iter()
        .map(|c| format!("{}|{}|{}", c["name"].as_str().unwrap(), c["city"].as_str().unwrap_or("NULL"), amount(cents(&c["credit"]))))
        .collect();
    expected.sort();
    let read = |columns: &str| rows(Database::Mysql, &format!("SELECT {columns} FROM {table}"));
    until_there("all customers", expected.len(), || read("id").len());
    scenario.stop("customers", running);
    let mut found = read("name, city, credit");
    found.sort();
    assert_eq!(found, expected);
    let mut ids = read("id");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), expected.len(), "each has a number of its own");
}
