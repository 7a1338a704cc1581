//! Dead letters fed again: once, where they belong, whatever fails; and none for a sink that is away.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use karez_core::config::Span;
use karez_core::{Letter, RunId};
use karez_graph::settings::{Delivery, RestartStrategy};
use karez_graph::stream_graph::EventTime;
use karez_graph::{JobSettings, OnError, StreamGraphBuilder};
use karez_runtime::replay::{RunView, queue, view};
use karez_runtime::{JobHandle, JobStatus};

use super::bench::{Bench, completes, ended, graph, restarting, settings, until, within};
use super::operators::{Faults, counter, hold, identity, positive};
use super::sink::{Store, sink};
use super::source::{Row, Stepped, source};

fn raw(id: &str, node: &str, text: &str) -> Letter {
    Letter { id: id.into(), node: node.into(), raw: Some(text.as_bytes().to_vec().into()), ..Letter::default() }
}

fn row(id: &str, node: &str, (key, value, ts): Row) -> Letter {
    let ts = chrono_text(ts);
    Letter { id: id.into(), node: node.into(), row: Some(format!(r#"{{"key":{key},"value":{value},"ts":"{ts}"}}"#)), ..Letter::default() }
}

fn chrono_text(ms: i64) -> String {
    format!("1970-01-01T00:00:{:02}.{:03}", ms / 1_000, ms % 1_000)
}

fn give(bench: &Bench, run: &RunId, letters: Vec<Letter>) {
    queue(&bench.folder("state").join("job"), run, letters, false, 1).unwrap();
}

async fn replay(bench: &Bench, handle: &JobHandle, letters: Vec<Letter>) -> Vec<String> {
    give(bench, handle.run(), letters);
    within("the letters to be taken", handle.replay()).await.unwrap().refused
}

async fn checkpoint(handle: &JobHandle) {
    within("a savepoint", handle.savepoint(None)).await.unwrap();
}

fn seen(bench: &Bench) -> RunView {
    view(&bench.folder("state"), "job", None).unwrap().unwrap()
}

fn exactly_once(restart: RestartStrategy) -> JobSettings {
    let mut settings = settings();
    settings.delivery = Delivery::ExactlyOnce;
    settings.restart = restart;
    settings
}

fn counting(settings: JobSettings, stepped: &Arc<Stepped>, faults: &Arc<Faults>, store: &Arc<Store>, parallelism: usize) -> StreamGraphBuilder {
    graph(settings)
        .add_source("in", source(stepped))
        .add_operator("faults", faults.operator())
        .add_operator("count", counter())
        .parallelism(parallelism)
        .add_sink("out", sink(store))
        .parallelism(parallelism)
        .connect("in", "faults")
        .connect("faults", "count")
        .connect("count", "out")
}

// ===== where letters enter =====

#[tokio::test]
async fn bytes_are_decoded_by_their_source_again_and_count_with_the_rows_of_their_key() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let handle = bench.start(&counting(exactly_once(RestartStrategy::None {}), &stepped, &Faults::at(&[], false), &store, 2)).await;
    stepped.push(&[(1, 10, 0), (2, 20, 0)]);
    until("the rows are read", || stepped.reads() == 1).await;
    assert_eq!(replay(&bench, &handle, vec![raw("a", "in", "1 11 0"), raw("b", "in", "3 30 0")]).await, [""; 0]);
    checkpoint(&handle).await;
    store.has(4).await;
    let mut rows: Vec<_> = store.rows().into_iter().map(|(_, r)| r.join(" ")).collect();
    rows.sort();
    assert_eq!(rows, ["1 10 1", "1 11 2", "2 20 1", "3 30 1"]);
    let replays = seen(&bench).replays;
    assert!(replays.len() == 1 && replays[0].is_complete(), "marked in the epoch in which they count: {replays:?}");
    assert!(handle.replay().await.unwrap().letters == 0, "they are not fed again");
    assert_eq!(handle.report().nodes[0].metrics.custom["replayed"], 2);
}

#[tokio::test]
async fn a_row_that_an_operator_refused_is_fed_to_it_and_not_to_its_siblings() {
    let (bench, stepped, one, other) = (Bench::new(), Stepped::stream(), Store::new(), Store::new());
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .add_operator("first", identity())
        .add_operator("positive", positive())
        .add_sink("one", sink(&one))
        .add_sink("other", sink(&other))
        .connect("in", "first")
        .connect("first", "positive")
        .connect("positive", "one")
        .connect("first", "other");
    let handle = bench.start(&job).await;
    stepped.push(&[(1, 10, 0)]);
    one.has(1).await;
    assert_eq!(replay(&bench, &handle, vec![row("a", "positive", (2, 20, 0))]).await, [""; 0]);
    one.has(2).await;
    checkpoint(&handle).await;
    assert_eq!((one.numbers(1), other.numbers(1)), (vec![10, 20], vec![10]));
}

#[tokio::test]
async fn a_row_of_a_keyed_operator_goes_to_the_subtask_of_its_key() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let handle = bench.start(&counting(exactly_once(RestartStrategy::None {}), &stepped, &Faults::at(&[], false), &store, 3)).await;
    let keys = 0..20;
    stepped.push(&keys.clone().map(|k| (k, k, 0)).collect::<Vec<_>>());
    until("the rows are read", || stepped.reads() == 1).await;
    checkpoint(&handle).await;
    let letters = keys.clone().map(|k| row(&k.to_string(), "count", (k, k + 100, 0))).collect();
    assert_eq!(replay(&bench, &handle, letters).await, [""; 0]);
    checkpoint(&handle).await;
    store.has(40).await;
    for (_, r) in store.rows().into_iter().filter(|(_, r)| r[1].parse::<i64>().unwrap() >= 100) {
        assert_eq!(r[2], "2", "key {} was counted beside its own count", r[0]);
    }
}

#[tokio::test]
async fn a_row_that_a_sink_refused_is_written_by_it() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    *store.refused_by_writer.lock().unwrap() = vec![2];
    let job = graph(exactly_once(RestartStrategy::None {}));
    let job = job
        .add_source("in", source(&stepped))
        .add_sink("out", sink(&store))
        .on_error(OnError::DeadLetter)
        .add_sink("letters", sink(&Store::transactional()))
        .connect("in", "out")
        .connect_port("out", "errors", "letters");
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0), (0, 2, 0)]);
    until("the rows are read", || stepped.reads() == 1).await;
    assert_eq!(replay(&bench, &handle, vec![row("a", "out", (0, 3, 0))]).await, [""; 0]);
    checkpoint(&handle).await;
    store.has(2).await;
    assert_eq!(store.sorted(1), [1, 3]);
}

