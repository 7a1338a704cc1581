//! How long a row takes from the source through a hash exchange to the sink.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::Distribution;
use karez_graph::{JobSettings, StreamGraph};

use super::feed::{feed, look, pass_on};
use super::figure::Figure;
use super::work::run_graph;

const ROWS_PER_SECOND: u64 = 1_000;
const ROWS: u64 = 10_000;
/// Rows of the first half second: threads start, pages are touched.
const WARM_UP: usize = 500;

/// 1,000 rows a second, one by one, by key to two subtasks.
pub(super) fn through_exchange() -> Result<Figure, String> {
    let fields: Vec<_> = ["key", "made_us"].map(|n| Field::new(n, DataType::Int64, false)).into();
    let schema = Arc::new(Schema::new(fields));
    let begin = Instant::now();
    let now_us = move || i64::try_from(begin.elapsed().as_micros()).unwrap_or(i64::MAX);
    let source = {
        let schema = Arc::clone(&schema);
        feed(Arc::clone(&schema), move |n| {
            let column = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
            (n < ROWS).then(|| RecordBatch::try_new(Arc::clone(&schema), vec![column(n.cast_signed()), column(now_us())]).ok()).flatten()
        })
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let seen = Arc::clone(&seen);
        look(move |batch| {
            let now = now_us();
            let made = batch.column(1).as_primitive::<Int64Type>();
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend(made.values().iter().map(|m| now - m));
        })
    };
    let graph = StreamGraph::builder(JobSettings { id: "latency".into(), name: "latency".into(), ..JobSettings::default() })
        .add_source("feed", source)
        .rate_limit(ROWS_PER_SECOND)
        .add_operator("keyed", pass_on(&schema, Distribution::Hash(vec![0])))
        .parallelism(2)
        .add_sink("out", sink)
        .parallelism(2)
        .connect("feed", "keyed")
        .connect("keyed", "out")
        .build()
        .map_err(|e| e.to_string())?;
    let planned = karez_graph::plan(&graph, &karez::registry()).map_err(|e| e.to_string())?;
    run_graph(planned, 2, |_| ())?;
    let mut latencies = seen.lock().unwrap_or_else(PoisonError::into_inner).split_off(WARM_UP);
    if latencies.len() as u64 != ROWS - WARM_UP as u64 {
        return Err(format!("{} rows of {ROWS} have come", latencies.len() + WARM_UP));
    }
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss)]
    let quantile = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1_000] as f64 / 1_000.0;
    Ok(Figure::new("latency").with("p50_ms", quantile(500)).with("p99_ms", quantile(990)).with("max_ms", quantile(1_000)))
}
