//! [`Results`]: what aggregating operators give: keys, window bounds, results, and for a changelog the change kind.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatchOptions, TimestampMillisecondArray, make_comparator};
use arrow::compute::{SortOptions, interleave};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use karez_core::config::ConfigError;
use karez_core::schema::change_field;
use karez_core::{BadRecord, ChangeKind, ChangeMode, Output, Result, StreamSchema, Watermark, result_letter};
use karez_expr::evaluate_rows;

use crate::aggregates::Aggregates;
use crate::groups::GroupResults;
use crate::rejects::{failed, row_json};

/// The first column of a window's bounds.
pub(crate) const WINDOW_START: &str = "window_start";
/// The second.
pub(crate) const WINDOW_END: &str = "window_end";
/// The last millisecond of the window, on request.
pub(crate) const WINDOW_TIME: &str = "window_time";

/// Which columns of a window's bounds the results have.
#[derive(Clone, Debug)]
pub(crate) enum WindowColumns {
    /// None: there is no window, or it has no time.
    None,
    /// `window_start`, `window_end` and, if asked for, `window_time`.
    Bounds {
        /// The time zone of the event-time column, if it has one.
        zone: Option<Arc<str>>,
        /// Whether there is a `window_time`.
        with_time: bool,
    },
}

/// The windows that results belong to; start and end in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounds<'a> {
    /// Results without bounds.
    None,
    /// All results are of one window.
    One(i64, i64),
    /// Starts and ends, one for each result.
    Each(&'a [i64], &'a [i64]),
}

impl Bounds<'_> {
    /// The window of one result.
    fn of(&self, row: usize) -> Option<(Watermark, Watermark)> {
        let (start, end) = match *self {
            Self::None => return None,
            Self::One(start, end) => (start, end),
            Self::Each(starts, ends) => (starts[row], ends[row]),
        };
        Some((Watermark(start), Watermark(end)))
    }
}

/// How results become rows.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    node: String,
    aggregates: Arc<Aggregates>,
    windows: WindowColumns,
    changelog: bool,
    schema: SchemaRef,
    /// Keys and results of calls: what `finish` is evaluated over.
    calls_schema: SchemaRef,
}

/// Finished rows (without change kind) and which of the groups they are of: a group is missing if its result could not be computed.
pub(crate) struct FinishedRows {
    pub(crate) columns: Vec<ArrayRef>,
    /// Ascending.
    pub(crate) groups: Vec<u32>,
}

