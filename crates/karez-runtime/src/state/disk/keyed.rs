//! A keyed table on disk: `key group ‖ key` → `expiry ‖ value`, and beside it `expiry ‖ key group ‖ key` for what expires when.
//!
//! The keys that have changed since the last barrier are remembered, so that a checkpoint writes those; there is a bound to that, beyond which the
//! next checkpoint writes the whole table.

use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Readable, Snapshot};
use hashbrown::HashSet;
use karez_core::state::{Frozen, KeyedTable};
use karez_core::{Error, KeyGroup, KeyGroupRange, Result};

use super::super::budget::MemoryAccount;
use super::super::lineage::{Delta, FileSet, FrozenTable, Lineage, LivePanes};
use super::super::merge::{EachEntry, KeyedRowsBuilder, is_expired};
use super::{DiskBackend, DiskTable, ordered};

/// Bytes of changed keys that are remembered.
const CHANGED_BYTES: usize = 64 << 20;
/// The longest key that fjall takes, less the key group and an expiry.
const MAX_KEY_BYTES: usize = 65_536 - 16;

type Keys = HashSet<Box<[u8]>, foldhash::fast::FixedState>;

/// Values by key, on disk.
pub(crate) struct DiskKeyedTable {
    range: KeyGroupRange,
    entries: Arc<DiskTable>,
    expiries: Arc<DiskTable>,
    expired_through_ms: i64,
    len: usize,
    changed: Keys,
    changed_bytes: usize,
    /// Too many keys have changed to remember them.
    all_changed: bool,
    open: u64,
    lineage: Arc<Lineage>,
    account: MemoryAccount,
    /// The key and value being written.
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Entries to begin with, in ascending order.
pub(crate) type Entries<'a> = dyn FnMut(&mut EachEntry<'_>) -> Result<()> + 'a;

