//! Look-ups in tables of real servers that die, go away or are slow, by jobs that do too: each row comes once, with what the table has for it.

use std::time::Duration;

use karez_testkit::{Database, OwnServer, Proxy, Scratch, Server};
use serde_json::Value;

use crate::karez::{Bench, Logging, eventually};

const JOB: &str = r#"
connectors:
  shop: { type: jdbc, url: "URL" }
job:
  id: orders
  name: Orders
  delivery: exactly-once
  checkpoint: { interval: 200ms }
  source:
    connector: generator
    config: { kind: fields, rows: ROWS, fields: [ { type: sequence, name: customer } ] }
    rateLimit: 1000
  operators:
    - { name: with-name, type: lookup, connector: shop, config: { table: customers }, on: { customer: id }, columns: [name], MORE }
  sink:
    connector: file
    config: { path: out.ndjson, format: ndjson, ifExists: replace }
"#;

/// Customers 0, 2, 4, … are in the table.
const CUSTOMERS: u64 = 1_000;

struct Shop {
    bench: Bench,
    database: Database,
    proxy: Proxy,
    /// Behind the proxy.
    url: String,
    scratch: Scratch,
    starts: usize,
}

impl Shop {
    fn new(database: Database) -> Self {
        Self::at(database, &database.url())
    }

    fn at(database: Database, server: &str) -> Self {
        let scratch = Scratch::at(database, server);
        scratch.run("CREATE TABLE customers (id BIGINT PRIMARY KEY, name VARCHAR(40))").unwrap();
        let rows: Vec<_> = (0..CUSTOMERS).map(|i| format!("({}, 'customer {}')", 2 * i, 2 * i)).collect();
        scratch.run(&format!("INSERT INTO customers VALUES {}", rows.join(", "))).unwrap();
        let proxy = Proxy::to(server.rsplit_once('@').unwrap().1.split('/').next().unwrap());
        let url = scratch.url_at(&proxy.url(server));
        Self { bench: Bench::new(), database, proxy, url, scratch, starts: 0 }
    }

    fn start(&mut self, job: &str) -> Logging {
        self.starts += 1;
        self.bench.file("job.yaml", &job.replace("URL", &self.url));
        let mut running = self.bench.start_logging(self.bench.command(&["run", "job.yaml"]), &format!("start-{}.log", self.starts));
        running.until("JOB_STARTED");
        running
    }

    /// Waits for a question that the server has been asked after this.
    fn asked(&self) {
        let before = self.proxy.to_server_bytes();
        eventually("a question", || (self.proxy.to_server_bytes() > before).then_some(()));
    }

    /// The rows that the job has written, in their order.
    fn rows(&self) -> Vec<(u64, Option<String>)> {
        let written = std::fs::read_to_string(self.bench.path().join("out.ndjson")).unwrap();
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            (row["customer"].as_u64().unwrap(), row["name"].as_str().map(str::to_owned))
        };
        written.lines().map(row).collect()
    }

    /// Each of so many customers once, those that the table has with their names.
    #[track_caller]
    fn gave_each_row_once(&self, rows: u64) {
        let name = |i: u64| (i.is_multiple_of(2) && i < 2 * CUSTOMERS).then(|| format!("customer {i}"));
        let expected: Vec<_> = (0..rows).map(|i| (i, name(i))).collect();
        assert!(self.rows() == expected, "{:?}: {:?}", self.database, self.rows());
    }

    fn figures(&self) -> Value {
        let status: Value = serde_json::from_str(&self.bench.karez(&["status", "orders"]).with(0).out).unwrap();
        let nodes = status["report"]["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["name"] == "with-name").unwrap().clone()
    }
}

fn job(rows: u64, more: &str) -> String {
    JOB.replace("ROWS", &rows.to_string()).replace("MORE", more)
}

// ===== the job dies =====

fn killed_in_the_middle_of_a_question(database: Database) {
    let mut shop = Shop::new(database);
    let job = job(3_000, "cache: { ttl: 1m }");
    for _ in 0..2 {
        let mut running = shop.start(&job);
        running.until("CHECKPOINT_COMPLETED");
        shop.proxy.hold_answers();
        // Not a question after this: a job at a barrier waits for the answers it has asked for, and asks for no more.
        eventually("an answer that is held", || (shop.proxy.from_server_bytes() > shop.proxy.to_client_bytes()).then_some(()));
        running.kill();
        shop.proxy.back();
    }
    shop.start(&job).end();
    shop.gave_each_row_once(3_000);
}

#[test]
fn a_job_killed_in_the_middle_of_a_question_to_postgres_gives_each_row_once() {
    killed_in_the_middle_of_a_question(Database::Postgres);
}

#[test]
fn a_job_killed_in_the_middle_of_a_question_to_mysql_gives_each_row_once() {
    killed_in_the_middle_of_a_question(Database::Mysql);
}

#[test]
fn a_job_killed_in_the_middle_of_a_question_to_mariadb_gives_each_row_once() {
    killed_in_the_middle_of_a_question(Database::Mariadb);
}

// ===== the database dies =====

fn killed_under_the_job(database: Database, server: Server) {
    let mut server = OwnServer::start(server).unwrap();
    let mut shop = Shop::at(database, server.address());
    let mut running = shop.start(&job(4_000, "external: { retry: { attempts: 100 } }"));
    running.until("CHECKPOINT_COMPLETED");
    shop.asked();
    server.crash().unwrap();
    server.up().unwrap();
    running.until("JOB_FINISHED");
    assert!(!running.log().contains("JOB_RESTARTING"), "{}", running.log());
    running.end();
    shop.gave_each_row_once(4_000);
}

