//! Look-ups in tables of real servers, through the contract.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::util::display::array_value_to_string;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::lookup::{LookupReaderContext, MAX_MATCHES};
use karez_core::{Connector, Error, Lookup, LookupContext, LookupReader, Whose};
use karez_testkit::{Proxy, Server, service};
use serde_json::{Value, json};

use crate::mysql::Base;
use crate::postgres::Db;

// ===== asking =====

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn planned(config: &Value, key: &[&str], columns: Option<&[&str]>) -> Result<Arc<dyn Lookup>, String> {
    let (key, columns) = (strings(key), columns.map(strings));
    JdbcConnector.lookup(LookupContext { node: "l", config, key: &key, columns: columns.as_deref() }).map_err(|e| e.to_string())
}

async fn opened(lookup: &dyn Lookup) -> Arc<dyn LookupReader> {
    lookup.open(LookupReaderContext { metrics: Arc::default(), max_concurrency: 4 }).await.unwrap()
}

/// Columns as keys of a look-up: cast to the types it asks for.
fn keys_of(lookup: &dyn Lookup, keys: &[ArrayRef]) -> RecordBatch {
    let schema = lookup.schema();
    RecordBatch::try_from_iter(keys.iter().zip(schema.fields()).map(|(k, f)| (f.name().clone(), cast(k, f.data_type()).unwrap()))).unwrap()
}

/// Rows as text, sorted.
fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let value = |c: &ArrayRef, row| if c.is_null(row) { "-".to_owned() } else { array_value_to_string(c, row).unwrap() };
    let row = |b: &RecordBatch, row| b.columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|");
    let mut rows: Vec<_> = batches.iter().flat_map(|b| (0..b.num_rows()).map(move |r| row(b, r))).collect();
    rows.sort();
    rows
}

async fn ask(lookup: &dyn Lookup, keys: &[ArrayRef]) -> Vec<String> {
    let batches = opened(lookup).await.get(&keys_of(lookup, keys)).await.unwrap();
    assert!(batches.iter().all(|b| b.schema() == lookup.schema()));
    shown(&batches)
}

fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn with(config: &Value, key: &str, value: Value) -> Value {
    let mut config = config.clone();
    config[key] = value;
    config
}

// ===== PostgreSQL =====

const PG_CUSTOMERS: &str = "
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TABLE customers (id bigint PRIMARY KEY, region varchar(10) NOT NULL, code uuid, credit numeric(10, 2), since timestamptz, day date,
        mood mood, tags text[], name text, UNIQUE (region, name));
    INSERT INTO customers VALUES
        (1, 'eu', '123e4567-e89b-12d3-a456-426614174000', 10.5, '2024-01-31 05:00:00.123456+00', '2024-01-31', 'glad', '{a,b}', 'Ann'),
        (2, 'eu', NULL, NULL, NULL, NULL, NULL, NULL, 'B''o\\b'),
        (3, 'us', '123e4567-e89b-12d3-a456-426614174003', 7, NULL, NULL, 'sad', NULL, 'Ann');
";

/// A schema with customers; its look-up options, which name the schema.
async fn pg() -> (Db, Value) {
    let db = Db::with(PG_CUSTOMERS).await;
    let config = json!({ "url": service("POSTGRES_URL"), "table": format!("{}.customers", db.schema) });
    (db, config)
}

