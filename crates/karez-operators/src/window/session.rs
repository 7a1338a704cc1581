//! [`SessionWindows`]: a window for each time of activity of a key.
//!
//! ```text
//! batch ──sort by key, time──► runs of rows within the gap ──aggregate──► states of runs ─┐
//! table ──sessions of the batch's keys────────────────────────────────────────────────────┴─merge──► table
//! ```
//!
//! A row is judged late by itself: it is late when its own window (its time and the gap) is behind the watermark and the allowed
//! lateness, and no session that is still kept meets it.
//!
//! A row that changes a session whose result has been given takes the result back (`-D`); the new one follows with the next watermark.
//!
//! State: keyed table `sessions` (`session_value`); broadcast `watermark`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use karez_core::metrics::NodeMetrics;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::state::{KeyedTable, Snapshot};
use karez_core::{ChangeKind, Clock, KeyGroup, Operator, OperatorContext, Output, Progress, Result, Watermark};
use karez_expr::{GroupAccumulator, GroupTable};
use serde_json::Value;

use super::WindowSpec;
use super::session_runs::{Merged, cut_runs, merge_runs};
use super::session_value::{self, Session};
use super::times;
use crate::aggregates::{AggregateRows, Aggregates};
use crate::groups::{GroupResults, behind, merge_states};
use crate::keyed::{EncodedKeys, KeyCodec, RowCodec};
use crate::pending::Pending;
use crate::rejects::failed;
use crate::results::{Bounds, Results};

const SESSIONS: &str = "sessions";
const WATERMARK: &str = "watermark";
const LATE_PORT: usize = 1;
/// Keys looked up in one step of firing.
const STEP_KEYS: usize = 4_096;
/// How long a call works at most before it lets the task look after cancel and barriers.
const STEP: Duration = Duration::from_millis(10);

pub(crate) struct SessionWindows {
    aggregates: Arc<Aggregates>,
    results: Results,
    gap_ms: i64,
    lateness_ms: i64,
    /// `None`: processing time.
    event_time: Option<usize>,
    metrics: Arc<NodeMetrics>,
    clock: Arc<dyn Clock>,
    keys: KeyCodec,
    states: RowCodec,
    table: Box<dyn KeyedTable>,
    /// When to look at which key: for each session an entry at its end (or, once fired, when it is given up) or before.
    due: BTreeSet<Due>,
    watermark_ms: i64,
    /// Numbers the keys of a batch; empty between calls.
    numbers: GroupTable,
    indices: Vec<usize>,
    pending: Pending,
    /// The instant up to which sessions are being fired.
    firing_to_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ms: i64,
    group: KeyGroup,
    key: Box<[u8]>,
}

impl SessionWindows {
    pub(crate) fn open(spec: &WindowSpec, gap_ms: i64, context: OperatorContext<'_>) -> Result<Self> {
        let watermark_ms = context.state.broadcast(WATERMARK)?.and_then(|v| v.as_i64()).unwrap_or(i64::MIN);
        let mut sessions = Self {
            aggregates: Arc::clone(&spec.aggregates),
            results: spec.results.clone(),
            gap_ms,
            lateness_ms: spec.lateness_ms,
            event_time: spec.event_time,
            metrics: context.metrics,
            clock: context.clock,
            keys: KeyCodec::new(&spec.aggregates.key_schema, context.state.key_groups().of)?,
            states: RowCodec::of_states(&spec.aggregates)?,
            table: context.state.keyed_table(SESSIONS)?,
            due: BTreeSet::new(),
            watermark_ms,
            numbers: GroupTable::try_new(&spec.aggregates.key_schema).map_err(failed)?,
            indices: Vec::new(),
            pending: Pending::default(),
            firing_to_ms: None,
        };
        sessions.restore_due()?;
        Ok(sessions)
    }

    fn restore_due(&mut self) -> Result<()> {
        let mut cursor: Option<(KeyGroup, Bytes)> = None;
        loop {
            let entries = self.table.scan(cursor.as_ref().map(|(g, k)| (*g, k.as_ref())), MAX_BATCH_ROWS)?;
            let Some((group, key, _)) = entries.last() else {
                return Ok(());
            };
            cursor = Some((*group, key.clone()));
            for (group, key, value) in &entries {
                for session in session_value::read(value)? {
                    self.due.insert(Due { at_ms: self.due_ms(&session), group: *group, key: key.as_ref().into() });
                }
            }
        }
    }

