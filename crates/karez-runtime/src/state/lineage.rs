//! What a table's state consists of beyond memory: the files that hold it, and the frozen changes that no file holds yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use karez_core::{Error, KeyGroupRange, Result};

use super::StateFileStore;
use super::batches::by_pane;
use super::file::StateFileBuilder;
use super::handle::{PaneSet, StateFile, TableHandle, TableKind};
use super::merge::{KeyedRowsBuilder, OpenFiles, newest_entries};

/// A file is closed once it is this large: the rest goes on in another one.
const FILE_BYTES: usize = 32 << 20;
/// A tail of this many runs that are about as large as all that follow them is merged.
const MERGE_RUNS: usize = 4;

/// Panes that hold something, each with the number of the first delta of its present life: rows of older deltas have been dropped or replaced.
pub(super) type LivePanes = BTreeMap<i64, u64>;

/// Changes frozen at a barrier.
pub(super) trait Delta: Send + Sync {
    /// Writes them.
    fn write(&self, live: &LivePanes, out: &mut FileSet<'_>) -> Result<()>;

    /// It holds the whole state: no earlier file counts.
    fn replaces_all(&self) -> bool {
        false
    }
}

/// Shared by a table, which freezes, and the writers of its snapshots.
pub(super) struct Lineage {
    kind: TableKind,
    file_schema: SchemaRef,
    range: KeyGroupRange,
    /// Held for an instant.
    pending: Mutex<VecDeque<(u64, Arc<dyn Delta>)>>,
    /// Held while files are written: attempts of one table follow each other.
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    runs: Vec<Run>,
    /// The newest delta that a writer has begun with.
    through: u64,
    counter: u64,
}

/// Files written together.
pub(super) struct Run {
    /// The delta it holds; of a merged run the newest one.
    pub(super) delta: u64,
    /// Its files, by key group.
    pub(super) files: Vec<StateFile>,
}

/// A table at a barrier.
pub(super) struct FrozenTable {
    pub(super) lineage: Arc<Lineage>,
    /// The newest delta that belongs to it.
    pub(super) through: u64,
    pub(super) live: LivePanes,
    pub(super) expired_through_ms: i64,
}

/// Where files go.
pub(super) struct Target<'a> {
    pub(super) storage: &'a dyn StateFileStore,
    /// Checkpoint.
    pub(super) checkpoint: u64,
    /// The first part of every name, the table's name included.
    pub(super) prefix: String,
    /// One run for everything, which refers to no file of another checkpoint.
    pub(super) whole: bool,
}

impl Lineage {
    /// A table whose restored state is in `runs` (numbered 0).
    pub(super) fn new(kind: TableKind, file_schema: SchemaRef, range: KeyGroupRange, runs: Vec<Run>) -> Arc<Self> {
        Arc::new(Self { kind, file_schema, range, pending: Mutex::default(), files: Mutex::new(Files { runs, ..Files::default() }) })
    }