#[tokio::test]
async fn postgres_rows_are_found_by_keys_of_every_kind() {
    let (_db, config) = pg().await;
    let by_id = planned(&config, &["id"], Some(&["name", "credit", "tags"])).unwrap();
    assert_eq!(ask(by_id.as_ref(), &[numbers([3, 1, 9])]).await, ["1|Ann|10.50|[a, b]", "3|Ann|7.00|-"]);
    for (key, values, expected) in [
        ("region", texts(&["eu", "xx"]), vec!["eu|1", "eu|2"]),
        ("name", texts(&["B'o\\b", "it's", "\0"]), vec!["B'o\\b|2"]),
        ("code", texts(&["123e4567-e89b-12d3-a456-426614174003"]), vec!["123e4567-e89b-12d3-a456-426614174003|3"]),
        ("credit", texts(&["7.00", "1"]), vec!["7.00|3"]),
        ("day", texts(&["2024-01-31"]), vec!["2024-01-31|1"]),
        ("since", texts(&["2024-01-31T05:00:00.123456Z"]), vec!["2024-01-31T05:00:00.123456Z|1"]),
        ("mood", texts(&["sad"]), vec!["sad|3"]),
    ] {
        let lookup = planned(&config, &[key], Some(&["id"])).unwrap();
        assert_eq!(ask(lookup.as_ref(), &[values]).await, expected, "by {key}");
    }
    let by_both = planned(&config, &["region", "name"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_both.as_ref(), &[texts(&["eu", "us", "us"]), texts(&["Ann", "Ann", "Bob"])]).await, ["eu|Ann|1", "us|Ann|3"]);
    let all = planned(&config, &["id"], None).unwrap();
    assert_eq!(all.schema().fields().len(), 9);
    assert_eq!(ask(all.as_ref(), &[numbers([2])]).await.len(), 1);
}

#[tokio::test]
async fn postgres_a_key_that_is_no_value_of_the_columns_type_is_in_no_row() {
    let (_db, config) = pg().await;
    let by_code = planned(&config, &["code"], Some(&["id"])).unwrap();
    let keys = texts(&["nonsense", "123e4567-e89b-12d3-a456-426614174000", "", "123e4567-e89b-12d3-a456-426614174003"]);
    let found = ask(by_code.as_ref(), &[keys]).await;
    assert_eq!(found, ["123e4567-e89b-12d3-a456-426614174000|1", "123e4567-e89b-12d3-a456-426614174003|3"]);
    let by_mood = planned(&config, &["mood"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_mood.as_ref(), &[texts(&["angry", "glad"])]).await, ["glad|1"]);
}

#[tokio::test]
async fn postgres_a_thousand_keys_are_one_question_answered_by_the_index_and_questions_do_not_wait_for_each_other() {
    let (db, config) = pg().await;
    db.run("INSERT INTO customers (id, region, name) SELECT g, 'g', g::text FROM generate_series(10, 100000) g; ANALYZE customers").await;
    let lookup = planned(&config, &["id"], Some(&["name"])).unwrap();
    assert!(lookup.max_keys() >= 1000);
    let reader = opened(lookup.as_ref()).await;
    let keys = keys_of(lookup.as_ref(), &[numbers(500..1500)]);
    let answers = futures::future::try_join_all((0..8).map(|_| reader.get(&keys))).await.unwrap();
    assert!(answers.iter().all(|a| a.iter().map(RecordBatch::num_rows).sum::<usize>() == 1000));
    let pair = |name: &str| format!("(CAST('g' AS character varying(10)), CAST('{name}' AS text))");
    let explain = format!("EXPLAIN SELECT id FROM customers WHERE (region, name) IN ({}, {})", pair("77"), pair("78"));
    let plan = db.rows(&explain).await.join("\n");
    assert!(plan.contains("Bitmap") || plan.contains("Index"), "{plan}");
}

#[tokio::test]
async fn postgres_a_lost_connection_is_worth_another_try_and_the_next_question_opens_a_new_one() {
    let (db, config) = pg().await;
    let proxy = Proxy::to(service("POSTGRES_URL").rsplit_once('@').unwrap().1.split('/').next().unwrap());
    let config = with(&config, "url", json!(proxy.url(config["url"].as_str().unwrap())));
    let lookup = planned(&config, &["id"], Some(&["name"])).unwrap();
    let reader = opened(lookup.as_ref()).await;
    let keys = keys_of(lookup.as_ref(), &[numbers([1])]);
    assert_eq!(shown(&reader.get(&keys).await.unwrap()), ["1|Ann"]);
    proxy.gone();
    for _ in 0..3 {
        let e: Error = reader.get(&keys).await.unwrap_err();
        assert!(e.is_retryable() && e.whose() == Whose::External, "{e}");
    }
    assert!(lookup.check().await.unwrap_err().is_retryable());
    proxy.back();
    assert_eq!(shown(&reader.get(&keys).await.unwrap()), ["1|Ann"]);
    db.run("UPDATE customers SET name = 'Anna' WHERE id = 1").await;
    assert_eq!(shown(&reader.get(&keys).await.unwrap()), ["1|Anna"], "rows that others change are seen by the next question");
}

