//! Restoring an operator subtask's state, with any parallelism, and handing it out by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::state::{KeyedTable, PaneTable, StateStore};
use karez_core::{Error, KeyGroup, KeyGroupRange, Result};
use serde_json::Value;

use super::batches::{by_pane, check_schema, coalesce, from_file_columns, pane_file_schema};
use super::disk::{DiskBatches, DiskKeyedTable};
use super::file::StateFileReader;
use super::handle::{StateFile, StateHandle, TableKind};
use super::lineage::{Lineage, Run};
use super::memory::{MemoryBatches, MemoryKeyedTable};
use super::merge::{EachEntry, OpenFiles, keyed_schema, newest_entries};
use super::pane_file::PaneKey;
use super::panes::{BatchStore, Panes};
use super::{Backend, MemoryAccount, StateFileStore, list};

/// What a checkpoint holds of an operator.
#[derive(Clone, Default)]
pub struct RestoredState {
    handles: Vec<StateHandle>,
    storage: Option<Arc<dyn StateFileStore>>,
}

impl RestoredState {
    /// Nothing: a first start.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The handles of all subtasks that the operator had, in their order, and where their files are. Later checkpoints refer to these files.
    #[must_use]
    pub fn new(handles: Vec<StateHandle>, storage: Arc<dyn StateFileStore>) -> Self {
        Self { handles, storage: Some(storage) }
    }
}

/// Whose state.
#[derive(Debug)]
pub struct StoreContext {
    /// The subtask, from 0.
    pub subtask: usize,
    /// How many there are.
    pub parallelism: usize,
    /// Its key groups.
    pub key_groups: KeyGroupRange,
    /// Where its memory is counted.
    pub account: MemoryAccount,
}

/// The state of one operator subtask.
pub struct OperatorState {
    backend: Backend,
    context: StoreContext,
    restored: RestoredState,
    claimed: BTreeSet<(&'static str, String)>,
}

impl OperatorState {
    pub(super) fn new(backend: Backend, context: StoreContext, restored: RestoredState) -> Result<Self> {
        if let Some(old) = restored.handles.iter().map(|h| h.key_groups.of).find(|&of| of != context.key_groups.of) {
            return Err(Error::user(format!(
                "the state was cut into {old} key groups, and the job asks for {}: set maxParallelism back to {old}",
                context.key_groups.of
            )));
        }
        Ok(Self { backend, context, restored, claimed: BTreeSet::new() })
    }

    /// State that the checkpoint holds and the operator has not asked for: it would be lost.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<String> {
        let handles = self.restored.handles.iter();
        let named = handles.flat_map(|h| {
            let tables = h.tables.keys().map(|n| ("table", n.clone()));
            tables.chain(h.lists.keys().map(|n| ("list", n.clone()))).chain(h.broadcasts.keys().map(|n| ("broadcast", n.clone())))
        });
        let unclaimed: BTreeSet<_> = named.filter(|n| !self.claimed.contains(n)).collect();
        unclaimed.into_iter().map(|(kind, name)| format!("{kind} `{name}`")).collect()
    }

    fn claim(&mut self, kind: &'static str, name: &str) -> Result<()> {
        if self.claimed.insert((kind, name.to_owned())) {
            return Ok(());
        }
        Err(Error::internal(format!("the operator asked twice for its {kind} `{name}`")))
    }

    /// The files of a table, cut to this subtask's key groups. Those of one old subtask follow each other; key groups of different ones differ.
    fn runs(&self, name: &str, kind: TableKind) -> Result<Vec<Run>> {
        let mine = self.context.key_groups;
        let mut runs: Vec<Run> = Vec::new();
        for handle in &self.restored.handles {
            let Some(table) = handle.tables.get(name) else { continue };
            if table.kind != kind {
                return Err(Error::user(format!(
                    "table `{name}` is a {:?} table in the checkpoint and a {kind:?} table in the job: give the node another name, or start without its state",
                    table.kind
                )));
            }
            let mut last_run = None;
            for file in &table.files {
                let first = file.first_key_group.max(handle.key_groups.start).max(mine.start);
                let end = file.last_key_group.saturating_add(1).min(handle.key_groups.end).min(mine.end);
                if first >= end {
                    continue;
                }
                let cut = StateFile { first_key_group: first, last_key_group: end - 1, run: 0, ..file.clone() };
                match runs.last_mut().filter(|_| last_run == Some(file.run)) {
                    Some(run) => run.files.push(cut),
                    None => runs.push(Run { delta: 0, files: vec![cut] }),
                }
                last_run = Some(file.run);
            }
        }
        for (number, run) in runs.iter_mut().enumerate() {
            // Numbered anew, so that neighbours from different handles stay apart in the handles to come.
            let number = number as u64;
            run.files.iter_mut().for_each(|f| f.run = RESTORED_RUN | number);
        }
        Ok(runs)
    }

