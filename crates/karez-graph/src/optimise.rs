//! Work that sources take over: columns nobody reads are not read, and filters right behind a source are applied by it.
//!
//! The plan is made twice: once as the user wrote it, to learn which columns are needed and which filters stand where, and once against the narrowed
//! sources. A filter is given to a source only where nobody can tell the difference:
//!
//! - it is deterministic, both nodes treat bad records alike, and nobody else reads either the source or the filter's letters;
//! - the source has no event time, or gives its watermark at the end: rows that the filter drops still move event time on;
//! - the source is not rate-limited and drops nothing: both count rows as they were read.

use std::collections::BTreeSet;
use std::sync::Arc;

use karez_core::Source;
use karez_core::operator::{Determinism, MAIN};
use karez_core::schema::is_hidden;

use crate::bind::{Bound, Overrides};
use crate::job_graph::PushedDown;
use crate::plan::Physical;
use crate::stream_graph::{NodeKind, Order, Overflow, StreamGraph};

/// The graph without the filters that sources have taken, and these sources; `None` where no source takes anything.
pub(crate) fn push_down(physical: &Physical<'_>) -> Option<(StreamGraph, Overrides)> {
    let topology = &physical.topology;
    let needed = needed_columns(physical);
    let mut graph = topology.graph.clone();
    let mut overrides = Overrides::default();
    for (n, columns) in needed.iter().enumerate() {
        let Some(Bound::Source { source, .. }) = physical.binding.get(n).map(|b| &b.bound) else { continue };
        let mut pushed = PushedDown::default();
        let mut source = Arc::clone(source);
        if let Some((narrow, names)) = project(&source, columns) {
            source = narrow;
            pushed.columns = Some(names);
        }
        let mut last = n;
        while let Some((filter, predicate)) = filter_behind(physical, n, last) {
            let Some(filtered) = source.filter(&predicate) else { break };
            source = filtered;
            pushed.filters.push((topology.node(filter).name.clone(), predicate));
            last = filter;
        }
        if pushed != PushedDown::default() {
            let name = &topology.node(n).name;
            for (filter, _) in &pushed.filters {
                graph.nodes.retain(|node| node.name != *filter);
                graph.edges.retain(|edge| edge.to != *filter);
                for edge in graph.edges.iter_mut().filter(|e| e.from == *filter) {
                    edge.from.clone_from(name);
                    edge.port = MAIN.into();
                }
            }
            overrides.0.insert(name.clone(), (source, pushed));
        }
    }
    (!overrides.0.is_empty()).then_some((graph, overrides))
}

fn project(source: &Arc<dyn Source>, needed: &BTreeSet<String>) -> Option<(Arc<dyn Source>, Vec<String>)> {
    let schema = source.schema().arrow;
    let mut columns: Vec<usize> = (0..schema.fields().len()).filter(|&i| needed.contains(schema.field(i).name())).collect();
    if columns.is_empty() {
        // `count(*)` needs rows, and a batch is as long as its columns: the narrowest one will do.
        columns.extend((0..schema.fields().len()).min_by_key(|&i| schema.field(i).data_type().primitive_width().unwrap_or(usize::MAX)));
    }
    if columns.len() == schema.fields().len() {
        return None;
    }
    let narrow = source.project(&columns)?;
    Some((narrow, columns.iter().map(|&i| schema.field(i).name().clone()).collect()))
}

/// The names of the columns that are read of each node's outputs, by node.
fn needed_columns(physical: &Physical<'_>) -> Vec<BTreeSet<String>> {
    let topology = &physical.topology;
    let mut needed: Vec<BTreeSet<String>> = vec![BTreeSet::new(); topology.graph.nodes.len()];
    for &n in topology.order.iter().rev() {
        let Some(node) = physical.binding.get(n) else { continue };
        if let Bound::Source { event_time: Some(time), .. } = &node.bound {
            needed[n].insert(time.column.clone());
        }
        for &l in &topology.inputs[n] {
            let link = &topology.links[l];
            if link.is_errors() {
                continue;
            }
            let Some((_, schema)) = physical.binding.output(link.from, &link.edge.port) else { continue };
            let all = || schema.arrow.fields().iter().filter(|f| !is_hidden(f)).map(|f| f.name().clone());
            let mut read: BTreeSet<String> = match &node.bound {
                Bound::Source { .. } => continue,
                Bound::Sink { .. } => all().collect(),
                Bound::Operator { spec, inputs } => match spec.required_columns(link.input) {
                    // Inputs that look alike may have to look alike (union), and another reader of one of them may widen it.
                    _ if inputs.len() > 1 && inputs.iter().any(|i| i.arrow == inputs[0].arrow && !std::ptr::eq(i, &inputs[0])) => all().collect(),
                    None => all().collect(),
                    Some(columns) => {
                        let own = columns.iter().filter_map(|&c| schema.arrow.fields().get(c)).map(|f| f.name().clone());
                        let through = if spec.passes_columns() { needed[n].clone() } else { BTreeSet::new() };
                        own.chain(through).collect()
                    }
                },
            };
            if let Some(time) = &schema.event_time {
                read.insert(time.clone());
            }
            read.extend(schema.key.iter().cloned());
            needed[link.from].extend(read);
        }
    }
    needed
}

/// The filter that alone reads `last` (the source itself, or a filter it has taken already), and its predicate, if the source may have it.
fn filter_behind(physical: &Physical<'_>, source: usize, last: usize) -> Option<(usize, String)> {
    let topology = &physical.topology;
    let NodeKind::Source { overflow, rate_limit: None, .. } = &topology.node(source).kind else { return None };
    let Bound::Source { event_time, .. } = &physical.binding.get(source)?.bound else { return None };
    let timeless = event_time.as_ref().is_none_or(|t| t.order == Order::None);
    if !timeless || !matches!(overflow, Overflow::Buffer | Overflow::Error) {
        return None;
    }
    let mut readers = topology.outputs[last].iter().map(|&l| &topology.links[l]).filter(|l| !l.is_errors());
    let (link, None) = (readers.next()?, readers.next()) else { return None };
    let filter = link.to;
    let Bound::Operator { spec, .. } = &physical.binding.get(filter)?.bound else { return None };
    let plain = spec.determinism() == Determinism::Deterministic && !spec.is_stateful() && spec.outputs().len() == 1;
    let alone = topology.inputs[filter].len() == 1 && !topology.outputs[filter].iter().any(|&l| topology.links[l].is_errors());
    let alike = topology.node(filter).on_error == topology.node(source).on_error;
    let same_spread = physical.parallelism[filter] == physical.parallelism[source] && link.edge.exchange.is_none();
    (plain && alone && alike && same_spread).then(|| spec.predicate().map(|p| (filter, p.to_owned())))?
}
