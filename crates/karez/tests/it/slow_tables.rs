//! A job that makes rows faster than its table takes them waits for the table: its process does not grow.

use std::time::Duration;

use karez_testkit::{Database, Proxy, Scratch};

use crate::karez::{Bench, eventually};

const JOB: &str = r#"
job:
  id: wide
  name: Wide
  delivery: exactly-once
  checkpoint: { interval: 1s }
  source:
    connector: generator
    config: { kind: fields, fields: [ { type: sequence, name: id }, { type: string, name: text, length: 1000 } ] }
  sink:
    connector: jdbc
    config: { url: "URL", table: wide, createTable: true }
"#;

/// What the table takes in a second.
const RATE: u64 = 2_000_000;
/// What has passed when everything on the way is full, and when the test is over.
const FULL: u64 = 16_000_000;
const OVER: u64 = 48_000_000;
/// Without back-pressure the job makes so much in less than a second.
const GROWTH_KB: u64 = 48 << 10;

fn memory_stays_flat(database: Database) {
    let (bench, scratch) = (Bench::new(), Scratch::new(database));
    let server = database.url();
    let proxy = Proxy::to(server.rsplit_once('@').unwrap().1.split('/').next().unwrap());
    proxy.throttle(RATE);
    bench.file("job.yaml", &JOB.replace("URL", &scratch.url_at(&proxy.url(&server))));
    let running = bench.start_logging(bench.command(&["run", "job.yaml"]), "log");
    let passed = |bytes: u64| {
        let mut most = 0;
        eventually("bytes", || {
            std::thread::park_timeout(Duration::from_millis(50));
            most = most.max(running.resident_kb());
            (proxy.to_server_bytes() >= bytes).then_some(most)
        })
    };
    let full = passed(FULL);
    let most = passed(OVER);
    println!("{database:?}: at most {full} kB until everything was full, then at most {most} kB");
    assert!(most < full + GROWTH_KB, "{full} kB grew to {most} kB");
    running.kill();
}

#[test]
fn memory_stays_flat_while_postgres_takes_rows_slowly() {
    memory_stays_flat(Database::Postgres);
}

#[test]
fn memory_stays_flat_while_mysql_takes_rows_slowly() {
    memory_stays_flat(Database::Mysql);
}

#[test]
fn memory_stays_flat_while_mariadb_takes_rows_slowly() {
    memory_stays_flat(Database::Mariadb);
}
