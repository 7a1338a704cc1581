//! Which measurements there are, and how they are taken in turn.

use std::path::{Path, PathBuf};

use super::figure::{Figure, median};
use super::query::Query;
use super::work::{Measured, Work};
use super::{data, database, duckdb, engine, first_row, json, kafka, latency, memory, message, state};

/// What Karez is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The decoder of `arrow-json` alone, on the columns the query reads.
    ArrowJson,
    /// DuckDB on one thread, the same query.
    DuckDb,
}

impl Against {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::ArrowJson, Self::DuckDb];

    /// Its name on the command line and in figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ArrowJson => "arrow-json",
            Self::DuckDb => "duckdb",
        }
    }
}

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub struct Bench(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Json(json::Case),
    Message(message::Case),
    Query(&'static str, Query),
    TwoCores,
    EngineCost,
    HashExchange,
    Latency,
    CheckpointStop,
    Memory,
    FirstRow,
    Kafka(kafka::Case),
    Database(database::Case),
}

impl Bench {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let queries = [
            ("q0", Query::Q0),
            ("q1", Query::Q1),
            ("q2", Query::Q2),
            ("tumble", Query::Tumble),
            ("slide", Query::Slide),
            ("session", Query::Session),
        ];
        let others = [Kind::TwoCores, Kind::EngineCost, Kind::HashExchange, Kind::Latency, Kind::CheckpointStop, Kind::Memory, Kind::FirstRow];
        let kinds = json::CASES
            .map(Kind::Json)
            .into_iter()
            .chain(message::CASES.map(Kind::Message))
            .chain(queries.map(|(name, q)| Kind::Query(name, q)))
            .chain(others);
        let kinds = kinds.chain(kafka::Case::ALL.map(Kind::Kafka)).chain(database::CASES.map(Kind::Database));
        kinds.map(Self).collect()
    }

    /// Its name on the command line and in figures.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.0 {
            Kind::Json(case) => case.bench,
            Kind::Message(case) => case.bench,
            Kind::Query(name, _) => name,
            Kind::TwoCores => "two-cores",
            Kind::EngineCost => "engine-cost",
            Kind::HashExchange => "hash-exchange",
            Kind::Latency => "latency",
            Kind::CheckpointStop => "checkpoint-stop",
            Kind::Memory => "memory",
            Kind::FirstRow => "first-row",
            Kind::Kafka(case) => case.name(),
            Kind::Database(case) => case.bench,
        }
    }

    /// Whether it needs a server whose address is in the environment: only taken where it is named.
    #[must_use]
    pub const fn needs_server(&self) -> bool {
        matches!(self.0, Kind::Kafka(_) | Kind::Database(_))
    }

    /// Whether it takes place in one process and compares with nothing outside it: what `cargo bench` runs.
    #[must_use]
    pub const fn is_in_process(&self) -> bool {
        matches!(self.0, Kind::Json(_) | Kind::Message(_) | Kind::EngineCost | Kind::HashExchange | Kind::Latency | Kind::CheckpointStop)
    }
}

/// How measurements are taken.
#[derive(Clone, Debug)]
pub struct Speed {
    /// How often each is repeated; the median counts.
    pub rounds: usize,
    /// Rows of the input: bids, for databases orders.
    pub rows: u64,
    /// Where input files are kept; default: the user's cache.
    pub data: Option<PathBuf>,
    /// What is compared.
    pub against: Vec<Against>,
    /// A Python with the packages `duckdb` and `pyarrow`.
    pub python: PathBuf,
    /// The `karez` binary.
    pub karez: PathBuf,
}

impl Speed {
    /// Takes a measurement.
    ///
    /// # Errors
    /// What could not be measured and why.
    pub fn measure(&self, bench: Bench) -> Result<Vec<Figure>, String> {
        match bench.0 {
            Kind::Json(case) => Ok(vec![json::measure(case, self.rounds)?]),
            Kind::Message(case) => Ok(vec![message::measure(case, self.rounds)?]),
            Kind::Query(name, query) => self.query(name, query),
            Kind::TwoCores => Ok(vec![self.two_cores("two-cores", Query::Q1)?, self.two_cores("two-cores-tumble", Query::Tumble)?]),
            Kind::EngineCost => Ok(vec![engine::chained_operator(self.rounds)?]),
            Kind::HashExchange => {
                let file = self.file()?;
                let head = head(&file, 64 << 20)?;
                Ok(vec![engine::hash_exchange(&head, self.rounds)?])
            }
            Kind::Latency => Ok(vec![latency::through_exchange()?]),
            Kind::CheckpointStop => Ok(vec![state::checkpoint_stop()?]),
            Kind::Memory => memory::flatness(&self.file()?, self.rows),
            Kind::Kafka(case) => Ok(vec![kafka::measure(case, &self.file()?, self.rows, self.rounds)?]),
            Kind::Database(case) => Ok(vec![database::measure(case, &self.folder(), self.rows, self.rounds)?]),
            Kind::FirstRow => Ok(vec![first_row::measure(&self.karez, &self.file()?)?]),
        }
    }

