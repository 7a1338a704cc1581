//! What a plan's rows are, computed in the plainest way: every output is a list of rows, every operator a function of lists.
//!
//! A changelog is the table that it amounts to at the end.

mod keyed;
mod windows;

use std::collections::BTreeMap;

use super::expression::{DividedByZero, Expression};
use super::plan::{Faults, NodePlan, OperatorPlan, Plan, Port, Window};
use super::value::{Column, Row, Value};

type Outputs = BTreeMap<Port, (Vec<Column>, Vec<Row>)>;

/// The rows of each sink, sorted.
pub fn rows(plan: &Plan) -> BTreeMap<String, Vec<Vec<Value>>> {
    let mut outputs = Outputs::new();
    for source in &plan.sources {
        let rows = source.splits.iter().flatten().flatten().cloned().collect();
        outputs.insert(main(&source.name), (super::plan::source_columns(), rows));
    }
    for node in &plan.nodes {
        operate(node, plan.batch, &mut outputs);
    }
    let of_sink = |sink: &super::plan::SinkPlan| {
        let (columns, rows) = &outputs[&sink.input.port];
        let place = |c: &Column| columns.iter().position(|o| o == c).unwrap();
        let places: Vec<usize> = sink.columns.iter().map(place).collect();
        let mut rows: Vec<Vec<Value>> = rows.iter().map(|r| places.iter().map(|&p| r.values[p].clone()).collect()).collect();
        rows.sort();
        (sink.name.clone(), rows)
    };
    plan.sinks.iter().map(of_sink).collect()
}

fn main(node: &str) -> Port {
    Port { node: node.to_owned(), name: "main".into() }
}

fn operate(node: &NodePlan, batch: bool, outputs: &mut Outputs) {
    let (columns, input) = outputs[&node.inputs[0].port].clone();
    let mut give = |port: &str, columns: Vec<Column>, rows: Vec<Row>| {
        outputs.insert(Port { node: node.name.clone(), name: port.to_owned() }, (columns, rows));
    };
    match &node.operator {
        OperatorPlan::Identity => give("main", columns, input),
        OperatorPlan::Map(items) => {
            let mapped = input.iter().map(|row| map(items, row));
            let (good, bad): (Vec<_>, Vec<_>) = mapped.partition(Result::is_ok);
            let kinds = items.iter().map(|(name, e)| Column::new(name, e.kind(&columns))).collect();
            give("main", kinds, good.into_iter().flatten().collect());
            if node.faults == Faults::DeadLetter {
                let letter = Row::of(vec![Value::Text(node.name.clone())]);
                give("errors", vec![Column::new("node", super::value::Kind::Text)], vec![letter; bad.len()]);
            }
        }
        OperatorPlan::Filter(predicate) => give("main", columns, input.into_iter().filter(|r| predicate.holds(&r.values)).collect()),
        OperatorPlan::FlatMap { list, alias, keep_empty } => {
            let rows = input.iter().flat_map(|row| unnest(row, *list, *keep_empty)).collect();
            let mut columns = columns;
            columns[*list] = Column::new(alias, super::value::Kind::Int);
            give("main", columns, rows);
        }
        OperatorPlan::Union => {
            let mut rows = input;
            let (other_columns, others) = outputs[&node.inputs[1].port].clone();
            let places: Vec<usize> = columns.iter().map(|c| other_columns.iter().position(|o| o == c).unwrap()).collect();
            rows.extend(others.iter().map(|row| Row { values: places.iter().map(|&p| row.values[p].clone()).collect(), ..row.clone() }));
            outputs.insert(main(&node.name), (columns, rows));
        }
        OperatorPlan::Split { routes, all, drops } => {
            let mut by_port: BTreeMap<&str, Vec<Row>> = routes.iter().map(|(name, _)| (name.as_str(), Vec::new())).collect();
            by_port.insert("main", Vec::new());
            for row in input {
                let mut taken: Vec<&str> = routes.iter().filter(|(_, p)| p.holds(&row.values)).map(|(name, _)| name.as_str()).collect();
                if !all {
                    taken.truncate(1);
                }
                if taken.is_empty() && !drops {
                    taken.push("main");
                }
                taken.into_iter().for_each(|port| by_port.entry(port).or_default().push(row.clone()));
            }
            by_port.into_iter().for_each(|(port, rows)| give(port, columns.clone(), rows));
        }
        OperatorPlan::Window { keys, window, lateness_ms, with_time, aggregates } => {
            let lateness_ms = if batch { 0 } else { *lateness_ms };
            let time = columns.iter().position(|c| Some(&c.name) == node.event_time.as_ref());
            let (results, late) = windows::of(&input, keys, *window, time, lateness_ms);
            let bounds: &[&str] = match (window, with_time) {
                (Window::Count { .. }, _) => &[],
                (_, false) => &["window_start", "window_end"],
                (_, true) => &["window_start", "window_end", "window_time"],
            };
            let rows = results.iter().map(|(key, start, end, rows)| {
                let bounds = [*start, *end, end - 1].map(Value::Time).into_iter().take(bounds.len());
                Row::of(key.iter().cloned().chain(bounds).chain(aggregates.iter().map(|(_, a)| keyed::aggregate(a, rows))).collect())
            });
            give("main", keyed::columns(&columns, keys, bounds, aggregates), rows.collect());
            give("late", columns, late);
        }
        OperatorPlan::Aggregate { keys, aggregates } => {
            let groups = keyed::groups(&input, keys);
            let rows = groups
                .iter()
                .map(|(key, rows)| Row::of(key.iter().cloned().chain(aggregates.iter().map(|(_, a)| keyed::aggregate(a, rows))).collect()));
            give("main", keyed::columns(&columns, keys, &[], aggregates), rows.collect());
        }
        OperatorPlan::Deduplicate { keys, last } => {
            let kept = keyed::groups(&input, keys).into_values().filter_map(|rows| if *last { rows.last().cloned() } else { rows.first().cloned() });
            give("main", columns, kept.collect());
        }
    }
}

fn map(items: &[(String, Expression)], row: &Row) -> Result<Row, DividedByZero> {
    let values = items.iter().map(|(_, e)| e.of(&row.values)).collect::<Result<_, _>>()?;
    Ok(Row { values, watermark: row.watermark })
}

fn unnest(row: &Row, list: usize, keep_empty: bool) -> Vec<Row> {
    let items = match &row.values[list] {
        Value::List(items) => items.clone(),
        _ => Vec::new(),
    };
    let items = if items.is_empty() && keep_empty { vec![None] } else { items };
    let with = |item: Option<i64>| {
        let mut row = row.clone();
        row.values[list] = item.map_or(Value::Null, Value::Int);
        row
    };
    items.into_iter().map(with).collect()
}