#[tokio::test]
async fn postgres_what_cannot_be_asked_is_refused_and_says_what_is_wrong() {
    let (db, config) = pg().await;
    let refused = |config: &Value, key: &[&str], columns: Option<&[&str]>| planned(config, key, columns).err().unwrap();
    let password = config["url"].as_str().unwrap().replace("karez:karez@", "karez:wrong@");
    for (error, expected) in [
        (refused(&config, &["idd"], None), "has no column `idd`; did you mean `id`?"),
        (refused(&config, &["id"], Some(&["nam"])), "`columns`: "),
        (refused(&with(&config, "table", json!("customerz_of_nobody")), &["id"], None), "`table`: there is no table `customerz_of_nobody`"),
        (refused(&with(&config, "url", json!(password)), &["id"], None), "`url`: "),
        (refused(&config, &["tags"], None), "by which rows cannot be found"),
    ] {
        assert!(error.contains(expected), "{error}\n  expected {expected}");
        assert!(!error.contains("wrong@"), "{error}");
    }
    let lookup = planned(&config, &["id"], Some(&["name"])).unwrap();
    let reader = opened(lookup.as_ref()).await;
    db.run("ALTER TABLE customers RENAME COLUMN name TO called").await;
    let e = reader.get(&keys_of(lookup.as_ref(), &[numbers([1])])).await.unwrap_err();
    assert!(!e.is_retryable() && e.whose() == Whose::User && e.to_string().contains("name"), "{e}");
}

#[tokio::test]
async fn postgres_more_rows_than_a_look_up_can_take_are_refused_before_they_are_all_in_memory() {
    let (db, config) = pg().await;
    db.run("CREATE TABLE many AS SELECT 1 AS k, g FROM generate_series(1, 300000) g").await;
    let table = config["table"].as_str().unwrap().replace("customers", "many");
    let lookup = planned(&with(&config, "table", json!(table)), &["k"], None).unwrap();
    let e = opened(lookup.as_ref()).await.get(&keys_of(lookup.as_ref(), &[numbers([1])])).await.unwrap_err();
    assert!(e.to_string().contains(&format!("more than {MAX_MATCHES} rows")), "{e}");
}

// ===== MySQL and MariaDB =====

const MY_CUSTOMERS: &str = "
    CREATE TABLE customers (id BIGINT PRIMARY KEY, region VARCHAR(10) NOT NULL, number BIGINT UNSIGNED, small TINYINT, credit DECIMAL(10, 2),
        since TIMESTAMP(6) NULL, day DATE, mood ENUM('glad', 'sad'), raw VARBINARY(8), name VARCHAR(40), UNIQUE (region, name)) CHARACTER SET utf8mb4;
    INSERT INTO customers VALUES
        (1, 'eu', 18446744073709551615, 7, 10.5, '2024-01-31 05:00:00.123456', '2024-01-31', 'glad', X'00ff', 'Ann'),
        (2, 'eu', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'B''o\\\\b'),
        (3, 'us', 3, -3, 7, NULL, NULL, 'sad', NULL, 'Ann')";

/// A database with customers; its look-up options.
async fn my(server: Server) -> (Base, Value) {
    let base = Base::new(server).await;
    base.sql(MY_CUSTOMERS).await;
    let config = json!({ "url": base.url, "table": "customers" });
    (base, config)
}

const MY: [Server; 2] = [Server::Mysql, Server::Mariadb];

