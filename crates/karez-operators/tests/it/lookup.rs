//! `lookup` against a table of the test's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use async_trait::async_trait;
use karez_core::async_operator::{Answer, AsyncContext};
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::lookup::{LookupReaderContext, MAX_MATCHES};
use karez_core::metrics::{NodeMetrics, NodeMetricsSnapshot};
use karez_core::operator::Determinism;
use karez_core::schema::{ORIGIN_COLUMN, change_field, origin_field};
use karez_core::{
    AsyncOperator, ChangeMode, Connector, Error, Lookup, LookupContext, LookupReader, ManualClock, OperatorSpec, PlanContext, Registry, Result, Sink,
    SinkContext, Source, SourceContext, StreamSchema,
};
use serde_json::{Value, json};

use crate::harness::shown;

// ===== the table =====

type Customer = (i32, &'static str, Option<&'static str>, i32);

/// `id int, region string, name string, credit int`.
#[derive(Clone, Default)]
struct Table(Arc<State>);

#[derive(Default)]
struct State {
    rows: Mutex<Vec<Customer>>,
    /// The `id`s of each question.
    asked: Mutex<Vec<Vec<Option<i32>>>>,
    /// What the next questions are answered with.
    failures: Mutex<VecDeque<Error>>,
    /// What the next attempts to open it are answered with.
    closed: Mutex<VecDeque<Error>>,
    /// Answers with all its rows, whatever is asked.
    answers_all: Mutex<bool>,
}

const COLUMNS: [&str; 4] = ["id", "region", "name", "credit"];

impl Table {
    fn of(rows: &[Customer]) -> Self {
        let table = Self::default();
        table.0.rows.lock().unwrap().extend_from_slice(rows);
        table
    }

    fn customers() -> Self {
        Self::of(&[(1, "eu", Some("Ann"), 10), (2, "eu", Some("Bob"), 20), (3, "us", None, 30)])
    }

    fn batch(&self) -> RecordBatch {
        let rows = self.0.rows.lock().unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int32Array>()),
            Arc::new(rows.iter().map(|r| Some(r.1)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| r.2).collect::<StringArray>()),
            Arc::new(rows.iter().map(|r| Some(r.3)).collect::<Int32Array>()),
        ];
        RecordBatch::try_from_iter_with_nullable(COLUMNS.into_iter().zip(columns).map(|(n, c)| (n, c, n == "name"))).unwrap()
    }

    fn asked(&self) -> Vec<Vec<Option<i32>>> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }
}

impl Connector for Table {
    fn name(&self) -> &'static str {
        "table"
    }
    fn description(&self) -> &'static str {
        "A table."
    }
    fn lookup_options(&self) -> Option<schemars::Schema> {
        Some(schemars::json_schema!({ "type": "object" }))
    }
    fn source(&self, _: SourceContext<'_>) -> Result<Arc<dyn Source>, ConfigErrors> {
        Err(ConfigError::new("", "no source").into())
    }
    fn sink(&self, _: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
        Err(ConfigError::new("", "no sink").into())
    }
    fn lookup(&self, context: LookupContext<'_>) -> Result<Arc<dyn Lookup>, ConfigErrors> {
        if let Some(table) = context.config.get("table")
            && table != "customers"
        {
            return Err(ConfigError::new("table", format!("there is no table {table}")).into());
        }
        let place = |path: &str, name: &str| {
            COLUMNS.iter().position(|c| *c == name).ok_or_else(|| ConfigError::new(path, format!("the table has no column `{name}`")))
        };
        let mut columns = context.key.iter().map(|c| place("on", c)).collect::<Result<Vec<_>, _>>()?;
        match context.columns {
            Some(names) => columns.extend(names.iter().map(|c| place("columns", c)).collect::<Result<Vec<_>, _>>()?),
            None => columns.extend((0..4).filter(|&c| !context.key.iter().any(|k| k == COLUMNS[c]))),
        }
        let schema = Arc::new(self.batch().schema().project(&columns).unwrap());
        Ok(Arc::new(Planned { table: self.clone(), columns, schema, key: context.key.len() }))
    }
}

