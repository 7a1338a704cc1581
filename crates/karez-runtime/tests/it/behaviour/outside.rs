//! Operators that wait for the outside: order, bounds, watermarks, barriers, cancel. The test answers for the outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::async_operator::{Answer, AsyncContext, AsyncSettings, OutputOrder};
use karez_core::config::Span;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::{AsyncOperator, AsyncSpec, BadRecord, Error, OperatorSpec, Result, StreamSchema};
use karez_graph::settings::Delivery;
use karez_graph::{EventTime, OnError, Order, RequestedExchange, StreamGraphBuilder};
use karez_runtime::{JobHandle, JobStatus};
use tokio::sync::oneshot;

use super::bench::{Bench, completes, ended, fails, graph, quiet, restarting, settings, until, within};
use super::operators::{column, hold, identity};
use super::sink::{Store, sink};
use super::source::{Stepped, schema, source};

/// A batch, and who waits for the answer.
type Question = (RecordBatch, oneshot::Sender<Result<Answer>>);

/// Asked with batches, which it knows by their first value; answers when the test says so.
#[derive(Default)]
struct Outside {
    asked: Mutex<BTreeMap<i64, Question>>,
    /// Questions that were dropped before they were answered.
    dropped: AtomicUsize,
}

struct Spec {
    outside: Arc<Outside>,
    settings: AsyncSettings,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for Spec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }
    fn asynchronous(&self) -> Option<&dyn AsyncSpec> {
        Some(self)
    }
}

#[async_trait]
impl AsyncSpec for Spec {
    fn settings(&self) -> AsyncSettings {
        self.settings
    }
    fn create(&self, _: AsyncContext) -> Result<Arc<dyn AsyncOperator>> {
        Ok(Arc::clone(&self.outside) as _)
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

struct Dropped<'a>(Option<&'a AtomicUsize>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Some(dropped) = self.0 {
            dropped.fetch_add(1, SeqCst);
        }
    }
}

#[async_trait]
impl AsyncOperator for Outside {
    async fn process(&self, batch: RecordBatch) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        let first = column(&batch, 1)[0];
        assert!(first != PANICS, "injected");
        self.asked.lock().unwrap().insert(first, (batch, answer));
        let mut dropped = Dropped(Some(&self.dropped));
        let answer = answered.await.unwrap();
        dropped.0 = None;
        answer
    }
    fn memory_bytes(&self) -> usize {
        1_000_000
    }
}

const PANICS: i64 = 666;

impl Outside {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn operator(self: &Arc<Self>, settings: AsyncSettings) -> Arc<dyn OperatorSpec> {
        let outputs = [OutputPort { name: MAIN.into(), schema: StreamSchema::append_only(schema()) }];
        Arc::new(Spec { outside: Arc::clone(self), settings, outputs })
    }

    /// The first values of the batches that wait for an answer.
    fn waiting(&self) -> Vec<i64> {
        self.asked.lock().unwrap().keys().copied().collect()
    }

    async fn is_asked(&self, first: &[i64]) {
        until("the outside is asked", || self.waiting() == first).await;
    }

    fn take(&self, first: i64) -> Question {
        self.asked.lock().unwrap().remove(&first).unwrap()
    }

    /// Gives a batch back as it is.
    fn answer(&self, first: i64) {
        let (batch, answer) = self.take(first);
        let _ = answer.send(Ok(Answer { batches: vec![batch], bad: Vec::new() }));
    }

    fn answer_with(&self, first: i64, result: Result<Answer>) {
        let _ = self.take(first).1.send(result);
    }
}

fn asking(outside: &Arc<Outside>, settings: AsyncSettings, stepped: &Arc<Stepped>, store: &Arc<Store>) -> StreamGraphBuilder {
    graph(super::bench::settings())
        .add_source("in", source(stepped))
        .add_operator("ask", outside.operator(settings))
        .add_sink("out", sink(store))
        .connect("in", "ask")
        .connect("ask", "out")
}

fn up_to(batches: usize) -> AsyncSettings {
    AsyncSettings { batches, ..AsyncSettings::default() }
}

fn in_any_order() -> AsyncSettings {
    AsyncSettings { order: OutputOrder::Completion, ..AsyncSettings::default() }
}

fn in_flight(handle: &JobHandle) -> i64 {
    handle.report().nodes.iter().find(|n| n.name == "ask").unwrap().metrics.rows_in_flight
}

async fn cancelled(handle: JobHandle) {
    handle.cancel();
    assert_eq!(ended(&handle).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn rows_leave_in_the_order_of_the_input_whichever_is_answered_first() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, AsyncSettings::default(), &stepped, &store)).await;
    [1, 2, 3].iter().for_each(|v| stepped.push(&[(0, *v, 0)]));
    outside.is_asked(&[1, 2, 3]).await;
    assert_eq!(in_flight(&handle), 3);
    outside.answer(3);
    outside.answer(2);
    quiet().await;
    assert_eq!(store.numbers(1), Vec::<i64>::new());
    outside.answer(1);
    store.has(3).await;
    assert_eq!(store.numbers(1), [1, 2, 3]);
    assert_eq!(in_flight(&handle), 0);
    cancelled(handle).await;
}

