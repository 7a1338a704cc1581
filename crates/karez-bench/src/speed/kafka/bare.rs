//! What the client alone does: loops that read or write a topic and do nothing else.
//!
//! Each is set up as it is fastest: a job takes what an answer holds, so the consumer does too (with fewer records a poll it decodes a part of an answer
//! and asks for the rest again), and batches are as large as a request may be.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use krafka::consumer::AutoOffsetReset;
use krafka::error::Result;
use krafka::producer::Acks;
use krafka::{Kafka, KrafkaError, Record};
use serde::{Deserialize, Serialize};

use super::PARTITIONS;
use crate::speed::clock::{peak_mb, process_cpu};
use crate::speed::work::Measured;

/// What the client is fastest with; a job says the same.
pub(super) const BATCH_BYTES: &str = "900k";
const BATCH_SIZE: usize = 900_000;

/// So long a topic may give nothing before its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A loop of the bare client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loop {
    /// Reads a topic to its end and counts.
    Consume {
        /// Its name.
        topic: String,
        /// The records there are.
        rows: u64,
    },
    /// Writes lines of a file, as they stand.
    Produce {
        /// NDJSON.
        file: PathBuf,
        /// The topic.
        topic: String,
        /// Those that the job's filter lets pass, instead of all.
        filtered: bool,
        /// How often the file is gone through.
        times: usize,
    },
}

impl Loop {
    /// Does it here.
    pub(in crate::speed) fn measure(&self) -> std::result::Result<Measured, String> {
        let bootstrap = super::bootstrap()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
        let done = runtime.block_on(async {
            let kafka = Kafka::builder(bootstrap).connect().await?;
            match self {
                Self::Consume { topic, rows } => consume(&kafka, topic, *rows).await,
                Self::Produce { file, topic, filtered, times } => produce(&kafka, file, topic, *filtered, *times).await,
            }
        });
        done.map_err(|e| e.to_string())
    }
}

async fn consume(kafka: &Kafka, topic: &str, rows: u64) -> Result<Measured> {
    let consumer =
        kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).max_poll_records(-1).max_buffered_records(0).build().await?;
    let (wall, cpu) = (Instant::now(), process_cpu());
    consumer.assign(topic, (0..i32::from(PARTITIONS)).collect()).await?;
    let (mut rows_out, mut gave_at) = (0, Instant::now());
    while rows_out < rows {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        rows_out += std::hint::black_box(&records).len() as u64;
        if !records.is_empty() {
            gave_at = Instant::now();
        } else if gave_at.elapsed() > PATIENCE {
            return Err(KrafkaError::illegal_state(format!("`{topic}` has {rows_out} records instead of {rows}: delete it, to have it filled anew")));
        }
    }
    let measured = measured(rows_out, wall, cpu);
    consumer.close().await?;
    Ok(measured)
}

async fn produce(kafka: &Kafka, file: &Path, topic: &str, filtered: bool, times: usize) -> Result<Measured> {
    let producer = kafka.producer().acks(Acks::All).batch_size(BATCH_SIZE).linger(Duration::from_millis(5)).build().await?;
    // Read before the clock starts: a job's rows come from the topic.
    let input = std::fs::File::open(file).map_err(|e| KrafkaError::illegal_state(e.to_string()))?;
    let mut lines = Vec::new();
    for line in BufReader::new(input).split(b'\n') {
        let line = line.map_err(|e| KrafkaError::illegal_state(e.to_string()))?;
        if !filtered || passes(&line)? {
            lines.push(Bytes::from(line));
        }
    }
    let (wall, cpu) = (Instant::now(), process_cpu());
    for _ in 0..times {
        for line in &lines {
            drop(producer.enqueue(Record::new(topic, line.clone())).await?);
        }
    }
    producer.flush().await?;
    let measured = measured((lines.len() * times) as u64, wall, cpu);
    producer.close().await?;
    Ok(measured)
}

/// The filter of the job.
fn passes(line: &[u8]) -> Result<bool> {
    let bid: serde_json::Value = serde_json::from_slice(line).map_err(|e| KrafkaError::illegal_state(e.to_string()))?;
    Ok(bid["price"].as_i64().is_some_and(|price| price % 2 == 0))
}

fn measured(rows_out: u64, wall: Instant, cpu: Duration) -> Measured {
    let (cpu, wall) = (process_cpu().saturating_sub(cpu), wall.elapsed());
    Measured { rows_out, cpu_s: cpu.as_secs_f64(), wall_s: wall.as_secs_f64(), peak_mb: peak_mb().unwrap_or(0.0), checkpoints: 0 }
}
