//! Nothing lost and nothing doubled, whatever fails.

use karez_core::config::Span;
use karez_graph::settings::{Delivery, RestartStrategy};
use karez_graph::{JobSettings, StreamGraphBuilder};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::bench::{Bench, completes, ended, fails, graph, restarting, settings, within};
use super::operators::{Faults, Restored, counter, identity, recorder, unwritable};
use super::sink::{Store, sink};
use super::source::{Row, Stepped, source};

const KEYS: i64 = 7;

fn batches(rows: i64) -> Vec<Vec<Row>> {
    let rows: Vec<Row> = (0..rows).map(|i| (i % KEYS, i, i)).collect();
    rows.chunks(5).map(<[Row]>::to_vec).collect()
}

/// Every value once, and of each key the first to the last in order.
fn assert_exact(store: &Store, rows: i64) {
    assert_eq!(store.sorted(1), (0..rows).collect::<Vec<_>>());
    for key in 0..KEYS {
        let mine: Vec<_> = store.rows().into_iter().filter(|(_, r)| r[0] == key.to_string()).collect();
        let (values, counts): (Vec<i64>, Vec<i64>) = mine.iter().map(|(_, r)| (r[1].parse::<i64>().unwrap(), r[2].parse::<i64>().unwrap())).unzip();
        assert_eq!(values, (0..rows).filter(|v| v % KEYS == key).collect::<Vec<_>>(), "key {key} out of order");
        assert_eq!(counts, (1..=i64::try_from(counts.len()).unwrap()).collect::<Vec<_>>(), "the count of key {key}");
    }
}

fn exactly_once(parallelism: usize, restart: RestartStrategy) -> JobSettings {
    let mut settings = settings();
    settings.delivery = Delivery::ExactlyOnce;
    settings.parallelism = parallelism;
    settings.restart = restart;
    settings.checkpoint.interval = Span::millis(1);
    settings
}

fn counting(settings: JobSettings, stepped: &Arc<Stepped>, faults: &Arc<Faults>, store: &Arc<Store>) -> StreamGraphBuilder {
    graph(settings)
        .add_source("in", source(stepped))
        .parallelism(1)
        // Slow enough for checkpoints in the middle.
        .rate_limit(10_000)
        .add_operator("faults", faults.operator())
        .parallelism(1)
        .add_operator("count", counter())
        .add_sink("out", sink(store))
        .connect("in", "faults")
        .connect("faults", "count")
        .connect("count", "out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_sink_gets_every_row_once_whatever_row_an_attempt_fails_at() {
    let mut in_the_middle = 0;
    for seed in 0..12_usize {
        let bench = Bench::with_wall_time();
        let (stepped, store) = (Stepped::of(batches(400)), Store::transactional());
        let at: Vec<usize> = (0..4).map(|i| (seed * 37 + i * 101) % 400).collect();
        let faults = Faults::at(&at, seed % 2 == 1);
        store.lost_answers.store(seed % 3, SeqCst);
        let job = counting(exactly_once(1 + seed % 3, restarting(50)), &stepped, &faults, &store);
        let handle = bench.start(&job).await;
        completes(&handle).await;
        assert_exact(&store, 400);
        // All but the last.
        in_the_middle += handle.report().checkpoints.completed - 1;
    }
    assert!(in_the_middle >= 24, "only {in_the_middle} checkpoints completed between failures: nothing was restored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_between_checkpoints_goes_on_from_the_last_one() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::new(true, &["only"]), Store::transactional(), Faults::at(&[15], false));
    let mut settings = exactly_once(2, restarting(1));
    settings.checkpoint.interval = Span::millis(3_600_000);
    let handle = bench.start(&counting(settings, &stepped, &faults, &store)).await;
    let all = batches(40);
    all[..2].iter().for_each(|b| stepped.push(b));
    super::bench::until("the first rows are read", || stepped.reads() == 2).await;
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    store.has(10).await;
    all[2..].iter().for_each(|b| stepped.push(b));
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(faults.hits.load(SeqCst), 1);
    assert_eq!(handle.report().restarts, 1);
    assert_exact(&store, 40);
    assert!(stepped.reads() < 16, "the rows before the checkpoint were read again");
}

#[tokio::test]
async fn a_task_that_panics_fails_the_attempt_and_not_the_process() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[7], true));
    let handle = bench.start(&counting(exactly_once(1, restarting(1)), &stepped, &faults, &store)).await;
    completes(&handle).await;
    assert_exact(&store, 20);
    assert_eq!(handle.report().restarts, 1);
}

