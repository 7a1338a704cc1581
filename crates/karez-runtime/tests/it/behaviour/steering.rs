//! Pause, resume, stop, savepoint, drain, cancel.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use karez_core::config::Span;
use karez_graph::settings::RestartStrategy;
use karez_graph::{EventTime, Order, RequestedExchange, StreamGraphBuilder};
use karez_runtime::{JobHandle, JobStatus};

use super::bench::{Bench, completes, ended, graph, quiet, restarting, settings, until, within};
use super::operators::{Faults, alarm, hold, recorder, unwritable};
use super::sink::{Store, sink};
use super::source::{Stepped, source};

fn line(stepped: &Arc<Stepped>, store: &Arc<Store>) -> StreamGraphBuilder {
    graph(settings())
        .add_source("in", source(stepped))
        .add_operator("seen", recorder(&Arc::default()))
        .add_sink("out", sink(store))
        .connect("in", "seen")
        .connect("seen", "out")
}

fn holding(stepped: &Arc<Stepped>, store: &Arc<Store>) -> StreamGraphBuilder {
    let time = EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), idle_timeout: None, order: Order::Bounded };
    graph(settings())
        .add_source("in", source(stepped))
        .event_time(time)
        .add_operator("hold", hold(&Arc::new(Mutex::new(Vec::new()))))
        .add_sink("out", sink(store))
        .connect("in", "hold")
        .connect("hold", "out")
}

#[tokio::test]
async fn a_paused_job_reads_nothing_takes_savepoints_and_reads_on_when_resumed() {
    let (bench, stepped, store) = (Bench::new(), Stepped::new(true, &["only"]), Store::new());
    let handle = bench.start(&line(&stepped, &store)).await;
    stepped.push(&[(0, 1, 0)]);
    store.has(1).await;
    within("pause", handle.pause()).await.unwrap();
    assert_eq!(handle.status(), JobStatus::Paused);
    // Behind the savepoint's barrier the pause has been heard.
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    stepped.push(&[(0, 2, 0)]);
    quiet().await;
    assert_eq!(stepped.reads(), 1);
    within("resume", handle.resume()).await.unwrap();
    store.has(2).await;
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_stop_fires_no_window_and_the_next_run_goes_on_exactly() {
    let (bench, stepped, store) = (Bench::new(), Stepped::new(true, &["only"]), Store::new());
    let handle = bench.start(&holding(&stepped, &store)).await;
    stepped.push(&[(0, 1, 10), (0, 2, 20)]);
    store.has(1).await;
    within("a stop", handle.stop()).await.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    assert_eq!(store.numbers(1), [1], "a stop is no end of event time");

    stepped.push(&[(0, 3, 30)]);
    stepped.close(0);
    completes(&bench.start(&holding(&stepped, &store)).await).await;
    assert_eq!(store.numbers(1), [1, 2, 3]);
    assert_eq!(stepped.reads(), 2, "nothing was read twice");
}

#[tokio::test]
async fn a_drain_ends_the_input_fires_the_windows_and_completes_the_job_also_when_it_is_paused() {
    for paused in [false, true] {
        let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
        let handle = bench.start(&holding(&stepped, &store)).await;
        stepped.push(&[(0, 1, 10), (0, 2, 20)]);
        store.has(1).await;
        if paused {
            within("pause", handle.pause()).await.unwrap();
        }
        within("drain", handle.drain()).await.unwrap();
        completes(&handle).await;
        assert_eq!(store.numbers(1), [1, 2]);
    }
}

#[tokio::test]
async fn a_savepoint_restores_in_a_new_run_also_from_where_it_was_moved_to() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    let handle = bench.start(&holding(&stepped, &store)).await;
    stepped.push(&[(0, 1, 10), (0, 2, 20)]);
    store.has(1).await;
    let savepoint = within("a stop", handle.stop_with_savepoint(Some(bench.folder("here")))).await.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    let first_run = handle.run().clone();
    let moved = bench.folder("there");
    std::fs::rename(&savepoint, &moved).unwrap();
    // Self-contained: nothing of the old run is needed.
    std::fs::remove_dir_all(bench.folder("state")).unwrap();

    stepped.push(&[(0, 3, 30)]);
    let again = bench.start_from(&holding(&stepped, &store), &moved).await;
    store.has(2).await;
    assert_eq!(store.numbers(1), [1, 2]);
    assert_ne!(*again.run(), first_run);
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn a_cancelled_run_goes_on_from_its_last_checkpoint() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let handle = bench.start(&line(&stepped, &store)).await;
    stepped.push(&[(0, 1, 0)]);
    until("the row is read", || stepped.reads() == 1).await;
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    store.has(1).await;
    stepped.push(&[(0, 2, 0)]);
    until("the row is read", || stepped.reads() == 2).await;
    handle.cancel();
    assert_eq!(ended(&handle).await.status, JobStatus::Cancelled);

    let again = bench.start(&line(&stepped, &store)).await;
    until("the row is read again", || stepped.reads() == 3).await;
    within("a stop", again.stop()).await.unwrap();
    ended(&again).await;
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_savepoint_asked_for_during_another_and_a_stop_behind_them_are_all_answered() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    let handle = bench.start(&line(&stepped, &store)).await;
    let (first, second) = (bench.folder("first"), bench.folder("second"));
    let (a, b, stop) =
        within("all three", async { tokio::join!(handle.savepoint(Some(first.clone())), handle.savepoint(Some(second.clone())), handle.stop()) })
            .await;
    assert!(a.unwrap().starts_with(&first));
    assert!(b.unwrap().starts_with(&second));
    stop.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    let error = handle.savepoint(None).await.unwrap_err().to_string();
    assert!(error.contains("job `job` is STOPPED"), "{error}");
}