    /// Puts a delta in the queue. Deltas are numbered from 1, ascending.
    pub(super) fn push(&self, number: u64, delta: Arc<dyn Delta>) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back((number, delta));
    }

    fn next_pending(&self, through: u64) -> Option<(u64, Arc<dyn Delta>)> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.front().filter(|(number, _)| *number <= through).cloned()
    }

    fn written(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

impl FrozenTable {
    /// Writes what no file holds yet, and says what the table consists of at its barrier.
    pub(super) fn write(&self, target: &Target<'_>) -> Result<TableHandle> {
        let mut files = self.lineage.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.through > self.through {
            return Err(
                Error::external(format!("checkpoint {} was overtaken by a later one while its state was written", target.checkpoint)).retryable(true)
            );
        }
        files.through = self.through;
        while let Some((number, delta)) = self.lineage.next_pending(self.through) {
            let mut out = FileSet::new(&self.lineage, target, number, files.counter);
            let written = delta.write(&self.live, &mut out).and_then(|()| out.finish_file());
            files.counter = out.counter;
            written?;
            if delta.replaces_all() {
                files.runs.clear();
            }
            files.runs.push(Run { delta: number, files: out.files });
            self.lineage.written();
        }
        for run in &mut files.runs {
            for file in &mut run.files {
                file.expired_through_ms = file.expired_through_ms.max(self.expired_through_ms);
                let delta = run.delta;
                file.panes.0.retain(|pane| self.is_live(*pane, delta));
            }
            run.files.retain(|f| self.lineage.kind == TableKind::Keyed || !f.panes.is_empty());
        }
        files.runs.retain(|r| !r.files.is_empty());
        let from = if target.whole { 0 } else { merge_from(&files.runs) };
        if from < files.runs.len() {
            self.merge(&mut files, from, target)?;
        }
        Ok(TableHandle { kind: self.lineage.kind, files: files.runs.iter().flat_map(|r| &r.files).cloned().collect() })
    }

    fn is_live(&self, pane: i64, delta: u64) -> bool {
        self.live.get(&pane).is_some_and(|&since| since <= delta)
    }

    /// Writes the runs from `from` on as one.
    fn merge(&self, files: &mut Files, from: usize, target: &Target<'_>) -> Result<()> {
        let delta = files.runs.last().map_or(0, |r| r.delta);
        let merged = files.runs[from..].iter().flat_map(|r| r.files.iter().cloned());
        let mut open = OpenFiles::new(target.storage, merged);
        let mut out = FileSet::new(&self.lineage, target, delta, files.counter);
        let written = match self.lineage.kind {
            TableKind::Pane => merge_panes(&mut open, &mut out),
            TableKind::Keyed => merge_keyed(&mut open, from == 0, &mut out),
        };
        let written = written.and_then(|()| out.finish_file());
        files.counter = out.counter;
        written?;
        let run = Run { delta, files: out.files };
        files.runs.truncate(from);
        if !run.files.is_empty() {
            files.runs.push(run);
        }
        Ok(())
    }
}

/// The first of the runs that should be merged; their number if none should.
///
/// A run joins if all that follow it are together half as large: so each row is copied a number of times that grows with the logarithm of the
/// state, and there are never many runs.
fn merge_from(runs: &[Run]) -> usize {
    let size = |run: &Run| {
        // Dropped panes weigh nothing, so that a run of which little counts is soon rewritten.
        run.files.iter().map(|f| (f.bytes * f.panes.0.len() as u64).checked_div(f.written_panes).unwrap_or(f.bytes)).sum::<u64>()
    };
    let mut from = runs.len().saturating_sub(1);
    let mut behind = runs.last().map_or(0, size);
    while from > 0 && size(&runs[from - 1]) <= behind * 2 {
        from -= 1;
        behind += size(&runs[from]);
    }
    if runs.len() - from >= MERGE_RUNS { from } else { runs.len() }
}

fn merge_panes(open: &mut OpenFiles<'_>, out: &mut FileSet<'_>) -> Result<()> {
    for group in open.key_groups() {
        for (file, rows) in open.rows(group)? {
            let panes = &open.file(file).panes.0;
            let all = rows.column(0).as_primitive::<Int64Type>().values().iter().all(|p| panes.contains(p));
            if all {
                out.push_panes(group, rows)?;
                continue;
            }
            for (_, rows) in by_pane(&rows, |p| panes.contains(&p))? {
                out.push_panes(group, rows)?;
            }
        }
    }
    Ok(())
}

fn merge_keyed(open: &mut OpenFiles<'_>, is_whole: bool, out: &mut FileSet<'_>) -> Result<()> {
    let mut builder = KeyedRowsBuilder::default();
    for group in open.key_groups() {
        let rows = open.rows(group)?;
        newest_entries(
            &rows,
            |file| open.file(file).expired_through_ms,
            |key, value, expires| {
                // Behind older runs a deletion must stay, since it overrides what they say.
                if value.is_some() || !is_whole {
                    builder.push(key, value, expires);
                }
                if builder.is_full() { out.push(group, builder.take()?) } else { Ok(()) }
            },
        )?;
        out.push(group, builder.take()?)?;
    }
    Ok(())
}

/// Files of one run, cut at a size.
pub(super) struct FileSet<'a> {
    lineage: &'a Lineage,
    target: &'a Target<'a>,
    run: u64,
    counter: u64,
    builder: Option<StateFileBuilder>,
    panes: PaneSet,
    files: Vec<StateFile>,
}

impl<'a> FileSet<'a> {
    fn new(lineage: &'a Lineage, target: &'a Target<'a>, run: u64, counter: u64) -> Self {
        Self { lineage, target, run, counter, builder: None, panes: PaneSet::default(), files: Vec::new() }
    }

    /// Adds rows of a pane table.
    pub(super) fn push_panes(&mut self, key_group: u16, rows: RecordBatch) -> Result<()> {
        let mut last = None;
        for &pane in rows.column(0).as_primitive::<Int64Type>().values() {
            if last != Some(pane) {
                self.panes.0.insert(pane);
                last = Some(pane);
            }
        }
        self.push(key_group, rows)
    }

    /// Adds rows of one key group; groups ascend until [`Self::finish_file`].
    pub(super) fn push(&mut self, key_group: u16, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if key_group < self.lineage.range.start || key_group >= self.lineage.range.end {
            return Err(Error::internal(format!("key group {key_group} is not one of this subtask's ({:?})", self.lineage.range)));
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            None => self.builder.insert(StateFileBuilder::new(&self.lineage.file_schema)?),
        };
        builder.push(key_group, rows)?;
        if builder.bytes() >= FILE_BYTES { self.finish_file() } else { Ok(()) }
    }

    /// Closes the present file and writes it.
    pub(super) fn finish_file(&mut self) -> Result<()> {
        let panes = std::mem::take(&mut self.panes);
        let Some(built) = self.builder.take().map(StateFileBuilder::finish).transpose()?.flatten() else { return Ok(()) };
        let name = format!("{}-{}-{}", self.target.prefix, self.target.checkpoint, self.counter);
        // Counted before it is written: a name is not used again, whatever became of the attempt.
        self.counter += 1;
        let bytes = built.bytes.len() as u64;
        self.target.storage.put(&name, built.bytes)?;
        self.files.push(StateFile {
            name,
            run: self.run,
            first_key_group: built.first_key_group,
            last_key_group: built.last_key_group,
            rows: built.rows,
            bytes,
            checkpoint: self.target.checkpoint,
            written_panes: panes.0.len() as u64,
            panes,
            expired_through_ms: i64::MIN,
        });
        Ok(())
    }
}