#[derive(Clone)]
struct Planned {
    table: Table,
    columns: Vec<usize>,
    schema: SchemaRef,
    key: usize,
}

#[async_trait]
impl Lookup for Planned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn describe(&self) -> String {
        "table customers".into()
    }
    fn max_keys(&self) -> usize {
        3
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn open(&self, _: LookupReaderContext) -> Result<Arc<dyn LookupReader>> {
        match self.table.0.closed.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => Ok(Arc::new(self.clone())),
        }
    }
}

#[async_trait]
impl LookupReader for Planned {
    async fn get(&self, keys: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let first = keys.column(0);
        let ids = first.as_primitive_opt::<Int32Type>().map_or_else(Vec::new, |ids| ids.iter().collect());
        self.table.0.asked.lock().unwrap().push(ids);
        if let Some(error) = self.table.0.failures.lock().unwrap().pop_front() {
            return Err(error);
        }
        let all = self.table.batch().project(&self.columns).unwrap();
        let text = |batch: &RecordBatch, row: usize| (0..self.key).map(|c| value(batch.column(c), row)).collect::<Vec<_>>();
        let wanted: Vec<_> = (0..keys.num_rows()).map(|row| text(keys, row)).collect();
        let everything = *self.table.0.answers_all.lock().unwrap();
        let rows: Vec<u32> = (0..all.num_rows()).filter(|&r| everything || wanted.contains(&text(&all, r))).map(|r| r as u32).collect();
        Ok(vec![take_record_batch(&all, &arrow::array::UInt32Array::from(rows)).unwrap()])
    }
}

fn value(column: &ArrayRef, row: usize) -> String {
    arrow::util::display::array_value_to_string(column, row).unwrap()
}

// ===== the operator =====

/// `customer bigint, region string`.
fn orders() -> StreamSchema {
    StreamSchema::append_only(Arc::new(Schema::new(vec![Field::new("customer", DataType::Int64, true), Field::new("region", DataType::Utf8, true)])))
}

fn batch(customers: &[Option<i64>]) -> RecordBatch {
    let regions: StringArray = customers.iter().map(|_| Some("eu")).collect();
    RecordBatch::try_new(orders().arrow, vec![Arc::new(Int64Array::from(customers.to_vec())), Arc::new(regions)]).unwrap()
}

fn ids(customers: &[i64]) -> RecordBatch {
    batch(&customers.iter().copied().map(Some).collect::<Vec<_>>())
}

fn plan_on(table: &Table, options: &Value, input: &StreamSchema) -> Result<Arc<dyn OperatorSpec>, String> {
    let mut config = json!({ "connector": "table", "config": {}, "on": { "customer": "id" }, "external": { "retry": { "initialDelay": "1ms" } } });
    config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let registry = karez_operators::register(Registry::new()).with_connector(table.clone());
    let inputs = std::slice::from_ref(input);
    let context = PlanContext { node: "node", config: &config, inputs, bounded: false, batch: false, registry: &registry };
    registry.operator("lookup").unwrap().plan(context).map_err(|e| e.to_string())
}

struct Running {
    table: Table,
    spec: Arc<dyn OperatorSpec>,
    operator: Arc<dyn AsyncOperator>,
    clock: Arc<ManualClock>,
    metrics: Arc<NodeMetrics>,
}

impl Running {
    fn new(table: Table, options: Value) -> Self {
        Self::of(table, &options, &orders())
    }

    fn of(table: Table, options: &Value, input: &StreamSchema) -> Self {
        let spec = plan_on(&table, options, input).unwrap_or_else(|e| panic!("{e}"));
        let (clock, metrics) = (Arc::new(ManualClock::new(0)), Arc::new(NodeMetrics::default()));
        let context = AsyncContext { subtask: 0, parallelism: 1, metrics: Arc::clone(&metrics), clock: Arc::clone(&clock) as _ };
        let operator = spec.asynchronous().unwrap().create(context).unwrap();
        Self { table, spec, operator, clock, metrics }
    }