#[tokio::test]
async fn what_cannot_be_fed_is_refused_with_its_reason() {
    let (bench, ends, stream, store) = (Bench::new(), Stepped::of([vec![(1, 1, 0)]]), Stepped::stream(), Store::new());
    let job = graph(settings())
        .add_source("ends", source(&ends))
        .add_source("stream", source(&stream))
        .add_operator("both", identity())
        .add_sink("out", sink(&store))
        .connect("ends", "both")
        .connect("stream", "both")
        .connect("both", "out");
    let handle = bench.start(&job).await;
    store.has(1).await;
    checkpoint(&handle).await;
    let refused = replay(&bench, &handle, vec![raw("a", "ends", "1 2 0"), row("b", "nobody", (1, 2, 0))]).await;
    assert_eq!(refused, ["letter a: the input of `ends` has ended in this run", "letter b: the job has no node `nobody`"]);
}

// ===== bad still =====

#[tokio::test]
async fn a_letter_that_is_bad_still_is_a_letter_again_that_names_the_one_before() {
    let (bench, stepped, store, letters) = (Bench::new(), Stepped::stream(), Store::new(), Store::new());
    let job = graph(settings())
        .add_source("in", source(&stepped))
        .on_error(OnError::DeadLetter)
        .add_sink("out", sink(&store))
        .add_sink("letters", sink(&letters))
        .connect("in", "out")
        .connect_port("in", "errors", "letters");
    let handle = bench.start(&job).await;
    let before = Letter { origin: Some("file=x offset=7".into()), ..raw("a", "in", "nonsense") };
    replay(&bench, &handle, vec![before, raw("b", "in", "1 2 0")]).await;
    letters.has(1).await;
    store.has(1).await;
    let (_, letter) = letters.rows().remove(0);
    assert_eq!(letter[3], "no three numbers");
    assert!(letter[4].starts_with("replay=") && letter[4].ends_with(" letter=a file=x offset=7"), "{}", letter[4]);
    assert_eq!(letter[8].len(), 16, "it has an id of its own: {}", letter[8]);
}

