//! Kafka: jobs beside bare loops of the same client, per CPU second of the process that does the work.
//!
//! The broker is the one of `KAFKA_BOOTSTRAP`; it does its part in processes of its own. The topic holds the bids as JSON, filled once for each length.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use karez_testkit::{create_topic, unique};
use krafka::consumer::AutoOffsetReset;
use krafka::producer::Acks;
use krafka::{Kafka, Record};
use serde::{Deserialize, Serialize};

use super::clock::{peak_mb, process_cpu};
use super::figure::{Figure, median};
use super::work::{Measured, Work};

const PARTITIONS: u16 = 4;
/// What the client is fastest with; a job says the same.
const BATCH_BYTES: usize = 900_000;

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Case {
    /// Consume and count, against a bare consumer loop.
    Count,
    /// Consume, parse, count per key.
    Parse,
    /// Consume, parse, filter half, produce, against what bare consumer and producer loops cost together.
    Filter,
    /// The same exactly once, with a checkpoint every ten seconds, against at least once.
    ExactlyOnce,
}

impl Case {
    pub(super) const ALL: [Self; 4] = [Self::Count, Self::Parse, Self::Filter, Self::ExactlyOnce];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Count => "kafka-count",
            Self::Parse => "kafka-parse",
            Self::Filter => "kafka-filter",
            Self::ExactlyOnce => "kafka-exactly-once",
        }
    }
}

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
    /// Writes every `one_in`-th line of a file, as it stands.
    Produce {
        /// NDJSON.
        file: PathBuf,
        /// The topic.
        topic: String,
        /// 1 writes all.
        one_in: usize,
    },
}

/// The address of the broker.
fn bootstrap() -> Result<String, String> {
    std::env::var("KAFKA_BOOTSTRAP").map_err(|_| "KAFKA_BOOTSTRAP is not set: export $(cargo xtask services up kafka)".into())
}

/// Takes a measurement over so many bids, which stand in `file`.
pub(super) fn measure(case: Case, file: &Path, rows: u64, rounds: usize) -> Result<Figure, String> {
    let bootstrap = bootstrap()?;
    let input = filled(&bootstrap, file, rows)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let output = || -> Result<String, String> {
            let name = unique("bench_out");
            create_topic(&bootstrap, &name, PARTITIONS, &[]).map_err(|e| e.to_string())?;
            Ok(name)
        };
        let karez = |delivery: &str, output: &str| Work::Karez { job: job(case, &bootstrap, &input, output, delivery), threads: 1 }.elsewhere();
        let bare = |what: Loop| Work::Kafka(what).elsewhere();
        ours.push(match case {
            Case::Count | Case::Parse => karez("at-least-once", "")?,
            Case::Filter => karez("at-least-once", &output()?)?,
            Case::ExactlyOnce => karez("exactly-once", &output()?)?,
        });
        match case {
            Case::Parse => {}
            Case::Count => theirs.push(bare(Loop::Consume { topic: input.clone(), rows })?),
            Case::Filter => {
                let mut both = bare(Loop::Consume { topic: input.clone(), rows })?;
                let produced = bare(Loop::Produce { file: file.to_owned(), topic: output()?, one_in: 2 })?;
                both.cpu_s += produced.cpu_s;
                both.peak_mb = both.peak_mb.max(produced.peak_mb);
                theirs.push(both);
            }
            Case::ExactlyOnce => theirs.push(karez("at-least-once", &output()?)?),
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let rates = ours.iter().map(|m| rows as f64 / m.cpu_s).collect();
    let figure = Figure {
        rows_per_cpu_second: Some(median(rates)),
        peak_mb: Some(ours.iter().map(|m| m.peak_mb).fold(0.0, f64::max)),
        ..Figure::new(case.name())
    };
    if theirs.is_empty() {
        return Ok(figure);
    }
    let ratios = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs.cpu_s / ours.cpu_s).collect();
    #[allow(clippy::cast_precision_loss)]
    let rates = theirs.iter().map(|m| rows as f64 / m.cpu_s).collect();
    let against = match case {
        Case::ExactlyOnce => "at-least-once",
        Case::Filter => "consumer-and-producer",
        Case::Count | Case::Parse => "consumer",
    };
    Ok(Figure { against: Some(against.into()), ratio: Some(median(ratios)), ..figure }.with("against_rows_per_cpu_second", median(rates)))
}

