//! A database that is gone for half a minute: the job waits, nothing is lost, and no row is held to be at fault.

use std::time::{Duration, Instant};

use karez_testkit::{Database, Proxy, unique};

use crate::karez::{Bench, eventually};

const ROWS: usize = 1_200;

/// Reads a table, asks another for each row, and writes in all three ways, all through one network. Bad rows would become letters everywhere.
const JOB: &str = r#"
connectors:
  away: { type: jdbc, url: "URL" }
job:
  name: outage
  checkpoint: { interval: 300ms }
  deadLetter: { connector: file, config: { path: letters, format: ndjson } }
  sources:
    - { name: numbers, connector: away, config: { table: NAME_numbers, fetchSize: 20 }, rateLimit: 100, onError: dead-letter }
  operators:
    - { name: asked, type: lookup, inputs: [numbers], connector: away, config: { table: NAME_numbers }, on: { id: id }, columns: { found: name }, onError: dead-letter }
  sinks:
    - { name: appended, inputs: [asked], connector: away, config: { table: NAME_appended, guarantee: at-least-once, createTable: true }, onError: dead-letter }
    - { name: upserted, inputs: [asked], connector: away, config: { table: NAME_upserted, key: [id], guarantee: at-least-once, createTable: true }, onError: dead-letter }
    - { name: once, inputs: [asked], connector: away, config: { table: NAME_once, createTable: true }, onError: dead-letter }
"#;

fn gone_for_half_a_minute(database: Database) {
    let (bench, url, name) = (Bench::new(), database.url(), unique("outage"));
    let run = |sql: &str| database.run_blocking(&url, sql).unwrap_or_else(|e| panic!("{sql:.100}: {e}"));
    run(&format!("CREATE TABLE {name}_numbers (id bigint NOT NULL PRIMARY KEY, name varchar(20))"));
    let values: Vec<String> = (0..ROWS).map(|id| format!("({id}, 'n{id}')")).collect();
    run(&format!("INSERT INTO {name}_numbers VALUES {}", values.join(",")));
    let proxy = Proxy::to(url.rsplit_once('@').unwrap().1.split(['/', '?']).next().unwrap());
    let job = JOB.replace("URL", &proxy.url(&url)).replace("NAME", &name);
    // Its log is in a file: a pipe that nobody empties for half a minute would hold it up.
    let running = bench.start_logging(bench.command(&["run", bench.file("outage.yaml", &job)]), "log");
    eventually("rows are committed", || {
        // The table is not there at first.
        let counted = database.run_blocking(&url, &format!("SELECT count(*) FROM {name}_once"));
        counted.ok().filter(|rows| rows[0][0] != "0")
    });
    let (since, before) = (Instant::now(), proxy.connections());
    proxy.gone();
    std::thread::park_timeout(Duration::from_secs(30).saturating_sub(since.elapsed()));
    assert!(proxy.connections() > before + 10, "source, look-up and sinks have tried again: {}", proxy.connections() - before);
    proxy.back();
    let log = running.end();
    assert!(!log.contains("JOB_RESTARTING"), "the job waits: {log}");
    let letters = bench.files().into_iter().filter(|f| f.starts_with("letters")).map(|f| bench.path().join(f)).filter(|f| f.is_file());
    assert!(letters.into_iter().all(|f| std::fs::read_to_string(f).unwrap().is_empty()), "no row is at fault");
    let whole = format!("{ROWS}");
    for (table, exactly) in [("appended", false), ("upserted", true), ("once", true)] {
        let sql = format!("SELECT count(*), count(DISTINCT id), count(CASE WHEN found = name THEN 1 END) FROM {name}_{table}");
        let counted = run(&sql).remove(0);
        assert_eq!(counted[1], whole, "{table}: {counted:?}");
        assert_eq!(counted[0], counted[2], "{table}: each row was answered: {counted:?}");
        assert!(!exactly || counted[0] == whole, "{table}: {counted:?}");
    }
    for table in ["numbers", "appended", "upserted", "once"] {
        run(&format!("DROP TABLE {name}_{table}"));
    }
}

#[test]
fn postgres_gone_for_half_a_minute_holds_the_job_and_gives_no_letter() {
    gone_for_half_a_minute(Database::Postgres);
}

#[test]
fn mysql_gone_for_half_a_minute_holds_the_job_and_gives_no_letter() {
    gone_for_half_a_minute(Database::Mysql);
}

#[test]
fn mariadb_gone_for_half_a_minute_holds_the_job_and_gives_no_letter() {
    gone_for_half_a_minute(Database::Mariadb);
}
