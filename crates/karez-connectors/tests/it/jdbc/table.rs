//! What a user gets wrong is said in words, before anything runs.

use arrow::datatypes::{DataType, Field, Schema};
use karez_core::StreamSchema;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Base, exists, sink, table_config, try_sink, try_source, two_columns};

fn refused(config: &Value) -> String {
    try_sink(config, &StreamSchema::append_only(two_columns())).err().expect("a refusal")
}

#[tokio::test]
async fn check_creates_nothing_and_prepare_creates_folder_file_and_table() {
    let base = Base::new();
    let sink = sink(&table_config(&base), &StreamSchema::append_only(two_columns()));
    sink.check().await.unwrap();
    assert!(!exists(base.path().parent().unwrap()));
    sink.prepare(&super::run(1), &[]).await.unwrap();
    assert_eq!(base.rows("SELECT sql FROM sqlite_schema WHERE name = 't'"), ["CREATE TABLE \"t\" (\n  \"id\" INTEGER,\n  \"name\" TEXT\n)"]);
    // A table that is there is taken as it is.
    sink.prepare(&super::run(2), &[]).await.unwrap();
}

#[tokio::test]
async fn a_missing_table_is_refused_with_the_statement_that_creates_it() {
    let base = Base::with("CREATE TABLE totals (id INTEGER)");
    let config = json!({ "url": base.url(), "table": "total", "key": ["id"] });
    let expected = format!(
        "`table`: there is no table `total` in `{}` (did you mean `totals`?); set `createTable: true`, or create it:\nCREATE TABLE \"total\" (\n  \"id\" INTEGER NOT NULL,\n  \"name\" TEXT,\n  PRIMARY KEY (\"id\")\n);",
        base.path().display()
    );
    assert_eq!(refused(&config), expected);
    // Also where the file itself is missing.
    let sink = sink(&json!({ "url": Base::new().url(), "table": "t" }), &StreamSchema::append_only(two_columns()));
    assert!(sink.check().await.unwrap_err().message().contains("CREATE TABLE \"t\""));
}

#[test]
fn columns_that_do_not_fit_are_all_named() {
    let base = Base::with("CREATE TABLE t (id INTEGER, nmae TEXT, must TEXT NOT NULL, may TEXT NOT NULL DEFAULT '')");
    assert_eq!(
        refused(&json!({ "url": base.url(), "table": "t" })),
        format!(
            "`table`: the rows do not fit table `t` of `{}`: it has no column `name`: did you mean `nmae`? Rename it with a `map`; its column `must` is NOT NULL and has no \
             default, but the rows have no such column; add it with a `map`",
            base.path().display()
        )
    );
}

#[test]
fn an_upsert_needs_a_unique_key() {
    let base = Base::with("CREATE TABLE t (id INTEGER, name TEXT)");
    let error = refused(&json!({ "url": base.url(), "table": "t", "key": ["id"] }));
    assert!(error.contains("CREATE UNIQUE INDEX \"t_key\" ON \"t\" (\"id\")"), "{error}");
    base.open().execute_batch("CREATE UNIQUE INDEX u ON t (ID)").unwrap();
    sink(&json!({ "url": base.url(), "table": "t", "key": ["id"] }), &StreamSchema::append_only(two_columns()));
}

#[test]
fn decimals_that_sqlite_would_round_are_refused() {
    let base = Base::with("CREATE TABLE t (d DECIMAL(20, 2)); CREATE TABLE ok (d DECIMAL_TEXT(20, 2))");
    let input = StreamSchema::append_only(Arc::new(Schema::new(vec![Field::new("d", DataType::Decimal128(20, 2), true)])));
    let error = try_sink(&json!({ "url": base.url(), "table": "t" }), &input).err().unwrap();
    assert!(error.contains("declare it DECIMAL_TEXT(20, 2)"), "{error}");
    try_sink(&json!({ "url": base.url(), "table": "ok" }), &input).unwrap();
}

