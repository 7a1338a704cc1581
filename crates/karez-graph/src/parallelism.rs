//! How many subtasks each node has.

use karez_core::Distribution;

use crate::bind::{Binding, Bound};
use crate::plan::{Errors, PlanError};
use crate::validate::Topology;

/// By node. A parallelism the user wrote on the node is kept or refused; the job's default is lowered to what a node can use, with a note.
pub(crate) fn decide(topology: &Topology<'_>, binding: &Binding, notes: &mut Vec<String>, errors: &mut Errors) -> Vec<usize> {
    let settings = &topology.graph.settings;
    let default = settings.resources.parallelism.unwrap_or(settings.parallelism);
    let highest = usize::from(settings.max_parallelism);
    let mut all = Vec::new();
    for (n, node) in topology.graph.nodes.iter().enumerate() {
        let limit = binding.get(n).and_then(|b| match &b.bound {
            Bound::Source { source, .. } => source.max_parallelism().map(|max| (max, "its source gives no more parts to read at a time")),
            Bound::Operator { spec, inputs } => {
                (0..inputs.len()).any(|i| spec.distribution(i) == Distribution::Global).then_some((1, "all its rows meet in one subtask"))
            }
            Bound::Sink { sink, .. } => sink.max_parallelism().map(|max| (max, "its target takes no more writers")),
        });
        let parallelism = match (node.parallelism, limit) {
            (Some(0), _) => {
                errors.push(PlanError::at(&node.name, "parallelism", "a parallelism of 0 runs nothing").hint("write 1 or more"));
                1
            }
            (Some(p), _) if p > highest => {
                errors.push(
                    PlanError::at(&node.name, "parallelism", format!("a parallelism of {p} is above the job's `maxParallelism` ({highest})"))
                        .hint("lower it, or raise `maxParallelism`"),
                );
                1
            }
            (Some(p), Some((max, why))) if p > max => {
                errors.push(
                    PlanError::at(&node.name, "parallelism", format!("`{}` can run with a parallelism of at most {max}, not {p}: {why}", node.name))
                        .hint(format!("write {max}, or leave it out")),
                );
                max
            }
            (Some(p), _) => p,
            (None, Some((max, why))) if default > max => {
                notes.push(format!("`{}` runs with a parallelism of {max} instead of the job's {default}: {why}", node.name));
                max
            }
            (None, _) => default,
        };
        all.push(parallelism.max(1));
    }
    all
}
