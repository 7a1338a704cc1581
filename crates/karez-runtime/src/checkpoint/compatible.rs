//! Whether a job can go on from a checkpoint: what does not match is refused with the node's name (decision 15).

use karez_core::error::did_you_mean;
use karez_core::operator::IDENTITY_DETAIL;
use karez_core::{Error, Result};

use super::manifest::{JobNode, JobShape, Manifest, NodeRole};

/// A node's part of a manifest, whatever its role.
struct Stored<'a> {
    name: &'a str,
    role: NodeRole,
    type_name: &'a str,
    identity: &'a str,
    parallelism: usize,
    /// What would be lost with it; empty for nothing.
    holds: String,
}

/// Checks that a job can be restored from a manifest. Answers what will be left behind, one sentence each, to be logged.
///
/// # Errors
/// Another number of key groups; a node of another type or identity; a node with state that the job does not have, unless `allow_non_restored`
/// (`--allow-non-restored-state`).
pub fn check_compatible(manifest: &Manifest, job: &JobShape, allow_non_restored: bool) -> Result<Vec<String>> {
    let stored = stored(manifest);
    if manifest.key_groups != job.key_groups {
        let holder = stored.iter().find(|s| s.role == NodeRole::Operator && !s.holds.is_empty());
        if let Some(holder) = holder {
            return Err(Error::user(format!(
                "its state was saved in {} key groups, and the job now has `maxParallelism: {}`; that cannot change while there is state: set it back, or start with --fresh",
                manifest.key_groups, job.key_groups
            ))
            .at(holder.name));
        }
    }
    let mut left_behind = Vec::new();
    for part in &stored {
        match job.nodes.iter().find(|n| n.name == part.name) {
            Some(node) => same_node(part, node)?,
            None if part.holds.is_empty() => {}
            None if allow_non_restored => {
                left_behind.push(format!("{} of `{}` are left behind: the job has no such node any more", part.holds, part.name))
            }
            None => return Err(missing(part, job)),
        }
    }
    Ok(left_behind)
}

fn same_node(part: &Stored<'_>, node: &JobNode) -> Result<()> {
    if part.holds.is_empty() {
        return Ok(());
    }
    if (part.role, part.type_name) != (node.role, node.type_name.as_str()) {
        return Err(Error::user(format!(
            "the checkpoint holds {} of a `{}` {} by this name, and the job now has a `{}` {}; give the new node another name, or start with --fresh",
            part.holds,
            part.type_name,
            word(part.role),
            node.type_name,
            word(node.role)
        ))
        .at(part.name));
    }
    let is_older = |identity: &str| node.identity.strip_prefix(identity).is_some_and(|detail| detail.starts_with(IDENTITY_DETAIL));
    if part.identity != node.identity && !is_older(part.identity) {
        return Err(Error::user(format!(
            "its state was made by `{}`, and the job now says `{}`; the one cannot go on from the other: undo the change, give the node another name, or start with --fresh",
            part.identity, node.identity
        ))
        .at(part.name));
    }
    Ok(())
}

fn missing(part: &Stored<'_>, job: &JobShape) -> Error {
    let renamed = did_you_mean(part.name, job.nodes.iter().filter(|n| n.type_name == part.type_name).map(|n| n.name.as_str()));
    let hint = renamed.map_or(String::new(), |n| format!(" (was it renamed to `{n}`? State follows the name)"));
    let parallelism = part.parallelism;
    Error::user(format!(
        "the checkpoint holds {} of this {} (`{}`, parallelism {parallelism}), and the job has no such node{hint}; put it back, or leave that behind with --allow-non-restored-state",
        part.holds,
        word(part.role),
        part.type_name
    ))
    .at(part.name)
}

const fn word(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Source => "source",
        NodeRole::Operator => "operator",
        NodeRole::Sink => "sink",
    }
}

fn stored(manifest: &Manifest) -> Vec<Stored<'_>> {
    let mut parts = Vec::new();
    for (name, o) in &manifest.operators {
        let has_state = o.subtasks.iter().any(|s| !s.state.is_null() || !s.files.is_empty());
        let holds = if has_state { "the state".to_owned() } else { String::new() };
        parts.push(Stored { name, role: NodeRole::Operator, type_name: &o.type_name, identity: &o.identity, parallelism: o.parallelism, holds });
    }
    for (name, s) in &manifest.sources {
        let holds = format!("the positions ({} open and {} waiting splits)", s.open.len(), s.unassigned.len());
        parts.push(Stored { name, role: NodeRole::Source, type_name: &s.type_name, identity: &s.identity, parallelism: s.parallelism, holds });
    }
    for (name, s) in &manifest.sinks {
        let holds = match (s.writers.is_empty(), s.committables.len()) {
            (true, 0) => String::new(),
            (false, 0) => "the writers' states".to_owned(),
            (_, n) => format!("{n} writes that are prepared and perhaps not committed"),
        };
        parts.push(Stored { name, role: NodeRole::Sink, type_name: &s.type_name, identity: &s.identity, parallelism: s.parallelism, holds });
    }
    parts
}
