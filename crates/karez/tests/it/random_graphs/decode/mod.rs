//! Random bytes and rows to a plan: whatever they are, a valid one, and a simpler one of smaller bytes.
//!
//! What is known of each output (its columns, whether its rows can be late, …) decides what may come behind it. An output is *exact* if its rows come in
//! one order, and each of them behind the same watermark, however the job is scheduled: then the reference can say which rows are late, which is the first of
//! a key, and which of them share a window of so many rows.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

mod keyed;
mod row_wise;
mod source;

use self::row_wise::spread;
use super::dice::Dice;
use super::expression::{Expression, Predicate, of_kind};
use super::plan::{
    Aggregate, EVENT_TIME, End, Faults, Input, Level, NodePlan, OperatorPlan, Plan, Port, RunPlan, SinkPlan, SourcePlan, Spread, Window,
    source_columns,
};
use super::value::{Column, Kind, Row, Value};

/// What plans are made of.
#[derive(Clone)]
pub struct Raw {
    job: Vec<u8>,
    sources: Vec<(Vec<u8>, Vec<RawRow>)>,
    nodes: Vec<Vec<u8>>,
    runs: Vec<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct RawRow {
    k: Option<i64>,
    v: Option<i64>,
    s: Option<usize>,
    l: Option<Vec<Option<i64>>>,
    gap_ms: i64,
    behind_ms: i64,
    split: usize,
    cut: bool,
    pause: bool,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.plan())
    }
}

pub fn raw() -> impl Strategy<Value = Raw> {
    let row = (
        (prop::option::weighted(0.9, 0_i64..5), prop::option::weighted(0.9, -9_i64..20), prop::option::weighted(0.8, 0_usize..4)),
        prop::option::weighted(0.9, vec(prop::option::weighted(0.9, 0_i64..9), 0..4)),
        (0_i64..30, prop_oneof![2 => Just(0_i64), 1 => 0_i64..120]),
        (0_usize..4, prop::bool::weighted(0.3), prop::bool::weighted(0.15)),
    )
        .prop_map(|((k, v, s), l, (gap_ms, behind_ms), (split, cut, pause))| RawRow { k, v, s, l, gap_ms, behind_ms, split, cut, pause });
    let source = (vec(any::<u8>(), 12), vec(row, 0..60));
    (vec(any::<u8>(), 4), vec(source, 1..4), vec(vec(any::<u8>(), 48), 0..7), vec(vec(any::<u8>(), 16), 1..5))
        .prop_map(|(job, sources, nodes, runs)| Raw { job, sources, nodes, runs })
}

impl Raw {
    pub fn plan(&self) -> Plan {
        let mut dice = Dice::new(&self.job);
        let batch = dice.chance(6);
        let key_groups = [128, 7, 300][dice.roll(3)];
        let mut decoder = Decoder { batch, streams: Vec::new(), nodes: Vec::new() };
        let sources: Vec<SourcePlan> =
            self.sources.iter().enumerate().map(|(i, (bytes, rows))| decoder.source(i, &mut Dice::new(bytes), rows)).collect();
        for bytes in &self.nodes {
            decoder.node(&mut Dice::new(bytes));
        }
        let mut dice = Dice::new(&self.job);
        let sinks = decoder.sinks(&mut dice);
        let last = self.runs.len() - 1;
        let runs = self.runs.iter().enumerate().map(|(i, bytes)| run(&mut Dice::new(bytes), &sources, i == last)).collect();
        Plan { batch, key_groups, sources, nodes: decoder.nodes, sinks, runs }
    }
}

fn run(dice: &mut Dice<'_>, sources: &[SourcePlan], last: bool) -> RunPlan {
    let batches: usize = sources.iter().flat_map(|s| &s.splits).map(Vec::len).sum();
    let parallelism = [1 + dice.roll(4), 1 + dice.roll(4)];
    let end = match dice.roll(4) {
        _ if last => End::Complete,
        0 => End::Stop(dice.roll(batches + 1)),
        1 => End::Cancel(dice.roll(batches + 1)),
        2 => End::Savepoint(dice.roll(batches + 1)),
        // Twice the work of a run that is cancelled early.
        _ => End::Cancel(batches),
    };
    let failing_reads = (0..dice.roll(3)).filter_map(|_| {
        let source = dice.roll(sources.len());
        let split = dice.roll(sources[source].splits.len());
        let batches = sources[source].splits[split].len();
        (batches > 0).then(|| (source, split, dice.roll(batches)))
    });
    RunPlan {
        parallelism,
        failing_reads: failing_reads.collect(),
        end,
        disk: dice.chance(2),
        queue_batches: [1 + dice.roll(4), 1 + dice.roll(4)],
        queue_bytes: [16 << 20, 1, 300][dice.roll(3)],
        buffer_timeout_ms: [0, 1, 5][dice.roll(3)],
        checkpoint_interval_ms: [1, 3, 10][dice.roll(3)],
        retained: 1 + dice.roll(2),
        lost_answers: dice.roll(2),
    }
}