#[tokio::test]
async fn mysql_and_mariadb_rows_are_found_by_keys_of_every_kind() {
    for server in MY {
        let (_base, config) = my(server).await;
        let by_id = planned(&config, &["id"], Some(&["name", "credit"])).unwrap();
        assert_eq!(ask(by_id.as_ref(), &[numbers([3, 1, 9])]).await, ["1|Ann|10.50", "3|Ann|7.00"], "{server:?}");
        for (key, values, expected) in [
            ("region", texts(&["eu", "xx"]), vec!["eu|1", "eu|2"]),
            ("name", texts(&["B'o\\b", "it's", "\0"]), vec!["B'o\\b|2"]),
            ("number", texts(&["18446744073709551615", "4"]), vec!["18446744073709551615|1"]),
            ("small", numbers([-3]), vec!["-3|3"]),
            ("credit", texts(&["7.00", "1"]), vec!["7.00|3"]),
            ("day", texts(&["2024-01-31"]), vec!["2024-01-31|1"]),
            ("since", texts(&["2024-01-31T05:00:00.123456Z"]), vec!["2024-01-31T05:00:00.123456Z|1"]),
            ("mood", texts(&["sad", "angry"]), vec!["sad|3"]),
            ("raw", Arc::new(BinaryArray::from_vec(vec![&[0, 255], &[1]])) as ArrayRef, vec!["00ff|1"]),
        ] {
            let lookup = planned(&config, &[key], Some(&["id"])).unwrap();
            assert_eq!(ask(lookup.as_ref(), &[values]).await, expected, "{server:?} by {key}");
        }
        let by_both = planned(&config, &["region", "name"], Some(&["id"])).unwrap();
        assert_eq!(ask(by_both.as_ref(), &[texts(&["eu", "us", "us"]), texts(&["Ann", "Ann", "Bob"])]).await, ["eu|Ann|1", "us|Ann|3"], "{server:?}");
        let all = planned(&config, &["id"], None).unwrap();
        assert_eq!(all.schema().fields().len(), 10, "{server:?}");
        assert_eq!(ask(all.as_ref(), &[numbers([2])]).await.len(), 1, "{server:?}");
    }
}

#[tokio::test]
async fn mysql_and_mariadb_a_lost_connection_is_worth_another_try_and_the_next_question_opens_a_new_one() {
    for server in MY {
        let (base, config) = my(server).await;
        let proxy = Proxy::to(base.url.rsplit_once('@').unwrap().1.split('/').next().unwrap());
        let config = with(&config, "url", json!(proxy.url(config["url"].as_str().unwrap())));
        let lookup = planned(&config, &["id"], Some(&["name"])).unwrap();
        let reader = opened(lookup.as_ref()).await;
        let keys = keys_of(lookup.as_ref(), &[numbers([1])]);
        assert_eq!(shown(&reader.get(&keys).await.unwrap()), ["1|Ann"], "{server:?}");
        proxy.gone();
        for _ in 0..3 {
            let e: Error = reader.get(&keys).await.unwrap_err();
            assert!(e.is_retryable() && e.whose() == Whose::External, "{server:?}: {e}");
        }
        proxy.back();
        base.sql("UPDATE customers SET name = 'Anna' WHERE id = 1").await;
        assert_eq!(shown(&reader.get(&keys).await.unwrap()), ["1|Anna"], "{server:?}");
    }
}

#[tokio::test]
async fn mysql_and_mariadb_questions_of_a_thousand_keys_do_not_wait_for_each_other_and_too_many_rows_are_refused() {
    for server in MY {
        let (base, config) = my(server).await;
        base.sql("CREATE TABLE many (k INT, g INT)").await;
        base.sql("INSERT INTO many VALUES (1, 1)").await;
        for _ in 0..17 {
            base.sql("INSERT INTO many SELECT k, g FROM many").await;
        }
        let lookup = planned(&config, &["id"], Some(&["name"])).unwrap();
        let reader = opened(lookup.as_ref()).await;
        let keys = keys_of(lookup.as_ref(), &[numbers(0..1000)]);
        let answers = futures::future::try_join_all((0..8).map(|_| reader.get(&keys))).await.unwrap();
        assert!(answers.iter().all(|a| a.iter().map(RecordBatch::num_rows).sum::<usize>() == 3), "{server:?}");
        let many = planned(&with(&config, "table", json!("many")), &["k"], None).unwrap();
        let e = opened(many.as_ref()).await.get(&keys_of(many.as_ref(), &[numbers([1])])).await.unwrap_err();
        assert!(e.to_string().contains(&format!("more than {MAX_MATCHES} rows")), "{server:?}: {e}");
    }
}