    /// When a session is to be looked at.
    const fn due_ms(&self, session: &Session) -> i64 {
        if session.fired { session.end_ms.saturating_add(self.lateness_ms) } else { session.end_ms }
    }

    /// Whether a window that ends there is behind the watermark.
    const fn passed(&self, end_ms: i64) -> bool {
        self.watermark_ms != i64::MIN && Watermark(self.watermark_ms).closes(end_ms)
    }

    fn accumulators(&self) -> Result<Vec<GroupAccumulator>> {
        self.aggregates.calls().map(|call| call.accumulator()).collect::<Result<_, _>>().map_err(failed)
    }

    fn process_event_time(&mut self, time: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<()> {
        let batch = times::reject_nulls(batch, time, out)?;
        let (rows, batch) = self.aggregates.rows(&batch, out)?;
        let times = times::millis(batch.column(time))?;
        let doubtful = |t: i64| self.passed(t.saturating_add(self.gap_ms).saturating_add(self.lateness_ms));
        let doubtful: Vec<usize> = if self.watermark_ms == i64::MIN {
            Vec::new()
        } else {
            times.iter().enumerate().filter(|(_, t)| doubtful(**t)).map(|(row, _)| row).collect()
        };
        let mut late: Vec<u32> = Vec::new();
        let mut from = 0;
        // A row that may be late sees the sessions as the rows before it have left them, wherever a batch begins.
        for row in doubtful {
            self.add(&rows.slice(from, row - from), &times[from..row], out)?;
            let one = rows.slice(row, 1);
            if self.meets_session(&one, times[row])? {
                self.add(&one, &times[row..=row], out)?;
            } else {
                late.push(row as u32);
            }
            from = row + 1;
        }
        self.add(&rows.slice(from, rows.rows - from), &times[from..], out)?;
        if !late.is_empty() {
            self.metrics.late.add(late.len() as u64);
            self.pending.push(LATE_PORT, take_record_batch(&batch, &UInt32Array::from(late))?);
        }
        Ok(())
    }

    fn meets_session(&mut self, row: &AggregateRows, time_ms: i64) -> Result<bool> {
        let keys = self.keys.encode(&row.keys, 1)?;
        let (group, key) = keys.get(0);
        let Some(value) = self.table.get(group, key, 0)? else {
            return Ok(false);
        };
        Ok(session_value::read(&value)?.iter().any(|s| s.meets(time_ms, time_ms.saturating_add(self.gap_ms))))
    }

    /// Adds rows, none of which is late.
    fn add(&mut self, rows: &AggregateRows, times: &[i64], out: &mut dyn Output) -> Result<()> {
        if rows.rows == 0 {
            return Ok(());
        }
        self.numbers.intern_rows(&rows.keys, rows.rows, &mut self.indices).map_err(failed)?;
        let count = self.numbers.len();
        let keys = self.numbers.emit_all().map_err(failed)?;
        let encoded = self.keys.encode(&keys, count)?;

        let (runs, of_row) = cut_runs(&self.indices, times, self.gap_ms);
        let mut of_runs = self.accumulators()?;
        for (accumulator, input) in of_runs.iter_mut().zip(&rows.inputs) {
            accumulator.update(input, &of_row, runs.len()).map_err(failed)?;
        }

        let former = self.former(&encoded)?;
        let merged = merge_runs(&runs, &former, count);
        self.retract(&merged, &former, &keys, out)?;
        let states = self.merged_states(&merged, &former, of_runs)?;
        self.store(&encoded, merged, former, states)
    }

    /// The sessions that the table holds of the keys, with the key's number, ordered by key and start.
    fn former(&mut self, keys: &EncodedKeys) -> Result<Vec<(usize, Session)>> {
        let mut former = Vec::new();
        for key in 0..keys.len() {
            let (group, bytes) = keys.get(key);
            if let Some(value) = self.table.get(group, bytes, 0)? {
                former.extend(session_value::read(&value)?.into_iter().map(|session| (key, session)));
            }
        }
        Ok(former)
    }

    /// Takes back the results of sessions that change.
    fn retract(&mut self, merged: &[Merged], former: &[(usize, Session)], keys: &[ArrayRef], out: &mut dyn Output) -> Result<()> {
        let changed = merged.iter().filter(|m| !m.runs.is_empty()).flat_map(|m| &m.former).map(|&i| &former[i]).filter(|(_, s)| s.fired);
        let changed: Vec<&(usize, Session)> = changed.collect();
        if changed.is_empty() {
            return Ok(());
        }
        let of_session: UInt32Array = changed.iter().map(|(key, _)| Some(*key as u32)).collect();
        let keys = keys.iter().map(|k| take(k, &of_session, None)).collect::<Result<_, _>>()?;
        let sessions: Vec<&Session> = changed.iter().map(|(_, session)| session).collect();
        // A result that could not be computed was rejected when the session fired, and was not given.
        self.give(keys, &sessions, ChangeKind::Delete, false, out)
    }

    /// The states of the sessions that have new runs, in order.
    fn merged_states(&self, merged: &[Merged], former: &[(usize, Session)], mut of_runs: Vec<GroupAccumulator>) -> Result<Vec<Bytes>> {
        let changed: Vec<&Merged> = merged.iter().filter(|m| !m.runs.is_empty()).collect();
        let mut run_states = Vec::new();
        for accumulator in &mut of_runs {
            run_states.extend(accumulator.state().map_err(failed)?);
        }
        let (mut groups, values): (Vec<usize>, Vec<&[u8]>) =
            changed.iter().enumerate().flat_map(|(i, m)| m.former.iter().map(move |&f| (i, former[f].1.states.as_ref()))).unzip();
        if !groups.is_empty() {
            run_states = behind(&self.states.decode(values.into_iter())?, &run_states)?;
        }
        groups.extend(changed.iter().enumerate().flat_map(|(i, m)| m.runs.iter().map(move |_| i)));
        let mut accumulators = self.accumulators()?;
        merge_states(&self.aggregates, &mut accumulators, &run_states, &groups, changed.len())?;
        let mut states = Vec::new();
        for accumulator in &mut accumulators {
            states.extend(accumulator.state().map_err(failed)?);
        }
        let rows = self.states.encode(&states)?;
        Ok((0..changed.len()).map(|i| Bytes::copy_from_slice(rows.get(i))).collect())
    }

    fn store(&mut self, keys: &EncodedKeys, merged: Vec<Merged>, former: Vec<(usize, Session)>, states: Vec<Bytes>) -> Result<()> {
        let mut states = states.into_iter();
        let mut merged = merged.into_iter().peekable();
        for key in 0..keys.len() {
            let (group, bytes) = keys.get(key);
            let mut sessions = Vec::with_capacity(1);
            while let Some(m) = merged.next_if(|m| m.key == key) {
                if let (true, [only]) = (m.runs.is_empty(), m.former.as_slice()) {
                    sessions.push(former[*only].1.clone());
                    continue;
                }
                let session = Session { start_ms: m.start_ms, end_ms: m.end_ms, fired: false, states: states.next().unwrap_or_default() };
                // A session that goes on has an entry at its former end, or before: it is moved when that comes.
                if m.former.iter().all(|&f| former[f].1.fired) {
                    self.due.insert(Due { at_ms: session.end_ms, group, key: bytes.into() });
                }
                sessions.push(session);
            }
            self.table.put(group, bytes, session_value::write(&sessions)?, i64::MAX)?;
        }
        Ok(())
    }

    /// Fires and gives up what is due.
    fn work(&mut self, out: &mut dyn Output) -> Result<Progress> {
        let deadline = Instant::now() + STEP;
        loop {
            if self.pending.flush(out) == Progress::More {
                return Ok(Progress::More);
            }
            let Some(to_ms) = self.firing_to_ms else {
                return Ok(Progress::Done);
            };
            if out.is_full() || Instant::now() >= deadline {
                return Ok(Progress::More);
            }
            if self.step(to_ms, out)? {
                continue;
            }
            self.firing_to_ms = None;
        }
    }

    /// Looks at some of the keys that are due; answers whether there were any.
    fn step(&mut self, to_ms: i64, out: &mut dyn Output) -> Result<bool> {
        let mut keys: Vec<(KeyGroup, Box<[u8]>)> = Vec::new();
        while keys.len() < STEP_KEYS && self.due.first().is_some_and(|due| Watermark(to_ms).closes(due.at_ms)) {
            keys.extend(self.due.pop_first().map(|due| (due.group, due.key)));
        }
        if keys.is_empty() {
            return Ok(false);
        }
        keys.sort_unstable();
        keys.dedup();
        let mut fired: Vec<(usize, Session)> = Vec::new();
        for (i, (group, key)) in keys.iter().enumerate() {
            let Some(value) = self.table.get(*group, key, 0)? else {
                continue;
            };
            let mut kept = Vec::new();
            for mut session in session_value::read(&value)? {
                if !session.fired && Watermark(to_ms).closes(session.end_ms) {
                    fired.push((i, session.clone()));
                    session.fired = true;
                }
                let due_ms = self.due_ms(&session);
                if !Watermark(to_ms).closes(due_ms) {
                    self.due.insert(Due { at_ms: due_ms, group: *group, key: key.clone() });
                    kept.push(session);
                }
            }
            match kept.is_empty() {
                true => self.table.delete(*group, key)?,
                false => self.table.put(*group, key, session_value::write(&kept)?, i64::MAX)?,
            }
        }
        fired.sort_by_key(|(_, session)| session.end_ms);
        let columns = self.keys.decode(fired.iter().map(|(i, _)| keys[*i].1.as_ref()))?;
        let sessions: Vec<&Session> = fired.iter().map(|(_, session)| session).collect();
        self.give(columns, &sessions, ChangeKind::Insert, true, out)?;
        Ok(true)
    }

    /// Gives results of sessions; those that cannot be computed are rejected if `rejects` says so.
    fn give(&mut self, keys: Vec<ArrayRef>, sessions: &[&Session], kind: ChangeKind, rejects: bool, out: &mut dyn Output) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let states = self.states.decode(sessions.iter().map(|s| s.states.as_ref()))?;
        let mut accumulators = self.accumulators()?;
        let groups: Vec<usize> = (0..sessions.len()).collect();
        merge_states(&self.aggregates, &mut accumulators, &states, &groups, sessions.len())?;
        let calls = accumulators.iter_mut().map(GroupAccumulator::evaluate).collect::<Result<_, _>>().map_err(failed)?;
        let results = GroupResults { rows: sessions.len(), keys, calls };
        let starts: Vec<i64> = sessions.iter().map(|s| s.start_ms).collect();
        let ends: Vec<i64> = sessions.iter().map(|s| s.end_ms).collect();
        for from in (0..sessions.len()).step_by(MAX_BATCH_ROWS) {
            let to = sessions.len().min(from + MAX_BATCH_ROWS);
            let bounds = Bounds::Each(&starts[from..to], &ends[from..to]);
            let out: Option<&mut dyn Output> = if rejects { Some(&mut *out) } else { None };
            let finished = self.results.finish(&results.slice(from, to - from), bounds, out)?;
            self.pending.push(0, self.results.changes(finished, kind)?);
        }
        Ok(())
    }

