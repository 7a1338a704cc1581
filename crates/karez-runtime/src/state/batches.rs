//! Pane rows as they stand in files: dictionaries unpacked, since an IPC file has one dictionary per column for all its batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use karez_core::{Error, Result};

/// A type without dictionaries and runs.
fn plain_type(data_type: &DataType) -> DataType {
    let plain_field = |f: &Arc<Field>| Arc::new(f.as_ref().clone().with_data_type(plain_type(f.data_type())));
    match data_type {
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::RunEndEncoded(_, value) => plain_type(value.data_type()),
        DataType::List(f) => DataType::List(plain_field(f)),
        DataType::LargeList(f) => DataType::LargeList(plain_field(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(plain_field(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The rows of a pane table's file: the pane, and the table's columns.
pub(super) fn pane_file_schema(table: &Schema) -> SchemaRef {
    let mut fields = vec![Field::new("__pane", DataType::Int64, false)];
    // Nullable all of them: a file says what there was, the job what there may be.
    fields.extend(table.fields().iter().map(|f| Field::new(f.name(), plain_type(f.data_type()), true)));
    Arc::new(Schema::new(fields))
}

/// A table's columns as a file holds them.
pub(super) fn to_file_columns(rows: &RecordBatch, file_schema: &Schema) -> Result<Vec<ArrayRef>> {
    let fields = file_schema.fields().iter().skip(1);
    rows.columns().iter().zip(fields).map(|(c, f)| cast_if_needed(c, f.data_type())).collect()
}

/// A file's columns as the table holds them.
pub(super) fn from_file_columns(rows: &RecordBatch, table: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().skip(1).zip(table.fields()).map(|(c, f)| cast_if_needed(c, f.data_type()));
    Ok(RecordBatch::try_new(Arc::clone(table), columns.collect::<Result<_>>()?)?)
}

fn cast_if_needed(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to { Ok(Arc::clone(column)) } else { Ok(cast(column, to)?) }
}

/// Fails unless rows of a file can be those of the table, and says where they differ.
pub(super) fn check_schema(table: &str, expected: &Schema, file: &Schema, name: &str) -> Result<()> {
    let misfit = |what: String| {
        Error::user(format!(
            "the state of table `{table}` ({name}) is not the state of this job: {what}. Undo the change of the node, give the node another name, or start without its state"
        ))
    };
    if expected.fields().len() != file.fields().len() {
        let names = |s: &Schema| s.fields().iter().skip(1).map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
        return Err(misfit(format!("it has the columns {}, and the job needs {}", names(file), names(expected))));
    }
    for (i, (e, f)) in expected.fields().iter().zip(file.fields()).enumerate() {
        if e.name() != f.name() {
            return Err(misfit(format!("column {i} is `{}` there and `{}` in the job", f.name(), e.name())));
        }
        if e.data_type() != f.data_type() {
            return Err(misfit(format!("column `{}` is {} there and {} in the job", e.name(), f.data_type(), e.data_type())));
        }
    }
    Ok(())
}

/// File rows of several panes apart, in order within each; those of panes that `keep` refuses are left out.
pub(super) fn by_pane(rows: &RecordBatch, keep: impl Fn(i64) -> bool) -> Result<Vec<(i64, RecordBatch)>> {
    let panes = rows.column(0).as_primitive::<Int64Type>().values();
    let mut order: Vec<u32> = (0..panes.len() as u32).filter(|&i| keep(panes[i as usize])).collect();
    if order.is_empty() {
        return Ok(Vec::new());
    }
    order.sort_by_key(|&i| panes[i as usize]);
    let in_order = order.len() == panes.len() && order.windows(2).all(|w| w[0] < w[1]);
    let sorted = if in_order { rows.clone() } else { take_record_batch(rows, &UInt32Array::from(order))? };
    let panes = sorted.column(0).as_primitive::<Int64Type>().values();
    let mut found = Vec::new();
    let mut start = 0;
    for end in 1..=panes.len() {
        if end == panes.len() || panes[end] != panes[start] {
            found.push((panes[start], sorted.slice(start, end - start)));
            start = end;
        }
    }
    Ok(found)
}

/// The same rows in batches of their own of at most `rows` rows, buffers not shared.
pub(super) fn coalesce(schema: &SchemaRef, batches: &[RecordBatch], rows: usize) -> Result<Vec<RecordBatch>> {
    let (mut out, mut group, mut count) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        if count > 0 && count + batch.num_rows() > rows {
            out.push(concat_batches(schema, &std::mem::take(&mut group))?);
            count = 0;
        }
        count += batch.num_rows();
        group.push(batch.clone());
    }
    if count > 0 {
        out.push(concat_batches(schema, &group)?);
    }
    Ok(out)
}