#[tokio::test]
async fn a_letter_that_is_bad_still_does_not_fail_a_job_that_fails_on_bad_records() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    let job = graph(settings()).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    replay(&bench, &handle, vec![raw("a", "in", "nonsense"), raw("b", "in", "1 2 0")]).await;
    store.has(1).await;
    assert_eq!(handle.status(), JobStatus::Running);
    assert_eq!(handle.report().nodes[0].metrics.skipped, 1);
}

#[tokio::test]
async fn a_decoder_whose_registry_is_away_is_asked_again() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    stepped.failing_decodes.store(2, SeqCst);
    let job = graph(settings()).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    replay(&bench, &handle, vec![raw("a", "in", "1 2 0")]).await;
    store.has(1).await;
    assert_eq!(store.numbers(1), [2]);
    assert_eq!(handle.report().nodes[0].metrics.skipped, 0);
}

// ===== once =====

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_count_once_whatever_row_an_attempt_fails_at_and_with_whatever_parallelism_it_goes_on() {
    const LETTERS: i64 = 700;
    for seed in 0..8_usize {
        let bench = Bench::with_wall_time();
        let (stepped, store) = (Stepped::new(true, &["only"]), Store::transactional());
        let mut settings = exactly_once(restarting(50));
        settings.checkpoint.interval = Span::millis(1);
        let at: Vec<usize> = (0..4).map(|i| (seed * 97 + i * 211) % 900).collect();
        let faults = Faults::at(&at, seed % 2 == 1);
        let job = |parallelism| counting(settings.clone(), &stepped, &faults, &store, parallelism);
        let first = bench.start(&job(1 + seed % 3)).await;
        // Of the source, and of a keyed operator.
        let letters = (0..LETTERS).map(|i| {
            let id = format!("l{i}");
            if i % 2 == 0 { raw(&id, "in", &format!("{} {i} 0", i % 7)) } else { row(&id, "count", (i % 7, i, 0)) }
        });
        give(&bench, first.run(), letters.collect());
        first.replay().await.unwrap();
        for i in 0..30 {
            stepped.push(&(0..10).map(|j| (j % 7, LETTERS + i * 10 + j, 0)).collect::<Vec<_>>());
            if seed % 2 == 0 {
                tokio::task::yield_now().await;
            }
        }
        first.cancel();
        ended(&first).await;
        let second = bench.start(&job(1 + (seed + 1) % 3)).await;
        assert_eq!(second.run(), first.run());
        stepped.close(0);
        completes(&second).await;
        assert_eq!(store.sorted(1), (0..LETTERS + 300).collect::<Vec<_>>(), "seed {seed}");
        for key in 0..7 {
            let mut counts: Vec<i64> = store.rows().iter().filter(|(_, r)| r[0] == key.to_string()).map(|(_, r)| r[2].parse().unwrap()).collect();
            counts.sort_unstable();
            assert_eq!(counts, (1..=i64::try_from(counts.len()).unwrap()).collect::<Vec<_>>(), "key {key}, seed {seed}");
        }
        let replays = seen(&bench).replays;
        assert!(replays.iter().all(karez_runtime::replay::Progress::is_complete), "{replays:?}");
    }
}

