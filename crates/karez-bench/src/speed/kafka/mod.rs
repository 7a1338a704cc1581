//! Kafka: jobs beside bare loops of the same client, per CPU second of the process that does the work.
//!
//! The broker is the one of `KAFKA_BOOTSTRAP`; it does its part in processes of its own, and does not count. The topic holds the bids as JSON, is filled
//! once for each length, and read once before anything is measured.

mod bare;
mod job;

use std::path::Path;

use karez_testkit::{create_topic, unique};
use krafka::Kafka;
use krafka::admin::DeleteTopicsOptions;

pub use self::bare::Loop;
use super::figure::{Figure, median};
use super::work::{Measured, Work};

const PARTITIONS: u16 = 4;
/// How often the bids are in the topic where checkpoints are to be seen: the job has to run for some of their intervals of ten seconds.
const TIMES_FOR_CHECKPOINTS: u64 = 10;

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

    const fn times(self) -> u64 {
        if matches!(self, Self::ExactlyOnce) { TIMES_FOR_CHECKPOINTS } else { 1 }
    }
}

/// The address of the broker.
fn bootstrap() -> Result<String, String> {
    std::env::var("KAFKA_BOOTSTRAP").map_err(|_| "KAFKA_BOOTSTRAP is not set: export $(cargo xtask services up kafka)".into())
}

/// Takes a measurement over so many bids, which stand in `file`.
pub(super) fn measure(case: Case, file: &Path, rows: u64, rounds: usize) -> Result<Figure, String> {
    let bootstrap = bootstrap()?;
    let topic = filled(&bootstrap, file, rows, case.times())?;
    let rig = Rig { case, bootstrap, file, topic, rows: rows * case.times() };
    rig.consume()?;
    match case {
        Case::Count => rig.count(rounds),
        Case::Parse => rig.parse(rounds),
        Case::Filter => rig.filter(rounds),
        Case::ExactlyOnce => rig.exactly_once(rounds),
    }
}

struct Rig<'a> {
    case: Case,
    bootstrap: String,
    file: &'a Path,
    topic: String,
    rows: u64,
}

