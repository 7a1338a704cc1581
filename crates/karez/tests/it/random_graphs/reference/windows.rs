//! Windows: every row is put into each of its windows that is not closed when it comes.

use std::collections::BTreeMap;

use super::super::plan::Window;
use super::super::value::{Row, Value};
use super::keyed::groups;

/// Key, start, end, rows.
pub(super) type WindowRows = (Vec<Value>, i64, i64, Vec<Row>);

/// Start, end, rows.
type Spans = Vec<(i64, i64, Vec<Row>)>;

/// The windows, and the rows that were late for all of theirs.
pub(super) fn of(rows: &[Row], keys: &[usize], window: Window, time: Option<usize>, lateness_ms: i64) -> (Vec<WindowRows>, Vec<Row>) {
    let (mut windows, mut late) = (Vec::new(), Vec::new());
    for (key, rows) in groups(rows, keys) {
        let of_key: Spans = match (window, time) {
            (Window::Count { rows: size }, _) => rows.chunks_exact(size).map(|rows| (0, 0, rows.to_vec())).collect(),
            (Window::Sliding { size_ms, slide_ms, offset_ms }, Some(time)) => {
                sliding(&rows, time, [size_ms, slide_ms, offset_ms], lateness_ms, &mut late)
            }
            (Window::Session { gap_ms }, Some(time)) => sessions(&rows, time, gap_ms, lateness_ms, &mut late),
            (_, None) => panic!("a window without event time"),
        };
        windows.extend(of_key.into_iter().map(|(start, end, rows)| (key.clone(), start, end, rows)));
    }
    (windows, late)
}

fn time_of(row: &Row, time: usize) -> i64 {
    match row.values[time] {
        Value::Time(t) => t,
        _ => panic!("an event time that is null"),
    }
}

/// Whether a window that ends there takes no row any more.
fn is_over(row: &Row, end: i64, lateness_ms: i64) -> bool {
    row.watermark > i64::MIN && row.watermark >= end - 1 + lateness_ms
}

fn sliding(rows: &[Row], time: usize, [size, slide, offset]: [i64; 3], lateness_ms: i64, late: &mut Vec<Row>) -> Spans {
    let mut windows: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let t = time_of(row, time);
        let last = (t - offset).div_euclid(slide) * slide + offset;
        let starts = (0..).map(|i| last - i * slide).take_while(|start| t < start + size);
        let open: Vec<i64> = starts.filter(|start| !is_over(row, start + size, lateness_ms)).collect();
        if open.is_empty() {
            late.push(row.clone());
        }
        open.into_iter().for_each(|start| windows.entry(start).or_default().push(row.clone()));
    }
    windows.into_iter().map(|(start, rows)| (start, start + size, rows)).collect()
}

fn sessions(rows: &[Row], time: usize, gap: i64, lateness_ms: i64, late: &mut Vec<Row>) -> Spans {
    let (mut open, mut over) = (Spans::new(), Spans::new());
    for row in rows {
        let (closed, rest): (Vec<_>, Vec<_>) = open.drain(..).partition(|(_, end, _)| is_over(row, *end, lateness_ms));
        over.extend(closed);
        let t = time_of(row, time);
        let (met, mut others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(start, end, _)| *start <= t + gap && t <= *end);
        if met.is_empty() && is_over(row, t + gap, lateness_ms) {
            late.push(row.clone());
        } else {
            let mut session = (t, t + gap, vec![row.clone()]);
            for (start, end, rows) in met {
                session = (session.0.min(start), session.1.max(end), [rows, session.2].concat());
            }
            others.push(session);
        }
        open = others;
    }
    over.extend(open);
    over
}
