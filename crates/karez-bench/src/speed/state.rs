//! What a checkpoint of many keys costs the rows that flow meanwhile, and what it writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::config::Span;
use karez_graph::{Implementation, JobSettings, StreamGraph};
use serde_json::json;

use super::feed::feed;
use super::figure::{Figure, median};
use super::work::run_graph;

const KEYS: i64 = 5_000_000;
const BATCH: i64 = 8_192;
/// One key in a hundred changes between two checkpoints.
const CHANGING: i64 = KEYS / 100;
/// How long keys change, with a checkpoint each second.
const CHANGES_FOR: Duration = Duration::from_secs(12);

struct Pauses {
    loaded: Option<Instant>,
    last: Instant,
    longest: Duration,
}

/// A running aggregate over five million keys: all are loaded, then one in a hundred changes while a checkpoint is taken each second.
pub(super) fn checkpoint_stop() -> Result<Figure, String> {
    let fields: Vec<_> = ["key", "amount"].map(|n| Field::new(n, DataType::Int64, false)).into();
    let schema = Arc::new(Schema::new(fields));
    let pauses = Arc::new(Mutex::new(Pauses { loaded: None, last: Instant::now(), longest: Duration::ZERO }));
    let source = {
        let (schema, pauses) = (Arc::clone(&schema), Arc::clone(&pauses));
        feed(Arc::clone(&schema), move |n| {
            let first = n.cast_signed() * BATCH;
            let keys = if first < KEYS {
                Int64Array::from_iter_values(first..(first + BATCH).min(KEYS))
            } else {
                let mut pauses = pauses.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                match pauses.loaded {
                    // The first checkpoint writes everything: it is waited for before pauses count.
                    Some(loaded) if now - loaded > CHANGES_FOR => return None,
                    Some(_) => pauses.longest = pauses.longest.max(now - pauses.last),
                    None => pauses.loaded = Some(now),
                }
                pauses.last = now;
                Int64Array::from_iter_values((0..BATCH).map(|i| (first + i) % CHANGING * 100))
            };
            let ones = Int64Array::from(vec![1; arrow::array::Array::len(&keys)]);
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys) as ArrayRef, Arc::new(ones)]).ok()
        })
    };
    let mut settings = JobSettings { id: "checkpoint-stop".into(), name: "checkpoint-stop".into(), ..JobSettings::default() };
    settings.checkpoint.interval = Span::millis(1_000);
    let aggregate = Implementation::named("aggregate", json!({ "keyBy": ["key"], "aggregates": { "rows": "count(*)", "total": "sum(amount)" } }));
    let graph = StreamGraph::builder(settings)
        .add_source("feed", source)
        .add_operator("per-key", aggregate)
        .add_sink("out", Implementation::named("blackhole", json!({})))
        .connect("feed", "per-key")
        .connect("per-key", "out")
        .build()
        .map_err(|e| e.to_string())?;
    let planned = karez_graph::plan(&graph, &karez::registry()).map_err(|e| e.to_string())?;
    let (mut seen, mut bytes) = (0, Vec::new());
    let (measured, report) = run_graph(planned, 1, |report| {
        if report.checkpoints.completed > seen {
            seen = report.checkpoints.completed;
            #[allow(clippy::cast_precision_loss)]
            bytes.push(report.checkpoints.last_bytes as f64 / (1 << 20) as f64);
        }
    })?;
    let longest = pauses.lock().unwrap_or_else(PoisonError::into_inner).longest;
    let largest = bytes.iter().copied().fold(0.0, f64::max);
    #[allow(clippy::cast_precision_loss)]
    let completed = report.checkpoints.completed as f64;
    // The later half: all keys are written by then.
    let later = bytes.split_off(bytes.len() / 2);
    Ok(Figure { peak_mb: Some(measured.peak_mb), ..Figure::new("checkpoint-stop") }
        .with("longest_pause_ms", longest.as_secs_f64() * 1e3)
        .with("checkpoints", completed)
        .with("largest_mib", largest)
        .with("one_in_100_changed_mib", median(later)))
}