impl Rig<'_> {
    fn count(&self, rounds: usize) -> Result<Figure, String> {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(self.run(&self.job(None, "at-least-once"))?);
            bare.push(self.consume()?);
        }
        if ours.iter().any(|m| m.rows_out != self.rows) {
            return Err(format!("{}: the job has not counted {} rows", self.case.name(), self.rows));
        }
        Ok(self.figure(&ours).with_ratios("consumer", ratios(&bare, &ours)).with("against_rows_per_cpu_second", self.rate(&bare)))
    }

    fn parse(&self, rounds: usize) -> Result<Figure, String> {
        let ours = (0..rounds).map(|_| self.run(&self.job(None, "at-least-once"))).collect::<Result<Vec<_>, _>>()?;
        Ok(self.figure(&ours))
    }

    fn filter(&self, rounds: usize) -> Result<Figure, String> {
        let (mut ours, mut parsed, mut consumed, mut produced) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(self.to_fresh_topic(|output| self.run(&self.job(Some(output), "at-least-once")))?);
            consumed.push(self.consume()?);
            produced.push(self.to_fresh_topic(|output| self.produce_filtered(output))?);
            parsed.push(self.run(&self.job(None, "at-least-once"))?);
        }
        for (ours, produced) in ours.iter().zip(&produced) {
            if ours.rows_out != produced.rows_out {
                return Err(format!("{}: the job wrote {} rows, the bare producer {}", self.case.name(), ours.rows_out, produced.rows_out));
            }
        }
        let both = together(&consumed, &produced);
        // The same job if it wrote by the bare producer, and encoded its rows for nothing.
        let by_client = together(&parsed, &produced);
        Ok(self
            .figure(&ours)
            .with_ratios("consumer-and-producer", ratios(&both, &ours))
            .with("ratio_by_client_producer_at_most", median(ratios(&both, &by_client)))
            .with("consumer_rows_per_cpu_second", self.rate(&consumed))
            .with("producer_rows_per_cpu_second", median(rates(&produced, |m| m.rows_out)))
            .with("without_sink_rows_per_cpu_second", self.rate(&parsed)))
    }

    fn exactly_once(&self, rounds: usize) -> Result<Figure, String> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(self.to_fresh_topic(|output| self.run(&self.job(Some(output), "exactly-once")))?);
            theirs.push(self.to_fresh_topic(|output| self.run(&self.job(Some(output), "at-least-once")))?);
        }
        if let Some((ours, theirs)) = ours.iter().zip(&theirs).find(|(ours, theirs)| ours.rows_out != theirs.rows_out) {
            return Err(format!("{}: {} rows exactly once, {} at least once", self.case.name(), ours.rows_out, theirs.rows_out));
        }
        #[allow(clippy::cast_precision_loss)] // A few.
        let checkpoints = |all: &[Measured]| all.iter().map(|m| m.checkpoints).min().unwrap_or(0) as f64;
        Ok(self
            .figure(&ours)
            .with_ratios("at-least-once", ratios(&theirs, &ours))
            .with("against_rows_per_cpu_second", self.rate(&theirs))
            .with("against_checkpoints", checkpoints(&theirs))
            .with("checkpoints", checkpoints(&ours)))
    }

    fn job(&self, output: Option<&str>, delivery: &str) -> String {
        job::text(self.case, &self.bootstrap, &self.topic, output, delivery)
    }

    fn run(&self, job: &str) -> Result<Measured, String> {
        Work::Karez { job: job.to_owned(), threads: 1 }.elsewhere()
    }

    fn consume(&self) -> Result<Measured, String> {
        Work::Kafka(Loop::Consume { topic: self.topic.clone(), rows: self.rows }).elsewhere()
    }

    fn produce_filtered(&self, output: &str) -> Result<Measured, String> {
        Work::Kafka(Loop::Produce { file: self.file.to_owned(), topic: output.to_owned(), filtered: true, times: 1 }).elsewhere()
    }

    /// Gives a fresh topic to write to, which is deleted behind it.
    fn to_fresh_topic(&self, write: impl FnOnce(&str) -> Result<Measured, String>) -> Result<Measured, String> {
        let name = unique("bench_out");
        create_topic(&self.bootstrap, &name, PARTITIONS, &[]).map_err(|e| e.to_string())?;
        let done = write(&name);
        delete(&self.bootstrap, &name)?;
        done
    }

    fn figure(&self, ours: &[Measured]) -> Figure {
        Figure {
            rows_per_cpu_second: Some(self.rate(ours)),
            peak_mb: Some(ours.iter().map(|m| m.peak_mb).fold(0.0, f64::max)),
            ..Figure::new(self.case.name())
        }
    }

    /// Rows of the input a CPU second.
    fn rate(&self, rounds: &[Measured]) -> f64 {
        median(rates(rounds, |_| self.rows))
    }
}

fn rates(rounds: &[Measured], rows: impl Fn(&Measured) -> u64) -> Vec<f64> {
    #[allow(clippy::cast_precision_loss)] // Far below 2^52.
    rounds.iter().map(|m| rows(m) as f64 / m.cpu_s).collect()
}

/// How many times as fast as theirs ours are.
fn ratios(theirs: &[Measured], ours: &[Measured]) -> Vec<f64> {
    theirs.iter().zip(ours).map(|(theirs, ours)| theirs.cpu_s / ours.cpu_s).collect()
}

fn together(a: &[Measured], b: &[Measured]) -> Vec<Measured> {
    let sum = |(a, b): (&Measured, &Measured)| Measured { cpu_s: a.cpu_s + b.cpu_s, peak_mb: a.peak_mb.max(b.peak_mb), ..b.clone() };
    a.iter().zip(b).map(sum).collect()
}

/// The topic with these bids so many times; filled where it is not there.
fn filled(bootstrap: &str, file: &Path, rows: u64, times: u64) -> Result<String, String> {
    let name = format!("bench_bids_{rows}x{times}");
    match create_topic(bootstrap, &name, PARTITIONS, &[("retention.ms", "-1")]) {
        Ok(()) => {
            let times = usize::try_from(times).map_err(|e| e.to_string())?;
            let filled = Work::Kafka(Loop::Produce { file: file.to_owned(), topic: name.clone(), filtered: false, times }).elsewhere();
            if let Err(e) = filled {
                delete(bootstrap, &name)?;
                return Err(e);
            }
        }
        Err(e) if e.to_string().contains("already exists") => {}
        Err(e) => return Err(e.to_string()),
    }
    Ok(name)
}

fn delete(bootstrap: &str, topic: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let deleted = runtime.block_on(async {
        let kafka = Kafka::builder(bootstrap).connect().await?;
        kafka.admin().delete_topics([topic], DeleteTopicsOptions::default()).await
    });
    deleted.map(drop).map_err(|e| format!("delete topic `{topic}`: {e}"))
}
