//! P12: orders of a topic, each with its customer looked up in a table, to another topic in transactions: nothing lost, nothing twice.

use std::collections::BTreeMap;

use karez_testkit::unique;
use serde_json::{Value, json};

use super::{Scenario, cents, records, until_there, values};

const JOB: &str = "examples/enrich-orders/job.yaml";

#[test]
fn every_order_comes_once_with_its_customer_through_kills() {
    let customers: BTreeMap<i64, (String, String)> = include_str!("../../../../../examples/enrich-orders/customers.csv")
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            (fields.next().unwrap().parse().unwrap(), (fields.next().unwrap(), fields.next().unwrap()))
        })
        .collect();
    let (scenario, _) = Scenario::new().with("CUSTOMERS", unique("customers")).with_topic("ORDERS", 3);
    let (scenario, enriched) = scenario.with_topic("ENRICHED", 3);
    scenario.run("examples/enrich-orders/customers.yaml");
    let running = scenario.start(JOB);
    scenario.run("examples/enrich-orders/produce.yaml");
    let running = scenario.kill_and_restart(JOB, running);
    let running = scenario.kill_and_restart(JOB, running);
    let orders = records("enrich-orders/orders.ndjson");
    until_there("all orders", orders.len(), || values(&enriched).len());
    scenario.stop("enrich-orders", running);
    let plain = |order: &Value| json!([order["order_id"], order["customer_id"], cents(&order["amount"]), order["name"], order["tier"]]);
    let mut expected: Vec<Value> = orders
        .iter()
        .map(|order| {
            let customer = customers.get(&order["customer_id"].as_i64().unwrap());
            json!([order["order_id"], order["customer_id"], cents(&order["amount"]), customer.map(|c| &c.0), customer.map(|c| &c.1)])
        })
        .collect();
    let mut found: Vec<Value> = values(&enriched).iter().map(plain).collect();
    for rows in [&mut expected, &mut found] {
        rows.sort_by_key(|row| row[0].as_i64());
    }
    assert_eq!(found, expected);
}
