//! The broker is gone for half a minute in the middle of a stream.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};

use super::*;

const OUTAGE: Duration = Duration::from_secs(30);
/// What a writer may hold.
const BUFFER_BYTES: i64 = 256 << 10;
const ROW_BYTES: i64 = 120;
/// What the process may grow by while the broker is gone, buffers and allocator included.
const GROWTH_BYTES: u64 = 24 << 20;

/// A job that writes without a pause until it is told to end.
#[derive(Default)]
struct Stream {
    written: AtomicI64,
    checkpoints: AtomicU64,
    end: AtomicBool,
}

impl Stream {
    /// Writes, takes a checkpoint every 500 rows and commits it. Whatever fails fails the job, and so the test.
    async fn run(&self, mut job: Job) {
        let mut process = job.start(1).await;
        while !self.end.load(SeqCst) {
            for _ in 0..5 {
                let from = self.written.load(SeqCst);
                process.write(0, many(from, 100)).await;
                self.written.store(from + 100, SeqCst);
            }
            job.checkpoint(&mut process).await;
            let mut outcomes = job.commit(&process).await;
            while outcomes.iter().any(|o| matches!(o, CommitOutcome::RetryLater(_))) {
                outcomes = job.commit(&process).await;
            }
            assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted)), "{outcomes:?}");
            self.checkpoints.fetch_add(1, SeqCst);
        }
    }

    async fn more_checkpoints(&self) {
        let before = self.checkpoints.load(SeqCst);
        until("checkpoints complete", || async { self.checkpoints.load(SeqCst) >= before + 3 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_written_while_the_broker_is_gone_for_half_a_minute_arrive_once_in_flat_memory() {
    let Behind { cluster, proxy, _server } = Behind::start().await;
    let topics = [cluster.topic(1).await, cluster.topic(1).await];
    let job = |topic: &str| Job::new(&cluster.bootstrap, topic).with("bufferMemory", "256k").with("batchSize", "16k");
    let (exactly, at_least) = (Stream::default(), Stream::default());
    let streams = [&exactly, &at_least];
    let outage = async {
        for stream in streams {
            stream.more_checkpoints().await;
        }
        proxy.gone();
        let before = streams.map(|s| (s.written.load(SeqCst), s.checkpoints.load(SeqCst)));
        let memory = resident_bytes();
        // The time itself is what is tried.
        tokio::time::sleep(OUTAGE).await;
        for (stream, (written, checkpoints)) in streams.into_iter().zip(before) {
            let held = (stream.written.load(SeqCst) - written) * ROW_BYTES;
            assert!(held < 2 * BUFFER_BYTES, "{held} bytes were taken that nobody could write");
            assert!(stream.checkpoints.load(SeqCst) <= checkpoints + 1, "a checkpoint completes without the broker");
        }
        let grown = resident_bytes().saturating_sub(memory);
        assert!(grown < GROWTH_BYTES, "the process has grown by {grown} bytes");
        proxy.back();
        for stream in streams {
            stream.more_checkpoints().await;
            stream.end.store(true, SeqCst);
        }
    };
    tokio::join!(exactly.run(job(&topics[0])), at_least.run(job(&topics[1]).at_least_once()), outage);
    for (stream, topic) in streams.into_iter().zip(&topics) {
        let (seen, written) = (ids(&cluster, topic).await, stream.written.load(SeqCst));
        assert!(seen == (0..written).collect::<Vec<_>>(), "{} rows of {written}, sorted: {}", seen.len(), seen.is_sorted());
    }
}

/// What the process holds in memory (Linux).
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