#[tokio::test]
async fn letters_queued_while_the_job_is_stopped_are_fed_by_its_next_start_and_those_of_another_run_are_not() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let job = counting(exactly_once(RestartStrategy::None {}), &stepped, &Faults::at(&[], false), &store, 1);
    let first = bench.start(&job).await;
    within("the stop", first.stop()).await.unwrap();
    ended(&first).await;
    give(&bench, first.run(), vec![raw("a", "in", "1 1 0")]);
    give(&bench, &RunId("another".into()), vec![raw("b", "in", "2 2 0")]);
    let second = bench.start(&job).await;
    until("the letter is fed", || second.report().nodes[0].metrics.custom.contains_key("replayed")).await;
    checkpoint(&second).await;
    store.has(1).await;
    assert_eq!(store.numbers(1), [1]);
}

#[tokio::test]
async fn a_paused_job_feeds_letters_when_it_goes_on() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::new());
    let job = graph(settings()).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    handle.pause().await.unwrap();
    replay(&bench, &handle, vec![raw("a", "in", "1 1 0")]).await;
    checkpoint(&handle).await;
    assert!(store.rows().is_empty());
    handle.resume().await.unwrap();
    store.has(1).await;
}

#[tokio::test]
async fn letters_given_to_a_paused_job_are_fed_before_its_input_is_ended() {
    let (bench, stepped, store) = (Bench::new(), Stepped::stream(), Store::transactional());
    let job = graph(exactly_once(RestartStrategy::None {})).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    handle.pause().await.unwrap();
    replay(&bench, &handle, vec![raw("a", "in", "1 1 0")]).await;
    within("the drain", handle.drain()).await.unwrap();
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1]);
    assert!(seen(&bench).replays[0].is_complete());
}

#[tokio::test]
async fn letters_that_come_as_the_input_ends_are_not_fed_and_the_run_does_not_say_they_were() {
    let (bench, stepped, store) = (Bench::new(), Stepped::of([vec![(0, 1, 0)]]), Store::transactional());
    let job = graph(exactly_once(RestartStrategy::None {})).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    // It tries for a while to write what it has read: by then its input has ended.
    store.away.store(5, SeqCst);
    let handle = bench.start(&job).await;
    until("it is at its end", || handle.report().nodes[1].metrics.retried > 0).await;
    give(&bench, handle.run(), vec![raw("a", "in", "1 2 0")]);
    // The job may end before it answers.
    drop(handle.replay().await);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1]);
    let seen = seen(&bench);
    assert!(seen.finished && seen.replays.iter().all(|r| r.fed.is_empty()), "{:?}", seen.replays);
}

#[tokio::test]
async fn a_run_for_letters_alone_reads_nothing_else_and_completes() {
    let (bench, stepped, store) = (Bench::new(), Stepped::of([vec![(1, 1, 0)]]), Store::transactional());
    let job = graph(exactly_once(RestartStrategy::None {})).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    completes(&bench.start(&job).await).await;
    assert_eq!(store.numbers(1), [1]);
    let letters = karez_runtime::checkpoint::Start::Letters(vec![raw("a", "in", "2 2 0")]);
    // Its commits bear numbers that the run before has used.
    let store = Store::transactional();
    let job = graph(exactly_once(RestartStrategy::None {})).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let alone = bench.start_as(&job, letters.clone()).await.unwrap();
    completes(&alone).await;
    assert_eq!(store.numbers(1), [2]);
    assert!(seen(&bench).finished && seen(&bench).replays[0].is_complete());
    // A run that is not over takes letters itself.
    let stream = Stepped::stream();
    let job = graph(exactly_once(RestartStrategy::None {})).add_source("in", source(&stream)).add_sink("out", sink(&store)).connect("in", "out");
    let running = bench.start(&job).await;
    within("the stop", running.stop()).await.unwrap();
    ended(&running).await;
    let error = bench.start_as(&job, letters).await.unwrap_err().to_string();
    assert!(error.contains("is not over"), "{error}");
}