#[tokio::test]
async fn no_timer_fires_behind_the_barrier_of_a_stop() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .add_operator("alarm", alarm(2_000_000))
        .add_sink("out", sink(&store))
        .connect("in", "alarm")
        .connect("alarm", "out");
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    store.has(1).await;
    let stop = handle.stop();
    tokio::pin!(stop);
    // The stop is under way when time comes.
    assert!(futures_poll(stop.as_mut()).is_none());
    until("the barrier is through", || *stepped.positions.borrow() == 1).await;
    bench.clock.set(3_000_000);
    within("a stop", stop).await.unwrap();
    ended(&handle).await;
    assert_eq!(store.numbers(1), [1]);

    // Nobody stops it: it fires.
    let again = bench.start(&job).await;
    store.has(2).await;
    again.cancel();
    ended(&again).await;
}

fn futures_poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let waker = std::task::Waker::noop();
    match future.poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_stop_is_answered_while_the_job_waits_for_its_restart_and_the_next_run_goes_on() {
    let (bench, stepped, store, faults) = (Bench::new(), Stepped::of([vec![(0, 1, 0)]]), Store::transactional(), Faults::at(&[0], false));
    let job = |restart| {
        let mut settings = settings();
        settings.restart = restart;
        graph(settings)
            .add_source("in", source(&stepped))
            .add_operator("faults", faults.operator())
            .add_sink("out", sink(&store))
            .connect("in", "faults")
            .connect("faults", "out")
    };
    let handle = bench.start(&job(RestartStrategy::FixedDelay { attempts: 1, delay: Span::millis(3_600_000) })).await;
    until("it waits for its restart", || handle.status() == JobStatus::Restarting).await;
    let error = within("an answer", handle.pause()).await.unwrap_err().to_string();
    assert!(error.contains("waits for its restart"), "{error}");
    within("a stop", handle.stop()).await.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    completes(&bench.start(&job(RestartStrategy::None {})).await).await;
    assert_eq!(store.numbers(1), [1]);
}

