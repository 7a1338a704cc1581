//! What a manifest says of one operator subtask's state.

use std::collections::{BTreeMap, BTreeSet};

use karez_core::{Error, KeyGroupRange, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::ack::SubtaskState;

/// The state of one operator subtask at one checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateHandle {
    /// The key groups it is the state of.
    pub key_groups: KeyGroupRange,
    /// Its tables, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableHandle>,
    /// Its list states, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, Vec<Value>>,
    /// Its broadcast states, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub broadcasts: BTreeMap<String, Value>,
}

impl StateHandle {
    /// The names of the files it refers to.
    #[must_use]
    pub fn files(&self) -> BTreeSet<&str> {
        self.tables.values().flat_map(|t| &t.files).map(|f| f.name.as_str()).collect()
    }

    /// As a manifest holds it.
    pub fn to_subtask_state(&self) -> Result<SubtaskState> {
        let state = serde_json::to_value(self).map_err(|e| Error::internal("a state handle is no JSON").caused_by(e))?;
        Ok(SubtaskState { state, files: self.files().into_iter().map(str::to_owned).collect() })
    }

    /// Out of a manifest. `None` for a subtask that had no state.
    ///
    /// # Errors
    /// The manifest was written by a build with other handles.
    pub fn from_subtask_state(state: &SubtaskState) -> Result<Option<Self>> {
        if state.state.is_null() {
            return Ok(None);
        }
        let handle = Self::deserialize(&state.state);
        handle.map(Some).map_err(|e| Error::user("the manifest holds state that this build cannot read").caused_by(e))
    }
}

/// Which kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// Partial aggregates by pane.
    Pane,
    /// Values by key.
    Keyed,
}

/// The state of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableHandle {
    /// Its kind.
    pub kind: TableKind,
    /// Its files; what a later one says of a key overrides what earlier ones say.
    pub files: Vec<StateFile>,
}

/// A state file, and how much of it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateFile {
    /// Its name in the storage.
    pub name: String,
    /// Files of one run were written together and count as one when files are merged.
    pub run: u64,
    /// The first key group of which rows count.
    pub first_key_group: u16,
    /// The last one.
    pub last_key_group: u16,
    /// Rows in the file.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The checkpoint that wrote it.
    pub checkpoint: u64,
    /// Pane tables: the panes of which rows count.
    #[serde(default, skip_serializing_if = "PaneSet::is_empty")]
    pub panes: PaneSet,
    /// Pane tables: how many panes it was written with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub written_panes: u64,
    /// Keyed tables: what expires at this instant (milliseconds) or before does not count.
    #[serde(default = "never_expired", skip_serializing_if = "is_never_expired")]
    pub expired_through_ms: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn never_expired() -> i64 {
    i64::MIN
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_never_expired(ms: &i64) -> bool {
    *ms == i64::MIN
}

/// Panes, written as `[first, step, count]` for each stretch of equal steps: windows come at regular intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64, u64)>", into = "Vec<(i64, i64, u64)>")]
pub struct PaneSet(pub BTreeSet<i64>);

impl PaneSet {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<PaneSet> for Vec<(i64, i64, u64)> {
    fn from(panes: PaneSet) -> Self {
        let mut runs: Self = Self::new();
        for pane in panes.0 {
            if let Some((first, step, count)) = runs.last_mut() {
                let last = first.wrapping_add(step.wrapping_mul(*count as i64 - 1));
                let gap = pane.wrapping_sub(last);
                if *count == 1 || gap == *step {
                    (*step, *count) = (gap, *count + 1);
                    continue;
                }
            }
            runs.push((pane, 0, 1));
        }
        runs
    }
}

impl From<Vec<(i64, i64, u64)>> for PaneSet {
    fn from(runs: Vec<(i64, i64, u64)>) -> Self {
        Self(runs.into_iter().flat_map(|(first, step, count)| (0..count).map(move |i| first.wrapping_add(step.wrapping_mul(i as i64)))).collect())
    }
}
