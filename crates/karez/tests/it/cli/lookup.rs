//! A job with a look-up, from the file to the rows.

use karez_testkit::{Proxy, service, unique};

use crate::karez::{Bench, eventually};

/// Fills the table.
const CUSTOMERS: &str = r#"
job:
  name: customers
  type: batch
  source:
    connector: generator
    config: { kind: fields, rows: 5, fields: [ { type: sequence, name: id } ] }
  operators:
    - { name: named, type: map, columns: ["id", "'customer ' || cast(id as string) AS name"] }
  sink:
    connector: jdbc
    config: { url: "jdbc:sqlite:shop.db", table: customers, key: [id], createTable: true }
"#;

/// Rows of ten customers, of whom the table knows five.
const ORDERS: &str = r#"
connectors:
  shop: { type: jdbc, url: "jdbc:sqlite:shop.db" }
job:
  name: orders
  source:
    connector: generator
    config: { kind: fields, rows: 10, fields: [ { type: sequence, name: customer } ] }
  operators:
    - name: with-name
      type: lookup
      connector: shop
      config: { table: customers }
      on: { customer: id }
      columns: { name: name }
      cache: { ttl: 1m }
  sink:
    connector: file
    config: { path: out.ndjson, format: ndjson, ifExists: replace }
"#;

fn shop() -> Bench {
    let bench = Bench::new();
    bench.karez(&["run", bench.file("customers.yaml", CUSTOMERS)]).with(0);
    bench
}

#[test]
fn a_look_up_is_checked_explained_previewed_and_run() {
    let bench = shop();
    let job = bench.file("orders.yaml", ORDERS);
    bench.karez(&["check", job]).with(0);
    let explained = bench.karez(&["explain", job]).with(0).out;
    assert!(explained.contains("name string"), "{explained}");
    assert!(explained.contains("waits for the outside, up to 16 batches at a time"), "{explained}");
    let shown = bench.karez(&["preview", job]).with(0).out;
    assert!(shown.contains("| customer 4 ") && !shown.contains("customer 5"), "{shown}");
    bench.karez(&["run", job]).with(0);
    let rows = std::fs::read_to_string(bench.path().join("out.ndjson")).unwrap();
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 10);
    assert_eq!(rows[4], r#"{"customer":4,"name":"customer 4"}"#);
    assert!(rows[5] == r#"{"customer":5,"name":null}"# || rows[5] == r#"{"customer":5}"#, "{}", rows[5]);
}

#[test]
fn what_is_wrong_with_it_is_shown_where_it_stands() {
    let bench = shop();
    let wrong = |from: &str, to: &str| bench.karez(&["check", bench.file("wrong.yaml", &ORDERS.replace(from, to))]).with(2).err;
    for (from, to, expected, place) in [
        ("customer: id }", "custmer: id }", "did you mean `customer`?", "wrong.yaml:14"),
        ("table: customers }", "table: customer }", "did you mean `customers`?", "wrong.yaml:13"),
        ("columns: { name: name }", "columns: { name: nam }", "did you mean `name`?", "wrong.yaml:15"),
        ("ttl: 1m }", "tll: 1m }", "ttl", "wrong.yaml:16"),
    ] {
        let err = wrong(from, to);
        assert!(err.contains(expected) && err.contains(place), "{err}\n  expected {expected} at {place}");
    }
}

#[test]
fn exactly_once_needs_a_transactional_sink_behind_it() {
    let bench = shop();
    let job = ORDERS.replace("  name: orders\n", "  name: orders\n  delivery: exactly-once\n");
    bench.karez(&["check", bench.file("file.yaml", &job)]).with(0);
    let sink = job.find("    connector: file").unwrap();
    let upserts = format!(
        "{}    connector: jdbc\n    config: {{ url: \"jdbc:sqlite:shop.db\", table: o, key: [customer], createTable: true, guarantee: at-least-once }}\n",
        &job[..sink]
    );
    let err = bench.karez(&["check", bench.file("upsert.yaml", &upserts)]).with(2).err;
    // Long lines are folded.
    assert!(
        err.contains("sink `sink` upserts, and `with-name` before it gives other rows") && err.contains("a look-up gives what the table holds"),
        "{err}"
    );
}

#[test]
fn a_file_that_is_gone_is_found_by_check_and_one_has_no_password() {
    let bench = shop();
    let job = ORDERS.replace("config: { table: customers }", "config: { table: customers, password: hush }");
    let err = bench.karez(&["explain", bench.file("secret.yaml", &job)]).with(2).err;
    assert!(err.contains("a SQLite file has no users"), "{err}");
    std::fs::remove_file(bench.path().join("shop.db")).unwrap();
    let err = bench.karez(&["check", bench.file("orders.yaml", ORDERS)]).with(2).err;
    assert!(err.contains("there is no file `shop.db`"), "{err}");
}

#[test]
fn while_the_database_is_away_rows_wait_and_none_is_lost_or_a_dead_letter() {
    let (bench, url, table) = (Bench::new(), service("POSTGRES_URL"), unique("lookup_customers"));
    let filled = CUSTOMERS.replace("jdbc:sqlite:shop.db", &url).replace("table: customers", &format!("table: {table}"));
    bench.karez(&["run", bench.file("customers.yaml", &filled)]).with(0);
    let proxy = Proxy::to(url.rsplit_once('@').unwrap().1.split('/').next().unwrap());
    let job = ORDERS
        .replace("jdbc:sqlite:shop.db", &proxy.url(&url))
        .replace("table: customers", &format!("table: {table}"))
        .replace("  name: orders\n", "  name: orders\n  delivery: exactly-once\n  checkpoint: { interval: 200ms }\n  deadLetter: { connector: file, config: { path: letters, format: ndjson } }\n")
        .replace("rows: 10,", "rows: 3000,")
        .replace("\n  operators:", "\n    rateLimit: 1000\n  operators:")
        .replace("      cache: { ttl: 1m }\n", "      onError: dead-letter\n      external: { retry: { attempts: 1000, maxDelay: 100ms }, circuitBreaker: { openFor: 100ms } }\n");
    let running = bench.start(&["run", bench.file("orders.yaml", &job)]);
    let before = proxy.to_server_bytes();
    eventually("it asks", || (proxy.to_server_bytes() > before + 10_000).then_some(()));
    proxy.gone();
    let refused = proxy.connections();
    eventually("it tries again", || (proxy.connections() > refused + 5).then_some(()));
    proxy.back();
    running.end().with(0);
    let rows = std::fs::read_to_string(bench.path().join("out.ndjson")).unwrap();
    let customers: Vec<u64> = rows.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["customer"].as_u64().unwrap()).collect();
    assert_eq!(customers, (0..3000).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(rows.matches("customer 4").count(), 1);
    let letters = bench.files().into_iter().filter(|f| f.starts_with("letters")).map(|f| bench.path().join(f));
    assert!(letters.filter(|f| f.is_file()).all(|f| std::fs::read_to_string(f).unwrap().is_empty()), "no row is at fault");
}
