//! Offsets committed at intervals (`commitMode: auto`), whatever checkpoints say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use krafka::Kafka;
use tokio::sync::Notify;

use super::fetch::Fetcher;
use super::offsets;
use super::start::TopicPartition;

/// How long one commit may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Commits as long as it lives, and once more when it is dropped.
#[derive(Debug)]
pub(super) struct AutoCommit {
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    offsets: Mutex<HashMap<TopicPartition, i64>>,
    end: Notify,
}

impl AutoCommit {
    /// Begins; to be called on the runtime of the job.
    pub(super) fn start(kafka: Arc<Kafka>, group: String, interval: Duration, fetcher: Weak<Fetcher>) -> Self {
        let progress = Arc::<Progress>::default();
        let mine = Arc::clone(&progress);
        tokio::spawn(async move {
            let mut last = HashMap::new();
            loop {
                let ended = tokio::select! {
                    () = tokio::time::sleep(interval) => false,
                    () = mine.end.notified() => true,
                };
                if let Some(fetcher) = fetcher.upgrade() {
                    mine.offsets().extend(fetcher.consumed());
                }
                let now = mine.offsets().clone();
                if now != last {
                    match offsets::commit(&kafka, &group, now.clone().into_iter().collect(), TIMEOUT).await {
                        Ok(()) => last = now,
                        Err(e) => tracing::warn!(error = %e, "offsets could not be committed"),
                    }
                }
                if ended {
                    return;
                }
            }
        });
        Self { progress }
    }

    /// A partition is not read any more, and was read up to here.
    pub(super) fn read(&self, at: &TopicPartition, offset: i64) {
        self.progress.offsets().insert(at.clone(), offset);
    }
}

impl Progress {
    fn offsets(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, i64>> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AutoCommit {
    fn drop(&mut self) {
        self.progress.end.notify_one();
    }
}
