//! `aggregate`: aggregates per key over the whole stream.
//!
//! Of bounded input one result per key at the end; otherwise a changelog, one change per key and batch that changes it.
//!
//! State of the changelog: keyed table `groups`, key → format byte, the states of all calls ([`crate::keyed`]). Of bounded input: the
//! pane table `panes` of [`crate::window`], one pane.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use karez_core::config::{self, ConfigError, ConfigErrors, Span};
use karez_core::operator::{Determinism, MAIN, MAX_BATCH_ROWS, OutputPort};
use karez_core::state::{KeyedTable, Snapshot};
use karez_core::{Clock, Distribution, Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::aggregates::Aggregates;
use crate::expiry::Expiry;
use crate::groups::Groups;
use crate::inputs;
use crate::keyed::{self, EncodedKeys, KeyCodec, RowCodec};
use crate::named::Named;
use crate::pending::Pending;
use crate::results::{Bounds, Results, WindowColumns};
use crate::window::{Revision, TimeWindows};

const GROUPS: &str = "groups";

/// Options of `aggregate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AggregateOptions {
    /// The columns that rows are grouped by. Without it all rows are one group, handled by one subtask.
    #[serde(default)]
    key_by: Vec<String>,
    /// Names and SQL aggregate expressions, such as `{ orders: "count(*)", spend: "sum(amount)" }`. Default: `{ count: "count(*)" }`.
    #[serde(default)]
    aggregates: Option<Named>,
    /// How long a key is remembered after its last row, by the clock. A key that comes again later begins anew. Default: for ever.
    #[serde(default)]
    ttl: Option<Span>,
}

/// The factory of `aggregate`.
pub(crate) struct Aggregate;

impl OperatorFactory for Aggregate {
    fn name(&self) -> &'static str {
        "aggregate"
    }

    fn description(&self) -> &'static str {
        "Aggregates rows per key over the whole stream.\n\n```yaml\n\
         - { name: spend, type: aggregate, keyBy: [user_id], aggregates: { spend: \"sum(amount)\" } }\n```\n\n\
         Of bounded input (`type: batch`) there is one result per key, at the end. Otherwise the output is a changelog: each batch of rows gives at \
         most one change per key."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(AggregateOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<AggregateOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        inputs::append_only(self.name(), input)?;
        let options: AggregateOptions = config::parse(context.config)?;
        let visible = input.visible();
        let keys = inputs::columns("keyBy", &options.key_by, &visible)?;
        let aggregates = Arc::new(Aggregates::compile(options.aggregates, keys, &visible)?);
        if options.ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            return Err(ConfigError::new("ttl", "a key must be remembered for one millisecond at least").into());
        }
        if context.bounded && options.ttl.is_some() {
            return Err(ConfigError::new("ttl", "a result over all rows of bounded input forgets no key")
                .hint("leave `ttl` out of a batch job")
                .into());
        }
        keyed::check_types("aggregates", aggregates.partial_schema.fields().iter().map(|f| f.data_type()))?;
        let results = Results::new(context.node, Arc::clone(&aggregates), WindowColumns::None, !context.bounded)?;
        let outputs = [OutputPort { name: MAIN.into(), schema: results.stream_schema() }];
        Ok(Arc::new(AggregateSpec { aggregates, results, outputs, ttl_ms: options.ttl.map(Span::as_millis), bounded: context.bounded }))
    }
}

struct AggregateSpec {
    aggregates: Arc<Aggregates>,
    results: Results,
    outputs: [OutputPort; 1],
    ttl_ms: Option<i64>,
    bounded: bool,
}

impl OperatorSpec for AggregateSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn distribution(&self, _: usize) -> Distribution {
        self.aggregates.distribution()
    }

    fn is_stateful(&self) -> bool {
        true
    }

    fn gives_at_end(&self) -> bool {
        self.bounded
    }

    fn determinism(&self) -> Determinism {
        match self.ttl_ms {
            Some(_) => Determinism::No("time-to-live follows the clock".into()),
            None => self.aggregates.determinism(),
        }
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.aggregates.columns())
    }

    fn identity(&self) -> String {
        format!("{} {}{}", self.aggregates.identity(), if self.bounded { "at the end" } else { "running" }, self.aggregates.states())
    }

    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        if self.bounded {
            return Ok(Box::new(TimeWindows::whole(&self.aggregates, &self.results, context)?));
        }
        Ok(Box::new(RunningAggregate {
            aggregates: Arc::clone(&self.aggregates),
            results: self.results.clone(),
            keys: KeyCodec::new(&self.aggregates.key_schema, context.state.key_groups().of)?,
            states: RowCodec::of_states(&self.aggregates)?,
            table: context.state.keyed_table(GROUPS)?,
            groups: Groups::new(&self.aggregates)?,
            expiry: Expiry::new(self.ttl_ms),
            clock: context.clock,
            pending: Pending::default(),
        }))
    }
}