#[tokio::test]
async fn rows_leave_as_they_are_answered_where_order_does_not_matter() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, in_any_order(), &stepped, &store)).await;
    [1, 2, 3].iter().for_each(|v| stepped.push(&[(0, *v, 0)]));
    outside.is_asked(&[1, 2, 3]).await;
    for (answered, n) in [(2, 1), (3, 2), (1, 3)] {
        outside.answer(answered);
        store.has(n).await;
    }
    assert_eq!(store.numbers(1), [2, 3, 1]);
    cancelled(handle).await;
}

#[tokio::test]
async fn no_more_batches_than_allowed_are_in_flight_and_the_source_waits() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::of((0..10).map(|v| vec![(0, v, 0)])), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, up_to(3), &stepped, &store)).await;
    outside.is_asked(&[0, 1, 2]).await;
    quiet().await;
    assert_eq!(outside.waiting(), [0, 1, 2]);
    assert_eq!(stepped.reads(), 4, "one more was read, and waits in front");
    for v in 0..10 {
        until("the next is asked", || outside.waiting().contains(&v)).await;
        outside.answer(v);
    }
    completes(&handle).await;
    assert_eq!(store.numbers(1), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_rows_than_allowed_are_in_flight_but_one_batch_always_is() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, AsyncSettings { rows: 3, ..AsyncSettings::default() }, &stepped, &store)).await;
    stepped.push(&[(0, 1, 0), (0, 2, 0)]);
    stepped.push(&[(0, 3, 0), (0, 4, 0)]);
    stepped.push(&[(0, 5, 0), (0, 6, 0), (0, 7, 0), (0, 8, 0)]);
    for first in [1, 3, 5] {
        outside.is_asked(&[first]).await;
        quiet().await;
        assert_eq!(outside.waiting(), [first]);
        outside.answer(first);
    }
    store.has(8).await;
    cancelled(handle).await;
}

#[tokio::test]
async fn a_watermark_waits_for_the_rows_before_it_and_no_row_overtakes_a_watermark() {
    let (bench, stepped, store, outside, seen) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new(), Arc::default());
    let time = EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), order: Order::Bounded, idle_timeout: None };
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .event_time(time)
        .add_operator("ask", outside.operator(in_any_order()))
        .add_operator("hold", hold(&seen))
        .add_sink("out", sink(&store))
        .connect("in", "ask")
        .connect("ask", "hold")
        .connect("hold", "out");
    let handle = bench.start(&job).await;
    [(1, 10), (2, 20), (3, 30)].iter().for_each(|(v, ts)| stepped.push(&[(0, *v, *ts)]));
    outside.is_asked(&[1, 2, 3]).await;
    // Answered, but between it and the first row lies a watermark.
    outside.answer(2);
    quiet().await;
    assert_eq!(*seen.lock().unwrap(), Vec::<i64>::new());
    outside.answer(1);
    until("the watermarks behind both", || seen.lock().unwrap().len() == 2).await;
    outside.answer(3);
    until("the last", || seen.lock().unwrap().len() == 3).await;
    let seen = seen.lock().unwrap().clone();
    assert!(seen.is_sorted() && seen[0] < 20 && seen[1] < 30, "{seen:?}");
    cancelled(handle).await;
}

#[tokio::test]
async fn a_barrier_waits_until_all_in_flight_has_been_handed_on() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new());
    let job = asking(&outside, AsyncSettings::default(), &stepped, &store);
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    stepped.push(&[(0, 2, 0)]);
    outside.is_asked(&[1, 2]).await;
    let saved = tokio::spawn({
        let (handle, folder) = (handle.clone(), bench.folder("saved"));
        async move { handle.savepoint(Some(folder)).await }
    });
    until("the source has seen the barrier", || *stepped.positions.borrow() >= 1).await;
    outside.answer(2);
    quiet().await;
    assert!(!saved.is_finished(), "the barrier overtook a row");
    outside.answer(1);
    let savepoint = within("the savepoint", saved).await.unwrap().unwrap();
    assert_eq!(store.numbers(1), [1, 2]);
    stepped.push(&[(0, 3, 0)]);
    outside.is_asked(&[3]).await;
    cancelled(handle).await;

    outside.asked.lock().unwrap().clear();
    let again = bench.start_from(&job, &savepoint).await;
    outside.is_asked(&[3]).await;
    outside.answer(3);
    store.has(3).await;
    assert_eq!(store.numbers(1), [1, 2, 3], "asked again: what was behind the barrier, and nothing else");
    cancelled(again).await;
}

