//! Look-ups in a SQLite table, through the contract.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::lookup::LookupReaderContext;
use karez_core::{Connector, Lookup, LookupContext, LookupReader, Whose};
use serde_json::{Value, json};

use super::Base;

const CUSTOMERS: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, region TEXT NOT NULL COLLATE NOCASE, name TEXT, credit DECIMAL(10, 2), since TIMESTAMP(3));
    CREATE INDEX by_region ON customers (region, name);
    INSERT INTO customers VALUES (1, 'eu', 'Ann', 10.5, '2024-01-31 05:00:00.000'), (2, 'eu', 'Bob', NULL, NULL), (3, 'us', 'Ann', 7, NULL);
";

fn config(base: &Base) -> Value {
    json!({ "url": base.url(), "table": "customers" })
}

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

/// Asks, with columns cast to the types of the look-up's key; the rows as text, sorted.
async fn ask(lookup: &dyn Lookup, keys: &[ArrayRef]) -> Vec<String> {
    let schema = lookup.schema();
    let keys = keys.iter().zip(schema.fields()).map(|(k, f)| (f.name().clone(), cast(k, f.data_type()).unwrap()));
    let keys = RecordBatch::try_from_iter(keys).unwrap();
    let batches = opened(lookup).await.get(&keys).await.unwrap();
    let mut rows = Vec::new();
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
        let value = |c: &ArrayRef, row| if c.is_null(row) { "-".to_owned() } else { array_value_to_string(c, row).unwrap() };
        rows.extend((0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|")));
    }
    rows.sort();
    rows
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[tokio::test]
async fn rows_are_found_by_key_with_the_types_of_the_table() {
    let base = Base::with(CUSTOMERS);
    let lookup = planned(&config(&base), &["id"], None).unwrap();
    let types: Vec<_> = lookup.schema().fields().iter().map(|f| f.data_type().clone()).collect();
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
    assert_eq!(types, [DataType::Int64, DataType::Utf8, DataType::Utf8, DataType::Decimal128(10, 2), timestamp]);
    assert_eq!(ask(lookup.as_ref(), &[numbers(&[3, 1, 9])]).await, ["1|eu|Ann|10.50|2024-01-31T05:00:00", "3|us|Ann|7.00|-"]);
    assert_eq!(ask(lookup.as_ref(), &[numbers(&[9])]).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_key_may_be_several_columns_of_any_type_and_need_not_be_unique() {
    let base = Base::with(CUSTOMERS);
    let by_region = planned(&config(&base), &["region"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_region.as_ref(), &[texts(&["eu", "xx"])]).await, ["eu|1", "eu|2"]);
    let by_both = planned(&config(&base), &["region", "name"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_both.as_ref(), &[texts(&["eu", "us", "us"]), texts(&["Ann", "Ann", "Bob"])]).await, ["eu|Ann|1", "us|Ann|3"]);
    let by_credit = planned(&config(&base), &["credit"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_credit.as_ref(), &[texts(&["10.50", "7"])]).await, ["10.50|1", "7.00|3"]);
    let by_time = planned(&config(&base), &["since"], Some(&["id"])).unwrap();
    assert_eq!(ask(by_time.as_ref(), &[texts(&["2024-01-31T05:00:00"])]).await, ["2024-01-31T05:00:00|1"]);
}

#[tokio::test]
async fn an_index_over_the_key_is_used_for_one_column_and_for_several() {
    let base = Base::with(CUSTOMERS);
    let plan = |condition: &str| base.rows(&format!("EXPLAIN QUERY PLAN SELECT id FROM customers WHERE {condition}")).join("\n");
    assert!(plan("\"id\" IN (1, 2)").contains("SEARCH customers USING INTEGER PRIMARY KEY"));
    let both = plan("(\"region\", \"name\") IN (VALUES ('eu', 'Ann'), ('us', 'Bob'))");
    assert!(both.contains("SEARCH customers USING COVERING INDEX by_region (region=? AND name=?)"), "{both}");
}

#[tokio::test]
async fn a_thousand_keys_are_one_question_and_questions_do_not_wait_for_each_other() {
    let base = Base::with(CUSTOMERS);
    let lookup = planned(&config(&base), &["id"], Some(&["name"])).unwrap();
    assert!(lookup.max_keys() >= 1000);
    let many: Vec<i64> = (0..1000).collect();
    assert_eq!(ask(lookup.as_ref(), &[numbers(&many)]).await.len(), 3);
    let reader = opened(lookup.as_ref()).await;
    let keys = RecordBatch::try_from_iter([("id", numbers(&[1, 2]))]).unwrap();
    let answers = futures::future::try_join_all((0..8).map(|_| reader.get(&keys))).await.unwrap();
    assert!(answers.iter().all(|a| a[0].num_rows() == 2));
}

#[tokio::test]
async fn rows_that_others_write_meanwhile_are_seen_by_the_next_question() {
    let base = Base::with(CUSTOMERS);
    let lookup = planned(&config(&base), &["id"], Some(&["name"])).unwrap();
    let reader = opened(lookup.as_ref()).await;
    let keys = RecordBatch::try_from_iter([("id", numbers(&[4]))]).unwrap();
    assert_eq!(reader.get(&keys).await.unwrap()[0].num_rows(), 0);
    base.open().execute_batch("INSERT INTO customers (id, region, name) VALUES (4, 'eu', 'Cid')").unwrap();
    assert_eq!(reader.get(&keys).await.unwrap()[0].num_rows(), 1);
}

#[tokio::test]
async fn a_value_that_is_not_of_the_columns_type_is_an_error_that_names_it() {
    let base = Base::with(CUSTOMERS);
    base.open().execute_batch("UPDATE customers SET credit = 'much' WHERE id = 1").unwrap();
    let lookup = planned(&config(&base), &["id"], Some(&["credit"])).unwrap();
    let keys = RecordBatch::try_from_iter([("id", numbers(&[1]))]).unwrap();
    let e = opened(lookup.as_ref()).await.get(&keys).await.unwrap_err();
    assert!(e.to_string().contains("column `credit`: 'much' (TEXT) is not a decimal(10, 2)"), "{e}");
    assert_eq!(e.whose(), Whose::User);
}

#[test]
fn what_the_table_does_not_have_is_refused_when_planned() {
    let base = Base::with(CUSTOMERS);
    let refused = |config: Value, key: &[&str], columns: Option<&[&str]>| planned(&config, key, columns).err().unwrap();
    let with = |key: &str, value: Value| {
        let mut config = config(&base);
        config[key] = value;
        config
    };
    for (error, expected) in [
        (refused(config(&base), &["idd"], None), "`on`: table customers has no column `idd`; did you mean `id`?"),
        (refused(config(&base), &["id"], Some(&["nam"])), "`columns`: table customers has no column `nam`; did you mean `name`?"),
        (refused(with("table", json!("customer")), &["id"], None), "did you mean `customers`?"),
        (refused(with("password", json!("x")), &["id"], None), "`password`: a SQLite file has no users"),
        (refused(with("url", json!("jdbc:sqlite:no/such.db")), &["id"], None), "there is no file `no/such.db`"),
        (refused(with("tabel", json!("t")), &["id"], None), "`tabel`: unknown key; did you mean `table`?"),
    ] {
        assert!(error.contains(expected), "{error}\n  expected {expected}");
    }
}
