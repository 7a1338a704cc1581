//! The predicting JSON decoder against arrow-json, on one core, in CPU time.
//!
//! `cargo bench -p karez-formats --bench json [-- part of a name]`. Each case is run by both in turn; the best round of each counts. What is
//! to be reached stands beside the ratio.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use karez_formats::json::{JsonDecoder, JsonOptions};

const ROWS: usize = 40_000;
const BATCH_ROWS: usize = 8_192;
const ROUNDS: usize = 15;

/// A small xorshift: the same rows at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

/// The members of a Nexmark bid.
fn bid(random: &mut Random, row: usize) -> [String; 7] {
    let (second, milli) = (row / 10_000, row / 10 % 1000);
    let extra = 40 + random.below(20);
    let path = format!("{}/{}/{}", random.letters(5), random.letters(4), random.letters(5));
    [
        format!("\"auction\":{}", 1000 + random.below(100_000)),
        format!("\"bidder\":{}", 1000 + random.below(1_000_000)),
        format!("\"price\":{}", 100 + random.below(100_000_000)),
        format!("\"channel\":\"{}\"", ["Google", "Facebook", "Baidu", "Apple", "channel-7241"][random.below(5)]),
        format!("\"url\":\"https://www.nexmark.com/{path}/item.htm?query=1&channel_id={}\"", random.below(10_000)),
        format!("\"date_time\":\"2024-01-01 {:02}:{:02}:{:02}.{milli:03}\"", second / 3600, second / 60 % 60, second % 60),
        format!("\"extra\":\"{}\"", random.letters(extra)),
    ]
}

/// Records with their members changed by `change`, a line each.
fn lines(mut change: impl FnMut(usize, &mut Random, [String; 7]) -> String) -> String {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut text = String::new();
    for row in 0..ROWS {
        let members = bid(&mut random, row);
        writeln!(text, "{}", change(row, &mut random, members)).unwrap();
    }
    text
}

fn plain(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn shuffled(random: &mut Random, members: &mut [String]) {
    for at in (1..members.len()).rev() {
        members.swap(at, random.below(at + 1));
    }
}

fn schema(columns: &[&str]) -> SchemaRef {
    let field = |name: &&str| match *name {
        "auction" | "bidder" | "price" => Field::new(*name, DataType::Int64, true),
        "date_time" => Field::new(*name, DataType::Timestamp(TimeUnit::Millisecond, None), true),
        _ => Field::new(*name, DataType::Utf8, true),
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn arrow(schema: &SchemaRef, text: &[u8]) -> Vec<RecordBatch> {
    let reader = ReaderBuilder::new(Arc::clone(schema)).with_batch_size(BATCH_ROWS).build(text).unwrap();
    reader.collect::<Result<_, _>>().unwrap()
}

fn karez(decoder: &mut JsonDecoder, mut text: &[u8]) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut errors = Vec::new();
    while !text.is_empty() {
        // As a file source does: blocks of 1 MiB.
        let block = &text[..text.len().min(1 << 20)];
        let read = decoder.decode_lines(block, block.len() == text.len(), BATCH_ROWS, &mut errors);
        text = &text[read..];
        if decoder.rows() >= BATCH_ROWS || text.is_empty() {
            batches.extend(decoder.flush().unwrap());
        }
    }
    assert!(errors.is_empty());
    batches
}

/// CPU time of this thread, nanoseconds.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn timed<T>(best: &mut u64, run: impl FnOnce() -> T) -> T {
    // The scheduler accounts a slice at its end.
    std::thread::yield_now();
    let begin = cpu_ns();
    let result = run();
    std::thread::yield_now();
    *best = (*best).min(cpu_ns() - begin);
    result
}

fn compare(name: &str, columns: &[&str], goal: f64, text: &str) {
    let mut filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| name.contains(&filter)) {
        return;
    }
    let schema = schema(columns);
    let mut decoder = JsonDecoder::try_new(Arc::clone(&schema), JsonOptions::default()).unwrap();
    let (mut best_arrow, mut best_karez) = (u64::MAX, u64::MAX);
    for round in 0..ROUNDS {
        let theirs = timed(&mut best_arrow, || arrow(&schema, text.as_bytes()));
        let ours = timed(&mut best_karez, || karez(&mut decoder, text.as_bytes()));
        if round == 0 {
            let whole = |batches: &[RecordBatch]| arrow::compute::concat_batches(&schema, batches).unwrap();
            assert_eq!(whole(&theirs), whole(&ours));
        }
    }
    let rate = |ns: u64| ROWS as f64 * 1e3 / ns as f64;
    println!(
        "{name:<44} arrow-json {:6.2} M rows/s   karez {:6.2} M rows/s   x {:5.2}   (goal {goal})",
        rate(best_arrow),
        rate(best_karez),
        best_arrow as f64 / best_karez as f64,
    );
}

fn main() {
    let four = ["auction", "bidder", "price", "date_time"];
    let seven = ["auction", "bidder", "price", "channel", "url", "date_time", "extra"];

    let same = lines(|_, _, members| plain(&members));
    println!("{} bytes a record", same.len() / ROWS);
    compare("4 of 7 columns", &four, 3.5, &same);
    compare("7 of 7 columns", &seven, 2.5, &same);

    let other = lines(|row, _, mut members| {
        if row % 10 == 9 {
            members.reverse();
        }
        plain(&members)
    });
    compare("1 in 10 with another order, 4 of 7", &four, 2.0, &other);
    compare("1 in 10 with another order, 7 of 7", &seven, 2.0, &other);

    let odd = lines(|row, _, mut members| {
        if row % 10 == 9 {
            // A form that only the general path takes.
            members[2].push_str(".0");
        }
        plain(&members)
    });
    compare("1 in 10 in an odd form, 4 of 7", &four, 2.0, &odd);
    compare("1 in 10 in an odd form, 7 of 7", &seven, 2.0, &odd);

    let random = lines(|_, random, mut members| {
        shuffled(random, &mut members);
        plain(&members)
    });
    compare("random order, 4 of 7", &four, 0.95, &random);
    compare("random order, 7 of 7", &seven, 0.95, &random);

    let strange = lines(|_, random, members| {
        let mut members = members[..6].to_vec();
        let added = random.below(12);
        members.extend((0..added).map(|_| format!("\"{}\":{}", random.letters(6), random.below(1000))));
        shuffled(random, &mut members);
        plain(&members)
    });
    compare("random order and unknown random keys, 4 of 7", &four, 0.95, &strange);
    compare("random order and unknown random keys, 7 of 7", &seven, 0.95, &strange);

    let all_odd = lines(|_, random, mut members| {
        members[2].push_str(".0");
        shuffled(random, &mut members);
        plain(&members)
    });
    compare("all in an odd form and random order, 4 of 7", &four, 0.95, &all_odd);
    compare("all in an odd form and random order, 7 of 7", &seven, 0.95, &all_odd);
}
