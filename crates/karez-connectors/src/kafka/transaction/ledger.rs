//! Which transactional ids of a sink may be used.
//!
//! An id that the newest complete manifest names must keep its producer epoch: recovery ends that transaction by it, once more where need be. (On
//! `transaction.version` 1 the epoch does not even grow at the commit: an id used again too early would let that replay commit the wrong transaction.) So
//! an id goes through
//!
//! ```text
//!  free ──take──► in use ──prepared──► named ──committed under the permit of manifest P──► … ──a later manifest's commits──► free
//! ```
//! A manifest that came later and still waits for an old commit names the id again, which holds it once more. In the usual course a subtask works with
//! three ids.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use karez_core::{Epoch, Error, Result};

use super::id::Base;

/// More ids than this in one subtask mean that no checkpoint completes.
const MAX_IDS: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// A writer writes in it, or a manifest to come will name it.
    Busy,
    /// The manifest of this epoch names it.
    Named(Epoch),
}

/// Shared by the writers and the committer of one sink in one process.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Ledger {
    held: Mutex<HashMap<String, Held>>,
}

impl Ledger {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt begins: the restored manifest names these, everything else is fenced.
    pub(in crate::kafka) fn reset<'a>(&self, named: impl IntoIterator<Item = (&'a str, Epoch)>) {
        *self.held() = named.into_iter().map(|(id, epoch)| (id.to_owned(), Held::Named(epoch))).collect();
    }

    /// The lowest number of a subtask's ids that may be used.
    ///
    /// # Errors
    /// All are held: checkpoints do not complete.
    pub(in crate::kafka) fn take(&self, base: &Base) -> Result<(usize, String)> {
        let mut held = self.held();
        let free = (0..MAX_IDS).map(|n| (n, base.id(n))).find(|(_, id)| !held.contains_key(id));
        let (number, id) = free.ok_or_else(|| Error::external(format!("{MAX_IDS} transactions wait for a checkpoint to complete, and none does")))?;
        held.insert(id.clone(), Held::Busy);
        Ok((number, id))
    }

    /// Those in which a transaction may be open or prepared that no complete manifest is known to name.
    pub(in crate::kafka) fn busy(&self) -> BTreeSet<String> {
        self.held().iter().filter(|(_, held)| **held == Held::Busy).map(|(id, _)| id.clone()).collect()
    }

    /// An id that was taken holds no transaction.
    pub(in crate::kafka) fn give_back(&self, id: &str) {
        self.held().remove(id);
    }

    /// The manifest of `permit` is complete and names `ids`; those that only older ones name are free.
    pub(in crate::kafka) fn completed<'a>(&self, permit: Epoch, ids: impl IntoIterator<Item = &'a str>) {
        let mut held = self.held();
        for id in ids {
            held.insert(id.to_owned(), Held::Named(permit));
        }
        held.retain(|_, h| !matches!(h, Held::Named(epoch) if *epoch < permit));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_id_is_free_again_when_a_later_checkpoint_than_the_one_that_names_it_has_completed() {
        let (ledger, base) = (Ledger::default(), Base::restored("s/"));
        let take = || ledger.take(&base).unwrap().1;
        assert_eq!(take(), "s/0"); // written for epoch 1, prepared at its barrier
        assert_eq!(take(), "s/1");
        ledger.completed(Epoch(1), ["s/0"]);
        assert_eq!(take(), "s/2", "the newest manifest still names s/0");
        ledger.completed(Epoch(2), ["s/1"]);
        assert_eq!(take(), "s/0");
    }

    #[test]
    fn an_id_whose_commit_is_late_stays_held_as_long_as_a_manifest_names_it() {
        let (ledger, base) = (Ledger::default(), Base::restored("s/"));
        let (_, first) = ledger.take(&base).unwrap();
        let (_, second) = ledger.take(&base).unwrap();
        ledger.completed(Epoch(1), [first.as_str()]);
        ledger.completed(Epoch(2), [first.as_str(), second.as_str()]);
        assert_eq!(ledger.take(&base).unwrap().1, "s/2");
    }

    #[test]
    fn what_a_failed_checkpoint_had_prepared_stays_held() {
        let (ledger, base) = (Ledger::default(), Base::restored("s/"));
        ledger.take(&base).unwrap(); // its checkpoint fails: its transaction belongs to the next
        let (_, second) = ledger.take(&base).unwrap();
        ledger.completed(Epoch(2), ["s/0", second.as_str()]);
        assert_eq!(ledger.take(&base).unwrap().0, 2);
    }

    #[test]
    fn a_restart_forgets_all_but_what_its_manifest_names() {
        let (ledger, base) = (Ledger::default(), Base::restored("s/"));
        (0..4).for_each(|_| drop(ledger.take(&base).unwrap()));
        ledger.reset([("s/1", Epoch(7))]);
        assert_eq!(ledger.take(&base).unwrap().0, 0);
        assert_eq!(ledger.take(&base).unwrap().0, 2);
    }

    #[test]
    fn a_job_whose_checkpoints_never_complete_is_stopped() {
        let (ledger, base) = (Ledger::default(), Base::restored("s/"));
        (0..MAX_IDS).for_each(|_| drop(ledger.take(&base).unwrap()));
        assert!(ledger.take(&base).unwrap_err().to_string().contains("checkpoint"));
    }
}
