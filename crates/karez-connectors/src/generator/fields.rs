//! `kind: fields`: columns of one's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Array, Int64Builder, StringBuilder, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::options::{FieldOptions, instant_ms};
use super::random::Random;

/// The column's Arrow field.
pub(super) fn field(options: &FieldOptions) -> Field {
    let data_type = match options {
        FieldOptions::Sequence { .. } | FieldOptions::Int { .. } => DataType::Int64,
        FieldOptions::Double { .. } => DataType::Float64,
        FieldOptions::String { .. } | FieldOptions::Choice { .. } => DataType::Utf8,
        FieldOptions::Boolean { .. } => DataType::Boolean,
        FieldOptions::Timestamp { .. } => DataType::Timestamp(TimeUnit::Millisecond, None),
    };
    Field::new(options.name(), data_type, options.nulls() > 0.0)
}

/// Bytes of a value, about.
pub(super) fn value_bytes(options: &FieldOptions) -> usize {
    match options {
        FieldOptions::String { length, .. } => *length as usize + 4,
        FieldOptions::Choice { values, .. } => values.iter().map(String::len).sum::<usize>() / values.len().max(1) + 4,
        _ => 8,
    }
}

/// The values of some rows. `column` numbers the column for its random numbers.
pub(super) fn values(options: &FieldOptions, seed: u64, column: usize, rows: &[u64]) -> ArrayRef {
    let nulls = options.nulls();
    // The first number of a cell decides on null, whether nulls are asked for or not: the values of the other rows do not depend on it.
    let cells = rows.iter().map(|row| {
        let mut random = Random::of(seed, column, *row);
        let null = random.unit() < nulls;
        (random, null)
    });
    match options {
        FieldOptions::Sequence { start, step, .. } => {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| start.wrapping_add(step.wrapping_mul(row.cast_signed())))))
        }
        FieldOptions::Timestamp { start, step, .. } => {
            let start_ms = instant_ms(start).unwrap_or_default();
            let step_ms = step.as_millis();
            Arc::new(TimestampMillisecondArray::from_iter_values(
                rows.iter().map(|row| start_ms.wrapping_add(step_ms.wrapping_mul(row.cast_signed()))),
            ))
        }
        FieldOptions::Int { min, max, .. } => {
            let mut out = Int64Builder::with_capacity(rows.len());
            // The number of values; 0 stands for all 2^64.
            let span = max.wrapping_sub(*min).cast_unsigned().wrapping_add(1);
            for (mut random, null) in cells {
                let offset = if span == 0 { random.next() } else { random.below(span) };
                out.append_option((!null).then(|| min.wrapping_add(offset.cast_signed())));
            }
            Arc::new(out.finish())
        }
        FieldOptions::Double { min, max, .. } => {
            let mut out = Float64Builder::with_capacity(rows.len());
            for (mut random, null) in cells {
                let value = random.unit().mul_add(max - min, *min).min(max.next_down());
                out.append_option((!null).then_some(value));
            }
            Arc::new(out.finish())
        }
        FieldOptions::Boolean { probability, .. } => {
            let mut out = BooleanBuilder::with_capacity(rows.len());
            for (mut random, null) in cells {
                let value = random.unit() < *probability;
                out.append_option((!null).then_some(value));
            }
            Arc::new(out.finish())
        }
        FieldOptions::String { length, .. } => {
            let mut out = StringBuilder::with_capacity(rows.len(), rows.len() * *length as usize);
            let mut text = String::new();
            for (mut random, null) in cells {
                text.clear();
                while text.len() < *length as usize {
                    // Ten letters from one number: 26^10 is about 2^47.
                    let mut n = random.next() >> 16;
                    for _ in 0..(*length as usize - text.len()).min(10) {
                        text.push(char::from(b'a' + (n % 26) as u8));
                        n /= 26;
                    }
                }
                out.append_option((!null).then_some(&text));
            }
            Arc::new(out.finish())
        }
        FieldOptions::Choice { values, .. } => {
            let mut out = StringBuilder::new();
            for (mut random, null) in cells {
                let value = &values[random.below(values.len() as u64) as usize];
                out.append_option((!null).then_some(value));
            }
            Arc::new(out.finish())
        }
    }
}