#[test]
fn own_server_a_look_up_outlasts_a_kill_of_postgres() {
    killed_under_the_job(Database::Postgres, Server::Postgres);
}

#[test]
fn own_server_a_look_up_outlasts_a_kill_of_mariadb() {
    killed_under_the_job(Database::Mariadb, Server::Mariadb);
}

#[test]
fn a_look_up_outlasts_thirty_seconds_without_its_database_by_its_defaults() {
    let mut shops = [Database::Postgres, Database::Mysql, Database::Mariadb].map(Shop::new);
    let mut running: Vec<_> = shops.iter_mut().map(|shop| shop.start(&job(4_000, ""))).collect();
    for (shop, running) in shops.iter().zip(&mut running) {
        running.until("CHECKPOINT_COMPLETED");
        shop.proxy.gone();
    }
    std::thread::park_timeout(Duration::from_secs(30));
    // All are back before one is waited for, so that none is away for much longer.
    for shop in &shops {
        let figures = shop.figures();
        shop.proxy.back();
        assert!(figures["retried"].as_u64() > Some(0) && figures["in_flight"].as_u64() <= Some(16), "{:?}: {figures}", shop.database);
    }
    for (shop, mut running) in shops.iter().zip(running) {
        running.until("JOB_FINISHED");
        assert!(!running.log().contains("JOB_RESTARTING"), "{:?}: {}", shop.database, running.log());
        running.end();
        shop.gave_each_row_once(4_000);
    }
}

// ===== the database is slow =====

/// As many rows as the table takes, wide ones.
const WIDE: &str = r#"
connectors:
  shop: { type: jdbc, url: "URL" }
job:
  id: orders
  name: Orders
  checkpoint: { interval: 500ms }
  source:
    connector: generator
    config: { kind: fields, fields: [ { type: sequence, name: customer }, { type: string, name: note, length: 200 } ] }
  operators:
    - { name: with-name, type: lookup, connector: shop, config: { table: customers }, on: { customer: id }, columns: [name] }
  sink: { connector: blackhole }
"#;

/// How much the memory of a job may grow while it waits: less than a second's rows.
const GROWTH_KB: u64 = 48 << 10;

fn answers_take_a_second(database: Database) {
    let mut shop = Shop::new(database);
    // A question and its answer are delayed, one each way.
    shop.proxy.delay(Duration::from_millis(500));
    let mut running = shop.start(WIDE);
    running.until_times("CHECKPOINT_COMPLETED", 3);
    let before = running.resident_kb();
    let (mut most, mut in_flight, mut rows_in_flight) = (before, 0, 0);
    for count in 4..=7 {
        running.until_times("CHECKPOINT_COMPLETED", count);
        // Behind a barrier nothing is in flight at first.
        eventually("several calls in flight", || {
            let figures = shop.figures();
            most = most.max(running.resident_kb());
            rows_in_flight = rows_in_flight.max(figures["rows_in_flight"].as_u64().unwrap());
            let now = figures["in_flight"].as_u64().unwrap();
            in_flight = in_flight.max(now);
            (now > 1).then_some(())
        });
    }
    println!("{database:?}: {before} kB, then at most {most} kB; at most {in_flight} calls and {rows_in_flight} rows in flight");
    assert!(most < before + GROWTH_KB, "{before} kB grew to {most} kB");
    assert!(in_flight <= 16, "{in_flight} calls");
    assert!(rows_in_flight <= 65_536, "{rows_in_flight} rows");
    running.kill();
}

#[test]
fn while_postgres_takes_a_second_for_an_answer_checkpoints_complete_and_memory_stays_flat() {
    answers_take_a_second(Database::Postgres);
}

#[test]
fn while_mysql_takes_a_second_for_an_answer_checkpoints_complete_and_memory_stays_flat() {
    answers_take_a_second(Database::Mysql);
}

// ===== what is kept =====

#[test]
fn answers_are_kept_for_their_time_and_that_there_is_no_row_for_its_own() {
    let mut shop = Shop::new(Database::Postgres);
    shop.scratch.run("DELETE FROM customers; INSERT INTO customers VALUES (1, 'first')").unwrap();
    let two = r#"    - { name: two, type: map, columns: { customer: "customer % 2", n: customer } }
"#;
    let job = job(3_000, "cache: { ttl: 1h, negativeTtl: 200ms }").replace("  operators:\n", &format!("  operators:\n{two}"));
    let mut running = shop.start(&job);
    running.until("CHECKPOINT_COMPLETED");
    shop.scratch.run("INSERT INTO customers VALUES (0, 'came later'); UPDATE customers SET name = 'second' WHERE id = 1").unwrap();
    running.until("JOB_FINISHED");
    running.end();
    let rows = shop.rows();
    assert_eq!(rows.len(), 3_000);
    let names = |customer: u64| rows.iter().filter(move |r| r.0 == customer).map(|r| r.1.as_deref());
    assert!(names(1).all(|n| n == Some("first")), "an answer is given for an hour");
    let (before, after): (Vec<_>, Vec<_>) = names(0).partition(Option::is_none);
    assert!(!before.is_empty() && !after.is_empty(), "that there is no row is given for a moment");
    assert!(names(0).skip(before.len()).all(|n| n == Some("came later")));
}

#[test]
fn a_row_that_the_table_lacks_is_dropped_by_an_inner_join() {
    for database in [Database::Postgres, Database::Mariadb] {
        let mut shop = Shop::new(database);
        shop.start(&job(100, "join: inner")).end();
        let customers: Vec<_> = shop.rows().into_iter().map(|r| r.0).collect();
        assert_eq!(customers, (0..100).step_by(2).collect::<Vec<_>>(), "{database:?}");
    }
}
