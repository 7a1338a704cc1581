//! What the engine itself costs: a batch on its way through one more chained operator, and rows on their way through a hash exchange.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::Distribution;
use karez_formats::json::{JsonDecoder, JsonOptions};
use karez_graph::{JobSettings, StreamGraph};
use karez_runtime::exchange::scatter::Scatter;

use super::clock::thread_cpu;
use super::feed::{feed, look, pass_on};
use super::figure::{Figure, median};
use super::query::COLUMNS;
use super::work::{run_graph, schema};

const BATCHES: u64 = 100_000;
const OPERATORS: usize = 40;

/// CPU time of a batch and chained operator: a chain of many that do nothing against one.
pub(super) fn chained_operator(rounds: usize) -> Result<Figure, String> {
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let (one, many) = (chain(1)?, chain(1 + OPERATORS)?);
        #[allow(clippy::cast_precision_loss)] // Far below 2^52.
        costs.push((many - one) * 1e6 / (BATCHES * OPERATORS as u64) as f64);
    }
    Ok(Figure::new("engine-cost").with("us_per_batch_and_operator", median(costs)))
}

/// CPU seconds of a chain with so many operators.
fn chain(operators: usize) -> Result<f64, String> {
    let fields: Vec<_> = ["a", "b", "c"].map(|n| Field::new(n, DataType::Int64, false)).into();
    let schema = Arc::new(Schema::new(fields));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1; 1_000]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(&column), Arc::clone(&column), column]).map_err(|e| e.to_string())?;
    let mut graph = StreamGraph::builder(JobSettings { id: "engine-cost".into(), name: "engine-cost".into(), ..JobSettings::default() })
        .add_source("feed", feed(Arc::clone(&schema), move |n| (n < BATCHES).then(|| batch.clone())));
    let mut last = "feed".to_owned();
    for n in 0..operators {
        let name = format!("pass-{n}");
        graph = graph.add_operator(&name, pass_on(&schema, Distribution::Any)).connect(last, &name);
        last = name;
    }
    let graph = graph.add_sink("out", look(|_| ())).connect(last, "out").build().map_err(|e| e.to_string())?;
    let planned = karez_graph::plan(&graph, &karez::registry()).map_err(|e| e.to_string())?;
    if planned.vertices.len() != 1 {
        return Err("the operators have not been chained".into());
    }
    run_graph(planned, 1, |_| ()).map(|(measured, _)| measured.cpu_s)
}

/// Bids (seven columns) by auction to eight targets.
pub(super) fn hash_exchange(bids: &[u8], rounds: usize) -> Result<Figure, String> {
    let names = COLUMNS.map(|(name, _)| name);
    let mut decoder = JsonDecoder::try_new(schema(&names), JsonOptions::default()).map_err(|e| e.to_string())?;
    let (mut batches, mut rest, mut errors) = (Vec::new(), bids, Vec::new());
    while !rest.is_empty() {
        let read = decoder.decode_lines(rest, true, 8_192, &mut errors);
        rest = &rest[read..];
        batches.extend(decoder.flush().map_err(|e| e.to_string())?);
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut scatter = Scatter::new(vec![0], 8, 128);
    let mut rates = Vec::new();
    // A round is short; those at the start pay for memory that is fresh from the system.
    for round in 0..rounds * 12 {
        let begin = thread_cpu();
        for batch in &batches {
            let parts = scatter.split(batch).map_err(|e| e.to_string())?;
            std::hint::black_box(&parts);
        }
        if round >= rounds * 2 {
            #[allow(clippy::cast_precision_loss)]
            rates.push(rows as f64 / (thread_cpu() - begin).as_secs_f64());
        }
    }
    Ok(Figure { rows_per_cpu_second: Some(median(rates)), ..Figure::new("hash-exchange") })
}
