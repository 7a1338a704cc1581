//! A job as plain data: what both the engine and the reference run.

use std::collections::BTreeSet;
use std::fmt;

use super::expression::{Expression, Predicate};
use super::value::{Column, Kind, Row};

pub struct Plan {
    /// `type: batch`.
    pub batch: bool,
    pub key_groups: u16,
    pub sources: Vec<SourcePlan>,
    /// In topological order.
    pub nodes: Vec<NodePlan>,
    pub sinks: Vec<SinkPlan>,
    /// One after the other, until the job is complete; the last one completes it.
    pub runs: Vec<RunPlan>,
}

/// The columns of every source.
pub fn source_columns() -> Vec<Column> {
    [("k", Kind::Int), ("v", Kind::Int), ("s", Kind::Text), ("t", Kind::Time), ("l", Kind::List)].map(|(n, k)| Column::new(n, k)).into()
}

/// The event time of every source.
pub const EVENT_TIME: &str = "t";

#[derive(Debug)]
pub struct SourcePlan {
    pub name: String,
    pub level: Level,
    /// Rows by split and batch.
    pub splits: Vec<Vec<Vec<Row>>>,
    /// By split, in front of which batches it has nothing for a moment.
    pub pauses: Vec<BTreeSet<usize>>,
    pub bounded: bool,
    pub one_at_a_time: bool,
    /// Splits found by the first look; the others are found by the second.
    pub found_at_once: usize,
    /// Whether it can leave columns out.
    pub projects: bool,
    /// Whether its watermark follows its rows; otherwise it comes at the end.
    pub in_order: bool,
    pub out_of_orderness_ms: i64,
}

#[derive(Debug)]
pub struct NodePlan {
    pub name: String,
    pub level: Level,
    pub operator: OperatorPlan,
    pub inputs: Vec<Input>,
    /// The columns of the first input.
    pub columns: Vec<Column>,
    /// Its event time.
    pub event_time: Option<String>,
    pub faults: Faults,
}

/// An output of a node, and how its rows are spread on the way.
#[derive(Clone, Debug)]
pub struct Input {
    pub port: Port,
    pub exchange: Option<Spread>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub node: String,
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum Spread {
    Rebalance,
    Global,
    Hash(String),
}

/// How many subtasks: one, or what a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    One,
    A,
    B,
}

/// What becomes of rows at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// There are none.
    None,
    Skip,
    DeadLetter,
}

#[derive(Debug)]
pub enum OperatorPlan {
    Identity,
    Map(Vec<(String, Expression)>),
    Filter(Predicate),
    FlatMap { list: usize, alias: String, keep_empty: bool },
    Union,
    Split { routes: Vec<(String, Predicate)>, all: bool, drops: bool },
    Window { keys: Vec<usize>, window: Window, lateness_ms: i64, with_time: bool, aggregates: Vec<(String, Aggregate)> },
    Aggregate { keys: Vec<usize>, aggregates: Vec<(String, Aggregate)> },
    Deduplicate { keys: Vec<usize>, last: bool },
}

#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// Tumbling where the slide is the size.
    Sliding {
        size_ms: i64,
        slide_ms: i64,
        offset_ms: i64,
    },
    Session {
        gap_ms: i64,
    },
    Count {
        rows: usize,
    },
}

#[derive(Clone, Debug)]
pub enum Aggregate {
    CountAll,
    Count(Expression),
    CountDistinct(Expression),
    Sum(Expression),
    SumWhere(Expression, Predicate),
    Min(Expression),
    Max(Expression),
    Mean(Expression),
    /// `sum(x) + count(*)`.
    SumAndCount(Expression),
}

#[derive(Debug)]
pub struct SinkPlan {
    pub name: String,
    pub level: Level,
    pub input: Input,
    pub columns: Vec<Column>,
    /// Whether it writes by the key of its input.
    pub keyed: bool,
    /// Whether it makes those before it wait.
    pub slow: bool,
}

/// One start of the job and how it ends.
#[derive(Debug)]
pub struct RunPlan {
    /// Subtasks of the levels A and B.
    pub parallelism: [usize; 2],
    pub disk: bool,
    pub queue_batches: [usize; 2],
    pub queue_bytes: u64,
    pub buffer_timeout_ms: u64,
    pub checkpoint_interval_ms: u64,
    pub retained: usize,
    /// Source, split and batch at which a read fails once.
    pub failing_reads: Vec<(usize, usize, usize)>,
    /// Commits whose answer is lost.
    pub lost_answers: usize,
    pub end: End,
}

/// What happens to a run, once the sources have given so many batches.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Nothing: it completes.
    Complete,
    Stop(usize),
    Cancel(usize),
    /// A stop with savepoint, from which the next run is restored.
    Savepoint(usize),
}

impl NodePlan {
    /// The names of columns of the first input.
    pub fn names(&self, columns: &[usize]) -> Vec<&str> {
        columns.iter().map(|&c| self.columns[c].name.as_str()).collect()
    }
}

impl Level {
    pub fn subtasks(self, run: &RunPlan) -> usize {
        match self {
            Self::One => 1,
            Self::A => run.parallelism[0],
            Self::B => run.parallelism[1],
        }
    }
}

impl Aggregate {
    pub fn sql(&self) -> String {
        match self {
            Self::CountAll => "count(*)".into(),
            Self::Count(e) => format!("count({})", e.sql()),
            Self::CountDistinct(e) => format!("count(distinct {})", e.sql()),
            Self::Sum(e) => format!("sum({})", e.sql()),
            Self::SumWhere(e, p) => format!("sum({}) filter (where {})", e.sql(), p.sql()),
            Self::Min(e) => format!("min({})", e.sql()),
            Self::Max(e) => format!("max({})", e.sql()),
            Self::Mean(e) => format!("avg({})", e.sql()),
            Self::SumAndCount(e) => format!("sum({}) + count(*)", e.sql()),
        }
    }
}

impl fmt::Display for Plan {
    /// Everything that one needs to write the job down again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "batch job: {}, key groups: {}", self.batch, self.key_groups)?;
        for source in &self.sources {
            let SourcePlan { name, level, bounded, one_at_a_time, found_at_once, projects, in_order, out_of_orderness_ms, pauses, .. } = source;
            writeln!(
                f,
                "source {name} {level:?} bounded {bounded} one at a time {one_at_a_time} found at once {found_at_once} projects {projects} in order {in_order} by {out_of_orderness_ms} ms pauses {pauses:?}"
            )?;
            for (split, batches) in source.splits.iter().enumerate() {
                for rows in batches {
                    writeln!(f, "  split {split}: {:?}", rows.iter().map(|r| &r.values).collect::<Vec<_>>())?;
                }
            }
        }
        for node in &self.nodes {
            writeln!(f, "{} {:?} of {:?}: {:?} {:?}", node.name, node.level, node.inputs, node.operator, node.faults)?;
        }
        for sink in &self.sinks {
            writeln!(f, "sink {} {:?} of {:?} keyed {} slow {}", sink.name, sink.level, sink.input, sink.keyed, sink.slow)?;
        }
        for run in &self.runs {
            writeln!(f, "{run:?}")?;
        }
        Ok(())
    }
}
