//! [`TimeWindows`]: tumbling and sliding windows.
//!
//! ```text
//!            rows of a slice         at a checkpoint, or when          when the watermark passes
//!                                    the slice's first window fires    a window's end
//! batch ──► live: keys and states ──► frozen: partial batches ────────► merged, finished, emitted
//! ```
//!
//! Live tables hold what came since the last checkpoint; that is what a checkpoint adds to the pane table.
//!
//! State: pane table `panes` (pane: start of the slice in ms; columns: keys, then the states of all calls in order), pane table
//! `late-panes` of the same form (rows that came within the allowed lateness of a fired window and are not part of a result
//! yet), broadcast `watermark` (ms; up to which windows have fired: without it a row that comes after a restore could open a
//! window a second time).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::state::{PaneTable, Snapshot, StateStore};
use karez_core::{Clock, Operator, OperatorContext, Output, Progress, Result, Watermark};
use serde_json::Value;

use super::WindowSpec;
use super::compaction::Compaction;
use super::cut::by_slice;
use super::firing::{Advance, Emission};
use super::slices::Slices;
use super::times;
use crate::aggregates::Aggregates;
use crate::groups::Groups;
use crate::results::Results;

const PANES: &str = "panes";
const LATE_PANES: &str = "late-panes";
const WATERMARK: &str = "watermark";
const LATE_PORT: usize = 1;
/// How many batches pass between two looks at how much memory the live tables hold.
const BATCHES_PER_MEASURE: u32 = 16;

pub(crate) struct TimeWindows {
    pub(crate) aggregates: Arc<Aggregates>,
    pub(crate) results: Results,
    pub(crate) slices: Slices,
    pub(crate) lateness_ms: i64,
    time: TimeSource,
    metrics: Arc<NodeMetrics>,
    clock: Arc<dyn Clock>,

    /// By slice: what came since the last checkpoint.
    pub(crate) live: BTreeMap<i64, Groups>,
    pub(crate) frozen: FrozenPanes,
    /// Rows for slices of which a window has fired already; only with allowed lateness.
    pub(crate) late_live: BTreeMap<i64, Groups>,
    pub(crate) late_frozen: Option<FrozenPanes>,
    compaction: Option<Compaction>,

    /// Windows that end at or before this plus one have fired; `i64::MIN`: none.
    pub(crate) watermark_ms: i64,
    /// Rows before this are late for all their windows.
    late_before_ms: i64,
    /// Slices before this belong to a window that has fired.
    late_before_slice: i64,

    /// The work of a call that is not through.
    pub(crate) advance: Option<Advance>,
    pub(crate) emission: Emission,
    /// An empty table, kept for its memory.
    pub(crate) spare: Option<Groups>,
    memory_bytes: usize,
    batches: u32,
}

/// What rows are put into slices by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeSource {
    /// The column of event time.
    Event(usize),
    /// The clock.
    Processing,
    /// Nothing: all rows are of one slice, which ends with the input.
    Whole,
}

/// A pane table, and which slices it holds.
pub(crate) struct FrozenPanes {
    table: Box<dyn PaneTable>,
    /// The slices that hold partials.
    pub(crate) rows: BTreeMap<i64, PaneRows>,
    /// Slices appended to since they were last looked at.
    appended: BTreeSet<i64>,
}

/// How many rows a pane holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PaneRows {
    /// Rows appended (by this process).
    appended: usize,
    /// Rows when it was last compacted: its number of keys then.
    keys: usize,
}

impl FrozenPanes {
    fn open(state: &mut dyn StateStore, name: &str, aggregates: &Aggregates, slices: &Slices) -> Result<Self> {
        let table = state.pane_table(name, Arc::clone(&aggregates.partial_schema), aggregates.keys.len())?;
        let rows = table.panes().into_iter().map(|start| (slices.slice_of(start), PaneRows::default())).collect();
        Ok(Self { table, rows, appended: BTreeSet::new() })
    }

    pub(crate) fn append(&mut self, slices: &Slices, slice: i64, partial: RecordBatch) -> Result<()> {
        if partial.num_rows() == 0 {
            return Ok(());
        }
        self.rows.entry(slice).or_default().appended += partial.num_rows();
        self.appended.insert(slice);
        self.table.append(slices.start(slice), partial)
    }

    pub(crate) fn read(&self, slices: &Slices, slice: i64) -> Result<Vec<RecordBatch>> {
        if self.rows.contains_key(&slice) { self.table.read(slices.start(slice)) } else { Ok(Vec::new()) }
    }

    /// A slice whose rows have grown by more than its keys, at least `min_rows`, since it was last compacted.
    pub(crate) fn overgrown(&mut self, min_rows: usize) -> Option<i64> {
        while let Some(slice) = self.appended.pop_first() {
            if self.rows.get(&slice).is_some_and(|rows| rows.appended > min_rows.max(rows.keys)) {
                return Some(slice);
            }
        }
        None
    }

