//! Event times of a batch, in milliseconds.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType};
use arrow::record_batch::RecordBatch;
use karez_core::{Error, Output, Result};

use crate::rejects::bad_record;

/// The values of a timestamp column; a null has any value.
pub(crate) fn millis(column: &ArrayRef) -> Result<Cow<'_, [i64]>> {
    let DataType::Timestamp(unit, _) = column.data_type() else {
        return Err(Error::internal(format!("event time is {}, not a timestamp", column.data_type())));
    };
    Ok(match unit {
        TimeUnit::Millisecond => Cow::Borrowed(column.as_primitive::<TimestampMillisecondType>().values()),
        TimeUnit::Second => Cow::Owned(column.as_primitive::<TimestampSecondType>().values().iter().map(|v| v.saturating_mul(1_000)).collect()),
        TimeUnit::Microsecond => Cow::Owned(column.as_primitive::<TimestampMicrosecondType>().values().iter().map(|v| v.div_euclid(1_000)).collect()),
        TimeUnit::Nanosecond => {
            Cow::Owned(column.as_primitive::<TimestampNanosecondType>().values().iter().map(|v| v.div_euclid(1_000_000)).collect())
        }
    })
}

/// Rejects the rows without event time and gives the others.
pub(crate) fn reject_nulls(batch: RecordBatch, time: usize, out: &mut dyn Output) -> Result<RecordBatch> {
    let column = batch.column(time);
    if column.null_count() == 0 {
        return Ok(batch);
    }
    let name = batch.schema_ref().field(time).name().clone();
    for row in (0..batch.num_rows()).filter(|&row| column.is_null(row)) {
        out.reject(bad_record(&batch, row, format!("the event time `{name}` is null"))?)?;
    }
    Ok(filter_record_batch(&batch, &is_not_null(column)?)?)
}

/// Cuts off the rows before an instant: the rest, and those. `None` where there are none.
pub(crate) fn split_before(batch: RecordBatch, time: usize, before_ms: i64) -> Result<(RecordBatch, Option<RecordBatch>)> {
    let times = millis(batch.column(time))?;
    if times.iter().fold(i64::MAX, |min, &t| min.min(t)) >= before_ms {
        drop(times);
        return Ok((batch, None));
    }
    let in_time: BooleanArray = times.iter().map(|&t| Some(t >= before_ms)).collect();
    let late: BooleanArray = times.iter().map(|&t| Some(t < before_ms)).collect();
    let late = filter_record_batch(&batch, &late)?;
    Ok((filter_record_batch(&batch, &in_time)?, Some(late)))
}
