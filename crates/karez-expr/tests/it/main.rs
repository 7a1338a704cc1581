//! The specification of expressions, by example.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod aggregates;
mod decimals;
mod errors;
mod expressions;
mod group_table;
mod keywords;
mod partials;
mod percentiles;
mod projections;
mod rows;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use karez_expr::{AggregateExpr, Clock, Expressions};

/// 2024-03-01T12:30:00Z.
const NOW_MS: i64 = 1_709_296_200_000;

fn functions() -> Expressions {
    Expressions::with_clock(Clock::new(|| NOW_MS))
}

/// `userId, amount, name, ts`, four rows, the last of nulls.
fn orders() -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("userId", DataType::Int64, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(1), None])),
            Arc::new(Float64Array::from(vec![Some(10.0), Some(2.5), Some(-4.0), None])),
            Arc::new(StringArray::from(vec![Some("ann"), Some("bob"), Some("12"), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(NOW_MS), Some(NOW_MS - 3_600_000), Some(NOW_MS - 86_400_000), None])),
        ],
    )
    .unwrap()
}

/// The values of a column as text, null as `-`.
fn shown(array: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
}

/// The expression over [`orders`].
fn eval(text: &str) -> Vec<String> {
    let batch = orders();
    let compiled = functions().compile(text, &batch.schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let values = compiled.evaluate(&batch).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(values.data_type(), compiled.data_type(), "{text}");
    shown(&values)
}

/// The aggregate over the rows of `batch`, each in the group of that number.
fn aggregate(expr: &AggregateExpr, batch: &RecordBatch, groups: &[usize]) -> ArrayRef {
    let total = groups.iter().max().map_or(0, |max| max + 1);
    let results = expr.calls().iter().map(|call| {
        let mut state = call.accumulator().unwrap();
        state.update(&call.inputs(batch).unwrap(), groups, total).unwrap();
        state.evaluate().unwrap()
    });
    expr.finish(results.collect()).unwrap()
}

/// The aggregate over all of [`orders`].
fn total(text: &str) -> String {
    let batch = orders();
    let expr = functions().compile_aggregate(text, &batch.schema()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let result = aggregate(&expr, &batch, &[0; 4]);
    assert_eq!(result.data_type(), expr.data_type(), "{text}");
    shown(&result).remove(0)
}

fn int_column(batch: &RecordBatch, column: usize) -> Vec<i64> {
    batch.column(column).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}