    fn file(&self) -> Result<PathBuf, String> {
        self.file_of(self.rows)
    }

    fn file_of(&self, rows: u64) -> Result<PathBuf, String> {
        data::bids(&self.folder(), rows)
    }

    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(data::folder)
    }

    fn query(&self, name: &str, query: Query) -> Result<Vec<Figure>, String> {
        let file = self.file()?;
        let ours = Work::Karez { job: query.job(&file, 1), threads: 1 };
        let bare = Work::ArrowJson { file: file.clone(), columns: query.columns().iter().map(|c| (*c).to_owned()).collect() };
        // What the sliding windows are held against.
        let tumbling = (query == Query::Slide).then(|| Work::Karez { job: Query::Tumble.job(&file, 1), threads: 1 });
        let mut rounds = Vec::new();
        let mut others: Vec<(&str, Vec<Measured>)> = Vec::new();
        let mut add = |name: &'static str, measured| match others.iter_mut().find(|(n, _)| *n == name) {
            Some((_, all)) => all.push(measured),
            None => others.push((name, vec![measured])),
        };
        for _ in 0..self.rounds {
            let measured = ours.elsewhere()?;
            for against in &self.against {
                let theirs = match against {
                    Against::ArrowJson => bare.elsewhere()?,
                    Against::DuckDb => duckdb::measure(&self.python, query, &file)?,
                };
                if *against == Against::DuckDb && theirs.rows_out != measured.rows_out {
                    return Err(format!("{name}: Karez gives {} rows, DuckDB {}", measured.rows_out, theirs.rows_out));
                }
                add(against.name(), theirs);
            }
            if let Some(tumbling) = &tumbling {
                add("tumble", tumbling.elsewhere()?);
            }
            rounds.push(measured);
        }
        #[allow(clippy::cast_precision_loss)]
        let rates = rounds.iter().map(|m| self.rows as f64 / m.cpu_s).collect();
        let figure = Figure {
            rows_per_cpu_second: Some(median(rates)),
            peak_mb: Some(rounds.iter().map(|m| m.peak_mb).fold(0.0, f64::max)),
            ..Figure::new(name)
        };
        if others.is_empty() {
            return Ok(vec![figure]);
        }
        let figures = others.into_iter().map(|(against, theirs)| {
            let ratios = theirs.iter().zip(&rounds).map(|(theirs, ours)| theirs.cpu_s / ours.cpu_s).collect();
            #[allow(clippy::cast_precision_loss)]
            let rates = theirs.iter().map(|m| self.rows as f64 / m.cpu_s).collect();
            Figure { against: Some(against.to_owned()), ratio: Some(median(ratios)), ..figure.clone() }
                .with("against_rows_per_cpu_second", median(rates))
                .with("against_peak_mb", theirs.iter().map(|m| m.peak_mb).fold(0.0, f64::max))
        });
        Ok(figures.collect())
    }

    /// Wall time of one core against that of two, over four times as many rows: starting and ending a job takes as long on two cores as on one.
    fn two_cores(&self, name: &str, query: Query) -> Result<Figure, String> {
        let rows = self.rows * 4;
        let file = self.file_of(rows)?;
        let work = |cores| Work::Karez { job: query.job(&file, cores), threads: cores };
        let (one, two) = (work(1), work(2));
        let (mut ratios, mut rates, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..self.rounds {
            let (one, two) = (one.elsewhere()?, two.elsewhere()?);
            if one.rows_out != two.rows_out {
                return Err(format!("{name}: {} rows on one core, {} on two", one.rows_out, two.rows_out));
            }
            ratios.push(one.wall_s / two.wall_s);
            #[allow(clippy::cast_precision_loss)]
            rates.push(rows as f64 / two.cpu_s);
            peak = peak.max(two.peak_mb);
        }
        Ok(Figure {
            against: Some("one-core".into()),
            ratio: Some(median(ratios)),
            rows_per_cpu_second: Some(median(rates)),
            peak_mb: Some(peak),
            ..Figure::new(name)
        })
    }
}

/// The whole lines among the first bytes of a file.
fn head(file: &Path, bytes: usize) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut head = Vec::new();
    let input = std::fs::File::open(file).map_err(|e| format!("`{}`: {e}", file.display()))?;
    input.take(bytes as u64).read_to_end(&mut head).map_err(|e| format!("`{}`: {e}", file.display()))?;
    head.truncate(head.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    Ok(head)
}
