//! The entries of one key group, in small shards that are copied on write.
//!
//! A barrier takes a reference to every shard that has changed. Whoever changes a shard while a writer still holds it copies that
//! shard alone: some dozen entries, of which only the pointers are copied. Shards are split one at a time as the group grows (linear
//! hashing; Litwin, "Linear Hashing: A New Tool for File and Table Addressing", VLDB 1980), so no insert waits for the whole group.

use std::sync::Arc;

use hashbrown::hash_table::Entry as Slot;
use hashbrown::{HashSet, HashTable};

use super::super::merge::is_expired;

/// How many entries a shard has on average before another one is made. After a barrier a batch of 8,192 scattered keys copies as many shards: with
/// larger ones that takes long (2,048: 90 ms for five million keys), with smaller ones the barrier itself does, which takes a reference to each.
const SHARD_ENTRIES: usize = 32;

/// A key and its value in one allocation, 32 bytes beside it.
#[derive(Clone)]
pub(super) struct Entry {
    blob: Arc<[u8]>,
    pub(super) expires_ms: i64,
    key_bytes: u32,
    /// The delta it was changed in; wraps.
    pub(super) changed: u32,
}

impl Entry {
    fn new(key: &[u8], new: &NewValue<'_>, scratch: &mut Vec<u8>) -> Self {
        scratch.clear();
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(new.value);
        Self { blob: Arc::from(scratch.as_slice()), expires_ms: new.expires_ms, key_bytes: key.len() as u32, changed: new.delta }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.blob[..self.key_bytes as usize]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.blob[self.key_bytes as usize..]
    }

    /// What it takes: blob with its counts, its slot at the usual load, and the allocator's rounding.
    fn memory_bytes(&self) -> usize {
        self.blob.len() + 16 + 8 + 56
    }
}

/// What a key is set to, and the delta it is set in.
pub(super) struct NewValue<'a> {
    pub(super) value: &'a [u8],
    pub(super) expires_ms: i64,
    pub(super) delta: u32,
}

/// Entries at a barrier.
pub(super) type ShardTable = Arc<HashTable<Entry>>;

#[derive(Clone, Default)]
struct Shard {
    table: ShardTable,
    /// The newest delta that an entry of it was changed in.
    changed: u32,
}

/// The entries of a key group.
#[derive(Default)]
pub(super) struct Group {
    shards: Vec<Shard>,
    len: usize,
    /// Keys deleted since the last barrier that a file may hold.
    deleted: HashSet<Box<[u8]>, foldhash::fast::FixedState>,
}

/// What a change did to the memory held.
#[derive(Default)]
pub(super) struct Change {
    pub(super) added: usize,
    pub(super) removed: usize,
    /// The expiry the key had before; `None` if there was no such key.
    pub(super) expired_before: Option<i64>,
}

