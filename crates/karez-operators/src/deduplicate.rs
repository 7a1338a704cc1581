//! `deduplicate`: the first or the last row of each key.
//!
//! State: keyed table `seen`. `keep: first`: key → format byte. `keep: last`: key → format byte, the row's columns in arrow's row
//! format ([`crate::keyed`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int8Array, UInt32Array};
use arrow::compute::{interleave, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use karez_core::config::{self, ConfigError, ConfigErrors, Span};
use karez_core::operator::{Determinism, MAIN, MAX_BATCH_ROWS, OutputPort};
use karez_core::schema::change_field;
use karez_core::state::{KeyedTable, Snapshot};
use karez_core::{
    ChangeKind, ChangeMode, Clock, Distribution, KeyGroup, Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress,
    Result, StreamSchema, Watermark,
};
use karez_expr::GroupTable;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::expiry::Expiry;
use crate::inputs;
use crate::keyed::{self, KeyCodec, RowCodec, normalised};
use crate::pending::Pending;
use crate::rejects::failed;

const SEEN: &str = "seen";

/// Options of `deduplicate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeduplicateOptions {
    /// The columns by which rows are the same.
    key_by: Vec<String>,
    /// Which row of a key is kept, in the order in which they arrive. Default: `first`.
    #[serde(default)]
    keep: Keep,
    /// How long a key is remembered after it was last written, by the clock: with `first` after its first row, with `last` after its last. A key
    /// that comes again later is new. Default: for ever.
    #[serde(default)]
    ttl: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Keep {
    /// The first: later ones are dropped.
    #[default]
    First,
    /// The last: each replaces the one before, the output is a changelog (of bounded input: the last rows, at the end; in a streaming job
    /// without event time, since the watermark has passed them by then).
    Last,
}

/// The factory of `deduplicate`.
pub(crate) struct Deduplicate;

impl OperatorFactory for Deduplicate {
    fn name(&self) -> &'static str {
        "deduplicate"
    }

    fn description(&self) -> &'static str {
        "Keeps the first or the last row of each key.\n\n```yaml\n\
         - { name: once, type: deduplicate, keyBy: [order_id], keep: first, ttl: 1h }\n```\n\n\
         With `keep: last` the output of a streaming job is a changelog."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(DeduplicateOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<DeduplicateOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        inputs::append_only(self.name(), input)?;
        let options: DeduplicateOptions = config::parse(context.config)?;
        let visible = input.visible();
        let keys = inputs::columns("keyBy", &options.key_by, &visible)?;
        if keys.is_empty() {
            return Err(ConfigError::new("keyBy", "name the columns by which rows are the same").into());
        }
        let key_schema = Arc::new(visible.project(&keys).map_err(|e| ConfigError::new("keyBy", e.to_string()))?);
        GroupTable::try_new(&key_schema).map_err(|e| ConfigError::new("keyBy", e.to_string()))?;
        if options.ttl.is_some_and(|ttl| ttl.as_millis() == 0) {
            return Err(ConfigError::new("ttl", "a key must be remembered for one millisecond at least").into());
        }
        let kept = match (options.keep, context.bounded) {
            (Keep::First, _) => Kept::First,
            (Keep::Last, false) => Kept::Changes,
            (Keep::Last, true) => Kept::LastAtEnd,
        };
        if kept != Kept::First {
            keyed::check_types("keyBy", input.arrow.fields().iter().map(|f| f.data_type()))?;
        }
        let mut schema = input.clone();
        if kept == Kept::LastAtEnd && !context.batch {
            // The rows are held until the end while the watermark goes on: behind here they would all be late.
            schema.event_time = None;
        }
        if kept == Kept::Changes {
            let fields = input.arrow.fields().iter().cloned().chain([Arc::new(change_field())]);
            schema = StreamSchema {
                arrow: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
                change_mode: ChangeMode::Changelog,
                key: options.key_by,
                ..schema
            };
        }
        let outputs = [OutputPort { name: MAIN.into(), schema }];
        Ok(Arc::new(DeduplicateSpec { keys, key_schema, kept, ttl_ms: options.ttl.map(Span::as_millis), input: Arc::clone(&input.arrow), outputs }))
    }
}

/// What is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    First,
    /// The last row, as a changelog.
    Changes,
    /// The last row, when the input has ended.
    LastAtEnd,
}