/// What is known of an output.
#[derive(Clone)]
struct Stream {
    port: Port,
    level: Level,
    columns: Vec<Column>,
    event_time: Option<String>,
    bounded: bool,
    changelog: bool,
    /// The columns that identify a row of a changelog, as far as they are known here.
    key: Vec<String>,
    exact: bool,
    /// Whether rows may come behind the watermark.
    late: bool,
    used: bool,
}

impl Stream {
    /// Whether rows are put into windows of event time as the reference says.
    fn has_windows(&self) -> bool {
        self.event_time.is_some() && !self.changelog && (!self.late || self.exact)
    }

    /// Whether changes of one row would be brought out of order by another parallelism.
    fn is_tied(&self) -> bool {
        self.changelog && self.key.is_empty()
    }
}

struct Decoder {
    batch: bool,
    streams: Vec<Stream>,
    nodes: Vec<NodePlan>,
}

/// The operators that there are.
#[derive(Clone, Copy)]
enum Choice {
    Identity,
    Map,
    Filter,
    Split,
    Union,
    FlatMap,
    Window,
    CountWindow,
    Aggregate,
    Deduplicate,
}

fn level(dice: &mut Dice<'_>) -> Level {
    [Level::A, Level::B, Level::One][dice.roll(3)]
}

impl Decoder {
    fn node(&mut self, dice: &mut Dice<'_>) {
        // The newest first: bytes of zeros make a line.
        let mut at = self.streams.len() - 1 - dice.roll(self.streams.len());
        // Late rows are told apart near such a source alone: often enough to meet a window there.
        if dice.chance(3) {
            at = self.streams.iter().rposition(|s| s.exact && s.late).unwrap_or(at);
        }
        let input = self.streams[at].clone();
        let partner = self.partner(dice, at);
        let mut choices = vec![Choice::Identity, Choice::Map, Choice::Filter, Choice::Split];
        if partner.is_some() {
            choices.extend([Choice::Union; 2]);
        }
        if !of_kind(&input.columns, Kind::List).is_empty() {
            choices.push(Choice::FlatMap);
        }
        if input.has_windows() {
            choices.extend(std::iter::repeat_n(Choice::Window, if input.late { 10 } else { 4 }));
        }
        if !input.changelog {
            choices.extend([Choice::Aggregate, Choice::Deduplicate]);
            if input.exact {
                choices.push(Choice::CountWindow);
            }
        }
        match choices[dice.roll(choices.len())] {
            Choice::Identity => self.stateless(dice, at, OperatorPlan::Identity, Faults::None, |_| {}),
            Choice::Map => self.map(dice, at),
            Choice::Filter => {
                let predicate = Predicate::any(dice, &input.columns, 2);
                self.stateless(dice, at, OperatorPlan::Filter(predicate), Faults::None, |_| {});
            }
            Choice::Split => self.split(dice, at),
            Choice::Union => self.union(dice, at, partner.unwrap_or(at)),
            Choice::FlatMap => self.flat_map(dice, at),
            Choice::Window => self.window(dice, at),
            Choice::CountWindow => self.count_window(dice, at),
            Choice::Aggregate => self.aggregate(dice, at),
            Choice::Deduplicate => self.deduplicate(dice, at),
        }
    }

    fn next_name(&self) -> String {
        format!("n{}", self.nodes.len())
    }

    fn add(&mut self, inputs: &[(usize, Option<Spread>)], level: Level, operator: OperatorPlan, faults: Faults, outputs: Vec<(String, Stream)>) {
        let name = self.next_name();
        let Stream { columns, event_time, .. } = self.streams[inputs[0].0].clone();
        let ports = inputs.iter().map(|(at, exchange)| {
            self.streams[*at].used = true;
            Input { port: self.streams[*at].port.clone(), exchange: exchange.clone() }
        });
        let ports = ports.collect();
        for (port, stream) in outputs {
            self.streams.push(Stream { port: Port { node: name.clone(), name: port }, ..stream });
        }
        self.nodes.push(NodePlan { name, level, operator, inputs: ports, columns, event_time, faults });
    }

    /// A sink for every output that nobody reads, and for some that are read.
    fn sinks(&mut self, dice: &mut Dice<'_>) -> Vec<SinkPlan> {
        let mut sinks = Vec::new();
        for stream in &self.streams {
            if stream.used && !dice.chance(4) {
                continue;
            }
            let keyed = stream.changelog && !stream.key.is_empty() && dice.chance(2);
            let level = if stream.is_tied() { stream.level } else { level(dice) };
            let exchange = if stream.changelog { None } else { spread(dice, &stream.columns) };
            let input = Input { port: stream.port.clone(), exchange };
            let name = format!("out{}", sinks.len());
            sinks.push(SinkPlan { name, level, input, columns: stream.columns.clone(), keyed, slow: dice.chance(3) });
        }
        sinks
    }
}