#[test]
fn urls_are_taken_as_users_write_them() {
    let base = Base::new();
    let path = base.path();
    for url in [format!("jdbc:sqlite:{}", path.display()), format!("sqlite:{}", path.display()), format!("sqlite://{}", path.display())] {
        sink(&json!({ "url": url, "table": "t", "createTable": true }), &StreamSchema::append_only(two_columns()));
    }
    let examples = "write it like `jdbc:postgresql://host:5432/shop`, `mysql://host/shop`, `mariadb://host/shop` or `jdbc:sqlite:data/shop.db`";
    for (url, expected) in [
        ("jdbc:oracle:thin:u/secret@h", format!("`url`: Oracle is not supported; {examples}").as_str()),
        ("jdbc:sqlit:a.db", format!("`url`: unknown database `sqlit`; {examples}").as_str()),
        ("shop.db", format!("`url`: is no database URL; {examples}").as_str()),
        ("jdbc:sqlite::memory:", "`url`: a database in memory would be gone with the connection that wrote it; name a file: `jdbc:sqlite:PATH`"),
        ("jdbc:sqlite:a.db?cache=shared", "`url`: parameters behind the path are not known: `?cache=shared`; give the path alone"),
    ] {
        assert_eq!(refused(&json!({ "url": url, "table": "t", "createTable": true })), expected);
    }
}

#[test]
fn keys_of_other_databases_are_refused_with_a_reason() {
    let base = Base::new();
    let with = |key: &str, value: Value| {
        let mut config = table_config(&base);
        config[key] = value;
        config
    };
    sink(&with("driver", json!("org.sqlite.JDBC")), &StreamSchema::append_only(two_columns()));
    for (key, value, expected) in [
        ("driver", json!("com.mysql.cj.jdbc.Driver"), "`driver`: `com.mysql.cj.jdbc.Driver` is not the driver that the URL names"),
        ("username", json!("u"), "`username`: a SQLite file has no users"),
        ("password", json!("p"), "`password`: a SQLite file has no users"),
        ("external", json!({ "timeout": "1s" }), "`external`: a SQLite file is not reached over a network"),
        ("pool", json!({ "maxSize": 20, "maxIdleTime": "30m" }), "`pool`: there is no pool for SQLite"),
        ("mode", json!("upsert"), "`key`: is missing"),
        ("key", json!(["nam"]), "`key[0]`: the rows have no column `nam`; did you mean `name`?"),
        ("batchSize", json!(0), "`batchSize`: must be at least 1"),
        ("batchsize", json!(1), "`batchsize`: unknown key; did you mean `batchSize`?"),
        ("guarantee", json!("at-least-once"), "`guarantee`: the job's `delivery` is exactly-once"),
        ("table", json!("__karez_commits"), "`table`: `__karez_commits` is no name for a table"),
    ] {
        let error = refused(&with(key, value));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_source_names_what_is_not_there() {
    let base = Base::with("CREATE TABLE orders (id INTEGER PRIMARY KEY, at TIMESTAMP)");
    let source = |config: Value| {
        let mut all = json!({ "url": base.url() });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        try_source(&all, None).err().expect("a refusal")
    };
    for (config, expected) in [
        (json!({ "table": "order" }), "did you mean `orders`?"),
        (json!({}), "`table`: give either `table` or `query`"),
        (json!({ "query": "SELECT idd FROM orders" }), "`query`: no such column: idd"),
        (json!({ "query": "SELECT 1 AS a, 2 AS a" }), "`query`: gives two columns `a`"),
        (json!({ "query": "DELETE FROM orders" }), "`query`: "),
        (json!({ "table": "orders", "mode": "incrementing" }), "`incrementingColumn`: is missing: `mode: incrementing` needs it"),
        (json!({ "table": "orders", "mode": "incrementing", "incrementingColumn": "idd" }), "table orders has no column `idd`; did you mean `id`?"),
        (json!({ "table": "orders", "timestampColumn": "at" }), "`timestampColumn`: `mode: bulk` does not use it"),
        (json!({ "table": "orders", "key": ["id"] }), "`key`: a table's own key is used"),
        (json!({ "query": "SELECT * FROM orders", "mode": "timestamp", "timestampColumn": "at" }), "`key`: rows of one instant cannot be told apart"),
        (json!({ "table": "orders", "bounded": false }), "`bounded`: cannot be false: `mode: bulk` ends with the last row"),
    ] {
        let error = source(config);
        assert!(error.contains(expected), "{error}");
    }
    let declared = Arc::new(Schema::new(vec![Field::new("idd", DataType::Int64, true)]));
    let error = try_source(&json!({ "url": base.url(), "table": "orders" }), Some(&declared)).err().unwrap();
    assert_eq!(error, "`schema.idd`: table orders has no column `idd`; did you mean `id`?");
    let error = try_source(&json!({ "url": "jdbc:sqlite:/nowhere/x.db", "table": "t" }), None).err().unwrap();
    assert_eq!(error, "`url`: there is no file `/nowhere/x.db`");
}
