//! What a checkpoint of many keys costs the rows that flow meanwhile, and what it writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use karez_core::config::Span;
use karez_graph::{Implementation, JobSettings, StreamGraph};
use serde_json::json;

use super::clock::thread_cpu;
use super::feed::feed;
use super::figure::{Figure, median};
use super::work::run_graph;

const KEYS: i64 = 5_000_000;
const BATCH: i64 = 8_192;
/// One key in a hundred changes between two checkpoints.
const CHANGING: i64 = KEYS / 100;
/// How long keys change, with a checkpoint each second.
const CHANGES_FOR: Duration = Duration::from_secs(12);

/// How long it took from batch to batch: by the clock, and in CPU time of the thread that works, which other processes do not lengthen.
struct Pauses {
    loaded: Option<Instant>,
    last: (Instant, Duration),
    longest: Duration,
    cpu: Vec<f64>,
}

/// A running aggregate over five million keys: all are loaded, then one in a hundred changes while a checkpoint is taken each second.
pub(super) fn checkpoint_stop() -> Result<Figure, String> {
    let fields: Vec<_> = ["key", "amount"].map(|n| Field::new(n, DataType::Int64, false)).into();
    let schema = Arc::new(Schema::new(fields));
    let pauses = Arc::new(Mutex::new(Pauses { loaded: None, last: (Instant::now(), Duration::ZERO), longest: Duration::ZERO, cpu: Vec::new() }));
    let source = {
        let (schema, pauses) = (Arc::clone(&schema), Arc::clone(&pauses));
        feed(Arc::clone(&schema), move |n| {
            let first = n.cast_signed() * BATCH;
            let keys = if first < KEYS {
                Int64Array::from_iter_values(first..(first + BATCH).min(KEYS))
            } else {
                let mut pauses = pauses.lock().unwrap_or_else(PoisonError::into_inner);
                let (now, cpu) = (Instant::now(), thread_cpu());
                match pauses.loaded {
                    Some(loaded) if now - loaded > CHANGES_FOR => return None,
                    Some(_) => {
                        pauses.longest = pauses.longest.max(now - pauses.last.0);
                        // The job has one worker thread, so it is always the same.
                        let spent = cpu.saturating_sub(pauses.last.1);
                        pauses.cpu.push(spent.as_secs_f64() * 1e3);
                    }
                    None => pauses.loaded = Some(now),
                }
                pauses.last = (now, cpu);
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
    let (longest, cpu) = {
        let mut pauses = pauses.lock().unwrap_or_else(PoisonError::into_inner);
        (pauses.longest, std::mem::take(&mut pauses.cpu))
    };
    let largest = bytes.iter().copied().fold(0.0, f64::max);
    #[allow(clippy::cast_precision_loss)]
    let completed = report.checkpoints.completed as f64;
    // The later half: all keys are written by then.
    let later = bytes.split_off(bytes.len() / 2);
    Ok(Figure { peak_mb: Some(measured.peak_mb), ..Figure::new("checkpoint-stop") }
        .with("longest_pause_ms", longest.as_secs_f64() * 1e3)
        .with("longest_pause_cpu_ms", cpu.iter().copied().fold(0.0, f64::max))
        .with("batch_cpu_ms", median(cpu))
        .with("checkpoints", completed)
        .with("largest_mib", largest)
        .with("one_in_100_changed_mib", median(later)))
}
