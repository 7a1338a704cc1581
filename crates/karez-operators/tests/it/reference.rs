//! Windows as a straightforward program would compute them: every row is kept until its window is asked for.

use std::collections::BTreeMap;

/// What a source does, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// Rows of one batch: key, value, time.
    Rows(Vec<(Option<i64>, i64, i64)>),
    Watermark(i64),
    /// A checkpoint and a restart with so many subtasks.
    Restart(usize),
}

/// A result: key, window start, count, sum.
pub type WindowResult = (Option<i64>, i64, i64, i64);

/// Tumbling and sliding windows: the results, sorted, and the number of late rows.
pub fn sliced(events: &[Event], size: i64, slide: i64, lateness: i64) -> (Vec<WindowResult>, usize) {
    let mut windows: BTreeMap<(Option<i64>, i64), (i64, i64)> = BTreeMap::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    for event in events {
        match event {
            Event::Restart(_) => {}
            Event::Watermark(w) => watermark = watermark.max(*w),
            Event::Rows(rows) => {
                for &(key, value, time) in rows {
                    let last = time.div_euclid(slide) * slide;
                    let starts = (0..).map(|i| last - i * slide).take_while(|start| time < start + size);
                    let mut in_time = false;
                    for start in starts.filter(|start| watermark == i64::MIN || watermark < start + size - 1 + lateness) {
                        let (count, sum) = windows.entry((key, start)).or_default();
                        (*count, *sum) = (*count + 1, *sum + value);
                        in_time = true;
                    }
                    late += usize::from(!in_time);
                }
            }
        }
    }
    (windows.into_iter().map(|((key, start), (count, sum))| (key, start, count, sum)).collect(), late)
}

/// A session's result: key, start, end, count, sum.
pub type SessionResult = (Option<i64>, i64, i64, i64, i64);

/// Session windows: the results that stand at the end, sorted, and the number of late rows.
pub fn sessions(events: &[Event], gap: i64, lateness: i64) -> (Vec<SessionResult>, usize) {
    /// Start, end, count, sum.
    type Session = (i64, i64, i64, i64);
    let mut open: BTreeMap<Option<i64>, Vec<Session>> = BTreeMap::new();
    let mut final_results: Vec<SessionResult> = Vec::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    for event in events {
        match event {
            Event::Restart(_) => {}
            Event::Watermark(w) => {
                watermark = watermark.max(*w);
                for (key, sessions) in &mut open {
                    let (over, kept) = sessions.drain(..).partition(|s| watermark >= s.1 - 1 + lateness);
                    *sessions = kept;
                    final_results.extend(Vec::<Session>::into_iter(over).map(|s| (*key, s.0, s.1, s.2, s.3)));
                }
            }
            Event::Rows(rows) => {
                for &(key, value, time) in rows {
                    let sessions = open.entry(key).or_default();
                    let (met, mut rest): (Vec<Session>, Vec<Session>) = sessions.drain(..).partition(|s| s.0 <= time + gap && time <= s.1);
                    if met.is_empty() && watermark != i64::MIN && watermark >= time + gap - 1 + lateness {
                        late += 1;
                    } else {
                        let one = (time, time + gap, 1, value);
                        rest.push(met.iter().fold(one, |a, b| (a.0.min(b.0), a.1.max(b.1), a.2 + b.2, a.3 + b.3)));
                    }
                    *sessions = rest;
                }
            }
        }
    }
    let left = open.into_iter().flat_map(|(key, sessions)| sessions.into_iter().map(move |s| (key, s.0, s.1, s.2, s.3)));
    final_results.extend(left);
    final_results.sort_unstable();
    (final_results, late)
}
