//! P5: new rows of a table, by a column that only grows, through the topic `PREFIX` + table, into a file. A restart neither repeats nor misses one.

use karez_testkit::{Database, Topic, service, unique};
use serde_json::Value;

use super::{Scenario, lines, until_there};

const TO_TOPIC: &str = "examples/table-to-topic/to-topic.yaml";
const TO_FILE: &str = "examples/table-to-topic/to-file.yaml";

/// Runs statements in the database of the case.
type Run<'a> = &'a dyn Fn(&str);

fn new_rows_arrive_once(url: &dyn Fn(&Scenario) -> String, table: &str, run: &dyn Fn(&Scenario, &str)) {
    let prefix = unique("test-sqlite-jdbc").replace('_', "-") + "-";
    Topic::create(&service("KAFKA_BOOTSTRAP"), &format!("{prefix}accounts"), 2).unwrap();
    let scenario = Scenario::new().with("TOPIC_PREFIX", prefix).with("ACCOUNTS", table);
    let database_url = url(&scenario);
    let scenario = scenario.with("DATABASE_URL", database_url);
    let execute: Run<'_> = &|sql| run(&scenario, sql);
    let mut expected: Vec<(i64, String)> = Vec::new();
    let insert = |expected: &mut Vec<(i64, String)>, count: i64| {
        let first = expected.len() as i64 + 1;
        for id in first..first + count {
            execute(&format!("INSERT INTO {table} (id, name) VALUES ({id}, 'account {id}')"));
            expected.push((id, format!("account {id}")));
        }
    };
    execute(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, name VARCHAR(100))"));
    insert(&mut expected, 20);

    let copy = scenario.path().join("target/table-to-topic/accounts");
    let found = || {
        let mut rows: Vec<(i64, String)> = lines(&copy)
            .iter()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .map(|row| (row["id"].as_i64().unwrap(), row["name"].as_str().unwrap().to_owned()))
            .collect();
        rows.sort();
        rows
    };
    let mut to_topic = scenario.start(TO_TOPIC);
    let mut to_file = scenario.start(TO_FILE);
    until_there("the rows that were there", expected.len(), || found().len());
    insert(&mut expected, 15);
    to_topic = scenario.kill_and_restart(TO_TOPIC, to_topic);
    insert(&mut expected, 15);
    to_file = scenario.kill_and_restart(TO_FILE, to_file);
    until_there("all rows", expected.len(), || found().len());
    scenario.stop("table-to-topic", to_topic);
    scenario.stop("accounts-to-file", to_file);
    assert_eq!(found(), expected);
}

#[test]
fn rows_inserted_later_arrive_once_from_sqlite() {
    let file = |scenario: &Scenario| scenario.path().join("accounts.db");
    let run = |scenario: &Scenario, sql: &str| {
        let connection = rusqlite::Connection::open(file(scenario)).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    new_rows_arrive_once(&|s| format!("jdbc:sqlite:{}", file(s).display()), "accounts", &run);
}

fn from_a_server(database: Database) {
    let run = |_: &Scenario, sql: &str| drop(database.run_blocking(&database.url(), sql).unwrap_or_else(|e| panic!("{sql}: {e}")));
    new_rows_arrive_once(&|_| database.url(), &unique("accounts"), &run);
}

#[test]
fn rows_inserted_later_arrive_once_from_postgres() {
    from_a_server(Database::Postgres);
}

#[test]
fn rows_inserted_later_arrive_once_from_mysql() {
    from_a_server(Database::Mysql);
}

#[test]
fn rows_inserted_later_arrive_once_from_mariadb() {
    from_a_server(Database::Mariadb);
}
