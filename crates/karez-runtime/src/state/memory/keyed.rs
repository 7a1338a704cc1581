//! A keyed table in memory.
//!
//! A barrier takes references to the shards that have changed: tens of microseconds for millions of keys. Only entries changed since the barrier
//! before are written. Expiry is found by an index of (instant, key hash); an entry whose time-to-live was prolonged is registered anew when its old
//! turn comes, so that refreshing a key costs nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use karez_core::state::{Frozen, KeyedTable};
use karez_core::{Error, KeyGroup, KeyGroupRange, Result};

use super::super::budget::MemoryAccount;
use super::super::lineage::{Delta, FileSet, FrozenTable, Lineage, LivePanes};
use super::super::merge::{KeyedRowsBuilder, is_expired};
use super::shard::{Change, Entry, Group, NewValue, ShardTable};

/// Bytes of a registration in the index of expiries.
const REGISTRATION_BYTES: usize = 24;

/// Values by key, in memory.
pub(crate) struct MemoryKeyedTable {
    range: KeyGroupRange,
    groups: Vec<Group>,
    hasher: FixedState,
    /// What expires when: key group and hash. Each entry with a time-to-live is registered at its expiry or before.
    expiries: BTreeMap<i64, Vec<(u16, u64)>>,
    expired_through_ms: i64,
    /// The number that the changes since the last barrier will get. Restored entries have 0.
    open: u64,
    lineage: Arc<Lineage>,
    memory: usize,
    account: MemoryAccount,
    scratch: Vec<u8>,
}

impl MemoryKeyedTable {
    /// An empty table.
    pub(crate) fn new(range: KeyGroupRange, lineage: Arc<Lineage>, account: MemoryAccount) -> Self {
        Self {
            range,
            groups: range.range().map(|_| Group::default()).collect(),
            hasher: FixedState::with_seed(0x6b61_7265_7a00_0001),
            expiries: BTreeMap::new(),
            expired_through_ms: i64::MIN,
            open: 1,
            lineage,
            memory: 0,
            account,
            scratch: Vec::new(),
        }
    }

    /// Adds a restored entry: a file holds it already.
    pub(crate) fn load(&mut self, key_group: KeyGroup, key: &[u8], value: &[u8], expires_ms: i64) -> Result<()> {
        self.set(key_group, key, value, expires_ms, 0)
    }

    fn index(&self, key_group: KeyGroup) -> Result<usize> {
        if self.range.contains(key_group) {
            return Ok(usize::from(key_group.0 - self.range.start));
        }
        Err(Error::internal(format!("key group {} is not one of this subtask's ({} to {})", key_group.0, self.range.start, self.range.end)))
    }

    fn set(&mut self, key_group: KeyGroup, key: &[u8], value: &[u8], expires_ms: i64, delta: u32) -> Result<()> {
        let at = self.index(key_group)?;
        let hash = self.hasher.hash_one(key);
        let hasher = &self.hasher;
        let new = NewValue { value, expires_ms, delta };
        let Change { added, removed, expired_before } = self.groups[at].put(hash, key, &new, |k| hasher.hash_one(k), &mut self.scratch);
        self.memory = self.memory + added - removed;
        if expires_ms != i64::MAX && expired_before.is_none_or(|before| before > expires_ms) {
            self.expiries.entry(expires_ms).or_default().push((key_group.0, hash));
            self.memory += REGISTRATION_BYTES;
        }
        self.account.follow(self.memory);
        Ok(())
    }
}

impl KeyedTable for MemoryKeyedTable {
    fn get(&mut self, key_group: KeyGroup, key: &[u8], now_ms: i64) -> Result<Option<Bytes>> {
        let entry = self.groups[self.index(key_group)?].get(self.hasher.hash_one(key), key);
        Ok(entry.filter(|e| !is_expired(e.expires_ms, now_ms)).map(|e| Bytes::copy_from_slice(e.value())))
    }

    fn put(&mut self, key_group: KeyGroup, key: &[u8], value: Bytes, expires_ms: i64) -> Result<()> {
        self.set(key_group, key, &value, expires_ms, self.open as u32)
    }

    fn delete(&mut self, key_group: KeyGroup, key: &[u8]) -> Result<()> {
        let at = self.index(key_group)?;
        let hasher = &self.hasher;
        self.memory -= self.groups[at].delete(hasher.hash_one(key), key, self.open as u32, |k| hasher.hash_one(k)).unwrap_or(0);
        self.account.follow(self.memory);
        Ok(())
    }