    fn fire_to(&mut self, to_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        if to_ms <= self.watermark_ms {
            return Ok(Progress::Done);
        }
        self.watermark_ms = to_ms;
        self.firing_to_ms = Some(to_ms);
        self.work(out)
    }
}

impl Operator for SessionWindows {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        match self.event_time {
            Some(time) => self.process_event_time(time, batch, out)?,
            None => {
                let (rows, _) = self.aggregates.rows(&batch, out)?;
                // A clock set back must not open a session that has fired.
                let now_ms = self.clock.now_ms().max(self.watermark_ms.saturating_add(1));
                self.add(&rows, &vec![now_ms; rows.rows], out)?;
            }
        }
        Ok(self.pending.flush(out))
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut dyn Output) -> Result<Progress> {
        match self.event_time {
            Some(_) => self.fire_to(watermark.0, out),
            // Nobody reads the clock any more. Results go before the end of event time, behind which they would be late.
            None if watermark == Watermark::MAX => self.fire_to(watermark.0, out),
            None => Ok(Progress::Done),
        }
    }

    fn next_timer_ms(&self) -> Option<i64> {
        if self.event_time.is_some() {
            return None;
        }
        self.due.first().map(|due| due.at_ms)
    }

    fn on_timer(&mut self, now_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        match self.event_time {
            Some(_) => Ok(Progress::Done),
            None => self.fire_to(now_ms.saturating_sub(1), out),
        }
    }

    fn on_end(&mut self, out: &mut dyn Output) -> Result<Progress> {
        self.fire_to(i64::MAX, out)
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        self.work(out)
    }

    fn memory_bytes(&self) -> usize {
        // Keys are short: an entry with its share of the tree.
        self.due.len() * 96
    }

    fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.table(SESSIONS, self.table.freeze()?);
        // At the end of event time everything has fired; rows that come to a savepoint of it are a new stream, not late ones.
        if !matches!(self.watermark_ms, i64::MIN | i64::MAX) {
            snapshot.broadcast(WATERMARK, Value::from(self.watermark_ms));
        }
        Ok(())
    }
}
