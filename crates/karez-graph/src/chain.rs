//! Chains: nodes that run as one task (§3.3.3 of the design document), and the job graph they make.
//!
//! Two nodes chain when they have the same parallelism, the consumer has one input, the main output of the producer has one consumer, and rows go
//! forward between them. Sources and sinks chain too: a stateless job of equal parallelism is one task per subtask, without any queue. A source that
//! does anything but wait when the rest is slower needs a queue to see that, so the chain is cut behind it. Side outputs and dead letters do not break
//! a chain: they are edges from the middle of a vertex.

use std::collections::HashMap;
use std::sync::Arc;

use karez_core::operator::MAIN;

use crate::bind::{Bound, BoundNode};
use crate::job_graph::{Exchange, JobEdge, JobGraph, JobVertex, PlannedOperator, PlannedSink, PlannedSource, Port};
use crate::plan::Physical;
use crate::stream_graph::{Implementation, NodeKind, Overflow, StreamNode};

pub(crate) fn job_graph(mut physical: Physical<'_>) -> JobGraph {
    let chained: Vec<bool> = (0..physical.topology.links.len()).map(|l| chains(&physical, l)).collect();
    let topology = &physical.topology;
    // The vertex of each node. Heads come in topological order, so an edge always leads to a later vertex.
    let mut vertex_of: HashMap<usize, usize> = HashMap::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for &n in &topology.order {
        let before = topology.inputs[n].iter().find(|&&l| chained[l]).and_then(|&l| vertex_of.get(&topology.links[l].from));
        let vertex = before.copied().unwrap_or(members.len());
        if vertex == members.len() {
            members.push(Vec::new());
        }
        members[vertex].push(n);
        vertex_of.insert(n, vertex);
    }
    let mut edges = Vec::new();
    for (l, link) in topology.links.iter().enumerate().filter(|(l, _)| !chained[*l]) {
        let port = match physical.binding.output(link.from, &link.edge.port) {
            Some((Some(output), _)) => Port::Output(output),
            _ => Port::Errors,
        };
        edges.push(JobEdge {
            from: vertex_of[&link.from],
            node: topology.node(link.from).name.clone(),
            port,
            to: vertex_of[&link.to],
            input: link.input,
            exchange: physical.exchanges[l].clone(),
        });
    }
    let mut settings = topology.graph.settings.clone();
    settings.parallelism = settings.resources.parallelism.unwrap_or(settings.parallelism);
    let nodes = &topology.graph.nodes;
    let binding = &mut physical.binding;
    let vertices = members
        .iter()
        .map(|members| {
            let mut vertex = JobVertex {
                name: members.iter().map(|&n| nodes[n].name.as_str()).collect::<Vec<_>>().join(" -> "),
                parallelism: physical.parallelism[members[0]],
                source: None,
                operators: Vec::new(),
                sink: None,
            };
            for &n in members {
                if let Some(bound) = binding.take(n) {
                    place(&mut vertex, &nodes[n], bound);
                }
            }
            vertex
        })
        .collect();
    JobGraph { settings, vertices, edges, notes: physical.notes }
}

/// Whether the ends of a link run in one task.
fn chains(physical: &Physical<'_>, l: usize) -> bool {
    let topology = &physical.topology;
    let link = &topology.links[l];
    let waits = match &topology.node(link.from).kind {
        NodeKind::Source { overflow, .. } => *overflow == Overflow::Buffer,
        NodeKind::Operator(_) | NodeKind::Sink(_) => true,
    };
    let main = |port: &str| match physical.binding.output(link.from, port) {
        Some((Some(output), _)) => output == 0,
        _ => port == MAIN,
    };
    waits
        && main(&link.edge.port)
        && topology.outputs[link.from].iter().filter(|&&o| main(&topology.links[o].edge.port)).count() == 1
        && topology.inputs[link.to].len() == 1
        && physical.exchanges[l] == Exchange::Forward
        && physical.parallelism[link.from] == physical.parallelism[link.to]
}

fn place(vertex: &mut JobVertex, node: &StreamNode, bound: BoundNode) {
    let name = node.name.clone();
    match (bound.bound, &node.kind) {
        (Bound::Source { source, event_time, with_origin, pushed }, NodeKind::Source { connector, overflow, rate_limit, .. }) => {
            let Some(output) = bound.outputs.into_iter().next() else { return };
            vertex.source = Some(Arc::new(PlannedSource {
                name,
                connector: type_name(connector),
                source,
                schema: output.schema,
                event_time,
                overflow: *overflow,
                rate_limit: *rate_limit,
                on_error: node.on_error,
                with_origin,
                pushed,
            }));
        }
        (Bound::Operator { spec, inputs }, NodeKind::Operator(implementation)) => {
            vertex.operators.push(PlannedOperator { name, operator: type_name(implementation), spec, inputs, on_error: node.on_error });
        }
        (Bound::Sink { sink, input }, NodeKind::Sink(connector)) => {
            vertex.sink = Some(PlannedSink { name, connector: type_name(connector), sink, input, on_error: node.on_error });
        }
        // A node is bound as what it is: see `Binder::bind`.
        _ => {}
    }
}

/// The name by which a node is looked up; `<in code>` for one that is not.
fn type_name<T: ?Sized>(implementation: &Implementation<T>) -> String {
    match implementation {
        Implementation::Named { name, .. } => name.clone(),
        Implementation::InCode(_) => "<in code>".into(),
    }
}
