//! How much memory the state of a job may take (`resources.memory`), and who takes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use karez_core::{Error, Result};

/// The memory of a job. Tables report what they hold; tasks ask [`Self::check`] after each batch.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: Option<usize>,
    used: AtomicUsize,
    accounts: Mutex<BTreeMap<String, Vec<Arc<AtomicUsize>>>>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `None` for no limit.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), accounts: Mutex::default() })
    }

    /// An account in an operator's name; its bytes are given back when it is dropped.
    #[must_use]
    pub fn account(self: &Arc<Self>, operator: &str) -> MemoryAccount {
        let bytes = Arc::new(AtomicUsize::new(0));
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).entry(operator.to_owned()).or_default().push(Arc::clone(&bytes));
        MemoryAccount { budget: Arc::clone(self), operator: operator.to_owned(), bytes }
    }

    /// Bytes held at present.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Fails once the job holds more than it may.
    ///
    /// # Errors
    /// Names the operator that holds most, what it holds, the limit, and what to do.
    pub fn check(&self) -> Result<()> {
        match self.limit {
            Some(limit) if self.used() > limit => Err(self.exceeded(limit)),
            _ => Ok(()),
        }
    }

    fn exceeded(&self, limit: usize) -> Error {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = accounts.iter().map(|(name, parts)| (parts.iter().map(|p| p.load(Relaxed)).sum::<usize>(), name));
        let (most, operator) = totals.max().map_or((0, String::new()), |(bytes, name)| (bytes, name.clone()));
        drop(accounts);
        let text = format!(
            "the state of the job takes {}, of which {} here: more than the limit of {} (resources.memory). Raise resources.memory, keep less state (a shorter window or time-to-live), or keep it on disk (state.backend: disk; there the keys changed since the last checkpoint count, so shorten checkpoint.interval)",
            Size(self.used()),
            Size(most),
            Size(limit)
        );
        Error::user(text).at(operator)
    }
}

/// What one operator subtask holds.
#[derive(Debug)]
pub struct MemoryAccount {
    budget: Arc<MemoryBudget>,
    operator: String,
    bytes: Arc<AtomicUsize>,
}

impl MemoryAccount {
    /// Another account in the same operator's name.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.budget.account(&self.operator)
    }

    /// Sets the bytes held. Only one thread may set an account.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Relaxed);
        if bytes >= before {
            self.budget.used.fetch_add(bytes - before, Relaxed);
        } else {
            self.budget.used.fetch_sub(before - bytes, Relaxed);
        }
    }

    /// The bytes set last.
    #[must_use]
    pub fn get(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Sets the bytes held if they have moved enough to matter: for callers in a hot path.
    pub(super) fn follow(&self, bytes: usize) {
        if bytes.abs_diff(self.get()) >= 64 * 1024 {
            self.set(bytes);
        }
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        self.set(0);
        let mut accounts = self.budget.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parts) = accounts.get_mut(&self.operator) {
            parts.retain(|p| !Arc::ptr_eq(p, &self.bytes));
        }
    }
}

struct Size(usize);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b if b >= 1 << 30 => write!(f, "{:.1} GiB", b as f64 / f64::from(1 << 30)),
            b if b >= 1 << 20 => write!(f, "{:.1} MiB", b as f64 / f64::from(1 << 20)),
            b => write!(f, "{:.1} KiB", b as f64 / 1024.0),
        }
    }
}
