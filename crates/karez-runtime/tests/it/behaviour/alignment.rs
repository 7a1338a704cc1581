//! Barriers, watermarks and the end over several inputs.

use std::sync::{Arc, Mutex};

use karez_core::config::Span;
use karez_graph::{EventTime, Order, StreamGraphBuilder};

use super::bench::{Bench, completes, ended, graph, quiet, settings, until, within};
use super::operators::{Barrier, Restored, hold, recorder};
use super::sink::{Store, sink};
use super::source::{Stepped, source};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_holds_exactly_the_rows_before_the_barriers_of_a_fast_and_a_slow_input() {
    let bench = Bench::new();
    let (fast, slow, held, store, restored) = (Stepped::stream(), Stepped::stream(), Arc::new(Barrier::default()), Store::new(), Restored::default());
    let job = graph(settings())
        .add_source("fast", source(&fast))
        .add_source("slow", source(&slow))
        .add_operator("held", held.operator())
        .add_operator("both", recorder(&restored))
        .add_sink("out", sink(&store))
        .connect("slow", "held")
        .connect("fast", "both")
        .connect("held", "both")
        .connect("both", "out");
    let handle = bench.start(&job).await;
    fast.push(&[(0, 1, 0), (0, 2, 0)]);
    slow.push(&[(0, 100, 0)]);
    store.has(2).await;
    until("the slow input is held up", || slow.reads() == 1).await;

    // The fast input delivers its barrier, and a row behind it, while the slow one still holds a row before its own.
    let folder = bench.folder("savepoints");
    let saved = tokio::spawn({
        let (handle, folder) = (handle.clone(), folder.clone());
        async move { handle.savepoint(Some(folder)).await.unwrap() }
    });
    until("the fast source has seen the barrier", || *fast.positions.borrow() >= 1).await;
    fast.push(&[(0, 3, 0)]);
    until("the fast source has read on", || fast.reads() == 2).await;
    held.release();
    let savepoint = within("the savepoint", saved).await.unwrap();
    store.has(4).await;
    assert_eq!(store.numbers(1).last(), Some(&3), "the row behind the barrier came before the alignment");
    handle.cancel();
    ended(&handle).await;

    restored.lock().unwrap().clear();
    let again = bench.start_from(&job, &savepoint).await;
    store.has(5).await;
    assert_eq!(store.numbers(1)[4..], [3], "the row behind the barrier is read again, and no other");
    let mut seen = restored.lock().unwrap().concat();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 100]);
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn a_bounded_source_that_has_ended_does_not_hang_the_checkpoints_of_a_stream_beside_it() {
    let bench = Bench::new();
    let (bounded, stream, store, restored) = (Stepped::of([vec![(0, 1, 0)]]), Stepped::stream(), Store::new(), Restored::default());
    let job = graph(settings())
        .add_source("bounded", source(&bounded))
        .add_source("stream", source(&stream))
        .add_operator("both", recorder(&restored))
        .add_sink("out", sink(&store))
        .connect("bounded", "both")
        .connect("stream", "both")
        .connect("both", "out");
    let handle = bench.start(&job).await;
    stream.push(&[(0, 2, 0)]);
    store.has(2).await;
    within("a first savepoint", handle.savepoint(None)).await.unwrap();
    stream.push(&[(0, 3, 0)]);
    store.has(3).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;

    // The ended source does not begin anew, and the job can still end.
    stream.push(&[(0, 4, 0)]);
    stream.close(0);
    let again = bench.start(&job).await;
    completes(&again).await;
    assert_eq!(store.sorted(1), [1, 2, 3, 4]);
}

/// Rows of one source are held until the watermark, which is recorded, lets them go.
fn holding(
    stepped: &Arc<Stepped>,
    idle_ms: Option<u64>,
    parallelism: usize,
    watermarks: &Arc<Mutex<Vec<i64>>>,
    store: &Arc<Store>,
) -> StreamGraphBuilder {
    graph(settings())
        .add_source("in", source(stepped))
        .parallelism(parallelism)
        .event_time(event_time(idle_ms))
        .add_operator("hold", hold(watermarks))
        .add_sink("out", sink(store))
        .connect("in", "hold")
        .connect("hold", "out")
}

