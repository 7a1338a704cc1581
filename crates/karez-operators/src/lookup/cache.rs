//! Answers that are kept: bounded in number, bytes and age.
//!
//! Two generations stand for the order of use: what is asked for is moved to the young one, and when that is half of what is allowed the old one is
//! forgotten and the young one grows old. So at least the latest half of the limit stays, at the price of a hash map: no list is relinked for a hit.

use std::sync::Arc;

use hashbrown::HashMap;

/// The rows of a key, in arrow's row format; none where the table has none.
pub(super) type Matches = Arc<[Box<[u8]>]>;

/// What an entry takes beside its bytes: the map's slot and the allocations.
const ENTRY_BYTES: usize = 96;

/// The answers of one subtask.
#[derive(Debug)]
pub(super) struct Cache {
    limits: Limits,
    young: Generation,
    old: Generation,
}

/// What a cache may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) keys: usize,
    pub(super) bytes: usize,
    pub(super) ttl_ms: i64,
    /// For keys without a row; 0: not kept.
    pub(super) negative_ttl_ms: i64,
}

#[derive(Debug, Default)]
struct Generation {
    entries: HashMap<Box<[u8]>, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    matches: Matches,
    expires_ms: i64,
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, young: Generation::default(), old: Generation::default() }
    }

    /// The answer for a key, if it is there and young enough.
    pub(super) fn get(&mut self, key: &[u8], now_ms: i64) -> Option<Matches> {
        if let Some(entry) = self.young.entries.get(key) {
            return (entry.expires_ms > now_ms).then(|| Arc::clone(&entry.matches));
        }
        let (key, entry) = self.old.take(key)?;
        if entry.expires_ms <= now_ms {
            return None;
        }
        let matches = Arc::clone(&entry.matches);
        self.add(key, entry);
        Some(matches)
    }

    /// Keeps an answer, in the place of an older one.
    pub(super) fn put(&mut self, key: &[u8], matches: &Matches, now_ms: i64) {
        let ttl_ms = if matches.is_empty() { self.limits.negative_ttl_ms } else { self.limits.ttl_ms };
        self.young.take(key);
        self.old.take(key);
        if ttl_ms > 0 {
            self.add(key.into(), Entry { matches: Arc::clone(matches), expires_ms: now_ms.saturating_add(ttl_ms) });
        }
    }

    /// Bytes of memory that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    fn add(&mut self, key: Box<[u8]>, entry: Entry) {
        let bytes = size(&key, &entry);
        // An answer of half the memory would push everything else out.
        if bytes > self.limits.bytes / 2 {
            return;
        }
        let full = self.young.entries.len() >= (self.limits.keys / 2).max(1) || self.young.bytes + bytes > self.limits.bytes / 2;
        if full {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.entries.insert(key, entry);
    }
}

impl Generation {
    fn take(&mut self, key: &[u8]) -> Option<(Box<[u8]>, Entry)> {
        let (key, entry) = self.entries.remove_entry(key)?;
        self.bytes -= size(&key, &entry);
        Some((key, entry))
    }
}

fn size(key: &[u8], entry: &Entry) -> usize {
    ENTRY_BYTES + key.len() + entry.matches.iter().map(|row| size_of::<Box<[u8]>>() + row.len()).sum::<usize>()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cache(keys: usize, bytes: usize) -> Cache {
        Cache::new(Limits { keys, bytes, ttl_ms: 100, negative_ttl_ms: 10 })
    }

    fn row(byte: u8) -> Matches {
        Arc::from(vec![Box::from([byte])])
    }

    #[test]
    fn an_answer_is_given_until_it_is_too_old_and_one_without_rows_for_its_own_time() {
        let mut cache = cache(10, 10_000);
        cache.put(b"a", &row(1), 0);
        cache.put(b"none", &Matches::from(Vec::new()), 0);
        assert_eq!(cache.get(b"a", 99), Some(row(1)));
        assert_eq!(cache.get(b"a", 100), None);
        assert_eq!(cache.get(b"none", 9), Some(Matches::from(Vec::new())));
        assert_eq!(cache.get(b"none", 10), None);
    }

    #[test]
    fn a_new_answer_takes_the_place_of_the_old_one() {
        let mut cache = cache(10, 10_000);
        cache.put(b"a", &row(1), 0);
        let bytes = cache.bytes();
        cache.put(b"a", &row(2), 50);
        assert_eq!(cache.get(b"a", 120), Some(row(2)));
        assert_eq!(cache.bytes(), bytes);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_number_of_keys_is_bounded() {
        let mut cache = cache(10, 1_000_000);
        cache.put(b"hot", &row(0), 0);
        for i in 0..1_000_u32 {
            cache.put(&i.to_be_bytes(), &row(1), 0);
            assert!(cache.get(b"hot", 0).is_some(), "after {i}");
            assert!(cache.young.entries.len() + cache.old.entries.len() <= 10);
        }
        assert_eq!(cache.get(&0_u32.to_be_bytes(), 0), None);
        assert!(cache.get(&999_u32.to_be_bytes(), 0).is_some());
    }

    #[test]
    fn memory_is_bounded_and_its_count_right() {
        let mut cache = cache(1_000_000, 4_000);
        for i in 0..1_000_u32 {
            cache.put(&i.to_be_bytes(), &Matches::from(vec![Box::from(vec![0; (i % 500) as usize])]), 0);
            cache.get(&(i / 2).to_be_bytes(), 0);
            assert!(cache.bytes() <= 4_000);
        }
        let counted: usize = [&cache.young, &cache.old].iter().flat_map(|g| &g.entries).map(|(k, e)| size(k, e)).sum();
        assert_eq!(cache.bytes(), counted);
        cache.put(b"huge", &Matches::from(vec![Box::from(vec![0; 3_000])]), 0);
        assert_eq!(cache.get(b"huge", 0), None, "one answer must not push all others out");
    }
}