    /// Replaces the partials of a slice by merged ones, the first of which has each key once.
    pub(crate) fn compacted(&mut self, slices: &Slices, slice: i64, partials: Vec<RecordBatch>) -> Result<()> {
        let keys = partials.first().map_or(0, RecordBatch::num_rows);
        let appended = partials.iter().skip(1).map(RecordBatch::num_rows).sum();
        self.rows.insert(slice, PaneRows { appended, keys });
        self.table.replace(slices.start(slice), partials)
    }

    pub(crate) fn drop_before(&mut self, slices: &Slices, slice: i64) -> Result<()> {
        while let Some(entry) = self.rows.first_entry().filter(|e| *e.key() < slice) {
            self.table.drop_pane(slices.start(entry.remove_entry().0))?;
        }
        Ok(())
    }

    pub(crate) fn drop_slice(&mut self, slices: &Slices, slice: i64) -> Result<()> {
        match self.rows.remove(&slice) {
            Some(_) => self.table.drop_pane(slices.start(slice)),
            None => Ok(()),
        }
    }
}

impl TimeWindows {
    pub(crate) fn open(spec: &WindowSpec, slices: Slices, context: OperatorContext<'_>) -> Result<Self> {
        let time = spec.event_time.map_or(TimeSource::Processing, TimeSource::Event);
        Self::new(&spec.aggregates, &spec.results, slices, time, spec.lateness_ms, context)
    }

    /// One window of all rows, for results at the end of bounded input.
    pub(crate) fn whole(aggregates: &Arc<Aggregates>, results: &Results, context: OperatorContext<'_>) -> Result<Self> {
        Self::new(aggregates, results, Slices::fixed(1, 1, 0), TimeSource::Whole, 0, context)
    }

    fn new(
        aggregates: &Arc<Aggregates>,
        results: &Results,
        slices: Slices,
        time: TimeSource,
        lateness_ms: i64,
        context: OperatorContext<'_>,
    ) -> Result<Self> {
        let frozen = FrozenPanes::open(context.state, PANES, aggregates, &slices)?;
        let late_frozen = match lateness_ms {
            0 => None,
            _ => Some(FrozenPanes::open(context.state, LATE_PANES, aggregates, &slices)?),
        };
        let watermark_ms = context.state.broadcast(WATERMARK)?.and_then(|v| v.as_i64()).unwrap_or(i64::MIN);
        let mut windows = Self {
            aggregates: Arc::clone(aggregates),
            results: results.clone(),
            slices,
            lateness_ms,
            time,
            metrics: context.metrics,
            clock: context.clock,
            live: BTreeMap::new(),
            frozen,
            late_live: BTreeMap::new(),
            late_frozen,
            compaction: None,
            watermark_ms: i64::MIN,
            late_before_ms: i64::MIN,
            late_before_slice: i64::MIN,
            advance: None,
            emission: Emission::default(),
            spare: None,
            memory_bytes: 0,
            batches: 0,
        };
        windows.set_watermark(watermark_ms);
        Ok(windows)
    }

    /// The first window that has not fired at a watermark.
    pub(crate) fn first_open(&self, watermark_ms: i64) -> i64 {
        if watermark_ms == i64::MIN { i64::MIN } else { self.slices.first_window_after(watermark_ms.saturating_add(1)) }
    }

    /// The first window whose result may still change at a watermark.
    pub(crate) fn first_retained(&self, watermark_ms: i64) -> i64 {
        match watermark_ms {
            i64::MIN => i64::MIN,
            i64::MAX => i64::MAX,
            _ => self.slices.first_window_after(watermark_ms.saturating_add(1).saturating_sub(self.lateness_ms)),
        }
    }

    pub(crate) fn set_watermark(&mut self, watermark_ms: i64) {
        self.watermark_ms = watermark_ms;
        let edge = |window: i64| match window {
            i64::MIN | i64::MAX => window,
            _ => self.slices.slices(window).0,
        };
        let retained = edge(self.first_retained(watermark_ms));
        self.late_before_ms = if matches!(retained, i64::MIN | i64::MAX) { retained } else { self.slices.start(retained) };
        // The last window that has fired is the one before the first open one; the slices up to its end are in it or in earlier ones.
        let open = self.first_open(watermark_ms);
        self.late_before_slice = if matches!(open, i64::MIN | i64::MAX) { open } else { self.slices.slices(open - 1).1 };
    }