    async fn answer(&self, batch: RecordBatch) -> Result<Answer> {
        self.operator.process(batch).await
    }

    async fn rows(&self, batch: RecordBatch) -> Vec<String> {
        let answer = self.answer(batch).await.unwrap();
        assert_eq!(answer.bad, []);
        for batch in &answer.batches {
            assert_eq!(batch.schema(), self.spec.outputs()[0].schema.arrow);
        }
        answer.batches.iter().flat_map(shown).collect()
    }

    fn counted(&self) -> NodeMetricsSnapshot {
        self.metrics.read()
    }
}

fn name_only() -> Value {
    json!({ "columns": ["name"] })
}

fn with(mut options: Value, more: Value) -> Value {
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

// ===== the specification =====

#[tokio::test]
async fn columns_of_the_tables_row_are_added_and_a_missing_row_is_nulls() {
    let lookup = Running::new(Table::customers(), json!({ "columns": { "who": "name", "limit": "credit" } }));
    let rows = lookup.rows(batch(&[Some(1), Some(9), Some(3), None])).await;
    assert_eq!(rows, ["1|eu|Ann|10", "9|eu|-|-", "3|eu|-|30", "-|eu|-|-"]);
    let output = &lookup.spec.outputs()[0].schema.arrow;
    assert!(output.field_with_name("limit").unwrap().is_nullable(), "the table's `credit` is not, but may be missing");
}

#[tokio::test]
async fn an_inner_join_drops_rows_that_the_table_lacks() {
    let lookup = Running::new(Table::customers(), json!({ "columns": ["name", "credit"], "join": "inner" }));
    assert_eq!(lookup.rows(batch(&[Some(9), Some(2), None])).await, ["2|eu|Bob|20"]);
    assert!(!lookup.spec.outputs()[0].schema.arrow.field_with_name("credit").unwrap().is_nullable());
}

#[tokio::test]
async fn without_columns_rows_pass_if_there_is_one() {
    let lookup = Running::new(Table::customers(), json!({ "columns": [], "join": "inner" }));
    assert_eq!(lookup.rows(ids(&[9, 2, 2])).await, ["2|eu", "2|eu"]);
}

#[tokio::test]
async fn by_default_all_columns_but_the_key_are_added() {
    let lookup = Running::new(Table::customers(), json!({ "on": { "customer": "id", "region": "region" } }));
    assert_eq!(lookup.rows(ids(&[1, 3])).await, ["1|eu|Ann|10", "3|eu|-|-"], "3 is of another region");
}

#[tokio::test]
async fn several_rows_of_a_key_are_a_row_each_or_a_bad_record() {
    let table = || Table::of(&[(1, "eu", Some("Ann"), 1), (1, "us", Some("Anna"), 2), (2, "eu", Some("Bob"), 3)]);
    let lookup = Running::new(table(), name_only());
    assert_eq!(lookup.rows(ids(&[1, 2, 1])).await, ["1|eu|Ann", "1|eu|Anna", "2|eu|Bob", "1|eu|Ann", "1|eu|Anna"]);
    let lookup = Running::new(table(), with(name_only(), json!({ "onMultiple": "reject" })));
    let answer = lookup.answer(ids(&[2, 1])).await.unwrap();
    assert_eq!(answer.batches.iter().flat_map(shown).collect::<Vec<_>>(), ["2|eu|Bob"]);
    assert_eq!(answer.bad.len(), 1);
    assert_eq!(answer.bad[0].reason, "table customers has 2 rows for its key");
    assert_eq!(answer.bad[0].row.as_deref(), Some(r#"{"customer":1,"region":"eu"}"#));
}

#[tokio::test]
async fn each_key_of_a_batch_is_asked_for_once_in_questions_no_longer_than_the_connector_takes() {
    let lookup = Running::new(Table::customers(), name_only());
    lookup.rows(ids(&[1, 2, 1, 1, 5, 6, 7, 2])).await;
    assert_eq!(lookup.table.asked(), [vec![Some(1), Some(2), Some(5)], vec![Some(6), Some(7)]]);
    lookup.rows(batch(&[None, None])).await;
    assert_eq!(lookup.table.asked(), Vec::<Vec<_>>::new(), "a null is equal to nothing");
}

#[tokio::test]
async fn results_of_more_rows_than_a_batch_may_have_are_several_batches() {
    let table = Table::of(&(0..3_000).map(|i| (1, "eu", Some("Ann"), i)).collect::<Vec<_>>());
    let lookup = Running::new(table, json!({ "columns": ["credit"] }));
    let answer = lookup.answer(ids(&[1, 1, 1])).await.unwrap();
    let sizes: Vec<_> = answer.batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [8192, 9_000 - 8192]);
}

#[tokio::test]
async fn a_key_with_more_rows_than_a_look_up_can_take_is_refused() {
    let table = Table::of(&(0..=MAX_MATCHES).map(|_| (1, "eu", None, 0)).collect::<Vec<_>>());
    let e = Running::new(table, name_only()).answer(ids(&[1])).await.unwrap_err();
    assert!(e.to_string().contains("more than 100000 rows"), "{e}");
}

#[tokio::test]
async fn rows_of_keys_that_were_not_asked_for_are_left_out() {
    let lookup = Running::new(Table::customers(), name_only());
    *lookup.table.0.answers_all.lock().unwrap() = true;
    assert_eq!(lookup.rows(ids(&[2])).await, ["2|eu|Bob"]);
}

#[tokio::test]
async fn a_value_beyond_the_tables_type_is_in_no_row() {
    let lookup = Running::new(Table::customers(), name_only());
    assert_eq!(lookup.rows(ids(&[1 << 40, 1])).await, ["1099511627776|eu|-", "1|eu|Ann"]);
    assert_eq!(lookup.table.asked(), [vec![Some(1)]]);
}

#[tokio::test]
async fn answers_are_kept_as_long_as_the_cache_says_and_negative_ones_for_their_own_time() {
    let lookup = Running::new(Table::customers(), with(name_only(), json!({ "cache": { "ttl": "1m", "negativeTtl": "10s" } })));
    let asks = async |at_ms: i64, customers: &[i64]| {
        lookup.clock.set(at_ms);
        lookup.rows(ids(customers)).await;
        lookup.table.asked().concat().into_iter().flatten().collect::<Vec<_>>()
    };
    assert_eq!(asks(0, &[1, 9]).await, [1, 9]);
    assert_eq!(asks(9_999, &[1, 9, 2]).await, [2]);
    assert_eq!(asks(10_000, &[1, 9]).await, [9]);
    assert_eq!(asks(60_000, &[1, 2]).await, [1]);
    let custom = lookup.counted().custom;
    assert_eq!((custom["cache_hits"], custom["cache_misses"]), (4, 5));
    assert!(lookup.operator.memory_bytes() > 0);
}

#[tokio::test]
async fn a_cached_answer_is_the_rows_themselves() {
    let table = Table::of(&[(1, "eu", Some("Ann"), 1), (1, "us", None, 2)]);
    let lookup = Running::new(table, json!({ "columns": ["name", "credit"], "cache": {} }));
    let rows = lookup.rows(ids(&[1, 9])).await;
    assert_eq!(rows, ["1|eu|Ann|1", "1|eu|-|2", "9|eu|-|-"]);
    lookup.table.0.rows.lock().unwrap().clear();
    assert_eq!(lookup.rows(ids(&[1, 9])).await, rows);
}

#[tokio::test]
async fn while_the_outside_is_away_it_is_asked_again_and_no_row_is_at_fault() {
    let lookup = Running::new(Table::customers(), name_only());
    lookup.table.0.closed.lock().unwrap().extend([Error::connection("refused"), Error::connection("refused")]);
    lookup.table.0.failures.lock().unwrap().extend([Error::connection("gone"), Error::connection("starting")]);
    assert_eq!(lookup.rows(ids(&[1])).await, ["1|eu|Ann"]);
    assert_eq!(lookup.counted().retried, 4);
    assert_eq!(lookup.counted().in_flight, 0);
}

#[tokio::test]
async fn what_asking_again_does_not_help_fails_the_job_at_once() {
    let lookup = Running::new(Table::customers(), name_only());
    lookup.table.0.failures.lock().unwrap().push_back(Error::user("permission denied for table customers"));
    let e = lookup.answer(ids(&[1])).await.unwrap_err();
    assert_eq!(e.to_string(), "permission denied for table customers");
    assert_eq!(lookup.counted().retried, 0);
}

#[tokio::test]
async fn hidden_columns_ride_along_as_the_last() {
    let mut fields: Vec<_> = orders().arrow.fields().to_vec();
    fields.push(Arc::new(origin_field()));
    let input = StreamSchema::append_only(Arc::new(Schema::new(fields)));
    let lookup = Running::of(Table::customers(), &name_only(), &input);
    let mut columns = ids(&[2, 9, 1]).columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec!["a", "b", "c"])));
    let rows = lookup.rows(RecordBatch::try_new(input.arrow, columns).unwrap()).await;
    assert_eq!(rows, ["2|eu|Bob|a", "9|eu|-|b", "1|eu|Ann|c"]);
    assert_eq!(lookup.spec.outputs()[0].schema.arrow.fields().last().unwrap().name(), ORIGIN_COLUMN);
}