// ===== event time =====

fn timed(stepped: &[&Arc<Stepped>], watermarks: &Arc<Mutex<Vec<i64>>>, store: &Arc<Store>, idle: Option<u64>) -> StreamGraphBuilder {
    let time = EventTime {
        column: "ts".into(),
        max_out_of_orderness: Span::millis(0),
        idle_timeout: idle.map(Span::millis),
        order: karez_graph::stream_graph::Order::Bounded,
    };
    let mut job = graph(settings());
    for (i, stepped) in stepped.iter().enumerate() {
        job = job.add_source(format!("in{i}"), source(stepped)).event_time(time.clone());
    }
    job = job.add_operator("hold", hold(watermarks)).parallelism(1).add_sink("out", sink(store)).connect("hold", "out");
    for i in 0..stepped.len() {
        job = job.connect(format!("in{i}"), "hold");
    }
    job
}

#[tokio::test]
async fn letters_neither_hold_the_watermark_back_nor_move_it() {
    let (bench, stepped, store, watermarks) = (Bench::new(), Stepped::stream(), Store::new(), Arc::default());
    let handle = bench.start(&timed(&[&stepped], &watermarks, &store, None)).await;
    stepped.push(&[(0, 1, 100)]);
    until("the watermark", || watermarks.lock().unwrap().last() == Some(&99)).await;
    // One of long ago, one of long from now.
    replay(&bench, &handle, vec![raw("a", "in0", "0 2 5"), raw("b", "in0", "0 3 9000")]).await;
    checkpoint(&handle).await;
    stepped.push(&[(0, 4, 200)]);
    until("the watermark", || watermarks.lock().unwrap().last() == Some(&199)).await;
    assert_eq!(*watermarks.lock().unwrap(), [99, 199]);
    store.has(2).await;
    assert_eq!(store.sorted(1), [1, 2], "those of the future wait for the future");
}

#[tokio::test]
async fn a_letter_for_an_idle_source_does_not_hold_the_others_back_afterwards() {
    let (bench, store, watermarks) = (Bench::new(), Store::new(), Arc::default());
    let (idle, busy) = (Stepped::stream(), Stepped::stream());
    idle.say_nothing(0);
    let handle = bench.start(&timed(&[&idle, &busy], &watermarks, &store, Some(1))).await;
    busy.push(&[(0, 1, 100)]);
    until("the idle source holds nothing back", || watermarks.lock().unwrap().last() == Some(&99)).await;
    replay(&bench, &handle, vec![raw("a", "in0", "0 2 5")]).await;
    checkpoint(&handle).await;
    busy.push(&[(0, 3, 200)]);
    until("nor after the letter", || watermarks.lock().unwrap().last() == Some(&199)).await;
}

#[tokio::test]
async fn a_restored_job_feeds_letters_when_event_time_is_back_where_it_was() {
    let (bench, stepped, store, watermarks) = (Bench::new(), Stepped::stream(), Store::new(), Arc::default());
    let job = timed(&[&stepped], &watermarks, &store, None);
    let first = bench.start(&job).await;
    stepped.push(&[(0, 1, 100)]);
    until("the watermark", || watermarks.lock().unwrap().last() == Some(&99)).await;
    within("the stop", first.stop()).await.unwrap();
    ended(&first).await;
    give(&bench, first.run(), vec![raw("a", "in0", "0 2 5"), row("b", "hold", (0, 3, 6))]);
    watermarks.lock().unwrap().clear();
    let second = bench.start(&job).await;
    until("both are fed", || {
        let fed = |n: &karez_runtime::NodeReport| n.metrics.custom.get("replayed").copied().unwrap_or(0);
        second.report().nodes.iter().map(fed).sum::<u64>() == 2
    })
    .await;
    assert_eq!(*watermarks.lock().unwrap(), [99]);
    stepped.push(&[(0, 4, 200)]);
    store.has(3).await;
    assert_eq!(store.sorted(1), [1, 2, 3]);
}

