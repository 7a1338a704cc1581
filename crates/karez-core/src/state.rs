//! The state API. Keyed state comes as pane tables (append and merge by time) and keyed tables (point look-up with time-to-live);
//! beside it list state (redistributed when parallelism changes) and broadcast state (the same everywhere).
//!
//! A table belongs to its operator; the backend behind it (memory, disk) is the job's choice. At a barrier the operator freezes its
//! tables into a [`Snapshot`]: that takes time in proportion to nothing, or to what changed since the last barrier, never to the whole
//! state; what was frozen is written in the background while rows go on.
//!
//! State is stored by key group: each row of a table carries the [`KeyGroup`] of its key.

use std::any::Any;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde_json::Value;

use crate::{KeyGroup, KeyGroupRange, Result};

/// Makes and restores the state of one operator subtask. Each name is asked for once.
pub trait StateStore {
    /// The key groups that belong to this subtask.
    fn key_groups(&self) -> KeyGroupRange;

    /// Partial aggregates by pane. `schema`: key columns (the first `key_columns`) and state columns.
    fn pane_table(&mut self, name: &str, schema: SchemaRef, key_columns: usize) -> Result<Box<dyn PaneTable>>;

    /// Values by key.
    fn keyed_table(&mut self, name: &str) -> Result<Box<dyn KeyedTable>>;

    /// The values this subtask gets of a list state. Snapshot with [`Snapshot::list`].
    fn list(&mut self, name: &str) -> Result<Vec<Value>>;

    /// The value of a broadcast state, if there is one. Snapshot with [`Snapshot::broadcast`].
    fn broadcast(&mut self, name: &str) -> Result<Option<Value>>;
}

/// Partial aggregates as batches, grouped by pane: written by appending, read once when the pane fires.
///
/// A pane is an instant of event time (a window's or slice's end or start, milliseconds), chosen by the operator.
pub trait PaneTable: Send {
    /// Adds partials to a pane. Rows of one key may be added more than once; the reader merges.
    fn append(&mut self, pane: i64, partials: RecordBatch) -> Result<()>;

    /// The panes that hold something, ascending.
    fn panes(&self) -> Vec<i64>;

    /// The partials of a pane, in the order they were appended; the pane stays.
    fn read(&self, pane: i64) -> Result<Vec<RecordBatch>>;

    /// Forgets a pane: its memory or disk space is freed, and no later checkpoint holds it.
    fn drop_pane(&mut self, pane: i64) -> Result<()>;

    /// Replaces a pane's partials by fewer, merged ones.
    fn replace(&mut self, pane: i64, partials: Vec<RecordBatch>) -> Result<()>;

    /// The state at this instant, to be written in the background: only what no completed checkpoint holds yet is written.
    fn freeze(&mut self) -> Result<Frozen>;

    /// Bytes held in memory.
    fn memory_bytes(&self) -> usize;
}

/// Values by key, with point look-up and time-to-live.
pub trait KeyedTable: Send {
    /// The value of a key. `now_ms` decides what has expired; an expired value is not given.
    fn get(&mut self, key_group: KeyGroup, key: &[u8], now_ms: i64) -> Result<Option<Bytes>>;

    /// Sets the value of a key. `expires_ms`: from then on it is not given and its memory is freed by [`Self::expire`]; `i64::MAX` for never.
    fn put(&mut self, key_group: KeyGroup, key: &[u8], value: Bytes, expires_ms: i64) -> Result<()>;

    /// Removes a key.
    fn delete(&mut self, key_group: KeyGroup, key: &[u8]) -> Result<()>;

    /// Frees what has expired at `now_ms`, at most about `limit` entries a call; answers how many were freed.
    fn expire(&mut self, now_ms: i64, limit: usize) -> Result<usize>;

    /// Visits all live entries in no particular order, from after `cursor` (the key given last; `None`: from the start), at most `limit` of them.
    /// Entries come in ascending (key group, key) order so that a cursor holds across changes.
    fn scan(&self, cursor: Option<(KeyGroup, &[u8])>, limit: usize) -> Result<Vec<(KeyGroup, Bytes, Bytes)>>;

    /// The number of entries, expired ones not yet freed included.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state at this instant, to be written in the background.
    fn freeze(&mut self) -> Result<Frozen>;

    /// Bytes held in memory.
    fn memory_bytes(&self) -> usize;
}

/// What a backend's `freeze` gives to the backend's own writer; nobody else looks inside.
pub struct Frozen(pub Box<dyn Any + Send>);

/// The state of one operator subtask at one barrier.
#[derive(Default)]
pub struct Snapshot {
    /// Frozen tables by name.
    pub tables: Vec<(String, Frozen)>,
    /// List states by name.
    pub lists: Vec<(String, Vec<Value>)>,
    /// Broadcast states by name.
    pub broadcasts: Vec<(String, Value)>,
}

impl Snapshot {
    /// Adds a frozen table.
    pub fn table(&mut self, name: impl Into<String>, frozen: Frozen) {
        self.tables.push((name.into(), frozen));
    }

    /// Adds a list state: its values are spread over the subtasks of the next start.
    pub fn list(&mut self, name: impl Into<String>, values: Vec<Value>) {
        self.lists.push((name.into(), values));
    }

    /// Adds a broadcast state: subtask 0's value goes to every subtask of the next start.
    pub fn broadcast(&mut self, name: impl Into<String>, value: Value) {
        self.broadcasts.push((name.into(), value));
    }
}
