//! Which rows of a batch, and which sessions that were there, are one session.

use super::session_value::Session;

/// Rows of one key within the gap of each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The key's number.
    pub(crate) key: usize,
    /// The time of its first row.
    pub(crate) start_ms: i64,
    /// The time of its last row plus the gap.
    pub(crate) end_ms: i64,
}

/// A session in the making: the numbers of the runs and of the former sessions it is made of.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The key's number.
    pub(crate) key: usize,
    /// The time of its first row.
    pub(crate) start_ms: i64,
    /// The time of its last row plus the gap.
    pub(crate) end_ms: i64,
    pub(crate) runs: Vec<usize>,
    pub(crate) former: Vec<usize>,
}

/// Cuts the rows of each key into runs; gives them ordered by key and time, and the run of each row. `keys`: the key's number of each row.
pub(crate) fn cut_runs(keys: &[usize], times: &[i64], gap_ms: i64) -> (Vec<Run>, Vec<usize>) {
    let mut order: Vec<(usize, i64, u32)> = keys.iter().zip(times).enumerate().map(|(row, (&key, &t))| (key, t, row as u32)).collect();
    order.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    let mut of_row = vec![0; times.len()];
    for (key, time_ms, row) in order {
        let end_ms = time_ms.saturating_add(gap_ms);
        match runs.last_mut() {
            Some(run) if run.key == key && time_ms <= run.end_ms => run.end_ms = end_ms,
            _ => runs.push(Run { key, start_ms: time_ms, end_ms }),
        }
        of_row[row as usize] = runs.len() - 1;
    }
    (runs, of_row)
}

/// Puts runs and former sessions of each key together where they meet; ordered by key and start.
pub(crate) fn merge_runs(runs: &[Run], former: &[(usize, Session)], keys: usize) -> Vec<Merged> {
    let mut merged: Vec<Merged> = Vec::with_capacity(runs.len().max(keys));
    let (mut r, mut f) = (0, 0);
    while r < runs.len() || f < former.len() {
        let run = runs.get(r).map(|run| (run.key, run.start_ms, run.end_ms));
        let session = former.get(f).map(|(key, s)| (*key, s.start_ms, s.end_ms));
        let takes_run = session.is_none() || run.is_some_and(|run| Some((run.0, run.1)) <= session.map(|s| (s.0, s.1)));
        let Some((key, start_ms, end_ms)) = (if takes_run { run } else { session }) else {
            break;
        };
        let fits = merged.last().is_some_and(|last| last.key == key && start_ms <= last.end_ms);
        if !fits {
            merged.push(Merged { key, start_ms, end_ms, runs: Vec::new(), former: Vec::new() });
        }
        if let Some(last) = merged.last_mut() {
            last.end_ms = last.end_ms.max(end_ms);
            if takes_run { last.runs.push(r) } else { last.former.push(f) }
        }
        if takes_run { r += 1 } else { f += 1 }
    }
    merged
}