impl DiskKeyedTable {
    /// A table of restored entries, which files hold already.
    pub(crate) fn new(
        backend: &Arc<DiskBackend>,
        range: KeyGroupRange,
        lineage: Arc<Lineage>,
        account: MemoryAccount,
        restored: &mut Entries<'_>,
    ) -> Result<Self> {
        let (entries, expiries) = (backend.table("entries")?, backend.table("expiries")?);
        let (mut len, mut key_bytes, mut stored) = (0, Vec::new(), Vec::new());
        let mut ingestion = entries.keyspace.start_ingestion().map_err(|e| backend.failed(e))?;
        restored(&mut |key_group, key, value, expires_ms| {
            join(&mut key_bytes, &[&key_group.0.to_be_bytes(), key]);
            join(&mut stored, &[&expires_ms.to_be_bytes(), value]);
            ingestion.write(key_bytes.as_slice(), stored.as_slice()).map_err(|e| backend.failed(e))?;
            len += 1;
            if expires_ms != i64::MAX {
                expiries.insert(&[&ordered(expires_ms), key_bytes.as_slice()].concat(), &[])?;
            }
            Ok(())
        })?;
        ingestion.finish().map_err(|e| backend.failed(e))?;
        Ok(Self {
            range,
            entries,
            expiries,
            expired_through_ms: i64::MIN,
            len,
            changed: Keys::default(),
            changed_bytes: 0,
            all_changed: false,
            open: 1,
            lineage,
            account,
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    fn set_key(&mut self, key_group: KeyGroup, key: &[u8]) -> Result<()> {
        if !self.range.contains(key_group) {
            return Err(Error::internal(format!(
                "key group {} is not one of this subtask's ({} to {})",
                key_group.0, self.range.start, self.range.end
            )));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(Error::user(format!("a key of {} bytes is too long for state.backend: disk (at most {MAX_KEY_BYTES})", key.len())));
        }
        join(&mut self.key, &[&key_group.0.to_be_bytes(), key]);
        Ok(())
    }

    fn mark_changed(&mut self) {
        if self.all_changed || self.changed.contains(self.key.as_slice()) {
            return;
        }
        self.changed.insert(self.key.as_slice().into());
        self.changed_bytes += self.key.len() + 48;
        if self.changed_bytes > CHANGED_BYTES {
            self.changed = Keys::default();
            self.changed_bytes = 0;
            self.all_changed = true;
        }
        self.account.follow(self.changed_bytes);
    }
}

fn join(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.clear();
    parts.iter().for_each(|p| out.extend_from_slice(p));
}

/// The expiry and the value of a stored entry.
fn split(stored: &[u8]) -> Result<(i64, &[u8])> {
    let (expires, value) = stored.split_first_chunk::<8>().ok_or_else(|| Error::internal("an entry of state without its expiry"))?;
    Ok((i64::from_be_bytes(*expires), value))
}

/// The key group and the key of a stored entry.
fn split_key(stored: &[u8]) -> Result<(KeyGroup, &[u8])> {
    let (group, key) = stored.split_first_chunk::<2>().ok_or_else(|| Error::internal("an entry of state without its key group"))?;
    Ok((KeyGroup(u16::from_be_bytes(*group)), key))
}

impl KeyedTable for DiskKeyedTable {
    fn get(&mut self, key_group: KeyGroup, key: &[u8], now_ms: i64) -> Result<Option<Bytes>> {
        self.set_key(key_group, key)?;
        let Some(stored) = self.entries.get(&self.key)? else { return Ok(None) };
        let (expires_ms, value) = split(&stored)?;
        Ok((!is_expired(expires_ms, now_ms)).then(|| Bytes::copy_from_slice(value)))
    }

    fn put(&mut self, key_group: KeyGroup, key: &[u8], value: Bytes, expires_ms: i64) -> Result<()> {
        self.set_key(key_group, key)?;
        if self.entries.get(&self.key)?.is_none() {
            self.len += 1;
        }
        join(&mut self.value, &[&expires_ms.to_be_bytes(), &value]);
        self.entries.insert(&self.key, &self.value)?;
        if expires_ms != i64::MAX {
            self.expiries.insert(&[&ordered(expires_ms), self.key.as_slice()].concat(), &[])?;
        }
        self.mark_changed();
        Ok(())
    }

    fn delete(&mut self, key_group: KeyGroup, key: &[u8]) -> Result<()> {
        self.set_key(key_group, key)?;
        if self.entries.get(&self.key)?.is_some() {
            self.entries.remove(&self.key)?;
            self.len -= 1;
            self.mark_changed();
        }
        Ok(())
    }

    fn expire(&mut self, now_ms: i64, limit: usize) -> Result<usize> {
        let due = self.expiries.keyspace.range((Bound::Unbounded, Bound::Excluded(ordered(now_ms.saturating_add(1)))));
        let mut through = now_ms;
        let mut freed = 0;
        for (visited, registered) in due.enumerate() {
            let (registration, _) = self.expiries.pair(registered)?;
            let (expires, key) = registration.split_first_chunk::<8>().ok_or_else(|| Error::internal("an expiry of state without its instant"))?;
            let expires_ms = (u64::from_be_bytes(*expires) ^ (1 << 63)) as i64;
            if freed >= limit || visited >= limit.saturating_mul(4) {
                through = expires_ms.saturating_sub(1);
                break;
            }
            if let Some(stored) = self.entries.get(key)?
                && is_expired(split(&stored)?.0, now_ms)
            {
                self.entries.remove(key)?;
                self.len -= 1;
                freed += 1;
            }
            self.expiries.remove(&registration)?;
        }
        self.expired_through_ms = self.expired_through_ms.max(through);
        Ok(freed)
    }

    fn scan(&self, cursor: Option<(KeyGroup, &[u8])>, limit: usize) -> Result<Vec<(KeyGroup, Bytes, Bytes)>> {
        let after = cursor.map(|(group, key)| [&group.0.to_be_bytes(), key].concat());
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.entries.keyspace.range((from, Bound::Unbounded)).take(limit).map(|entry| {
            let (key, stored) = self.entries.pair(entry)?;
            let (group, key) = split_key(&key)?;
            Ok((group, Bytes::copy_from_slice(key), Bytes::copy_from_slice(split(&stored)?.1)))
        });
        found.collect()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn freeze(&mut self) -> Result<Frozen> {
        let through = self.open;
        self.open += 1;
        if self.all_changed || !self.changed.is_empty() {
            let changed = (!self.all_changed).then(|| std::mem::take(&mut self.changed));
            let delta = DiskDelta { snapshot: self.entries.snapshot(), entries: Arc::clone(&self.entries), changed };
            self.lineage.push(through, Arc::new(delta));
        }
        (self.all_changed, self.changed_bytes) = (false, 0);
        self.account.set(0);
        let frozen = FrozenTable { lineage: Arc::clone(&self.lineage), through, live: LivePanes::new(), expired_through_ms: self.expired_through_ms };
        Ok(Frozen(Box::new(frozen) as Box<dyn Any + Send>))
    }

    fn memory_bytes(&self) -> usize {
        self.changed_bytes
    }
}

struct DiskDelta {
    // Dropped before the table, which it reads.
    snapshot: Snapshot,
    entries: Arc<DiskTable>,
    /// `None`: everything.
    changed: Option<Keys>,
}

impl Delta for DiskDelta {
    fn write(&self, _live: &LivePanes, out: &mut FileSet<'_>) -> Result<()> {
        let mut rows = Rows { builder: KeyedRowsBuilder::default(), group: KeyGroup(0), out };
        let Some(changed) = &self.changed else {
            for entry in self.snapshot.iter(&self.entries.keyspace) {
                let (key, stored) = self.entries.pair(entry)?;
                rows.push(&key, Some(&stored))?;
            }
            return rows.flush();
        };
        let mut keys: Vec<&[u8]> = changed.iter().map(AsRef::as_ref).collect();
        keys.sort_unstable();
        for key in keys {
            let stored = self.snapshot.get(&self.entries.keyspace, key).map_err(|e| self.entries.backend.failed(e))?;
            rows.push(key, stored.as_deref())?;
        }
        rows.flush()
    }

    fn replaces_all(&self) -> bool {
        self.changed.is_none()
    }
}

/// Cuts entries in ascending order into rows of one key group.
struct Rows<'a, 'b> {
    builder: KeyedRowsBuilder,
    group: KeyGroup,
    out: &'a mut FileSet<'b>,
}

impl Rows<'_, '_> {
    fn push(&mut self, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        let (group, key) = split_key(key)?;
        if group != self.group || self.builder.is_full() {
            self.flush()?;
            self.group = group;
        }
        let entry = stored.map(split).transpose()?;
        self.builder.push(key, entry.map(|(_, value)| value), entry.map_or(i64::MAX, |(expires, _)| expires));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let rows = self.builder.take()?;
        self.out.push(self.group.0, rows)
    }
}