#[test]
fn event_time_stays_and_what_is_read_is_told() {
    let input = orders().with_event_time(Some("region".into()));
    let spec = plan_on(&Table::customers(), &name_only(), &input).unwrap();
    assert_eq!(spec.outputs()[0].schema.event_time.as_deref(), Some("region"));
    assert_eq!(spec.required_columns(0), Some(vec![0]));
    assert!(spec.passes_columns() && !spec.is_stateful());
    assert!(matches!(spec.determinism(), Determinism::No(_)));
}

#[test]
fn what_cannot_be_is_refused_when_planned() {
    let refused = |options: Value| plan_on(&Table::customers(), &options, &orders()).err().unwrap();
    for (options, expected) in [
        (json!({ "connector": "tabel" }), "`connector`: unknown connector `tabel`; did you mean `table`?"),
        (json!({ "on": {} }), "`on`: no column is named; write it like `on: { customer_id: id }`, the stream's column to the table's"),
        (json!({ "on": { "custmer": "id" } }), "`on.custmer`: unknown column `custmer`; did you mean `customer`?"),
        (json!({ "on": { "customer": "key" } }), "`on`: the table has no column `key`"),
        (json!({ "columns": ["nam"] }), "`columns`: the table has no column `nam`"),
        (json!({ "config": { "table": "custs" } }), "`config.table`: there is no table \"custs\""),
        (
            json!({ "columns": ["region"] }),
            "`columns`: the input has a column `region` already; name it otherwise: `columns: { another_name: region }`",
        ),
        (
            json!({ "on": { "region": "id" } }),
            "`on.region`: `region` is of type string, the table's `id` of type int: they cannot be compared without a change of value; \
             cast it in a `map` before: `cast(region as int)`",
        ),
        (json!({ "maxInFlight": 0 }), "`maxInFlight`: must be at least 1"),
        (json!({ "cache": { "ttl": 0 } }), "`cache.ttl`: must be more than 0; leave `cache` out to keep no answers"),
        (json!({ "external": { "retry": { "attempts": 0 } } }), "`external.retry.attempts`: must be at least 1"),
    ] {
        let error = refused(with(json!({ "columns": ["name"] }), options));
        assert!(error.contains(expected), "{error}\n  expected {expected}");
    }
}

#[test]
fn a_changelog_is_refused() {
    let mut fields: Vec<_> = orders().arrow.fields().to_vec();
    fields.push(Arc::new(change_field()));
    let input = StreamSchema { change_mode: ChangeMode::Changelog, ..StreamSchema::append_only(Arc::new(Schema::new(fields))) };
    let error = plan_on(&Table::customers(), &name_only(), &input).err().unwrap();
    assert!(error.contains("`lookup` cannot take a stream whose rows are updated or deleted"), "{error}");
}
