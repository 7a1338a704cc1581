//! Schemas by their ids: never asked for twice at the same time, remembered while there is room, their absence for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use karez_formats::message::{RegisteredSchema, SchemaId};

/// What is known of an id.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Nothing yet, or no more.
    Nothing,
    /// Its schema, which never changes.
    Schema(RegisteredSchema),
    /// That there is none, and until when that is believed.
    None(String, Instant),
}

/// Who holds an id's entry locked is asking for it; others wait for what comes of that.
pub(super) type Entry = Arc<tokio::sync::Mutex<Known>>;

/// The entries of a registry.
#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    believed_for: Duration,
    entries: Mutex<(HashMap<SchemaId, Entry>, VecDeque<SchemaId>)>,
}

impl Cache {
    pub(super) fn new(limit: usize, believed_for: Duration) -> Self {
        Self { limit: limit.max(1), believed_for, entries: Mutex::default() }
    }

    /// The entry of an id.
    pub(super) fn entry(&self, id: SchemaId) -> Entry {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (by_id, order) = &mut *entries;
        if let Some(entry) = by_id.get(&id) {
            return Arc::clone(entry);
        }
        while by_id.len() >= self.limit {
            let Some(oldest) = order.pop_front() else { break };
            by_id.remove(&oldest);
        }
        let entry = Arc::new(tokio::sync::Mutex::new(Known::Nothing));
        by_id.insert(id, Arc::clone(&entry));
        order.push_back(id);
        entry
    }

    /// That there is no schema, from now on.
    pub(super) fn none(&self, reason: String) -> Known {
        Known::None(reason, Instant::now() + self.believed_for)
    }
}