struct DeduplicateSpec {
    keys: Vec<usize>,
    key_schema: SchemaRef,
    kept: Kept,
    ttl_ms: Option<i64>,
    input: SchemaRef,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for DeduplicateSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn distribution(&self, _: usize) -> Distribution {
        Distribution::Hash(self.keys.clone())
    }

    fn is_stateful(&self) -> bool {
        true
    }

    fn gives_at_end(&self) -> bool {
        self.kept == Kept::LastAtEnd
    }

    fn determinism(&self) -> Determinism {
        Determinism::No("which row of a key comes first or last hangs on the order in which they arrive".into())
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.keys.clone())
    }

    fn passes_columns(&self) -> bool {
        true
    }

    fn identity(&self) -> String {
        let columns = |schema: &Schema| schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ");
        match self.kept {
            Kept::First => format!("keyBy [{}] keep first", columns(&self.key_schema)),
            // The rows themselves are state.
            Kept::Changes | Kept::LastAtEnd => format!("keyBy [{}] keep last of [{}]", columns(&self.key_schema), columns(&self.input)),
        }
    }

    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningDeduplicate {
            key_columns: self.keys.clone(),
            kept: self.kept,
            numbers: GroupTable::try_new(&self.key_schema).map_err(failed)?,
            indices: Vec::new(),
            keys: KeyCodec::new(&self.key_schema, context.state.key_groups().of)?,
            rows: RowCodec::of(&self.input)?,
            input: Arc::clone(&self.input),
            output: Arc::clone(&self.outputs[0].schema.arrow),
            table: context.state.keyed_table(SEEN)?,
            expiry: Expiry::new(self.ttl_ms),
            clock: context.clock,
            pending: Pending::default(),
            cursor: None,
        }))
    }
}

struct RunningDeduplicate {
    key_columns: Vec<usize>,
    kept: Kept,
    /// Numbers the keys of a batch; empty between calls.
    numbers: GroupTable,
    indices: Vec<usize>,
    keys: KeyCodec,
    rows: RowCodec,
    input: SchemaRef,
    output: SchemaRef,
    table: Box<dyn KeyedTable>,
    expiry: Expiry,
    clock: Arc<dyn Clock>,
    pending: Pending,
    /// At the end: the rows up to here (`None` within: from the start) have been given.
    cursor: Option<Option<(KeyGroup, Bytes)>>,
}

impl RunningDeduplicate {
    /// The first or last row of each key in the batch, in the order in which keys appear.
    fn pick(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys: Vec<ArrayRef> = self.key_columns.iter().map(|&k| normalised(batch.column(k))).collect();
        self.numbers.intern(&keys, &mut self.indices).map_err(failed)?;
        let mut picked = vec![u32::MAX; self.numbers.len()];
        for (row, &group) in self.indices.iter().enumerate() {
            if self.kept != Kept::First || picked[group] == u32::MAX {
                picked[group] = row as u32;
            }
        }
        self.numbers.emit_all().map_err(failed)?;
        if picked.len() == batch.num_rows() {
            return Ok(batch.clone());
        }
        Ok(take_record_batch(batch, &UInt32Array::from(picked))?)
    }

    fn encode_keys(&self, rows: &RecordBatch) -> Result<keyed::EncodedKeys> {
        let keys: Vec<ArrayRef> = self.key_columns.iter().map(|&k| normalised(rows.column(k))).collect();
        self.keys.encode(&keys, rows.num_rows())
    }