    fn expire(&mut self, now_ms: i64, limit: usize) -> Result<usize> {
        let mut freed = 0;
        let mut visited = 0;
        // Registrations that have come to nothing (refreshed, deleted) are work too, but cheaper.
        while freed < limit && visited < limit.saturating_mul(4) {
            let Some(mut turn) = self.expiries.first_entry().filter(|t| *t.key() <= now_ms) else { break };
            let Some((group, hash)) = turn.get_mut().pop() else {
                turn.remove();
                continue;
            };
            visited += 1;
            self.memory -= REGISTRATION_BYTES;
            let at = usize::from(group - self.range.start);
            let later = self.groups[at].later_expiries(hash, now_ms);
            let hasher = &self.hasher;
            if let Some(bytes) = self.groups[at].expire(hash, now_ms, self.open as u32, |k| hasher.hash_one(k)) {
                self.memory -= bytes;
                freed += 1;
            }
            for expires in later {
                self.expiries.entry(expires).or_default().push((group, hash));
                self.memory += REGISTRATION_BYTES;
            }
        }
        // Only what has been freed may be forgotten by files: an entry still here could yet be read at an earlier instant.
        let next = self.expiries.first_key_value().map_or(i64::MAX, |(ms, _)| *ms);
        self.expired_through_ms = self.expired_through_ms.max(now_ms.min(next.saturating_sub(1)));
        self.account.follow(self.memory);
        Ok(freed)
    }

    fn scan(&self, cursor: Option<(KeyGroup, &[u8])>, limit: usize) -> Result<Vec<(KeyGroup, Bytes, Bytes)>> {
        // A group has no order: each call sorts what is left of one, n log n for the n entries of a group.
        let start = cursor.map_or(self.range.start, |(g, _)| g.0);
        let mut found = Vec::new();
        for group in start..self.range.end {
            let after = cursor.filter(|(g, _)| g.0 == group).map(|(_, key)| key);
            let entries = self.groups[usize::from(group - self.range.start)].iter().filter(|e| after.is_none_or(|key| e.key() > key));
            let mut entries: Vec<&Entry> = entries.collect();
            let wanted = limit - found.len();
            if entries.len() > wanted && wanted > 0 {
                entries.select_nth_unstable_by(wanted - 1, |a, b| a.key().cmp(b.key()));
                entries.truncate(wanted);
            }
            entries.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            found.extend(entries.iter().take(wanted).map(|e| (KeyGroup(group), Bytes::copy_from_slice(e.key()), Bytes::copy_from_slice(e.value()))));
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    fn len(&self) -> usize {
        self.groups.iter().map(Group::len).sum()
    }

    fn freeze(&mut self) -> Result<Frozen> {
        let through = self.open;
        let mut groups = Vec::new();
        for (number, group) in self.range.range().zip(&mut self.groups) {
            let mut shards = Vec::new();
            let deleted = group.freeze(through as u32, &mut shards);
            if !shards.is_empty() || !deleted.is_empty() {
                groups.push(FrozenGroup { number, shards, deleted });
            }
        }
        self.open += 1;
        if !groups.is_empty() {
            self.lineage.push(through, Arc::new(MemoryDelta { changed: through as u32, groups }));
        }
        self.account.set(self.memory);
        let frozen = FrozenTable { lineage: Arc::clone(&self.lineage), through, live: LivePanes::new(), expired_through_ms: self.expired_through_ms };
        Ok(Frozen(Box::new(frozen) as Box<dyn Any + Send>))
    }

    fn memory_bytes(&self) -> usize {
        self.memory
    }
}

struct FrozenGroup {
    number: u16,
    shards: Vec<ShardTable>,
    deleted: Vec<Box<[u8]>>,
}

struct MemoryDelta {
    changed: u32,
    groups: Vec<FrozenGroup>,
}

impl Delta for MemoryDelta {
    fn write(&self, _live: &LivePanes, out: &mut FileSet<'_>) -> Result<()> {
        let mut builder = KeyedRowsBuilder::default();
        for group in &self.groups {
            let changed = group.shards.iter().flat_map(|s| s.iter()).filter(|e| e.changed == self.changed);
            let mut rows: Vec<(&[u8], Option<&Entry>)> = changed.map(|e| (e.key(), Some(e))).collect();
            rows.extend(group.deleted.iter().map(|key| (key.as_ref(), None)));
            rows.sort_unstable_by(|a, b| a.0.cmp(b.0));
            for (key, entry) in rows {
                builder.push(key, entry.map(Entry::value), entry.map_or(i64::MAX, |e| e.expires_ms));
                if builder.is_full() {
                    out.push(group.number, builder.take()?)?;
                }
            }
            out.push(group.number, builder.take()?)?;
        }
        Ok(())
    }
}
