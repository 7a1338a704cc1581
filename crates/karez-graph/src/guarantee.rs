//! Design, decision 13: a guarantee that cannot hold is refused when the job is planned, and the node that stands in its way is named.

use std::collections::BTreeSet;

use karez_core::operator::Determinism;
use karez_core::sink::{CheckpointTiming, SinkGuarantee};
use karez_core::source::Replay;

use crate::bind::{Binding, Bound};
use crate::plan::{Errors, PlanError};
use crate::settings::Delivery;
use crate::stream_graph::{NodeKind, Overflow};
use crate::validate::Topology;

const OTHERWISE: &str = "or set `delivery: at-least-once`";

pub(crate) fn check(topology: &Topology<'_>, binding: &Binding, notes: &mut Vec<String>, errors: &mut Errors) {
    let settings = &topology.graph.settings;
    let exactly_once = settings.delivery == Delivery::ExactlyOnce;
    let timing = CheckpointTiming { interval: settings.checkpoint.interval.0, timeout: settings.checkpoint.timeout.0 };
    for (n, node) in topology.graph.nodes.iter().enumerate() {
        let name = &node.name;
        if let NodeKind::Source { overflow, .. } = &node.kind {
            let policy = match overflow {
                Overflow::Drop => Some("DROP"),
                Overflow::Latest => Some("LATEST"),
                Overflow::Buffer | Overflow::Error => None,
            };
            if let Some(policy) = policy.filter(|_| exactly_once) {
                errors.push(
                    PlanError::at(name, "overflow", format!("exactly-once cannot hold: overflow {policy} leaves rows of `{name}` out"))
                        .hint(format!("use BUFFER or ERROR, {OTHERWISE}")),
                );
            }
        }
        let bound = binding.get(n).map(|b| &b.bound);
        if let Some(Bound::Sink { sink, .. }) = bound
            && let Err(e) = sink.checkpoints(timing)
        {
            errors.push(PlanError::at(name, "config", e.to_string()));
        }
        match bound {
            Some(Bound::Source { source, .. }) => {
                if let Replay::No(why) = source.replay() {
                    if exactly_once {
                        errors.push(
                            PlanError::at(
                                name,
                                "connector",
                                format!("exactly-once cannot hold: source `{name}` cannot be read again from a position: {why}"),
                            )
                            .hint(format!("read from a source that can be replayed, {OTHERWISE}")),
                        );
                    } else {
                        notes.push(format!(
                            "source `{name}` cannot be read again ({why}): rows since the last checkpoint are lost when the job restarts"
                        ));
                    }
                }
            }
            Some(Bound::Sink { sink, .. }) if exactly_once => match sink.guarantee() {
                SinkGuarantee::Transactional => {}
                SinkGuarantee::AtLeastOnce => errors.push(
                    PlanError::at(
                        name,
                        "connector",
                        format!("exactly-once cannot hold: sink `{name}` writes the rows since the last checkpoint again after a crash"),
                    )
                    .hint(format!("use a sink that commits with the checkpoint or upserts by key, {OTHERWISE}")),
                ),
                SinkGuarantee::Idempotent => {
                    for (culprit, why) in undetermined(topology, binding, n) {
                        errors.push(
                            PlanError::at(name, "connector", format!("exactly-once cannot hold: sink `{name}` upserts, and `{culprit}` before it gives other rows when it runs again: {why}"))
                                .hint(format!("make `{culprit}` deterministic, use a transactional sink, {OTHERWISE}")),
                        );
                    }
                }
            },
            _ => {}
        }
    }
}

/// The nodes before `node` whose output is not determined by their input, and why.
fn undetermined(topology: &Topology<'_>, binding: &Binding, node: usize) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![node];
    while let Some(n) = waiting.pop() {
        for &l in &topology.inputs[n] {
            if seen.insert(topology.links[l].from) {
                waiting.push(topology.links[l].from);
            }
        }
    }
    let why = |n: usize| match binding.get(n).map(|b| &b.bound) {
        Some(Bound::Operator { spec, .. }) => match spec.determinism() {
            Determinism::No(why) => Some((topology.node(n).name.clone(), why)),
            Determinism::Deterministic => None,
        },
        _ => None,
    };
    seen.into_iter().filter_map(why).collect()
}
