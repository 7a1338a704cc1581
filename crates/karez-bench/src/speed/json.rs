//! The predicting JSON decoder against `arrow-json`'s on the same records, on one thread, in turn.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::record_batch::RecordBatch;
use karez_formats::json::{JsonDecoder, JsonOptions};

use super::clock::{peak_mb, thread_cpu};
use super::figure::{Figure, median};
use super::work::schema;

const ROWS: usize = 40_000;
const BATCH_ROWS: usize = 8_192;
/// What a file source hands to the decoder.
const BLOCK_BYTES: usize = 512 << 10;

pub(super) const FOUR: [&str; 4] = ["auction", "bidder", "price", "date_time"];
pub(super) const SEVEN: [&str; 7] = ["auction", "bidder", "price", "channel", "url", "date_time", "extra"];

/// What the records look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// All alike.
    OneLayout,
    /// One in ten has its keys in another order.
    AnotherOrder,
    /// One in ten has a number form that only `arrow-json` takes.
    OddForm,
    /// Each has its keys in a random order.
    RandomOrder,
    /// Random order, and random keys that nobody reads.
    NoCommonLayout,
    /// Every record has the odd form and a random order.
    AllOdd,
    /// The same with a form whose value has to be judged before.
    AllJudged,
}

/// Which records, read how far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) bench: &'static str,
    shape: Shape,
    columns: &'static [&'static str],
}

/// The cases, by bench.
pub(super) const CASES: [Case; 11] = [
    Case { bench: "json-4-of-7", shape: Shape::OneLayout, columns: &FOUR },
    Case { bench: "json-7-of-7", shape: Shape::OneLayout, columns: &SEVEN },
    Case { bench: "json-mixed", shape: Shape::OddForm, columns: &FOUR },
    Case { bench: "json-random", shape: Shape::NoCommonLayout, columns: &FOUR },
    Case { bench: "json-mixed-7", shape: Shape::OddForm, columns: &SEVEN },
    Case { bench: "json-mixed-order", shape: Shape::AnotherOrder, columns: &FOUR },
    Case { bench: "json-order", shape: Shape::RandomOrder, columns: &FOUR },
    Case { bench: "json-random-7", shape: Shape::NoCommonLayout, columns: &SEVEN },
    Case { bench: "json-odd", shape: Shape::AllOdd, columns: &FOUR },
    Case { bench: "json-odd-7", shape: Shape::AllOdd, columns: &SEVEN },
    Case { bench: "json-judged", shape: Shape::AllJudged, columns: &FOUR },
];

/// Measures a case.
pub(super) fn measure(case: Case, rounds: usize) -> Result<Figure, String> {
    let text = records(case.shape);
    let schema = schema(case.columns);
    let mut decoder = JsonDecoder::try_new(Arc::clone(&schema), JsonOptions::default()).map_err(|e| e.to_string())?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    // A round of 40,000 rows is short: each is done three times as often as others, and the first is for the caches.
    for round in 0..=rounds * 3 {
        let (theirs, their_time) = timed(|| arrow(&schema, text.as_bytes()))?;
        let (ours, our_time) = timed(|| karez(&mut decoder, text.as_bytes()))?;
        if round == 0 {
            let whole = |batches: &[RecordBatch]| arrow::compute::concat_batches(&schema, batches).map_err(|e| e.to_string());
            if whole(&theirs)? != whole(&ours)? {
                return Err(format!("{}: the decoders do not agree", case.bench));
            }
            continue;
        }
        ratios.push(their_time.as_secs_f64() / our_time.as_secs_f64());
        #[allow(clippy::cast_precision_loss)]
        rates.push(ROWS as f64 / our_time.as_secs_f64());
    }
    Ok(Figure {
        against: Some("arrow-json".into()),
        ratio: Some(median(ratios)),
        rows_per_cpu_second: Some(median(rates)),
        peak_mb: peak_mb(),
        ..Figure::new(case.bench)
    })
}

fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(T, Duration), String> {
    let begin = thread_cpu();
    let done = work()?;
    Ok((done, thread_cpu() - begin))
}

fn arrow(schema: &SchemaRef, text: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let reader = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(BATCH_ROWS).build(text).map_err(|e| e.to_string())?;
    reader.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn karez(decoder: &mut JsonDecoder, mut text: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let (mut batches, mut errors) = (Vec::new(), Vec::new());
    while !text.is_empty() {
        let block = &text[..text.len().min(BLOCK_BYTES)];
        let read = decoder.decode_lines(block, block.len() == text.len(), BATCH_ROWS, &mut errors);
        text = &text[read..];
        if decoder.rows() >= BATCH_ROWS || text.is_empty() {
            batches.extend(decoder.flush().map_err(|e| e.to_string())?);
        }
    }
    match errors.first() {
        None => Ok(batches),
        Some(e) => Err(e.reason.clone()),
    }
}

/// A small xorshift: the same rows at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn letters(&mut self, count: u64) -> String {
        (0..count).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz"[usize::try_from(self.below(26)).unwrap_or(0)])).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, usize::try_from(self.below(at as u64 + 1)).unwrap_or(0));
        }
    }
}

/// The members of a Nexmark bid.
fn bid(random: &mut Random, row: usize) -> Vec<String> {
    let (second, milli) = (row / 10_000, row / 10 % 1000);
    let extra = 40 + random.below(20);
    let path = format!("{}/{}/{}", random.letters(5), random.letters(4), random.letters(5));
    let channel = ["Google", "Facebook", "Baidu", "Apple", "channel-7241"][usize::try_from(random.below(5)).unwrap_or(0)];
    vec![
        format!("\"auction\":{}", 1000 + random.below(100_000)),
        format!("\"bidder\":{}", 1000 + random.below(1_000_000)),
        format!("\"price\":{}", 100 + random.below(100_000_000)),
        format!("\"channel\":\"{channel}\""),
        format!("\"url\":\"https://www.nexmark.com/{path}/item.htm?query=1&channel_id={}\"", random.below(10_000)),
        format!("\"date_time\":\"2024-01-01 {:02}:{:02}:{:02}.{milli:03}\"", second / 3600, second / 60 % 60, second % 60),
        format!("\"extra\":\"{}\"", random.letters(extra)),
    ]
}

/// Records that are all alike, a line each.
pub(super) fn alike() -> String {
    records(Shape::OneLayout)
}

/// Records of a shape, a line each.
fn records(shape: Shape) -> String {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut text = String::new();
    for row in 0..ROWS {
        let mut members = bid(&mut random, row);
        let one_in_ten = row % 10 == 9;
        match shape {
            Shape::AnotherOrder if one_in_ten => members.reverse(),
            Shape::OddForm if one_in_ten => members[2].push_str(".0"),
            Shape::RandomOrder => random.shuffle(&mut members),
            Shape::AllOdd => {
                members[2].push_str(".0");
                random.shuffle(&mut members);
            }
            Shape::AllJudged => {
                members[2].push_str("e0");
                random.shuffle(&mut members);
            }
            Shape::NoCommonLayout => {
                let added = random.below(12);
                members.extend((0..added).map(|_| format!("\"{}\":{}", random.letters(6), random.below(1000))));
                random.shuffle(&mut members);
            }
            Shape::OneLayout | Shape::AnotherOrder | Shape::OddForm => {}
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{{{}}}", members.join(","));
    }
    text
}