// ===== the last commit =====

#[tokio::test]
async fn rows_that_the_last_commit_refuses_are_letters_of_one_more_epoch_without_a_restart() {
    let bench = Bench::new();
    let (stepped, store, letters) = (Stepped::of([vec![(0, 1, 0), (0, 2, 0), (0, 3, 0)]]), Store::transactional(), Store::transactional());
    *store.refused_by_committer.lock().unwrap() = vec![2, 3];
    let job = graph(exactly_once(RestartStrategy::None {}))
        .add_source("in", source(&stepped))
        .add_sink("out", sink(&store))
        .on_error(OnError::DeadLetter)
        .add_sink("letters", sink(&letters))
        .connect("in", "out")
        .connect_port("out", "errors", "letters");
    let handle = bench.start(&job).await;
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1]);
    let mut reasons: Vec<_> = letters.rows().into_iter().map(|(_, r)| r[3].clone()).collect();
    reasons.sort();
    assert_eq!(reasons, ["2 is refused", "3 is refused"]);
    assert_eq!(handle.report().restarts, 0);
    let ids: Vec<_> = letters.rows().into_iter().map(|(_, r)| r[8].clone()).collect();
    assert_ne!(ids[0], ids[1]);
}

// ===== a sink that is away =====

#[tokio::test]
async fn a_sink_that_is_away_holds_the_rows_and_gives_no_letter_nor_restart() {
    let bench = Bench::new();
    let (stepped, store, letters) = (Stepped::new(true, &["only"]), Store::transactional(), Store::transactional());
    let job = graph(exactly_once(RestartStrategy::None {}))
        .add_source("in", source(&stepped))
        .add_sink("out", sink(&store))
        .on_error(OnError::DeadLetter)
        .add_sink("letters", sink(&letters))
        .connect("in", "out")
        .connect_port("out", "errors", "letters");
    let handle = bench.start(&job).await;
    stepped.push(&[(0, 1, 0)]);
    until("the row is read", || stepped.reads() == 1).await;
    // At the barrier.
    store.away.store(2, SeqCst);
    checkpoint(&handle).await;
    store.has(1).await;
    // At the flush of the end, and at the last barrier.
    stepped.push(&[(0, 2, 0)]);
    until("the row is read", || stepped.reads() == 2).await;
    store.away.store(2, SeqCst);
    stepped.close(0);
    completes(&handle).await;
    assert_eq!(store.numbers(1), [1, 2]);
    assert!(letters.rows().is_empty());
    assert_eq!(handle.report().restarts, 0);
    assert_eq!(handle.report().nodes[1].metrics.retried, 4);
}

#[tokio::test]
async fn a_write_that_finds_nobody_is_tried_again_while_the_source_waits() {
    let bench = Bench::new();
    let (stepped, store) = (Stepped::of((0..20).map(|i| vec![(0, i, 0)])), Store::new());
    store.away.store(2, SeqCst);
    let job = graph(settings()).add_source("in", source(&stepped)).add_sink("out", sink(&store)).connect("in", "out");
    let handle = bench.start(&job).await;
    until("the sink is asked again", || handle.report().nodes[1].metrics.retried > 0).await;
    assert_eq!(stepped.reads(), 1, "nothing is read meanwhile");
    completes(&handle).await;
    assert_eq!(store.numbers(1), (0..20).collect::<Vec<_>>());
}
