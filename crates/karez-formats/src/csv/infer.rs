//! Guessing column types from the first records.

use arrow::array::timezone::Tz;
use arrow::array::types::Float64Type;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use karez_core::exact::text;

use super::split::{Splitter, Step};
use super::{CsvOptions, NullMarkers};

/// What the values of a column have been so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// Nothing but nulls.
    Unknown,
    Boolean,
    Bigint,
    Double,
    Date,
    Timestamp(TimeUnit),
    Text,
}

/// Guesses the types of columns: each is the narrowest of bigint, double, boolean, date, timestamp and string that fits all values seen.
///
/// Nulls fit everything; a column of nothing else is a string. Digits with a leading zero are a string, since a number would lose it.
#[derive(Debug)]
pub struct Inference {
    guesses: Vec<Guess>,
}

impl Inference {
    /// For records of `width` fields.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { guesses: vec![Guess::Unknown; width] }
    }

    /// Looks at the records of `block`, at most `max_records`; how many it has seen. Bad ones are left out.
    pub fn look(&mut self, block: &[u8], last: bool, max_records: usize, options: &CsvOptions) -> usize {
        let (splitter, nulls) = (Splitter::new(options), NullMarkers::new(&options.null_markers));
        let (mut fields, mut scratch) = (Vec::new(), String::new());
        let (mut pos, mut seen) = (0, 0);
        while seen < max_records {
            match splitter.step(block, pos, last, &mut fields) {
                Step::Incomplete => break,
                Step::Skip { next } | Step::Bad { next, .. } => pos = next,
                Step::Record { end, next } => {
                    if fields.len() == self.guesses.len()
                        && let Ok(text) = std::str::from_utf8(&block[pos..end])
                    {
                        seen += 1;
                        for (guess, field) in self.guesses.iter_mut().zip(&fields) {
                            let value = splitter.value(text, &field.relative_to(pos), &mut scratch).trim_ascii();
                            if !nulls.contain(value) {
                                *guess = widen(*guess, guess_of(value));
                            }
                        }
                    }
                    pos = next;
                }
            }
        }
        seen
    }

    /// The schema for columns of these names. All may be null.
    #[must_use]
    pub fn schema(&self, names: &[String]) -> Schema {
        let fields = names.iter().zip(&self.guesses).map(|(name, guess)| {
            let data_type = match guess {
                Guess::Boolean => DataType::Boolean,
                Guess::Bigint => DataType::Int64,
                Guess::Double => DataType::Float64,
                Guess::Date => DataType::Date32,
                Guess::Timestamp(unit) => DataType::Timestamp(*unit, None),
                Guess::Unknown | Guess::Text => DataType::Utf8,
            };
            Field::new(name, data_type, true)
        });
        Schema::new(fields.collect::<Vec<_>>())
    }
}

fn widen(before: Guess, now: Guess) -> Guess {
    use Guess::{Bigint, Date, Double, Text, Timestamp, Unknown};
    match (before, now) {
        (Unknown, other) => other,
        (a, b) if a == b => a,
        (Bigint, Double) | (Double, Bigint) => Double,
        (Timestamp(a), Timestamp(b)) => Timestamp(a.max(b)),
        (Timestamp(unit), Date) | (Date, Timestamp(unit)) => Timestamp(unit),
        _ => Text,
    }
}

fn guess_of(value: &str) -> Guess {
    if matches!(value, "true" | "false" | "TRUE" | "FALSE" | "True" | "False") {
        return Guess::Boolean;
    }
    let bytes = value.as_bytes();
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if numeric && digits.bytes().all(|b| b.is_ascii_digit()) {
        let keeps_all = digits.len() == 1 || !digits.starts_with('0');
        return if keeps_all && value.parse::<i64>().is_ok() { Guess::Bigint } else { Guess::Text };
    }
    let is_date = bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-' && digits.len() == bytes.len();
    // Of the finest unit, to which a column may be widened.
    if is_date && "+00:00".parse::<Tz>().is_ok_and(|utc| text::timestamp(value, &utc, TimeUnit::Nanosecond).is_ok()) {
        let fraction = value.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
        return match (bytes.len(), fraction) {
            (10, _) => Guess::Date,
            (_, 0..=3) => Guess::Timestamp(TimeUnit::Millisecond),
            (_, 4..=6) => Guess::Timestamp(TimeUnit::Microsecond),
            _ => Guess::Timestamp(TimeUnit::Nanosecond),
        };
    }
    if numeric && text::float::<Float64Type>(value).is_ok() { Guess::Double } else { Guess::Text }
}