    fn storage(&self, runs: &[Run]) -> Result<Option<Arc<dyn StateFileStore>>> {
        match &self.restored.storage {
            Some(storage) => Ok(Some(Arc::clone(storage))),
            None if runs.is_empty() => Ok(None),
            None => Err(Error::internal("state handles without a storage")),
        }
    }

    fn restore_panes<S: BatchStore + 'static>(&self, name: &str, store: S, schema: SchemaRef, key_columns: usize) -> Result<Box<dyn PaneTable>> {
        let file_schema = pane_file_schema(&schema);
        let runs = self.runs(name, TableKind::Pane)?;
        let storage = self.storage(&runs)?;
        let files: Vec<StateFile> = runs.iter().flat_map(|r| r.files.iter().cloned()).collect();
        let range = self.context.key_groups;
        let lineage = Lineage::new(TableKind::Pane, Arc::clone(&file_schema), range, runs);
        let key = PaneKey { columns: key_columns, range };
        let mut table = Panes::new(store, Arc::clone(&schema), key, lineage, self.context.account.sibling());
        let Some(storage) = storage else { return Ok(Box::new(table)) };
        for file in files {
            let mut reader = StateFileReader::open(&file.name, &storage.get(&file.name)?)?;
            check_schema(name, &file_schema, &reader.row_schema(), &file.name)?;
            let mut panes: BTreeMap<i64, Vec<RecordBatch>> = BTreeMap::new();
            for rows in reader.rows(file.first_key_group, file.last_key_group)? {
                for (pane, rows) in by_pane(&rows, |p| file.panes.0.contains(&p))? {
                    panes.entry(pane).or_default().push(from_file_columns(&rows, &schema)?);
                }
            }
            for (pane, rows) in panes {
                // Copied together: a slice would keep the whole block in memory.
                for rows in coalesce(&schema, &rows, MAX_BATCH_ROWS)? {
                    table.load(pane, rows)?;
                }
            }
        }
        Ok(Box::new(table))
    }
}

/// Set in the numbers of restored runs; deltas of a table count from 1.
const RESTORED_RUN: u64 = 1 << 63;

/// Visits the live entries of a keyed table in ascending order.
fn read_entries(storage: Option<&Arc<dyn StateFileStore>>, name: &str, files: Vec<StateFile>, each: &mut EachEntry<'_>) -> Result<()> {
    let Some(storage) = storage else { return Ok(()) };
    let mut open = OpenFiles::new(storage.as_ref(), files);
    for group in open.key_groups() {
        let rows = open.rows(group)?;
        for (file, rows) in &rows {
            check_schema(name, &keyed_schema(), rows.schema_ref(), &open.file(*file).name)?;
        }
        newest_entries(
            &rows,
            |file| open.file(file).expired_through_ms,
            |key, value, expires_ms| match value {
                Some(value) => each(KeyGroup(group), key, value, expires_ms),
                None => Ok(()),
            },
        )?;
    }
    Ok(())
}

impl StateStore for OperatorState {
    fn key_groups(&self) -> KeyGroupRange {
        self.context.key_groups
    }

    fn pane_table(&mut self, name: &str, schema: SchemaRef, key_columns: usize) -> Result<Box<dyn PaneTable>> {
        self.claim("table", name)?;
        match &self.backend {
            Backend::Memory => self.restore_panes(name, MemoryBatches, schema, key_columns),
            Backend::Disk(disk) => self.restore_panes(name, DiskBatches::new(disk)?, schema, key_columns),
        }
    }

    fn keyed_table(&mut self, name: &str) -> Result<Box<dyn KeyedTable>> {
        self.claim("table", name)?;
        let runs = self.runs(name, TableKind::Keyed)?;
        let storage = self.storage(&runs)?;
        let mut files: Vec<StateFile> = runs.iter().flat_map(|r| r.files.iter().cloned()).collect();
        let range = self.context.key_groups;
        let lineage = Lineage::new(TableKind::Keyed, keyed_schema(), range, runs);
        let account = self.context.account.sibling();
        let mut read = |each: &mut EachEntry<'_>| read_entries(storage.as_ref(), name, std::mem::take(&mut files), each);
        match &self.backend {
            Backend::Memory => {
                let mut table = MemoryKeyedTable::new(range, lineage, account);
                read(&mut |group, key, value, expires_ms| table.load(group, key, value, expires_ms))?;
                Ok(Box::new(table))
            }
            Backend::Disk(disk) => Ok(Box::new(DiskKeyedTable::new(disk, range, lineage, account, &mut read)?)),
        }
    }

    fn list(&mut self, name: &str) -> Result<Vec<Value>> {
        self.claim("list", name)?;
        Ok(list::share(&self.restored.handles, name, self.context.subtask, self.context.parallelism))
    }

    fn broadcast(&mut self, name: &str) -> Result<Option<Value>> {
        self.claim("broadcast", name)?;
        Ok(list::broadcast(&self.restored.handles, name))
    }
}