fn event_time(idle_ms: Option<u64>) -> EventTime {
    EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), idle_timeout: idle_ms.map(Span::millis), order: Order::Bounded }
}

#[tokio::test]
async fn an_idle_split_does_not_hold_the_watermark_back_and_when_all_are_idle_it_goes_to_their_maximum() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::new(false, &["a", "b"]), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, Some(5), 1, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push_to(0, &[(0, 1, 10), (0, 2, 21)]);
    // Split b has said nothing so far, and does not count any more.
    store.has(1).await;
    assert_eq!(watermarks.lock().unwrap().last(), Some(&20));
    // b comes back behind the watermark and holds it there.
    stepped.push_to(1, &[(1, 3, 15)]);
    until("b is read", || stepped.reads() == 2).await;
    stepped.push_to(0, &[(0, 4, 50)]);
    // All idle: the maximum is what a has reached, which lets everything before 50 go.
    store.has(3).await;
    assert_eq!(watermarks.lock().unwrap().last(), Some(&49));
    assert_eq!(store.sorted(1), [1, 2, 3]);
    handle.cancel();
    ended(&handle).await;
}

#[tokio::test]
async fn a_split_of_which_nobody_knows_whether_it_has_rows_holds_the_watermark_back() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::new(false, &["a", "b"]), Store::new(), Arc::new(Mutex::new(Vec::new())));
    stepped.pend(1, true);
    let job = holding(&stepped, Some(1), 1, &watermarks, &store);
    let handle = bench.start(&job).await;
    for n in 1..=20 {
        stepped.push_to(0, &[(0, n, n * 10)]);
        until("a is read", || stepped.reads() == usize::try_from(n).unwrap()).await;
    }
    // Long after the idle timeout: b has been asked again and again, and has not said that there is nothing.
    assert!(watermarks.lock().unwrap().is_empty(), "{watermarks:?}");
    stepped.pend(1, false);
    store.has(19).await;
    handle.cancel();
    ended(&handle).await;
}