#[tokio::test]
async fn rows_that_are_lost_before_their_commit_fail_the_run_for_good() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[], false));
    store.loses_rows.store(true, SeqCst);
    let handle = bench.start(&counting(exactly_once(1, restarting(5)), &stepped, &faults, &store)).await;
    let error = fails(&handle).await;
    assert!(error.contains("those rows are lost") && error.contains("for too short a time"), "{error}");
    assert_eq!(handle.report().restarts, 0, "a restart would meet the same");
}

#[tokio::test]
async fn a_panic_beside_the_tasks_fails_the_job_and_frees_it_for_the_next_start() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[], false));
    store.committer_panics.store(true, SeqCst);
    let handle = bench.start(&counting(exactly_once(1, restarting(1)), &stepped, &faults, &store)).await;
    let error = fails(&handle).await;
    assert!(error.contains("the job's coordinator") && error.contains("injected"), "{error}");
    store.committer_panics.store(false, SeqCst);
    let again = bench.start(&counting(exactly_once(1, restarting(1)), &stepped, &faults, &store)).await;
    completes(&again).await;
    assert_exact(&store, 20);
}

#[tokio::test]
async fn a_panic_in_a_commit_is_a_failure_like_any_other() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[], false));
    store.commit_panics.store(true, SeqCst);
    let handle = bench.start(&counting(exactly_once(1, restarting(1)), &stepped, &faults, &store)).await;
    completes(&handle).await;
    assert_exact(&store, 20);
    assert_eq!(handle.report().restarts, 1);
}

#[tokio::test]
async fn a_restart_strategy_gives_up_and_the_job_says_why_it_failed() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[0, 0, 0, 0], false));
    let handle = bench.start(&counting(exactly_once(1, restarting(2)), &stepped, &faults, &store)).await;
    assert_eq!(fails(&handle).await, "faults: injected");
    assert_eq!(faults.hits.load(SeqCst), 3);
    assert!(store.rows().is_empty());

    // The next start of the job goes on as if nothing had happened.
    let again = bench.start(&counting(exactly_once(1, restarting(2)), &stepped, &faults, &store)).await;
    completes(&again).await;
    assert_exact(&store, 20);
}

#[tokio::test]
async fn without_a_restart_strategy_the_first_failure_is_the_last() {
    let bench = Bench::new();
    let (stepped, store, faults) = (Stepped::of(batches(20)), Store::transactional(), Faults::at(&[3], false));
    let handle = bench.start(&counting(exactly_once(1, RestartStrategy::None {}), &stepped, &faults, &store)).await;
    fails(&handle).await;
    assert_eq!(faults.hits.load(SeqCst), 1);
}

fn fragile(settings: JobSettings, stepped: &Arc<Stepped>, store: &Arc<Store>, failures: usize) -> StreamGraphBuilder {
    graph(settings)
        .add_source("in", source(stepped))
        .add_operator("fragile", unwritable(failures))
        .add_operator("after", identity())
        .add_sink("out", sink(store))
        .connect("in", "fragile")
        .connect("fragile", "after")
        .connect("after", "out")
}

#[tokio::test]
async fn failed_checkpoints_lose_nothing_and_what_they_prepared_is_committed_by_the_next() {
    let bench = Bench::new();
    let (stepped, store) = (Stepped::new(true, &["only"]), Store::transactional());
    let mut settings = exactly_once(1, RestartStrategy::None {});
    settings.checkpoint.interval = Span::millis(3_600_000);
    settings.checkpoint.tolerable_failures = 2;
    let handle = bench.start(&fragile(settings, &stepped, &store, 2)).await;
    for value in 0..2 {
        stepped.push(&[(0, value, 0)]);
        super::bench::until("the row is read", || i64::try_from(stepped.reads()) == Ok(value + 1)).await;
        let error = within("a savepoint that fails", handle.savepoint(None)).await.unwrap_err();
        assert!(error.to_string().contains("not frozen by a state backend"), "{error}");
        assert!(store.rows().is_empty());
        // After a failure the next checkpoint waits for a moment.
        bench.clock.set(1_060_000 + value * 60_000);
    }
    stepped.push(&[(0, 2, 0)]);
    super::bench::until("the row is read", || stepped.reads() == 3).await;
    within("a savepoint that succeeds", handle.savepoint(None)).await.unwrap();
    store.has(3).await;
    assert_eq!(handle.report().checkpoints.failed, 2);
    stepped.push(&[(0, 3, 0)]);
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [0, 1, 2, 3]);
    assert_eq!(handle.report().restarts, 0);
}

