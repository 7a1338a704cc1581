//! Collected rows as a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use karez_core::Result;
use karez_core::schema::readable_batch;

use super::super::{Failure, output};
use super::collect::{Collection, Kept};

pub(super) fn print(collection: &Collection) -> Result<(), Failure> {
    let rows = collection.rows();
    let count: usize = rows.iter().map(|k| k.batch.num_rows()).sum();
    let partial: usize = rows.iter().filter(|k| k.partial).map(|k| k.batch.num_rows()).sum();
    let what = if collection.is_of_letters() { "dead letters" } else { "rows" };
    output::line(format_args!(
        "{} ({}): {count} {what}{}",
        collection.node(),
        collection.connector(),
        if collection.is_full() { ", the limit" } else { "" }
    ))?;
    if count > 0 {
        let batches = rows.iter().map(|k| shown(k, partial > 0)).collect::<Result<Vec<_>>>()?;
        output::line(format_args!(
            "{}",
            pretty_format_batches_with_options(&batches, &FormatOptions::default().with_null("NULL")).map_err(karez_core::Error::from)?
        ))?;
    }
    if partial > 0 {
        output::line(format_args!("{partial} of them partial: the preview ended the input, and more of it would have changed them"))?;
    }
    Ok(())
}

/// The rows with a first column that marks partial ones, where there are any.
fn shown(kept: &Kept, marked: bool) -> Result<RecordBatch> {
    let batch = readable_batch(&kept.batch)?;
    if !marked {
        return Ok(batch);
    }
    let mark = if kept.partial { "partial" } else { "" };
    let marks: ArrayRef = Arc::new(StringArray::from(vec![mark; batch.num_rows()]));
    let fields = std::iter::once(Arc::new(Field::new("", DataType::Utf8, false))).chain(batch.schema_ref().fields().iter().cloned());
    let columns = std::iter::once(marks).chain(batch.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
