//! Groups and aggregates.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::Aggregate;
use super::super::value::{Column, Kind, Row, Value};
use crate::random_graphs::expression::Expression;

/// The rows of each key, in their order.
pub(super) fn groups(rows: &[Row], keys: &[usize]) -> BTreeMap<Vec<Value>, Vec<Row>> {
    let mut groups: BTreeMap<Vec<Value>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = keys.iter().map(|&k| row.values[k].clone()).collect();
        groups.entry(key).or_default().push(row.clone());
    }
    groups
}

pub(super) fn columns(input: &[Column], keys: &[usize], bounds: &[&str], aggregates: &[(String, Aggregate)]) -> Vec<Column> {
    let keys = keys.iter().map(|&k| input[k].clone());
    let bounds = bounds.iter().map(|name| Column::new(*name, Kind::Time));
    keys.chain(bounds).chain(aggregates.iter().map(|(name, a)| Column::new(name, kind(a, input)))).collect()
}

fn kind(aggregate: &Aggregate, input: &[Column]) -> Kind {
    match aggregate {
        Aggregate::Mean(_) => Kind::Float,
        Aggregate::Min(e) | Aggregate::Max(e) => e.kind(input),
        _ => Kind::Int,
    }
}

pub(super) fn aggregate(aggregate: &Aggregate, rows: &[Row]) -> Value {
    let count = |n: usize| Value::Int(i64::try_from(n).unwrap());
    match aggregate {
        Aggregate::CountAll => count(rows.len()),
        Aggregate::Count(e) => count(present(e, rows).len()),
        Aggregate::CountDistinct(e) => count(present(e, rows).into_iter().collect::<BTreeSet<_>>().len()),
        Aggregate::Sum(e) => sum(&ints(e, rows)),
        Aggregate::SumWhere(e, predicate) => {
            let rows: Vec<Row> = rows.iter().filter(|r| predicate.holds(&r.values)).cloned().collect();
            sum(&ints(e, &rows))
        }
        Aggregate::Min(e) => present(e, rows).into_iter().min().unwrap_or(Value::Null),
        Aggregate::Max(e) => present(e, rows).into_iter().max().unwrap_or(Value::Null),
        Aggregate::Mean(e) => match ints(e, rows).as_slice() {
            [] => Value::Null,
            #[allow(clippy::cast_precision_loss)] // Small numbers.
            some => Value::Float((some.iter().sum::<i64>() as f64 / some.len() as f64).to_bits()),
        },
        Aggregate::SumAndCount(e) => match sum(&ints(e, rows)) {
            Value::Int(sum) => Value::Int(sum + i64::try_from(rows.len()).unwrap()),
            null => null,
        },
    }
}

/// The values that are not null.
fn present(e: &Expression, rows: &[Row]) -> Vec<Value> {
    rows.iter().filter_map(|r| e.of(&r.values).ok()).filter(|v| *v != Value::Null).collect()
}

fn ints(e: &Expression, rows: &[Row]) -> Vec<i64> {
    present(e, rows).into_iter().filter_map(|v| if let Value::Int(i) = v { Some(i) } else { None }).collect()
}

fn sum(values: &[i64]) -> Value {
    if values.is_empty() { Value::Null } else { Value::Int(values.iter().sum()) }
}
