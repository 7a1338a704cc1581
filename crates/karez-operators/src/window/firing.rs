//! Firing: what [`TimeWindows`] does when event time (or the clock) has advanced.
//!
//! In this order, resumably: results of fired windows are updated by the rows that came late but in their allowed lateness;
//! windows that have ended are merged of their slices, finished and emitted, in the order of their ends; slices that no
//! window needs any more are dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::{Output, Progress, Result};

use super::panes::TimeWindows;
use super::revision::Revision;
use crate::groups::{GroupResults, Groups};
use crate::results::Bounds;

/// How long a call works at most before it lets the task look after cancel and barriers.
const STEP: Duration = Duration::from_millis(10);
/// Rows merged between two looks at the clock.
pub(crate) const MERGE_ROWS: usize = 32_768;

/// An advance of time that is not through.
pub(crate) struct Advance {
    to_ms: i64,
    /// Partials of late rows by slice.
    late: BTreeMap<i64, Vec<RecordBatch>>,
    /// Fired windows that late rows change.
    revise: VecDeque<i64>,
    /// The next window to fire, and behind the last.
    next: i64,
    end: i64,
    phase: Phase,
}

enum Phase {
    /// Choosing the next window.
    Next,
    /// Merging the partials of a window.
    Merging { window: i64, partials: VecDeque<RecordBatch>, groups: Groups },
    /// Emitting the results of a window.
    Emitting { window: i64, results: GroupResults, offset: usize },
    /// Merging the partials of a window that has fired before.
    Revising { window: i64, partials: VecDeque<RecordBatch>, revision: Box<Revision> },
    /// Emitting what late rows changed.
    EmittingRevision { window: i64, revision: Box<Revision>, offset: usize },
}

/// Small results of many windows, put together to batches.
#[derive(Default)]
pub(crate) struct Emission {
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl Emission {
    /// Adds results; answers whether a batch was emitted.
    fn push(&mut self, batch: RecordBatch, out: &mut dyn Output) -> Result<bool> {
        if batch.num_rows() == 0 {
            return Ok(false);
        }
        // The rows that wait and the new ones never make a batch of more than the limit.
        let emitted = self.rows + batch.num_rows() > MAX_BATCH_ROWS && self.flush(out)?;
        self.rows += batch.num_rows();
        self.batches.push(batch);
        Ok(emitted)
    }

    /// Emits what waits; answers whether there was anything.
    fn flush(&mut self, out: &mut dyn Output) -> Result<bool> {
        self.rows = 0;
        let batch = match self.batches.len() {
            0 => return Ok(false),
            1 => self.batches.swap_remove(0),
            _ => concat_batches(self.batches[0].schema_ref(), &self.batches)?,
        };
        self.batches.clear();
        out.emit(0, batch);
        Ok(true)
    }
}

impl TimeWindows {
    /// Fires what ends at or before `to_ms` plus one.
    pub(crate) fn advance_to(&mut self, to_ms: i64, out: &mut dyn Output) -> Result<Progress> {
        if to_ms <= self.watermark_ms {
            return Ok(Progress::Done);
        }
        let late = self.take_late()?;
        let open = self.first_open(self.watermark_ms);
        let revise = self.windows_to_revise(late.keys().copied(), open);
        self.advance = Some(Advance { to_ms, late, revise, next: open, end: self.first_open(to_ms), phase: Phase::Next });
        self.work(out)
    }

    fn take_late(&mut self) -> Result<BTreeMap<i64, Vec<RecordBatch>>> {
        let mut late: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
        if let Some(frozen) = &self.late_frozen {
            for &slice in frozen.rows.keys() {
                late.insert(slice, frozen.read(&self.slices, slice)?);
            }
        }
        for (slice, mut groups) in std::mem::take(&mut self.late_live) {
            late.entry(slice).or_default().push(groups.partial(&self.aggregates)?);
        }
        Ok(late)
    }

    fn windows_to_revise(&self, late: impl Iterator<Item = i64>, open: i64) -> VecDeque<i64> {
        let retained = self.first_retained(self.watermark_ms);
        let windows = late.flat_map(|slice| {
            let (first, last) = (self.slices.first_window(slice), slice.div_euclid(self.slices.step()));
            first.max(retained)..last.saturating_add(1).min(open)
        });
        windows.collect::<BTreeSet<i64>>().into_iter().collect()
    }

    /// Goes on with the advance at hand.
    pub(crate) fn work(&mut self, out: &mut dyn Output) -> Result<Progress> {
        let deadline = Instant::now() + STEP;
        let Some(mut advance) = self.advance.take() else {
            return Ok(Progress::Done);
        };
        loop {
            let phase = std::mem::replace(&mut advance.phase, Phase::Next);
            let (phase, emitted) = match phase {
                Phase::Next => match self.choose(&mut advance)? {
                    Some(phase) => (phase, false),
                    None => {
                        self.emission.flush(out)?;
                        self.finish_advance(&advance)?;
                        return Ok(Progress::Done);
                    }
                },
                Phase::Merging { window, partials, groups } => (self.merge(window, partials, groups)?, false),
                Phase::Emitting { window, results, offset } => self.emit(window, results, offset, out)?,
                Phase::Revising { window, partials, revision } => (self.revise(window, partials, revision)?, false),
                Phase::EmittingRevision { window, revision, offset } => self.emit_revision(window, revision, offset, out)?,
            };
            advance.phase = phase;
            if (emitted && out.is_full()) || Instant::now() >= deadline {
                self.advance = Some(advance);
                return Ok(Progress::More);
            }
        }
    }