    fn keep_first(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = self.encode_keys(rows)?;
        let now_ms = self.clock.now_ms();
        let expires_ms = self.expiry.expires_ms(now_ms);
        let mut new: Vec<u32> = Vec::new();
        for row in 0..keys.len() {
            let (group, key) = keys.get(row);
            if self.table.get(group, key, now_ms)?.is_none() {
                self.table.put(group, key, Bytes::from_static(&[keyed::FORMAT]), expires_ms)?;
                new.push(row as u32);
            }
        }
        let kept = if new.len() == rows.num_rows() { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(new))? };
        self.pending.push(0, kept);
        Ok(())
    }

    fn keep_last(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys = self.encode_keys(rows)?;
        let encoded = self.rows.encode(rows.columns())?;
        let now_ms = self.clock.now_ms();
        let expires_ms = self.expiry.expires_ms(now_ms);
        // What each row replaces; rows equal to what was there are no change.
        let mut changed: Vec<(u32, Option<Bytes>)> = Vec::new();
        for row in 0..keys.len() {
            let (group, key) = keys.get(row);
            let former = if self.kept == Kept::Changes { self.table.get(group, key, now_ms)? } else { None };
            let value = Bytes::from([&[keyed::FORMAT], encoded.get(row)].concat());
            if former.as_ref() != Some(&value) {
                changed.push((row as u32, former));
            }
            self.table.put(group, key, value, expires_ms)?;
        }
        if self.kept == Kept::Changes {
            for changes in changed.chunks(MAX_BATCH_ROWS / 2) {
                let batch = self.changes(rows, changes)?;
                self.pending.push(0, batch);
            }
        }
        Ok(())
    }

    /// `-U` and `+U` side by side, `+I` where the key is new.
    fn changes(&self, rows: &RecordBatch, changes: &[(u32, Option<Bytes>)]) -> Result<RecordBatch> {
        let former = changes.iter().filter_map(|(_, f)| f.as_ref()).map(|f| keyed::body(f)).collect::<Result<Vec<_>>>()?;
        let former = self.rows.decode(former.into_iter())?;
        let (mut picks, mut kinds, mut next) = (Vec::new(), Vec::new(), 0);
        for (row, old) in changes {
            let kind = match old {
                Some(_) => {
                    picks.push((0, next));
                    kinds.push(ChangeKind::UpdateBefore as i8);
                    next += 1;
                    ChangeKind::UpdateAfter
                }
                None => ChangeKind::Insert,
            };
            picks.push((1, *row as usize));
            kinds.push(kind as i8);
        }
        let columns = former.iter().zip(rows.columns()).map(|(old, new)| interleave(&[old.as_ref() as &dyn Array, new.as_ref()], &picks));
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        columns.push(Arc::new(Int8Array::from(kinds)));
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }

    /// Gives the rows kept, in the order of their keys, and forgets them: a checkpoint behind the end must not bring them again.
    fn give_last(&mut self, out: &mut dyn Output) -> Result<Progress> {
        while let Some(cursor) = self.cursor.take() {
            let entries = self.table.scan(cursor.as_ref().map(|(g, k)| (*g, k.as_ref())), MAX_BATCH_ROWS)?;
            let Some((group, key, _)) = entries.last() else {
                break;
            };
            self.cursor = Some(Some((*group, key.clone())));
            let rows = entries.iter().map(|(_, _, value)| keyed::body(value)).collect::<Result<Vec<_>>>()?;
            out.emit(0, RecordBatch::try_new(Arc::clone(&self.input), self.rows.decode(rows.into_iter())?)?);
            for (group, key, _) in &entries {
                self.table.delete(*group, key)?;
            }
            if out.is_full() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }
}

impl Operator for RunningDeduplicate {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let rows = self.pick(&batch)?;
        match self.kept {
            Kept::First => self.keep_first(&rows)?,
            Kept::Changes | Kept::LastAtEnd => self.keep_last(&rows)?,
        }
        Ok(self.pending.flush(out))
    }

    fn next_timer_ms(&self) -> Option<i64> {
        self.expiry.next_timer_ms(self.table.as_ref())
    }

    fn on_timer(&mut self, now_ms: i64, _: &mut dyn Output) -> Result<Progress> {
        self.expiry.run(now_ms, self.table.as_mut())?;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut dyn Output) -> Result<Progress> {
        // Before event time ends behind this operator, where the rows would come late to a window.
        if self.kept == Kept::LastAtEnd && watermark == Watermark::MAX {
            self.cursor = Some(None);
        }
        self.give_last(out)
    }

    fn on_end(&mut self, out: &mut dyn Output) -> Result<Progress> {
        // What came behind the end of event time, if anything did.
        if self.kept == Kept::LastAtEnd {
            self.cursor = Some(None);
        }
        self.give_last(out)
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        if self.pending.flush(out) == Progress::More {
            return Ok(Progress::More);
        }
        self.give_last(out)
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.table(SEEN, self.table.freeze()?);
        Ok(())
    }
}
