//! The rows of a batch, cut by the slice that each belongs to.

use arrow::array::UInt32Array;
use karez_core::Result;

use super::slices::Slices;
use crate::aggregates::AggregateRows;

/// Calls `f` for each slice that has rows, with its rows in order. Most batches lie within one slice and are not touched.
pub(crate) fn by_slice(slices: &Slices, times: &[i64], rows: &AggregateRows, mut f: impl FnMut(i64, &AggregateRows) -> Result<()>) -> Result<()> {
    // Folds of `min` and `max` are vectorised; `Iterator::min` is not.
    let (min, max) = times.iter().fold((i64::MAX, i64::MIN), |(min, max), &t| (min.min(t), max.max(t)));
    if min > max {
        return Ok(());
    }
    let first = slices.slice_of(min);
    if max < slices.start(first + 1) {
        return f(first, rows);
    }
    let cut = Cut::of(slices, times);
    if cut.runs == cut.found.len() {
        // Rows in the order of time: each slice's rows stand together.
        let mut starts: Vec<&Found> = cut.found.iter().collect();
        starts.sort_unstable_by_key(|found| found.first_row);
        for found in starts {
            f(found.slice, &rows.slice(found.first_row, found.rows))?;
        }
        return Ok(());
    }
    for (slice, indices) in cut.indices() {
        f(slice, &rows.take(&UInt32Array::from(indices))?)?;
    }
    Ok(())
}

/// A slice that has rows.
struct Found {
    slice: i64,
    start: i64,
    end: i64,
    /// Its number in order of appearance.
    number: u32,
    first_row: usize,
    rows: usize,
}

struct Cut {
    /// Ascending by time.
    found: Vec<Found>,
    /// The number of each row's slice.
    numbers: Vec<u32>,
    /// How often a row's slice is another than the row's before, plus one.
    runs: usize,
}

impl Cut {
    fn of(slices: &Slices, times: &[i64]) -> Self {
        let mut cut = Self { found: Vec::new(), numbers: Vec::with_capacity(times.len()), runs: 0 };
        let mut at = usize::MAX;
        for (row, &time) in times.iter().enumerate() {
            let same = cut.found.get(at).is_some_and(|f| f.start <= time && time < f.end);
            if !same {
                at = cut.find(slices, time, row);
                cut.runs += 1;
            }
            let found = &mut cut.found[at];
            found.rows += 1;
            cut.numbers.push(found.number);
        }
        cut
    }

    fn find(&mut self, slices: &Slices, time: i64, row: usize) -> usize {
        let at = self.found.partition_point(|f| f.end <= time);
        if self.found.get(at).is_none_or(|f| time < f.start) {
            let slice = slices.slice_of(time);
            let number = self.found.len() as u32;
            self.found.insert(at, Found { slice, start: slices.start(slice), end: slices.start(slice + 1), number, first_row: row, rows: 0 });
        }
        at
    }

    /// The rows of each slice, ascending.
    fn indices(&self) -> Vec<(i64, Vec<u32>)> {
        let mut by_number: Vec<Vec<u32>> = vec![Vec::new(); self.found.len()];
        for found in &self.found {
            by_number[found.number as usize].reserve_exact(found.rows);
        }
        for (row, &number) in self.numbers.iter().enumerate() {
            by_number[number as usize].push(row as u32);
        }
        self.found.iter().map(|f| (f.slice, std::mem::take(&mut by_number[f.number as usize]))).collect()
    }
}
