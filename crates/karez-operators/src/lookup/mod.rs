//! `lookup`: adds the columns of an outside table's row to each row, by key.
//!
//! Planned here; `running` asks and joins, `cache` keeps answers, `keys` says which types compare.

mod cache;
mod keys;
mod options;
mod running;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use karez_core::async_operator::{AsyncContext, AsyncSettings};
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::operator::{Determinism, MAIN, OutputPort};
use karez_core::schema::is_hidden;
use karez_core::{
    AsyncOperator, AsyncSpec, Connector, Error, Lookup, LookupContext, OperatorFactory, OperatorSpec, PlanContext, Registry, Result, StreamSchema,
    sql_type,
};
use karez_external::{ExternalCalls, ExternalOptions};
use serde_json::Value;

use self::options::{Join, LookupOptions, Names};
use self::running::Running;
use crate::inputs;

/// The factory of `lookup`.
pub(crate) struct LookupFactory;

impl OperatorFactory for LookupFactory {
    fn name(&self) -> &'static str {
        "lookup"
    }

    fn description(&self) -> &'static str {
        "Adds columns of an outside table to each row, by key.\n\n```yaml\n\
         - name: with-customer\n\
         \x20 type: lookup\n\
         \x20 connector: jdbc\n\
         \x20 config: { url: \"postgres://db/shop\", table: customers }\n\
         \x20 on: { customer_id: id }\n\
         \x20 columns: { customer: name, country: country }\n\
         \x20 cache: { maxRows: 100000, ttl: 5m, negativeTtl: 10s }\n\
         ```\n\n\
         The rows of a batch are answered by one question for their distinct keys, and several batches wait for answers at the same time (`maxInFlight`); \
         rows leave in the order they came in, and all have left before a checkpoint is taken. A row that the table lacks becomes nulls (`join: left`) or \
         is dropped (`join: inner`).\n\n\
         What is added is what the table holds at that moment, or up to `cache.ttl` before: when rows are processed again after a restart they may be \
         given other values. So `delivery: exactly-once` needs a transactional sink behind it. The input must be append-only, since a deletion could be \
         given another value than the row it deletes.\n\n\
         Keys are compared by value: a text is equal to the same text alone, also where the database's collation knows no case. A key that the \
         table's type cannot hold is in no row; types that cannot be compared without a change of value are refused: cast them in a `map` before.\n\n\
         While the database is away the calls are [tried again](../../external-calls.md), the node takes no more rows, and nothing is sent to the dead \
         letters. Beside the figures of that layer its metrics have `cache_hits` and `cache_misses`."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(LookupOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        config::parse::<LookupOptions>(config)?.check(&mut errors);
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        inputs::append_only("lookup", input)?;
        let options: LookupOptions = config::parse(context.config)?;
        let mut errors = Vec::new();
        options.check(&mut errors);
        let connector = connector(context.registry, &options.connector).map_err(|e| errors.push(e)).ok();
        let mut key = Vec::new();
        for (name, _) in &options.on.0 {
            match inputs::column(&format!("on.{name}"), name, &input.visible()) {
                Ok(_) => key.extend(input.arrow.index_of(name)),
                Err(e) => errors.push(e),
            }
        }
        let lookup = connector.and_then(|connector| table(connector, &context, &options).map_err(|e| errors.extend(e.0)).ok());
        let (Some(lookup), true) = (lookup, errors.is_empty()) else { return Err(ConfigErrors(errors)) };
        spec(&options, input, key, lookup)
    }
}

/// The connector of a name, if it has look-ups.
fn connector<'a>(registry: &'a Registry, name: &str) -> Result<&'a dyn Connector, ConfigError> {
    let connector = registry.connector(name)?;
    if connector.lookup_options().is_some() {
        return Ok(connector.as_ref());
    }
    let others: Vec<&str> = registry.connectors().filter(|c| c.lookup_options().is_some()).map(|c| c.name()).collect();
    Err(ConfigError::new("connector", format!("connector `{name}` has no look-ups")).hint(format!("connectors with them: {}", others.join(", "))))
}

/// The look-up as the connector plans it. What it says about columns is about ours.
fn table(connector: &dyn Connector, context: &PlanContext<'_>, options: &LookupOptions) -> Result<Arc<dyn Lookup>, ConfigErrors> {
    let nothing = Value::Object(serde_json::Map::new());
    let config = context.config.get("config").filter(|c| !c.is_null()).unwrap_or(&nothing);
    let names = |names: &Names| names.0.iter().map(|(_, table)| table.clone()).collect::<Vec<_>>();
    let (key, columns) = (names(&options.on), options.columns.as_ref().map(names));
    connector.lookup(LookupContext { node: context.node, config, key: &key, columns: columns.as_deref() }).map_err(|errors| {
        ConfigErrors(errors.0.into_iter().map(|e| if matches!(e.path.as_str(), "on" | "columns") { e } else { e.under("config") }).collect())
    })
}