impl Results {
    /// The layout of a node's results. Fails where two columns would have one name.
    pub(crate) fn new(node: &str, aggregates: Arc<Aggregates>, windows: WindowColumns, changelog: bool) -> Result<Self, ConfigError> {
        let mut fields: Vec<Field> = aggregates.key_schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        if let WindowColumns::Bounds { zone, with_time } = &windows {
            let timestamp = DataType::Timestamp(TimeUnit::Millisecond, zone.clone());
            fields.push(Field::new(WINDOW_START, timestamp.clone(), false));
            fields.push(Field::new(WINDOW_END, timestamp.clone(), false));
            if *with_time {
                fields.push(Field::new(WINDOW_TIME, timestamp, false));
            }
        }
        fields.extend(aggregates.result_fields());
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|f| f.name() == field.name()) {
                return Err(ConfigError::new("aggregates", format!("two output columns are named `{}`", field.name()))
                    .hint(format!("{WINDOW_START}, {WINDOW_END} and {WINDOW_TIME} are the window's; rename a key with a `map` in front")));
            }
        }
        if changelog {
            fields.push(change_field());
        }
        let calls = aggregates.calls().enumerate().map(|(i, c)| Arc::new(c.field(&format!("#{i}")).with_nullable(true)));
        let calls_schema = Schema::new(aggregates.key_schema.fields().iter().cloned().chain(calls).collect::<Vec<_>>());
        Ok(Self { node: node.into(), aggregates, windows, changelog, schema: Arc::new(Schema::new(fields)), calls_schema: Arc::new(calls_schema) })
    }

    /// The schema of the results as a stream.
    pub(crate) fn stream_schema(&self) -> StreamSchema {
        let mut key: Vec<String> = self.aggregates.key_schema.fields().iter().map(|f| f.name().clone()).collect();
        let mut event_time = None;
        if let WindowColumns::Bounds { with_time, .. } = &self.windows {
            key.extend([WINDOW_START.into(), WINDOW_END.into()]);
            event_time = with_time.then(|| WINDOW_TIME.into());
        }
        let change_mode = if self.changelog { ChangeMode::Changelog } else { ChangeMode::AppendOnly };
        StreamSchema { arrow: Arc::clone(&self.schema), event_time, change_mode, key: if self.changelog { key } else { Vec::new() } }
    }

    /// Computes results; one that fails is rejected (or left out, where its rejection has been reported before: `out` is `None`).
    pub(crate) fn finish(&self, groups: &GroupResults, bounds: Bounds<'_>, out: Option<&mut dyn Output>) -> Result<FinishedRows> {
        let key_columns = groups.keys.len();
        let columns = groups.keys.iter().chain(&groups.calls).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(groups.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.calls_schema), columns, &options)?;
        let finished = evaluate_rows(&batch, |rows| self.aggregates.finish(&rows.columns()[key_columns..])).map_err(failed)?;
        let bad: Vec<usize> = finished.failures.iter().map(|f| f.row).collect();
        if let Some(out) = out {
            for failure in finished.failures {
                out.reject(self.bad_result(&batch, failure.row, bounds, failure.reason)?)?;
            }
        }
        let kept: Vec<u32> = (0..groups.rows).filter(|row| bad.binary_search(row).is_err()).map(|row| row as u32).collect();
        let mut columns = finished.good.columns()[..key_columns].to_vec();
        self.push_bounds(bounds, &kept, &mut columns);
        columns.extend(finished.value);
        Ok(FinishedRows { columns, groups: kept })
    }

    fn push_bounds(&self, bounds: Bounds<'_>, kept: &[u32], columns: &mut Vec<ArrayRef>) {
        let WindowColumns::Bounds { zone, with_time } = &self.windows else {
            return;
        };
        let column = |one: Option<i64>, each: &[i64]| -> ArrayRef {
            let values = match one {
                Some(value) => vec![value; kept.len()],
                None => kept.iter().map(|&row| each[row as usize]).collect(),
            };
            Arc::new(TimestampMillisecondArray::from(values).with_timezone_opt(zone.clone()))
        };
        let (one, starts, ends): (Option<(i64, i64)>, &[i64], &[i64]) = match bounds {
            Bounds::None => (Some((0, 0)), &[], &[]),
            Bounds::One(start, end) => (Some((start, end)), &[], &[]),
            Bounds::Each(starts, ends) => (None, starts, ends),
        };
        columns.push(column(one.map(|(start, _)| start), starts));
        columns.push(column(one.map(|(_, end)| end), ends));
        if *with_time {
            let last: Vec<i64> = ends.iter().map(|end| end.saturating_sub(1)).collect();
            columns.push(column(one.map(|(_, end)| end.saturating_sub(1)), &last));
        }
    }

    /// A result that could not be computed, as a row without those of its columns that could not.
    fn bad_result(&self, groups: &RecordBatch, row: usize, bounds: Bounds<'_>, reason: String) -> Result<BadRecord> {
        let group = groups.slice(row, 1);
        let (keys, calls) = group.columns().split_at(self.aggregates.keys.len());
        let key = row_json(&group.project(&(0..keys.len()).collect::<Vec<_>>())?, 0)?;
        let mut columns = keys.to_vec();
        self.push_bounds(bounds, &[row as u32], &mut columns);
        let mut known: Vec<usize> = (0..columns.len()).collect();
        for (column, result) in (columns.len()..).zip(self.aggregates.finish_each(calls)) {
            if let Ok(result) = result {
                columns.push(result);
                known.push(column);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let result = RecordBatch::try_new_with_options(Arc::new(self.schema.project(&known)?), columns, &options)?;
        let window = if matches!(self.windows, WindowColumns::Bounds { .. }) { bounds.of(row) } else { None };
        let origin = result_letter::origin(&self.node, &key, window);
        Ok(BadRecord { reason, origin: Some(origin), raw: None, row: Some(row_json(&result, 0)?) })
    }

    /// New results as a batch.
    pub(crate) fn inserts(&self, rows: FinishedRows) -> Result<RecordBatch> {
        self.changes(rows, ChangeKind::Insert)
    }

    /// Results with one kind of change; the kind is left out where the output is no changelog.
    pub(crate) fn changes(&self, rows: FinishedRows, kind: ChangeKind) -> Result<RecordBatch> {
        let FinishedRows { mut columns, groups } = rows;
        if self.changelog {
            columns.push(Arc::new(Int8Array::from(vec![kind as i8; groups.len()])));
        }
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &RecordBatchOptions::new().with_row_count(Some(groups.len())))?)
    }

    /// Results that replace others of the same groups: `-U` and `+U` side by side, `+I` where there was none. Pairs that are equal are left out.
    pub(crate) fn updates(&self, old: &FinishedRows, new: &FinishedRows) -> Result<RecordBatch> {
        let mut picks: Vec<(usize, usize)> = Vec::with_capacity(2 * new.groups.len());
        let mut kinds: Vec<i8> = Vec::with_capacity(2 * new.groups.len());
        let differ = differences(old, new);
        let (mut o, mut n) = (0, 0);
        while o < old.groups.len() || n < new.groups.len() {
            let (old_group, new_group) = (old.groups.get(o), new.groups.get(n));
            let both = old_group.is_some() && old_group == new_group;
            let takes_old = both || new_group.is_none_or(|g| old_group.is_some_and(|o| o < g));
            if both && !differ(o, n) {
                (o, n) = (o + 1, n + 1);
                continue;
            }
            if takes_old {
                picks.push((0, o));
                kinds.push(if both { ChangeKind::UpdateBefore } else { ChangeKind::Delete } as i8);
                o += 1;
            }
            if both || !takes_old {
                picks.push((1, n));
                kinds.push(if both { ChangeKind::UpdateAfter } else { ChangeKind::Insert } as i8);
                n += 1;
            }
        }
        let mut columns = Vec::with_capacity(new.columns.len() + 1);
        for (old, new) in old.columns.iter().zip(&new.columns) {
            columns.push(interleave(&[old.as_ref(), new.as_ref()], &picks)?);
        }
        columns.push(Arc::new(Int8Array::from(kinds)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Tells whether a row of `old` and one of `new` differ in a column. Values that arrow cannot compare count as different.
fn differences<'a>(old: &FinishedRows, new: &FinishedRows) -> impl Fn(usize, usize) -> bool + 'a {
    let columns = old.columns.iter().zip(&new.columns);
    let comparators: Vec<_> = columns.map(|(old, new)| make_comparator(old.as_ref(), new.as_ref(), SortOptions::default()).ok()).collect();
    move |o, n| comparators.iter().any(|compare| compare.as_ref().is_none_or(|compare| compare(o, n).is_ne()))
}