#[tokio::test]
async fn a_stop_whose_checkpoint_fails_is_tried_again_through_all_tasks() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .add_operator("fragile", unwritable(1))
        .add_sink("out", sink(&store))
        .connect("in", "fragile")
        .exchange(RequestedExchange::Global)
        .connect("fragile", "out")
        .exchange(RequestedExchange::Global);
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    until("the row is read", || stepped.reads() == 1).await;
    let stop = tokio::spawn({
        let handle = handle.clone();
        async move { handle.stop().await }
    });
    until("the first try has failed", || handle.report().checkpoints.failed == 1).await;
    bench.clock.set(1_060_000);
    within("a stop", stop).await.unwrap().unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    assert_eq!(store.numbers(1), [1]);
}

#[tokio::test]
async fn rows_that_the_commit_of_a_stop_refuses_are_letters_before_the_job_has_stopped() {
    let (bench, stepped, store, letters) = (Bench::new(), Stepped::stream(), Store::transactional(), Store::transactional());
    *store.refused_by_committer.lock().unwrap() = vec![2];
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .add_sink("out", sink(&store))
        .on_error(karez_graph::OnError::DeadLetter)
        .add_sink("letters", sink(&letters))
        .connect("in", "out")
        .connect_port("out", "errors", "letters");
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0), (0, 2, 0)]);
    until("the rows are read", || stepped.reads() == 1).await;
    within("a stop", handle.stop()).await.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);
    assert_eq!(store.numbers(1), [1]);
    assert_eq!(letters.rows().len(), 1);
}

