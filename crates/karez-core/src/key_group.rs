//! Key groups: what keyed state is stored and rescaled by (Flink's key groups; Carbone et al., VLDB 2017, §3.4).

use std::ops::Range;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use crate::Result;

mod hash;
pub use hash::{KEY_HASH_NAME, hash_columns};

/// The number of key groups unless a job sets another (`maxParallelism`).
pub const DEFAULT_KEY_GROUPS: u16 = 128;

/// A key group: `hash % key_groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The group of a key hash.
    #[must_use]
    pub const fn of(hash: u64, key_groups: u16) -> Self {
        // The high half of a product: as even as `%`, without a division (Lemire, 2019).
        Self(((hash >> 32).wrapping_mul(key_groups as u64) >> 32) as u16)
    }
}

/// The key groups of one subtask: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first.
    pub start: u16,
    /// Behind the last.
    pub end: u16,
    /// How many there are in all subtasks.
    pub of: u16,
}

impl KeyGroupRange {
    /// The range of subtask `subtask` of `parallelism`, as Flink cuts it.
    #[must_use]
    pub const fn of_subtask(subtask: usize, parallelism: usize, key_groups: u16) -> Self {
        let (n, p) = (key_groups as usize, parallelism);
        Self { start: ((subtask * n).div_ceil(p)) as u16, end: (((subtask + 1) * n).div_ceil(p)) as u16, of: key_groups }
    }

    /// Whether a group lies in it.
    #[must_use]
    pub const fn contains(&self, group: KeyGroup) -> bool {
        self.start <= group.0 && group.0 < self.end
    }

    /// As a standard range.
    #[must_use]
    pub const fn range(&self) -> Range<u16> {
        self.start..self.end
    }
}

/// The subtask that owns a key group.
#[must_use]
pub const fn subtask_of(group: KeyGroup, parallelism: usize, key_groups: u16) -> usize {
    group.0 as usize * parallelism / key_groups as usize
}

/// The key group of every row.
pub fn key_groups_of(columns: &[ArrayRef], rows: usize, key_groups: u16, out: &mut Vec<KeyGroup>) -> Result<()> {
    let mut hashes = Vec::new();
    hash_columns(columns, rows, &mut hashes)?;
    out.clear();
    out.extend(hashes.iter().map(|&h| KeyGroup::of(h, key_groups)));
    Ok(())
}