#[tokio::test]
async fn the_end_of_the_input_waits_for_the_answers() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::of([vec![(0, 1, 0)]]), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, AsyncSettings::default(), &stepped, &store)).await;
    outside.is_asked(&[1]).await;
    quiet().await;
    assert_eq!(handle.status(), JobStatus::Running);
    outside.answer(1);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_is_answered_at_once_and_drops_what_is_in_flight() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::stream(), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, up_to(2), &stepped, &store)).await;
    [1, 2, 3].iter().for_each(|v| stepped.push(&[(0, *v, 0)]));
    outside.is_asked(&[1, 2]).await;
    let started = Instant::now();
    handle.cancel();
    assert_eq!(ended(&handle).await.status, JobStatus::Cancelled);
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    until("what was in flight is dropped", || outside.dropped.load(SeqCst) == 2).await;
}

#[tokio::test]
async fn rows_at_fault_go_by_the_error_policy_of_the_node() {
    for (policy, skipped) in [(OnError::Skip, 1), (OnError::Fail, 0)] {
        let (bench, stepped, store, outside) = (Bench::new(), Stepped::of([vec![(0, 1, 0), (0, 2, 0)]]), Store::new(), Outside::new());
        let job = graph(settings())
            .add_source("in", source(&stepped))
            .add_operator("ask", outside.operator(AsyncSettings::default()))
            .on_error(policy)
            .add_sink("out", sink(&store))
            .connect("in", "ask")
            .connect("ask", "out");
        let handle = bench.start(&job).await;
        outside.is_asked(&[1]).await;
        let (batch, answer) = outside.take(1);
        let bad = BadRecord { reason: "there are two of it".into(), ..BadRecord::default() };
        let _ = answer.send(Ok(Answer { batches: vec![batch.slice(1, 1)], bad: vec![bad] }));
        if policy == OnError::Skip {
            completes(&handle).await;
            assert_eq!(store.numbers(1), [2]);
        } else {
            let error = fails(&handle).await;
            assert!(error.contains("ask") && error.contains("there are two of it"), "{error}");
        }
        assert_eq!(handle.report().nodes.iter().find(|n| n.name == "ask").unwrap().metrics.skipped, skipped);
    }
}

#[tokio::test]
async fn an_answer_of_several_batches_is_handed_on_as_there_is_room() {
    let (bench, stepped, store, outside) =
        (Bench::new(), Stepped::of([vec![(0, 1, 0), (0, 2, 0), (0, 3, 0)], vec![(0, 4, 0)]]), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, AsyncSettings::default(), &stepped, &store)).await;
    outside.is_asked(&[1, 4]).await;
    outside.answer_with(4, Ok(Answer::default()));
    let (batch, answer) = outside.take(1);
    let _ = answer.send(Ok(Answer { batches: (0..3).map(|i| batch.slice(i, 1)).collect(), bad: Vec::new() }));
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1, 2, 3], "an answer may also be nothing");
}

#[tokio::test]
async fn an_error_or_a_panic_fails_the_job_and_names_the_node() {
    let (bench, stepped, store, outside) = (Bench::new(), Stepped::of([vec![(0, 1, 0)]]), Store::new(), Outside::new());
    let handle = bench.start(&asking(&outside, AsyncSettings::default(), &stepped, &store)).await;
    outside.is_asked(&[1]).await;
    outside.answer_with(1, Err(Error::external("the outside has burnt down")));
    let error = fails(&handle).await;
    assert!(error.contains("ask: the outside has burnt down"), "{error}");

    let (bench, stepped) = (Bench::new(), Stepped::of([vec![(0, PANICS, 0)]]));
    let handle = bench.start(&asking(&outside, AsyncSettings::default(), &stepped, &store)).await;
    let error = fails(&handle).await;
    assert!(error.contains("injected"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_and_in_order_when_the_outside_fails_in_the_middle() {
    let bench = Bench::with_wall_time();
    let (stepped, store, outside) = (Stepped::of((0..200).map(|v| vec![(0, v, 0)])), Store::transactional(), Outside::new());
    let mut settings = settings();
    settings.delivery = Delivery::ExactlyOnce;
    settings.restart = restarting(100);
    settings.checkpoint.interval = Span::millis(1);
    let job = graph(settings)
        .add_source("in", source(&stepped))
        .rate_limit(5_000)
        .add_operator("first", outside.operator(up_to(7)))
        .add_operator("between", identity())
        .add_operator("second", identity())
        .add_sink("out", sink(&store))
        .connect("in", "first")
        .connect("first", "between")
        .connect("between", "second")
        .connect("second", "out")
        .exchange(RequestedExchange::Global);
    let handle = bench.start(&job).await;
    let answering = tokio::spawn({
        let outside = Arc::clone(&outside);
        async move {
            let mut failures = 5;
            let mut newest = 0;
            loop {
                // The youngest first, so that order is the engine's work.
                match outside.waiting().last().copied() {
                    Some(v) if failures > 0 && v > newest + 20 => {
                        (failures, newest) = (failures - 1, v);
                        outside.answer_with(v, Err(Error::connection("gone")));
                    }
                    Some(v) => outside.answer(v),
                    None => tokio::task::yield_now().await,
                }
            }
        }
    });
    completes(&handle).await;
    answering.abort();
    assert_eq!(store.numbers(1), (0..200).collect::<Vec<_>>());
    assert!(handle.report().checkpoints.completed > 1);
}