#[tokio::test]
async fn rows_that_the_last_commit_of_a_bounded_job_refuses_are_for_the_policy_of_the_sink() {
    for policy in [karez_graph::OnError::Skip, karez_graph::OnError::Fail] {
        let (bench, stepped, store) = (Bench::new(), Stepped::of([vec![(0, 1, 0), (0, 2, 0)]]), Store::transactional());
        *store.refused_by_committer.lock().unwrap() = vec![2];
        let mut settings = settings();
        settings.restart = restarting(1);
        let job = graph(settings).add_source("in", source(&stepped)).add_sink("out", sink(&store)).on_error(policy).connect("in", "out");
        let handle = bench.start(&job).await;
        let outcome = ended(&handle).await;
        let report = handle.report();
        let skipped: u64 = report.nodes.iter().map(|n| n.metrics.skipped).sum();
        assert_eq!((store.numbers(1), report.restarts), (vec![1], 0), "{policy:?}");
        if policy == karez_graph::OnError::Skip {
            assert_eq!((outcome.status, skipped), (JobStatus::Completed, 1), "{:?}", outcome.error);
        } else {
            assert_eq!(outcome.status, JobStatus::Failed);
            let error = outcome.error.as_ref().unwrap().to_string();
            assert!(error.contains("bad record") && error.contains("onError: skip"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_times_out_behind_a_blocked_sink_fails_and_the_next_loses_nothing() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let job =
        graph(settings()).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out").exchange(RequestedExchange::Global);
    store.shut();
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    until("the sink is blocked", || store.writes.load(SeqCst) == 1).await;
    let late = tokio::spawn({
        let handle = handle.clone();
        async move { handle.savepoint(None).await }
    });
    until("the barrier is on its way", || *stepped.positions.borrow() == 1).await;
    bench.clock.set(1_000_000 + 600_001);
    let error = within("the timeout", late).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("checkpoint.timeout") && error.contains("out"), "{error}");
    stepped.push(&[(0, 2, 0)]);
    bench.clock.set(1_000_000 + 700_000);
    store.open();
    until("the row is read", || stepped.reads() == 2).await;
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    store.has(2).await;
    handle.cancel();
    ended(&handle).await;
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_paused_job_is_still_paused_behind_a_restart() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let mut settings = settings();
    settings.restart = restarting(1);
    let job = graph(settings).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    until("the row is read", || stepped.reads() == 1).await;
    within("pause", handle.pause()).await.unwrap();
    store.lost_answers.store(1, SeqCst);
    within("a savepoint that fails the job", handle.savepoint(None)).await.unwrap_err();
    until("it runs again", || handle.report().restarts == 1 && handle.status() == JobStatus::Paused).await;
    stepped.push(&[(0, 2, 0)]);
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    assert_eq!(stepped.reads(), 1);
    within("resume", handle.resume()).await.unwrap();
    until("the row is read", || stepped.reads() == 2).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_cancel_is_answered_while_a_sink_does_not_open() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    store.never_opens.store(true, SeqCst);
    let handle = bench.start(&line(&stepped, &store)).await;
    quiet().await;
    handle.cancel();
    assert_eq!(ended(&handle).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_savepoint_that_cannot_be_written_is_an_error_for_who_asked_and_not_for_the_job() {
    let (bench, stepped, store) = (Bench::new(), Stepped::new(true, &["only"]), Store::new());
    let handle = bench.start(&line(&stepped, &store)).await;
    stepped.push(&[(0, 1, 0)]);
    store.has(1).await;
    std::fs::write(bench.folder("file"), "in the way").unwrap();
    within("a savepoint", handle.savepoint(Some(bench.folder("file").join("inside")))).await.unwrap_err();
    within("a savepoint", handle.savepoint(Some(bench.folder("folder")))).await.unwrap();
    stepped.push(&[(0, 2, 0)]);
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1, 2]);
}

/// Starts a job that has read a row and now looks for splits, without an answer.
async fn looking_in_vain(bench: &Bench, stepped: &Arc<Stepped>, store: &Arc<Store>) -> JobHandle {
    stepped.keeps_looking.store(true, SeqCst);
    let handle = bench.start(&line(stepped, store)).await;
    stepped.push(&[(0, 1, 0)]);
    store.has(1).await;
    stepped.stalled.send_replace(true);
    until("the discovery stalls", || stepped.stalls.load(SeqCst) == 1).await;
    handle
}

#[tokio::test]
async fn a_stalled_discovery_holds_up_neither_savepoints_nor_a_stop_and_finds_its_splits_in_the_next_run() {
    let (bench, stepped, store) = (Bench::new(), Stepped::new(false, &["first"]), Store::new());
    stepped.say_nothing(0);
    let handle = looking_in_vain(&bench, &stepped, &store).await;
    stepped.add("second");
    stepped.push_to(1, &[(0, 2, 0)]);
    within("a savepoint", handle.savepoint(None)).await.unwrap();
    assert_eq!(handle.report().checkpoints.completed, 1);
    within("a stop", handle.stop()).await.unwrap();
    assert_eq!(ended(&handle).await.status, JobStatus::Stopped);

    stepped.stalled.send_replace(false);
    let handle = bench.start(&line(&stepped, &store)).await;
    store.has(2).await;
    within("a stop", handle.stop()).await.unwrap();
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_cancel_is_answered_while_a_discovery_stalls() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    stepped.stalled.send_replace(true);
    let handle = bench.start(&line(&stepped, &store)).await;
    until("the discovery stalls", || stepped.stalls.load(SeqCst) == 1).await;
    handle.cancel();
    assert_eq!(ended(&handle).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_split_that_ends_during_a_discovery_is_known_to_be_finished_by_checkpoints_and_behind_it() {
    let (bench, stepped, store) = (Bench::new(), Stepped::new(false, &["first", "second"]), Store::new());
    let handle = looking_in_vain(&bench, &stepped, &store).await;
    stepped.close(0);
    until("the split ends", || stepped.ends.load(SeqCst) == 1).await;
    let finished = || stepped.finished.lock().unwrap().iter().cloned().collect::<Vec<_>>();
    // The reader speaks of the end in the first, and not again.
    for _ in 0..2 {
        within("a savepoint", handle.savepoint(None)).await.unwrap();
    }
    assert!(finished().is_empty(), "the enumerator is away");
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;

    let handle = bench.start(&line(&stepped, &store)).await;
    until("the next run's discovery stalls", || stepped.stalls.load(SeqCst) == 2).await;
    assert_eq!(finished(), ["first"]);
    stepped.close(1);
    stepped.stalled.send_replace(false);
    until("the enumerator is told", || finished() == ["first", "second"]).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;
}