    fn process_event_time(&mut self, time: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<()> {
        let batch = times::reject_nulls(batch, time, out)?;
        let (batch, late) = times::split_before(batch, time, self.late_before_ms)?;
        if let Some(late) = late {
            self.metrics.late.add(late.num_rows() as u64);
            out.emit(LATE_PORT, late);
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (rows, batch) = self.aggregates.rows(&batch, out)?;
        let times = times::millis(batch.column(time))?;
        let Self { slices, aggregates, live, late_live, late_frozen, late_before_slice, spare, .. } = self;
        by_slice(slices, &times, &rows, |slice, rows| {
            let tables = if late_frozen.is_some() && slice < *late_before_slice { &mut *late_live } else { &mut *live };
            table_of(tables, slice, aggregates, spare)?.update(rows)
        })
    }

    fn process_in_one(&mut self, time_ms: i64, batch: &RecordBatch, out: &mut dyn Output) -> Result<()> {
        let (rows, _) = self.aggregates.rows(batch, out)?;
        let slice = self.slices.slice_of(time_ms);
        if rows.rows > 0 {
            table_of(&mut self.live, slice, &self.aggregates, &mut self.spare)?.update(&rows)?;
        }
        Ok(())
    }

    fn measure(&mut self) {
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES_PER_MEASURE) {
            self.memory_bytes = self.live.values().chain(self.late_live.values()).map(Groups::size).sum();
        }
    }

    /// Merges a piece of a slice whose partials hold its keys many times over.
    fn compact(&mut self) -> Result<()> {
        if self.compaction.is_none() {
            self.compaction = Compaction::find(&mut self.frozen, &self.slices, &self.aggregates)?;
        }
        if let Some(compaction) = self.compaction.take() {
            self.compaction = compaction.step(&mut self.frozen, &self.slices, &self.aggregates)?;
        }
        Ok(())
    }

    /// The first slice at or after `slice` that holds rows.
    pub(crate) fn next_slice(&self, slice: i64) -> Option<i64> {
        let live = self.live.range(slice..).next().map(|(s, _)| *s);
        let frozen = self.frozen.rows.range(slice..).next().map(|(s, _)| *s);
        [live, frozen].into_iter().flatten().min()
    }

    /// The first window from `window` on that holds rows.
    pub(crate) fn next_window(&self, window: i64) -> Option<i64> {
        let slice = self.next_slice(window.saturating_mul(self.slices.step()))?;
        Some(window.max(self.slices.first_window(slice)))
    }

    /// Turns the live table of each of the slices into partials.
    pub(crate) fn freeze_live(&mut self, slices: std::ops::Range<i64>) -> Result<()> {
        let ready: BTreeSet<i64> = self.live.range(slices).map(|(slice, _)| *slice).collect();
        for slice in ready {
            if let Some(mut groups) = self.live.remove(&slice) {
                self.frozen.append(&self.slices, slice, groups.partial(&self.aggregates)?)?;
                self.spare = Some(groups);
            }
        }
        Ok(())
    }
}

/// The table of a slice, made if there is none.
fn table_of<'a>(tables: &'a mut BTreeMap<i64, Groups>, slice: i64, aggregates: &Aggregates, spare: &mut Option<Groups>) -> Result<&'a mut Groups> {
    match tables.entry(slice) {
        std::collections::btree_map::Entry::Occupied(e) => Ok(e.into_mut()),
        std::collections::btree_map::Entry::Vacant(e) => Ok(e.insert(match spare.take() {
            Some(groups) => groups,
            None => Groups::new(aggregates)?,
        })),
    }
}

impl Operator for TimeWindows {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        match self.time {
            TimeSource::Event(time) => self.process_event_time(time, batch, out)?,
            // A clock set back must not open a window that has fired.
            TimeSource::Processing => self.process_in_one(self.clock.now_ms().max(self.watermark_ms.saturating_add(1)), &batch, out)?,
            TimeSource::Whole => self.process_in_one(0, &batch, out)?,
        }
        self.compact()?;
        self.measure();
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut dyn Output) -> Result<Progress> {
        match self.time {
            TimeSource::Event(_) => self.advance_to(watermark.0, out),
            // Nobody reads the clock any more. Results go before the end of event time, behind which they would be late for a window or a `deduplicate`.
            TimeSource::Processing | TimeSource::Whole if watermark == Watermark::MAX => self.advance_to(watermark.0, out),
            TimeSource::Processing | TimeSource::Whole => Ok(Progress::Done),
        }
    }

    fn next_timer_ms(&self) -> Option<i64> {
        if self.time != TimeSource::Processing {
            return None;
        }
        let window = self.next_window(self.first_open(self.watermark_ms))?;
        Some(self.slices.window(window).1)
    }

    fn on_timer(&mut self, now_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        if self.time != TimeSource::Processing {
            return Ok(Progress::Done);
        }
        self.advance_to(now_ms.saturating_sub(1), out)
    }

    fn on_end(&mut self, out: &mut dyn Output) -> Result<Progress> {
        self.advance_to(i64::MAX, out)
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        self.work(out)
    }

    fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        self.freeze_live(i64::MIN..i64::MAX)?;
        if let Some(late_frozen) = &mut self.late_frozen {
            for (slice, mut groups) in std::mem::take(&mut self.late_live) {
                late_frozen.append(&self.slices, slice, groups.partial(&self.aggregates)?)?;
            }
            snapshot.table(LATE_PANES, late_frozen.table.freeze()?);
        }
        snapshot.table(PANES, self.frozen.table.freeze()?);
        // At the end of event time everything has fired; rows that come to a savepoint of it are a new stream, not late ones.
        if !matches!(self.watermark_ms, i64::MIN | i64::MAX) {
            snapshot.broadcast(WATERMARK, Value::from(self.watermark_ms));
        }
        self.memory_bytes = 0;
        Ok(())
    }
}