#[tokio::test]
async fn one_failed_checkpoint_too_many_fails_the_job() {
    let bench = Bench::with_wall_time();
    let (stepped, store) = (Stepped::stream(), Store::transactional());
    let mut settings = exactly_once(1, RestartStrategy::None {});
    settings.checkpoint.tolerable_failures = 2;
    let handle = bench.start(&fragile(settings, &stepped, &store, usize::MAX)).await;
    let error = fails(&handle).await;
    assert!(error.contains("3 checkpoints in a row have failed"), "{error}");
    assert_eq!(ended(&handle).await.report.checkpoints.failed, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cut_off_at_any_moment_goes_on_with_another_parallelism_and_loses_and_doubles_nothing() {
    let bench = Bench::with_wall_time();
    let (stepped, store, faults) = (Stepped::new(true, &["only"]), Store::transactional(), Faults::at(&[], false));
    let all = batches(1_200);
    for (round, chunk) in all.chunks(20).enumerate() {
        let job = counting(exactly_once(1 + round % 3, RestartStrategy::None {}), &stepped, &faults, &store);
        let handle = bench.start(&job).await;
        let (early, late) = chunk.split_at(round % 20);
        early.iter().for_each(|b| stepped.push(b));
        if round % 2 == 0 {
            store.has(5 * (20 * round + early.len())).await;
        }
        late.iter().for_each(|b| stepped.push(b));
        for _ in 0..round * 10 {
            tokio::task::yield_now().await;
        }
        handle.cancel();
        ended(&handle).await;
    }
    stepped.close(0);
    completes(&bench.start(&counting(exactly_once(2, RestartStrategy::None {}), &stepped, &faults, &store)).await).await;
    assert_exact(&store, 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_with_queues_of_one_batch_neither_hangs_at_barriers_nor_loses_a_row_of_either_branch() {
    let bench = Bench::with_wall_time();
    let (stepped, store) = (Stepped::of(batches(600)), Store::transactional());
    let faults = Faults::at(&[333], false);
    let mut settings = exactly_once(1, restarting(3));
    (settings.resources.buffer.source_buffer, settings.resources.buffer.sink_buffer) = (1, 1);
    let job = graph(settings)
        .add_source("in", source(&stepped))
        .add_operator("left", identity())
        .add_operator("right", faults.operator())
        .add_operator("both", recorder(&Restored::default()))
        .parallelism(2)
        .add_sink("out", sink(&store))
        .connect("in", "left")
        .connect("in", "right")
        .connect("left", "both")
        .connect("right", "both")
        .connect("both", "out");
    completes(&bench.start(&job).await).await;
    assert_eq!(store.sorted(1), (0..600).flat_map(|v| [v, v]).collect::<Vec<_>>());
}

fn refusing(stepped: &Arc<Stepped>, store: &Arc<Store>, letters: &Arc<Store>) -> StreamGraphBuilder {
    let mut settings = exactly_once(1, RestartStrategy::None {});
    settings.checkpoint.interval = Span::millis(3_600_000);
    graph(settings)
        .add_source("in", source(stepped))
        .add_sink("out", sink(store))
        .on_error(karez_graph::OnError::DeadLetter)
        .add_sink("letters", sink(letters))
        .connect("in", "out")
        .connect_port("out", "errors", "letters")
}

#[tokio::test]
async fn a_row_that_the_writer_refuses_is_a_letter_of_the_same_epoch_and_one_that_the_commit_refuses_of_the_next() {
    let bench = Bench::new();
    let (stepped, store, letters) = (Stepped::new(true, &["only"]), Store::transactional(), Store::transactional());
    *store.refused_by_writer.lock().unwrap() = vec![2];
    *store.refused_by_committer.lock().unwrap() = vec![3];
    let handle = bench.start(&refusing(&stepped, &store, &letters)).await;
    stepped.push(&[(0, 1, 0), (0, 2, 0), (0, 3, 0)]);
    super::bench::until("the rows are read", || stepped.reads() == 1).await;
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    let reasons = || letters.rows().into_iter().map(|(_, r)| r[3].clone()).collect::<Vec<_>>();
    letters.has(1).await;
    assert_eq!(reasons(), ["2 is refused"]);
    within("another savepoint", handle.savepoint(None)).await.unwrap();
    letters.has(2).await;
    assert_eq!(reasons(), ["2 is refused", "3 is refused"]);
    stepped.push(&[(0, 4, 0)]);
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1, 4]);
    assert_eq!(letters.rows().len(), 2);
}