fn job(case: Case, bootstrap: &str, input: &str, output: &str, delivery: &str) -> String {
    let source = format!(r#"bootstrapServers: "{bootstrap}", topics: [{input}], startFrom: earliest, stopAt: latest"#);
    let schema = "{ auction: bigint, bidder: bigint, price: bigint, channel: string, url: string, date_time: timestamp(3), extra: string }";
    let (format, schema, operators) = match case {
        Case::Count => ("raw", "{ value: binary }", ""),
        Case::Parse => (
            "json",
            "{ auction: bigint, price: bigint }",
            "\n    - { name: per-key, type: aggregate, keyBy: [auction], aggregates: { bids: \"count(*)\" } }",
        ),
        Case::Filter | Case::ExactlyOnce => ("json", schema, "\n    - { name: half, type: filter, where: \"price % 2 = 0\" }"),
    };
    let sink = match case {
        Case::Count | Case::Parse => "connector: blackhole".to_owned(),
        Case::Filter | Case::ExactlyOnce => {
            format!(r#"connector: kafka, config: {{ bootstrapServers: "{bootstrap}", topic: {output}, format: json, batchSize: 900k }}"#)
        }
    };
    let operators = if operators.is_empty() { String::new() } else { format!("  operators:{operators}\n") };
    format!(
        "job:
  id: bench
  name: Bench
  type: streaming
  parallelism: 1
  delivery: {delivery}
  checkpoint: {{ interval: 10s }}
  source: {{ connector: kafka, config: {{ {source}, format: {format} }}, schema: {schema} }}
{operators}  sink: {{ name: out, {sink} }}
"
    )
}

/// The topic with these bids; filled where it is not there.
fn filled(bootstrap: &str, file: &Path, rows: u64) -> Result<String, String> {
    let name = format!("bench_bids_{rows}");
    match create_topic(bootstrap, &name, PARTITIONS, &[("retention.ms", "-1")]) {
        Ok(()) => {
            Work::Kafka(Loop::Produce { file: file.to_owned(), topic: name.clone(), one_in: 1 }).elsewhere()?;
        }
        Err(e) if e.to_string().contains("already exists") => {}
        Err(e) => return Err(e.to_string()),
    }
    Ok(name)
}

impl Loop {
    /// Does it here.
    pub(super) fn measure(&self) -> Result<Measured, String> {
        let bootstrap = bootstrap()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
        runtime
            .block_on(async {
                let kafka = Kafka::builder(bootstrap).connect().await?;
                match self {
                    Self::Consume { topic, rows } => consume(&kafka, topic, *rows).await,
                    Self::Produce { file, topic, one_in } => produce(&kafka, file, topic, *one_in).await,
                }
            })
            .map_err(|e| e.to_string())
    }
}

async fn consume(kafka: &Kafka, topic: &str, rows: u64) -> krafka::error::Result<Measured> {
    let consumer = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).max_poll_records(10_000).build().await?;
    let (wall, cpu) = (Instant::now(), process_cpu());
    consumer.assign(topic, (0..i32::from(PARTITIONS)).collect()).await?;
    let mut rows_out = 0;
    while rows_out < rows {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        rows_out += std::hint::black_box(&records).len() as u64;
    }
    let measured = measured(rows_out, wall, cpu);
    consumer.close().await?;
    Ok(measured)
}

async fn produce(kafka: &Kafka, file: &Path, topic: &str, one_in: usize) -> krafka::error::Result<Measured> {
    let producer = kafka.producer().acks(Acks::All).batch_size(BATCH_BYTES).linger(Duration::from_millis(5)).build().await?;
    // Read before the clock starts: a job's rows come from the topic.
    let input = std::fs::File::open(file).map_err(|e| krafka::KrafkaError::illegal_state(e.to_string()))?;
    let lines: Vec<bytes::Bytes> = BufReader::new(input).split(b'\n').step_by(one_in).map_while(Result::ok).map(Into::into).collect();
    let (wall, cpu) = (Instant::now(), process_cpu());
    let rows_out = lines.len() as u64;
    for line in lines {
        drop(producer.enqueue(Record::new(topic, line)).await?);
    }
    producer.flush().await?;
    let measured = measured(rows_out, wall, cpu);
    producer.close().await?;
    Ok(measured)
}

fn measured(rows_out: u64, wall: Instant, cpu: Duration) -> Measured {
    let (cpu, wall) = (process_cpu().saturating_sub(cpu), wall.elapsed());
    Measured { rows_out, cpu_s: cpu.as_secs_f64(), wall_s: wall.as_secs_f64(), peak_mb: peak_mb().unwrap_or(0.0) }
}
