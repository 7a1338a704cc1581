//! Measurements, not tests: `cargo test -p karez-operators --release --test it -- --ignored --nocapture speed`.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use karez_core::StreamSchema;
use serde_json::{Value, json};

use crate::harness::{Job, plan};

const ROWS: usize = 8192;

fn bids() -> StreamSchema {
    let schema = Schema::new(vec![
        Field::new("auction", DataType::Int64, false),
        Field::new("price", DataType::Int64, false),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]);
    StreamSchema::append_only(Arc::new(schema)).with_event_time(Some("t".into()))
}

/// Batches of 10,000 bids a second on a slowly moving set of auctions.
fn batches(n: usize) -> Vec<RecordBatch> {
    let mut seed = 7_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as i64
    };
    (0..n)
        .map(|b| {
            let row = |i: usize| (b * ROWS + i) as i64;
            let auctions: Vec<i64> = (0..ROWS).map(|i| row(i) / 500 + random() % 100).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(auctions)),
                Arc::new(Int64Array::from_iter_values((0..ROWS).map(|_| random() % 10_000))),
                Arc::new(TimestampMillisecondArray::from_iter_values((0..ROWS).map(|i| row(i) / 10))),
            ];
            RecordBatch::try_new(bids().arrow, columns).unwrap()
        })
        .collect()
}

fn measure(name: &str, config: Value) {
    let batches = batches(400);
    let best = (0..3)
        .map(|_| {
            let mut job = Job::of(plan("window-aggregate", config.clone(), &[bids()]).unwrap(), 1);
            let start = Instant::now();
            for (i, batch) in batches.iter().enumerate() {
                job.push_directly(batch.clone());
                job.watermark(((i + 1) * ROWS / 10) as i64 - 4_000);
                job.out.batches.clear();
            }
            job.end();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    println!("{name:24} {:7.1} M rows/s", (400 * ROWS) as f64 / best / 1e6);
}

#[test]
#[ignore = "a measurement"]
fn windows() {
    let aggregates = json!({ "n": "count(*)", "total": "sum(price)" });
    measure("tumbling 10s", json!({ "keyBy": ["auction"], "window": { "type": "tumbling", "size": "10s" }, "aggregates": aggregates }));
    measure(
        "sliding 10s/2s",
        json!({ "keyBy": ["auction"], "window": { "type": "sliding", "size": "10s", "slide": "2s" }, "aggregates": aggregates }),
    );
}
