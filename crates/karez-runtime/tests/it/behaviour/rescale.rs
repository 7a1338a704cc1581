//! State goes on with another parallelism, and where keys meet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use karez_graph::{RequestedExchange, StreamGraphBuilder};

use super::bench::{Bench, completes, ended, fails, graph, settings, until, within};
use super::operators::{Restored, counter, identity, recorder};
use super::sink::{Store, sink};
use super::source::{Row, Stepped, source};

fn job(parallelism: usize, stepped: &Arc<Stepped>, restored: &Restored, store: &Arc<Store>) -> StreamGraphBuilder {
    let mut settings = settings();
    settings.parallelism = parallelism;
    graph(settings)
        .add_source("in", source(stepped))
        .add_operator("seen", recorder(restored))
        .add_operator("count", counter())
        .add_sink("out", sink(store))
        .connect("in", "seen")
        .connect("seen", "count")
        .connect("count", "out")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyed_and_list_state_is_restored_with_one_two_three_and_one_subtasks() {
    let bench = Bench::new();
    let (stepped, restored, store) = (Stepped::new(false, &["a", "b", "c"]), Restored::default(), Store::new());
    let mut pushed: Vec<i64> = Vec::new();
    for (round, parallelism) in [1_usize, 2, 3, 1].into_iter().enumerate() {
        restored.lock().unwrap().clear();
        let handle = bench.start(&job(parallelism, &stepped, &restored, &store)).await;
        for key in 0..30_i64 {
            let value = i64::try_from(round).unwrap() * 100 + key;
            stepped.push_to(usize::try_from(key).unwrap() % 3, &[(key, value, 0)]);
        }
        store.has(30 * (round + 1)).await;
        let lists = restored.lock().unwrap().clone();
        assert_eq!(lists.len(), parallelism);
        let mut all = lists.concat();
        all.sort_unstable();
        assert_eq!(all, pushed, "the list state of round {round}");
        pushed.extend((0..30).map(|k| i64::try_from(round).unwrap() * 100 + k));
        within("a stop", handle.stop()).await.unwrap();
        ended(&handle).await;
    }
    let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, row) in store.rows() {
        counts.entry(row[0].clone()).or_default().push(row[2].clone());
    }
    assert_eq!(counts.len(), 30);
    assert!(counts.values().all(|c| *c == ["1", "2", "3", "4"]), "{counts:?}");
}

#[tokio::test]
async fn state_that_the_operator_no_longer_asks_for_is_refused_with_the_name_of_the_node() {
    let bench = Bench::new();
    let (stepped, restored, store) = (Stepped::stream(), Restored::default(), Store::new());
    let line = |operator| {
        graph(settings())
            .add_source("in", source(&stepped))
            .add_operator("seen", operator)
            .add_sink("out", sink(&store))
            .connect("in", "seen")
            .connect("seen", "out")
    };
    let handle = bench.start(&line(recorder(&restored))).await;
    stepped.push(&[(0, 1, 0)]);
    store.has(1).await;
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;
    let error = fails(&bench.start(&line(identity())).await).await;
    assert!(error.starts_with("seen: ") && error.contains("list `seen`"), "{error}");
}

fn exchanged(exchange: RequestedExchange, from: usize, to: usize, stepped: &Arc<Stepped>, store: &Arc<Store>) -> StreamGraphBuilder {
    graph(settings())
        .add_source("in", source(stepped))
        .parallelism(from)
        .add_sink("out", sink(store))
        .parallelism(to)
        .connect("in", "out")
        .exchange(exchange)
}

fn subtasks(store: &Store) -> BTreeSet<usize> {
    store.rows().iter().map(|(s, _)| *s).collect()
}

#[tokio::test]
async fn a_hash_exchange_brings_all_rows_of_a_key_to_one_subtask_in_their_order() {
    let bench = Bench::new();
    let rows: Vec<Row> = (0..3_000).map(|i| (i % 50, i, 0)).collect();
    let (stepped, store) = (Stepped::of(rows.chunks(7).map(<[Row]>::to_vec)), Store::new());
    let by_key = RequestedExchange::Hash(vec!["key".into()]);
    completes(&bench.start(&exchanged(by_key, 1, 3, &stepped, &store)).await).await;
    let mut of_key: BTreeMap<String, (BTreeSet<usize>, Vec<i64>)> = BTreeMap::new();
    for (subtask, row) in store.rows() {
        let entry = of_key.entry(row[0].clone()).or_default();
        entry.0.insert(subtask);
        entry.1.push(row[1].parse().unwrap());
    }
    assert_eq!(store.sorted(1), (0..3_000).collect::<Vec<_>>());
    assert_eq!(subtasks(&store).len(), 3);
    for (key, (subtasks, values)) in of_key {
        assert_eq!(subtasks.len(), 1, "key {key} met in {subtasks:?}");
        assert!(values.is_sorted(), "key {key}: {values:?}");
    }
}

