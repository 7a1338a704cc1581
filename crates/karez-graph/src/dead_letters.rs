//! What cannot be done with dead letters is said when the job is planned, before there are any.

use karez_core::{ChangeMode, StreamSchema, dead_letter};

use crate::bind::{Binding, Bound};
use crate::stream_graph::OnError;
use crate::validate::Topology;

/// Notes nodes whose letters are kept but cannot be fed again.
pub(crate) fn note(topology: &Topology<'_>, binding: &Binding, notes: &mut Vec<String>) {
    let keeps = topology.graph.nodes.iter().enumerate().filter(|(_, node)| node.on_error == OnError::DeadLetter);
    for (n, node) in keeps {
        let Some(bound) = binding.get(n) else { continue };
        let changes = |schema: &StreamSchema| schema.change_mode == ChangeMode::Changelog;
        let in_a_changelog = match &bound.bound {
            Bound::Source { .. } => bound.outputs.iter().any(|o| changes(&o.schema)),
            Bound::Operator { inputs, .. } => inputs.iter().any(changes),
            Bound::Sink { input, .. } => changes(input),
        };
        if in_a_changelog {
            notes.push(format!("the dead letters of `{}` can be looked at, not replayed: {}", node.name, dead_letter::of_changes(&node.name)));
        }
    }
}