#[tokio::test]
async fn an_idle_source_does_not_hold_back_the_watermark_of_a_node_with_two_inputs() {
    let bench = Bench::new();
    let (busy, idle, store, watermarks) = (Stepped::stream(), Stepped::stream(), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = graph(settings())
        .add_source("busy", source(&busy))
        .event_time(event_time(None))
        .add_source("idle", source(&idle))
        .event_time(event_time(Some(5)))
        .add_operator("hold", hold(&watermarks))
        .add_sink("out", sink(&store))
        .connect("busy", "hold")
        .connect("idle", "hold")
        .connect("hold", "out");
    let handle = bench.start(&job).await;
    idle.say_nothing(0);
    busy.push(&[(0, 1, 10), (0, 2, 20)]);
    store.has(1).await;
    assert_eq!(*watermarks.lock().unwrap(), [19]);
    handle.cancel();
    ended(&handle).await;
}

#[tokio::test]
async fn event_time_goes_on_where_it_stood_at_the_restored_checkpoint() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::stream(), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, None, 1, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 100), (0, 2, 200)]);
    store.has(1).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;

    watermarks.lock().unwrap().clear();
    let again = bench.start(&job).await;
    until("the watermark is told", || !watermarks.lock().unwrap().is_empty()).await;
    assert_eq!(*watermarks.lock().unwrap(), [199]);
    // A row that would have been late is late still.
    stepped.push(&[(0, 3, 150)]);
    stepped.push(&[(0, 4, 300)]);
    store.has(3).await;
    assert_eq!(*watermarks.lock().unwrap(), [199, 299]);
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn the_watermark_of_each_split_is_restored() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::new(false, &["a", "b"]), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, None, 1, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push_to(0, &[(0, 1, 100)]);
    stepped.push_to(1, &[(0, 2, 40), (0, 3, 50)]);
    store.has(1).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;
    assert_eq!(*watermarks.lock().unwrap(), [49]);

    let again = bench.start(&job).await;
    // a has reached 100 before the stop, and need not say so again.
    stepped.push_to(1, &[(0, 4, 200)]);
    store.has(2).await;
    assert_eq!(*watermarks.lock().unwrap(), [49, 49, 99]);
    assert_eq!(store.numbers(1), [2, 3]);
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn a_restored_split_that_has_no_more_rows_tells_how_far_it_had_come() {
    let splits = split_of_each_subtask();
    let (bench, stepped) = (Bench::new(), Stepped::new(false, &splits.each_ref().map(String::as_str)));
    let (store, watermarks) = (Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, None, 2, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push_to(0, &[(0, 1, 100)]);
    until("the row is read", || stepped.reads() == 1).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;
    assert!(watermarks.lock().unwrap().is_empty(), "the source as a whole had no watermark, since one split had none");

    let again = bench.start(&job).await;
    stepped.push_to(1, &[(1, 2, 51)]);
    until("the watermark", || *watermarks.lock().unwrap() == [50]).await;
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn a_checkpoint_before_the_restored_splits_are_handed_out_keeps_their_watermarks() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::new(false, &["a", "b"]), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, None, 1, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push_to(0, &[(0, 1, 100)]);
    stepped.push_to(1, &[(0, 2, 50)]);
    until("the watermark", || *watermarks.lock().unwrap() == [49]).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;

    // Asked for before the coordinator has looked for splits.
    let early = bench.start(&job).await;
    within("a stop", early.stop()).await.unwrap();
    ended(&early).await;

    let again = bench.start(&job).await;
    stepped.push_to(1, &[(0, 4, 200)]);
    until("the watermark of a", || watermarks.lock().unwrap().last() == Some(&99)).await;
    again.cancel();
    ended(&again).await;
}

#[tokio::test]
async fn a_batch_job_has_no_watermark_before_the_end() {
    let bench = Bench::new();
    let (stepped, store, watermarks) = (Stepped::of([vec![(0, 1, 10)], vec![(0, 2, 20)]]), Store::new(), Arc::new(Mutex::new(Vec::new())));
    let mut settings = settings();
    settings.job_type = karez_graph::settings::JobType::Batch;
    let job = graph(settings)
        .add_source("in", source(&stepped))
        .event_time(event_time(None))
        .add_operator("hold", hold(&watermarks))
        .add_sink("out", sink(&store))
        .connect("in", "hold")
        .connect("hold", "out");
    completes(&bench.start(&job).await).await;
    assert_eq!(*watermarks.lock().unwrap(), [i64::MAX]);
    assert_eq!(store.numbers(1), [1, 2]);
}

#[tokio::test]
async fn a_subtask_that_has_no_split_before_splits_have_been_looked_for_is_not_idle() {
    // The subtasks ask for splits before the coordinator has looked for any.
    let splits = split_of_each_subtask();
    let (bench, stepped) = (Bench::new(), Stepped::new(false, &splits.each_ref().map(String::as_str)));
    let (store, watermarks) = (Store::new(), Arc::new(Mutex::new(Vec::new())));
    let job = holding(&stepped, None, 2, &watermarks, &store);
    let handle = bench.start(&job).await;
    stepped.push_to(0, &[(0, 1, 100)]);
    until("the row is read", || stepped.reads() == 1).await;
    quiet().await;
    assert!(watermarks.lock().unwrap().is_empty(), "the rows of the other split would be late");
    stepped.push_to(1, &[(1, 2, 51)]);
    until("the watermark", || *watermarks.lock().unwrap() == [50]).await;
    handle.cancel();
    ended(&handle).await;
}

/// One split for each of two subtasks.
fn split_of_each_subtask() -> [String; 2] {
    [0, 1].map(|subtask| (0..).map(|i| format!("split-{i}")).find(|id| xxhash_rust::xxh3::xxh3_64(id.as_bytes()) % 2 == subtask).unwrap())
}