#[tokio::test]
async fn broadcast_gives_every_row_to_every_subtask_global_to_the_first_and_rebalance_each_batch_to_one_in_turn() {
    let batches = || Stepped::of((0..6).map(|i| vec![(0, i, 0)]));
    for (exchange, copies, on) in
        [(RequestedExchange::Broadcast, 3, vec![0, 1, 2]), (RequestedExchange::Global, 1, vec![0]), (RequestedExchange::Rebalance, 1, vec![0, 1, 2])]
    {
        let (bench, store) = (Bench::new(), Store::new());
        completes(&bench.start(&exchanged(exchange.clone(), 1, 3, &batches(), &store)).await).await;
        let expected: Vec<i64> = (0..6).flat_map(|i| vec![i; copies]).collect();
        assert_eq!(store.sorted(1), expected, "{exchange:?}");
        assert_eq!(subtasks(&store), on.into_iter().collect(), "{exchange:?}");
    }
}

#[tokio::test]
async fn splits_are_spread_over_the_subtasks_and_each_is_read_once() {
    let (bench, store) = (Bench::new(), Store::new());
    let names: Vec<String> = (0..20).map(|i| format!("split-{i}")).collect();
    let stepped = Stepped::new(true, &names.iter().map(String::as_str).collect::<Vec<_>>());
    for i in 0..20 {
        stepped.push_to(i, &[(0, i64::try_from(i).unwrap(), 0)]);
        stepped.close(i);
    }
    let handle = bench.start(&exchanged(RequestedExchange::Forward, 3, 3, &stepped, &store)).await;
    completes(&handle).await;
    assert_eq!(store.sorted(1), (0..20).collect::<Vec<_>>());
    assert_eq!(subtasks(&store).len(), 3);
    until("nothing more is read", || stepped.reads() == 20).await;
}

#[tokio::test]
async fn splits_handed_out_one_at_a_time_are_read_in_order_and_a_stop_between_them_repeats_and_skips_none() {
    let (bench, store) = (Bench::new(), Store::new());
    let stepped = Stepped::new(true, &["a", "b", "c", "d"]);
    stepped.one_at_a_time.store(true, SeqCst);
    let job = |parallelism| exchanged(RequestedExchange::Global, parallelism, 1, &stepped, &store);
    (0..4).for_each(|split| stepped.push_to(split, &[(0, i64::try_from(split).unwrap(), 0)]));
    stepped.close(0);
    let handle = bench.start(&job(1)).await;
    store.has(2).await;
    assert_eq!(store.numbers(1), [0, 1], "b is open and has not ended, so c waits");
    within("a stop", handle.stop()).await.unwrap();
    ended(&handle).await;

    (1..4).for_each(|split| stepped.push_to(split, &[(0, 10 + i64::try_from(split).unwrap(), 0)]));
    (1..4).for_each(|split| stepped.close(split));
    completes(&bench.start(&job(2)).await).await;
    assert_eq!(store.sorted(1), [0, 1, 2, 3, 11, 12, 13]);
}

#[tokio::test]
async fn the_report_tells_work_from_waiting_and_counts_bytes_read_only_where_the_reader_does() {
    let (bench, stepped, store) = (Bench::new(), Stepped::of((0..50).map(|i| vec![(0, i, 0); 100])), Store::new());
    let handle = bench.start(&exchanged(RequestedExchange::Global, 1, 1, &stepped, &store)).await;
    completes(&handle).await;
    let report = handle.report();
    let (source, sink) = (&report.nodes[0].metrics, &report.nodes[1].metrics);
    assert_eq!((source.records_in, source.records_out, source.bytes_in), (5_000, 5_000, 0));
    assert_eq!((sink.records_in, sink.batches_in, sink.bytes_in), (5_000, 50, source.bytes_out));
    assert!(report.checkpoints.completed >= 1, "a bounded job ends with a last checkpoint");
}