struct RunningAggregate {
    aggregates: Arc<Aggregates>,
    results: Results,
    keys: KeyCodec,
    states: RowCodec,
    table: Box<dyn KeyedTable>,
    /// Empty between calls; kept for its memory.
    groups: Groups,
    expiry: Expiry,
    clock: Arc<dyn Clock>,
    pending: Pending,
}

impl RunningAggregate {
    /// The partials that the table holds of the keys of `partial`.
    fn former(&mut self, partial: &RecordBatch, keys: &EncodedKeys, now_ms: i64) -> Result<Option<RecordBatch>> {
        let (mut rows, mut values): (Vec<u32>, Vec<Bytes>) = (Vec::new(), Vec::new());
        for row in 0..keys.len() {
            let (group, key) = keys.get(row);
            if let Some(value) = self.table.get(group, key, now_ms)? {
                rows.push(row as u32);
                values.push(value);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let rows = UInt32Array::from(rows);
        let key_columns = &partial.columns()[..self.aggregates.keys.len()];
        let mut columns: Vec<ArrayRef> = key_columns.iter().map(|k| take(k, &rows, None)).collect::<Result<_, _>>()?;
        let bodies = values.iter().map(|v| keyed::body(v)).collect::<Result<Vec<_>>>()?;
        columns.extend(self.states.decode(bodies.into_iter())?);
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.aggregates.partial_schema), columns)?))
    }

    fn store(&mut self, merged: &RecordBatch, now_ms: i64) -> Result<()> {
        let (keys, states) = merged.columns().split_at(self.aggregates.keys.len());
        let keys = self.keys.encode(keys, merged.num_rows())?;
        let states = self.states.encode(states)?;
        let expires_ms = self.expiry.expires_ms(now_ms);
        for row in 0..keys.len() {
            let (group, key) = keys.get(row);
            let value = [&[keyed::FORMAT], states.get(row)].concat();
            self.table.put(group, key, Bytes::from(value), expires_ms)?;
        }
        Ok(())
    }
}

impl Operator for RunningAggregate {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let (rows, _) = self.aggregates.rows(&batch, out)?;
        if rows.rows == 0 {
            return Ok(Progress::Done);
        }
        let now_ms = self.clock.now_ms();
        self.groups.update(&rows)?;
        let partial = self.groups.partial(&self.aggregates)?;
        let keys = self.keys.encode(&partial.columns()[..self.aggregates.keys.len()], partial.num_rows())?;
        let former = self.former(&partial, &keys, now_ms)?;

        let mut revision = Revision::new(&self.aggregates)?;
        revision.add_changes(&self.aggregates, partial.clone())?;
        if let Some(former) = &former {
            self.groups.merge(&self.aggregates, former)?;
            revision.add_former(&self.aggregates, former)?;
        }
        self.groups.merge(&self.aggregates, &partial)?;
        let merged = self.groups.partial(&self.aggregates)?;
        self.store(&merged, now_ms)?;

        revision.evaluate(&self.aggregates)?;
        let mut offset = 0;
        while offset < revision.changed() {
            // Each changed key gives two rows.
            let rows = (revision.changed() - offset).min(MAX_BATCH_ROWS / 2);
            self.pending.push(0, revision.updates(&self.results, offset, rows, Bounds::None, out)?);
            offset += rows;
        }
        Ok(self.pending.flush(out))
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        Ok(self.pending.flush(out))
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.expiry.next_timer_ms(self.table.as_ref())
    }

    fn on_timer(&mut self, now_ms: i64, _: &mut dyn Output) -> Result<Progress> {
        self.expiry.run(now_ms, self.table.as_mut())?;
        Ok(Progress::Done)
    }

    fn memory_bytes(&self) -> usize {
        self.groups.size()
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.table(GROUPS, self.table.freeze()?);
        Ok(())
    }
}
