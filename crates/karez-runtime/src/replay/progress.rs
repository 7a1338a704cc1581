//! Which letters of a replay have been fed.

use serde::{Deserialize, Serialize};

/// How far a replay has come. Part of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The replay.
    pub replay: String,
    /// How many letters it has.
    pub letters: u32,
    /// The numbers of those that have been fed, as ranges: from, and before which. Ascending, apart from each other.
    pub fed: Vec<(u32, u32)>,
}

impl Progress {
    /// Of a replay of so many letters, none fed.
    #[must_use]
    pub fn new(replay: impl Into<String>, letters: u32) -> Self {
        Self { replay: replay.into(), letters, fed: Vec::new() }
    }

    /// Whether a letter has been fed.
    #[must_use]
    pub fn contains(&self, letter: u32) -> bool {
        let behind = self.fed.partition_point(|(from, _)| *from <= letter);
        behind.checked_sub(1).is_some_and(|at| letter < self.fed[at].1)
    }

    /// Whether all have been.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.fed_letters() == self.letters
    }

    /// How many have been.
    #[must_use]
    pub fn fed_letters(&self) -> u32 {
        self.fed.iter().map(|(from, to)| to - from).sum()
    }

    /// A letter has been fed.
    pub fn add(&mut self, letter: u32) {
        self.add_range((letter, letter + 1));
    }

    /// What another subtask, or an earlier checkpoint, knows of the same replay.
    pub fn merge(&mut self, other: &Self) {
        for range in &other.fed {
            self.add_range(*range);
        }
    }

    fn add_range(&mut self, (mut from, mut to): (u32, u32)) {
        let begin = self.fed.partition_point(|(_, end)| *end < from);
        let end = self.fed.partition_point(|(start, _)| *start <= to);
        if let Some((first, last)) = self.fed.get(begin).zip(end.checked_sub(1).and_then(|e| self.fed.get(e))).filter(|_| begin < end) {
            (from, to) = (from.min(first.0), to.max(last.1));
        }
        self.fed.splice(begin..end, [(from, to)]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_a_set_would(letters in proptest::collection::vec(0_u32..40, 0..60), other in proptest::collection::vec(0_u32..40, 0..20)) {
            let mut progress = Progress::new("r", 40);
            letters.iter().for_each(|l| progress.add(*l));
            let mut more = Progress::new("r", 40);
            other.iter().for_each(|l| more.add(*l));
            progress.merge(&more);
            let set: BTreeSet<u32> = letters.into_iter().chain(other).collect();
            for letter in 0..40 {
                prop_assert_eq!(progress.contains(letter), set.contains(&letter));
            }
            prop_assert_eq!(progress.fed_letters() as usize, set.len());
            prop_assert!(progress.fed.windows(2).all(|w| w[0].1 < w[1].0), "{:?}", progress.fed);
            prop_assert_eq!(progress.is_complete(), set.len() == 40);
        }
    }
}