    /// Begins with the next window; `None` when all are through.
    fn choose(&mut self, advance: &mut Advance) -> Result<Option<Phase>> {
        if let Some(window) = advance.revise.pop_front() {
            return self.begin_revision(window, &advance.late).map(Some);
        }
        for (slice, partials) in std::mem::take(&mut advance.late) {
            for partial in partials {
                self.frozen.append(&self.slices, slice, partial)?;
            }
            if let Some(late_frozen) = &mut self.late_frozen {
                late_frozen.drop_slice(&self.slices, slice)?;
            }
        }
        if self.lateness_ms == 0 && advance.next > i64::MIN {
            self.frozen.drop_before(&self.slices, advance.next.saturating_mul(self.slices.step()))?;
        }
        let Some(window) = self.next_window(advance.next).filter(|&window| window < advance.end) else {
            return Ok(None);
        };
        advance.next = window + 1;
        self.begin_firing(window).map(Some)
    }

    fn begin_firing(&mut self, window: i64) -> Result<Phase> {
        let (first, end) = self.slices.slices(window);
        // A tumbling window whose result is final needs no partials of its live table: nobody else reads them.
        let groups = if self.slices.is_tumbling() && self.lateness_ms == 0 {
            self.live.remove(&first)
        } else {
            self.freeze_live(first..end)?;
            None
        };
        let groups = match groups.or_else(|| self.spare.take()) {
            Some(groups) => groups,
            None => Groups::new(&self.aggregates)?,
        };
        Ok(Phase::Merging { window, partials: self.partials(first, end)?, groups })
    }

    /// The frozen partials of slices, in pieces.
    fn partials(&self, first: i64, end: i64) -> Result<VecDeque<RecordBatch>> {
        let mut pieces = VecDeque::new();
        for (&slice, _) in self.frozen.rows.range(first..end) {
            for partial in self.frozen.read(&self.slices, slice)? {
                push_pieces(&mut pieces, &partial);
            }
        }
        Ok(pieces)
    }

    fn merge(&mut self, window: i64, mut partials: VecDeque<RecordBatch>, mut groups: Groups) -> Result<Phase> {
        if let Some(partial) = partials.pop_front() {
            groups.merge(&self.aggregates, &partial)?;
            return Ok(Phase::Merging { window, partials, groups });
        }
        let results = groups.results()?;
        self.spare = Some(groups);
        Ok(Phase::Emitting { window, results, offset: 0 })
    }

    fn emit(&mut self, window: i64, results: GroupResults, offset: usize, out: &mut dyn Output) -> Result<(Phase, bool)> {
        let rows = (results.rows - offset).min(MAX_BATCH_ROWS);
        if rows == 0 {
            return Ok((Phase::Next, false));
        }
        let (start, end) = self.slices.window(window);
        let finished = self.results.finish(&results.slice(offset, rows), Bounds::One(start, end), Some(out))?;
        let emitted = self.emission.push(self.results.inserts(finished)?, out)?;
        let offset = offset + rows;
        let phase = if offset < results.rows { Phase::Emitting { window, results, offset } } else { Phase::Next };
        Ok((phase, emitted))
    }

    fn begin_revision(&mut self, window: i64, late: &BTreeMap<i64, Vec<RecordBatch>>) -> Result<Phase> {
        let (first, end) = self.slices.slices(window);
        let mut revision = Revision::new(&self.aggregates)?;
        for partial in late.range(first..end).flat_map(|(_, partials)| partials) {
            revision.add_changes(&self.aggregates, partial.clone())?;
        }
        Ok(Phase::Revising { window, partials: self.partials(first, end)?, revision: Box::new(revision) })
    }

    fn revise(&mut self, window: i64, mut partials: VecDeque<RecordBatch>, mut revision: Box<Revision>) -> Result<Phase> {
        if let Some(partial) = partials.pop_front() {
            revision.add_former(&self.aggregates, &partial)?;
            return Ok(Phase::Revising { window, partials, revision });
        }
        revision.evaluate(&self.aggregates)?;
        Ok(Phase::EmittingRevision { window, revision, offset: 0 })
    }

    fn emit_revision(&mut self, window: i64, revision: Box<Revision>, offset: usize, out: &mut dyn Output) -> Result<(Phase, bool)> {
        // Each changed key gives two rows.
        let rows = (revision.changed() - offset).min(MAX_BATCH_ROWS / 2);
        if rows == 0 {
            return Ok((Phase::Next, false));
        }
        let (start, end) = self.slices.window(window);
        let updates = revision.updates(&self.results, offset, rows, Bounds::One(start, end), out)?;
        let emitted = self.emission.push(updates, out)?;
        Ok((Phase::EmittingRevision { window, revision, offset: offset + rows }, emitted))
    }

    fn finish_advance(&mut self, advance: &Advance) -> Result<()> {
        let retained = self.first_retained(advance.to_ms);
        if retained > i64::MIN {
            self.frozen.drop_before(&self.slices, retained.saturating_mul(self.slices.step()))?;
        }
        self.set_watermark(advance.to_ms);
        Ok(())
    }
}

/// Cuts a batch of partials into pieces that are merged at a time.
pub(crate) fn push_pieces(pieces: &mut VecDeque<RecordBatch>, partial: &RecordBatch) {
    let mut offset = 0;
    while offset < partial.num_rows() {
        let rows = MERGE_ROWS.min(partial.num_rows() - offset);
        pieces.push_back(partial.slice(offset, rows));
        offset += rows;
    }
}
