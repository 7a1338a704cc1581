//! List and broadcast state: small values that the manifest itself holds.

use serde_json::Value;

use super::handle::StateHandle;

/// The values a subtask gets of a list state: all values of all old subtasks, dealt out in turn.
pub(super) fn share(handles: &[StateHandle], name: &str, subtask: usize, parallelism: usize) -> Vec<Value> {
    let all = handles.iter().filter_map(|h| h.lists.get(name)).flatten();
    all.skip(subtask).step_by(parallelism.max(1)).cloned().collect()
}

/// The value of a broadcast state: that of the first subtask.
pub(super) fn broadcast(handles: &[StateHandle], name: &str) -> Option<Value> {
    handles.iter().find_map(|h| h.broadcasts.get(name)).cloned()
}