impl Group {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Linear hashing: the shards below `next` of this level have been split already. Bits 32 and up, since a shard's table uses the low and the topmost ones.
    fn place(shards: usize, hash: u64) -> usize {
        let bits = (hash >> 32) as usize;
        let level = shards.next_power_of_two();
        let at = bits & (level - 1);
        if at < shards { at } else { bits & (level / 2 - 1) }
    }

    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        if self.shards.is_empty() {
            return None;
        }
        self.shards[Self::place(self.shards.len(), hash)].table.find(hash, |e| e.key() == key)
    }

    /// Sets a key.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], new: &NewValue<'_>, hasher: impl Fn(&[u8]) -> u64, scratch: &mut Vec<u8>) -> Change {
        if self.len >= self.shards.len() * SHARD_ENTRIES {
            self.split(&hasher);
        }
        if !self.deleted.is_empty() {
            self.deleted.remove(key);
        }
        let at = Self::place(self.shards.len(), hash);
        let shard = &mut self.shards[at];
        shard.changed = new.delta;
        let entry = Entry::new(key, new, scratch);
        let added = entry.memory_bytes();
        match Arc::make_mut(&mut shard.table).entry(hash, |e| e.key() == key, |e| hasher(e.key())) {
            Slot::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), entry);
                Change { added, removed: old.memory_bytes(), expired_before: Some(old.expires_ms) }
            }
            Slot::Vacant(slot) => {
                slot.insert(entry);
                self.len += 1;
                Change { added, ..Change::default() }
            }
        }
    }

    /// Removes a key; answers the bytes freed.
    pub(super) fn delete(&mut self, hash: u64, key: &[u8], delta: u32, hasher: impl Fn(&[u8]) -> u64) -> Option<usize> {
        let removed = self.remove_if(hash, |e| e.key() == key, delta, hasher)?;
        self.deleted.insert(key.into());
        Some(removed.memory_bytes())
    }

    /// Frees one expired entry of this hash. A change that no file holds leaves a deletion behind: the file may hold an older value.
    pub(super) fn expire(&mut self, hash: u64, now_ms: i64, delta: u32, hasher: impl Fn(&[u8]) -> u64) -> Option<usize> {
        let removed = self.remove_if(hash, |e| is_expired(e.expires_ms, now_ms), delta, hasher)?;
        if removed.changed == delta {
            self.deleted.insert(removed.key().into());
        }
        Some(removed.memory_bytes())
    }

    fn remove_if(&mut self, hash: u64, eq: impl Fn(&Entry) -> bool, delta: u32, hasher: impl Fn(&[u8]) -> u64) -> Option<Entry> {
        if self.shards.is_empty() {
            return None;
        }
        let at = Self::place(self.shards.len(), hash);
        let shard = &mut self.shards[at];
        // Looked for before it is written to: most registrations that find nothing must not copy the shard.
        shard.table.find(hash, &eq)?;
        let table = Arc::make_mut(&mut shard.table);
        let removed = table.find_entry(hash, &eq).ok()?.remove().0;
        if table.capacity() > 64 && table.len() * 4 < table.capacity() {
            table.shrink_to(table.len() * 2, |e| hasher(e.key()));
        }
        shard.changed = delta;
        self.len -= 1;
        Some(removed)
    }

    /// Finds an entry of this hash that has a later expiry than the one it was registered with.
    pub(super) fn later_expiries(&self, hash: u64, now_ms: i64) -> Vec<i64> {
        if self.shards.is_empty() {
            return Vec::new();
        }
        let shard = &self.shards[Self::place(self.shards.len(), hash)];
        let same = shard.table.iter_hash(hash).filter(|e| e.expires_ms != i64::MAX && e.expires_ms > now_ms);
        same.map(|e| e.expires_ms).collect()
    }

    /// Shards that have changed in this delta, and the keys deleted in it.
    pub(super) fn freeze(&mut self, delta: u32, shards: &mut Vec<ShardTable>) -> Vec<Box<[u8]>> {
        shards.extend(self.shards.iter().filter(|s| s.changed == delta).map(|s| Arc::clone(&s.table)));
        std::mem::take(&mut self.deleted).into_iter().collect()
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|s| s.table.iter())
    }

    /// Makes one shard more, out of the one whose turn it is.
    fn split(&mut self, hasher: &impl Fn(&[u8]) -> u64) {
        let new = self.shards.len();
        if new == 0 {
            self.shards.push(Shard::default());
            return;
        }
        let level = (new + 1).next_power_of_two();
        let source = &mut self.shards[new - level / 2];
        let changed = source.changed;
        let source = Arc::make_mut(&mut source.table);
        let moved: Vec<Entry> = source.extract_if(|e| Self::place(new + 1, hasher(e.key())) == new).collect();
        source.shrink_to(source.len() * 3 / 2, |e| hasher(e.key()));
        let mut table = HashTable::with_capacity(moved.len());
        for entry in moved {
            table.insert_unique(hasher(entry.key()), entry, |e| hasher(e.key()));
        }
        self.shards.push(Shard { table: Arc::new(table), changed });
    }
}

#[cfg(test)]
mod tests {
    use super::Group;

    #[test]
    fn a_new_shard_takes_its_entries_from_exactly_one_other() {
        for shards in 1..70_usize {
            let level = (shards + 1).next_power_of_two();
            for bits in 0..1000_u64 {
                let (before, after) = (Group::place(shards, bits << 32), Group::place(shards + 1, bits << 32));
                assert!(before == after || (after == shards && before == shards - level / 2), "{shards} {bits}");
            }
        }
    }
}