/// Checks the types, and decides what rows leave.
fn spec(options: &LookupOptions, input: &StreamSchema, key: Vec<usize>, lookup: Arc<dyn Lookup>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
    let schema = lookup.schema();
    let (key_fields, values) = schema.fields().split_at(key.len().min(schema.fields().len()));
    let mut errors = Vec::new();
    for ((&column, field), (stream, table)) in key.iter().zip(key_fields).zip(&options.on.0) {
        let (from, to) = (input.arrow.field(column).data_type(), field.data_type());
        if !keys::comparable(from, to) {
            let (from, to) = (sql_type::to_sql(from), sql_type::to_sql(to));
            errors.push(
                ConfigError::new(
                    format!("on.{stream}"),
                    format!("`{stream}` is of type {from}, the table's `{table}` of type {to}: they cannot be compared without a change of value"),
                )
                .hint(format!("cast it in a `map` before: `cast({stream} as {to})`")),
            );
        }
    }
    let names: Vec<String> = match &options.columns {
        Some(Names(names)) => names.iter().map(|(stream, _)| stream.clone()).collect(),
        None => values.iter().map(|f| f.name().clone()).collect(),
    };
    let visible = input.visible();
    for (i, name) in names.iter().enumerate() {
        let told = |message: String| {
            let hint = format!("name it otherwise: `columns: {{ another_name: {} }}`", values.get(i).map_or(name.as_str(), |f| f.name()));
            ConfigError::new("columns", message).hint(hint)
        };
        if visible.index_of(name).is_ok() {
            errors.push(told(format!("the input has a column `{name}` already")));
        } else if names[..i].contains(name) {
            errors.push(told(format!("two columns are called `{name}`")));
        } else if is_hidden(&Field::new(name, DataType::Null, true)) {
            errors.push(told(format!("the name `{name}` is the engine's")));
        }
    }
    for field in schema.fields() {
        if !RowConverter::supports_fields(&[SortField::new(field.data_type().clone())]) {
            let what = sql_type::to_sql(field.data_type());
            errors.push(
                ConfigError::new("columns", format!("column `{}` is of type {what}, which `lookup` does not take", field.name()))
                    .hint("leave it out of `columns`"),
            );
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let nullable = |f: &Field| f.is_nullable() || options.join == Join::Left;
    let added = names.iter().zip(values).map(|(name, f)| Arc::new(Field::new(name, f.data_type().clone(), nullable(f))));
    let (hidden, shown): (Vec<_>, Vec<_>) = input.arrow.fields().iter().enumerate().partition(|(_, f)| is_hidden(f));
    let fields: Vec<_> = shown.iter().map(|(_, f)| Arc::clone(f)).chain(added).chain(hidden.iter().map(|(_, f)| Arc::clone(f))).collect();
    let arrow: SchemaRef = Arc::new(Schema::new(fields));
    let max_concurrency = options.external.max_concurrency.min(lookup.max_concurrency().unwrap_or(usize::MAX));
    let external = ExternalOptions { max_concurrency, ..options.external.clone() };
    let plan = Plan {
        key,
        table: Arc::clone(&schema),
        shown: shown.into_iter().map(|(i, _)| i).collect(),
        hidden: hidden.into_iter().map(|(i, _)| i).collect(),
        output: Arc::clone(&arrow),
        join: options.join,
        on_multiple: options.on_multiple,
        cache: options.cache.clone(),
        max_concurrency,
    };
    let schema = StreamSchema { arrow, event_time: input.event_time.clone(), change_mode: input.change_mode, key: input.key.clone() };
    Ok(Arc::new(LookupSpec {
        calls: ExternalCalls::new(lookup.describe(), &external),
        plan: Arc::new(plan),
        lookup,
        settings: AsyncSettings { batches: options.max_in_flight, ..AsyncSettings::default() },
        outputs: [OutputPort { name: MAIN.into(), schema }],
    }))
}

/// What a running look-up needs to know.
struct Plan {
    /// The key's columns in the input.
    key: Vec<usize>,
    /// The key's columns, then those that are added, as the connector gives them.
    table: SchemaRef,
    /// The input's columns that users see, and those of the engine.
    shown: Vec<usize>,
    hidden: Vec<usize>,
    output: SchemaRef,
    join: Join,
    on_multiple: options::OnMultiple,
    cache: Option<options::CacheOptions>,
    max_concurrency: usize,
}

struct LookupSpec {
    plan: Arc<Plan>,
    lookup: Arc<dyn Lookup>,
    /// Shared by all subtasks.
    calls: ExternalCalls,
    settings: AsyncSettings,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for LookupSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn determinism(&self) -> Determinism {
        Determinism::No("a look-up gives what the table holds at that moment".into())
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.plan.key.iter().chain(&self.plan.hidden).copied().collect())
    }

    fn passes_columns(&self) -> bool {
        true
    }

    fn asynchronous(&self) -> Option<&dyn AsyncSpec> {
        Some(self)
    }
}

#[async_trait]
impl AsyncSpec for LookupSpec {
    fn settings(&self) -> AsyncSettings {
        self.settings
    }

    fn create(&self, context: AsyncContext) -> Result<Arc<dyn AsyncOperator>> {
        let calls = self.calls.counted_by(Arc::clone(&context.metrics));
        Ok(Arc::new(Running::new(Arc::clone(&self.plan), Arc::clone(&self.lookup), calls, context)?))
    }

    async fn check(&self) -> Result<()> {
        self.lookup.check().await.map_err(|e| if e.message().is_empty() { Error::external(self.lookup.describe()).caused_by(e) } else { e })
    }
}
