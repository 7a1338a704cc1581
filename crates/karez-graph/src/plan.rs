//! From the logical graph to the physical one: validate, bind every node to its connector or operator, push work into sources, chain.
//!
//! ```text
//! StreamGraph ─► Topology ─► Binding ─► parallelism ─► exchanges ─► guarantee ─► push-down, bound again ─► chains = JobGraph
//!               (validate)   (bind)                                              (optimise)               (chain)
//! ```
//! Nothing is opened and nothing is written; sources may look at the outside to infer a schema. All errors are reported at once.

use std::fmt;

use karez_core::Registry;
use karez_core::config::{ConfigError, ConfigErrors};

use crate::bind::{Binding, Overrides};
use crate::job_graph::{Exchange, JobGraph};
use crate::optimise;
use crate::stream_graph::StreamGraph;
use crate::validate::Topology;
use crate::{chain, dead_letters, exchange, guarantee, parallelism, validate};

/// What is wrong with one node, or with the job.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlanError {
    /// The node; `None`: the job's settings, or the graph as a whole.
    pub node: Option<String>,
    /// The key inside the node (`config.batchSize`, `where`, `window.size`, `inputs[1]`) or the settings; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl PlanError {
    /// An error at a key of a node.
    pub fn at(node: impl Into<String>, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { node: Some(node.into()), path: path.into(), message: message.into(), hint: None }
    }

    /// An error of the job.
    pub fn job(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { node: None, path: path.into(), message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn of_config(node: &str, prefix: &str, error: ConfigError) -> Self {
        let ConfigError { path, message, hint } = error.under(prefix);
        Self { node: Some(node.to_owned()), path, message, hint }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node, self.path.as_str()) {
            (Some(node), "") => write!(f, "`{node}`: ")?,
            (Some(node), path) => write!(f, "`{node}`, `{path}`: ")?,
            (None, "") => {}
            (None, path) => write!(f, "`{path}`: ")?,
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a graph, in the order of its nodes. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlanErrors(pub Vec<PlanError>);

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            e.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

impl From<PlanErrors> for karez_core::Error {
    fn from(e: PlanErrors) -> Self {
        Self::user(e.to_string())
    }
}

/// The errors of a plan while it is made.
#[derive(Default)]
pub(crate) struct Errors(Vec<PlanError>);

impl Errors {
    pub(crate) fn push(&mut self, error: PlanError) {
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    pub(crate) fn config(&mut self, node: &str, prefix: &str, errors: ConfigErrors) {
        for e in errors.0 {
            self.push(PlanError::of_config(node, prefix, e));
        }
    }

    pub(crate) fn into_result(mut self, graph: &StreamGraph) -> Result<(), PlanErrors> {
        if self.0.is_empty() {
            return Ok(());
        }
        let place = |e: &PlanError| e.node.as_ref().map_or(0, |n| 1 + graph.nodes.iter().position(|x| x.name == *n).unwrap_or(usize::MAX - 1));
        self.0.sort_by_key(place);
        Err(PlanErrors(self.0))
    }
}

/// A graph with every node bound, its parallelism known and its edges decided.
pub(crate) struct Physical<'g> {
    pub(crate) topology: Topology<'g>,
    pub(crate) binding: Binding,
    /// By node.
    pub(crate) parallelism: Vec<usize>,
    /// By link.
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) notes: Vec<String>,
}

/// Plans a graph: validates all of it, binds it to what the registry knows, optimises it and chains it.
///
/// # Errors
/// Everything that is wrong with it, so far as one error does not hide another.
pub fn plan(graph: &StreamGraph, registry: &Registry) -> Result<JobGraph, PlanErrors> {
    let mut errors = Errors::default();
    let first = physical(graph, registry, &Overrides::default(), &mut errors);
    errors.into_result(graph)?;
    let pushed = optimise::push_down(&first);
    let Some((rewritten, overrides)) = pushed else {
        return Ok(chain::job_graph(first));
    };
    let mut errors = Errors::default();
    let second = physical(&rewritten, registry, &overrides, &mut errors);
    match errors.into_result(&rewritten) {
        Ok(()) => Ok(chain::job_graph(second)),
        Err(e) => {
            // The graph is right as the user wrote it; only the narrower one is not (two inputs of a union that no longer look alike).
            let mut job = chain::job_graph(first);
            job.notes.push(format!("nothing was pushed down into sources, because the narrowed graph does not bind: {e}"));
            Ok(job)
        }
    }
}

/// All steps but the last. With errors, what could not be decided is left out: the result is only fit to find further errors.
fn physical<'g>(graph: &'g StreamGraph, registry: &Registry, overrides: &Overrides, errors: &mut Errors) -> Physical<'g> {
    validate::settings(&graph.settings, errors);
    let topology = Topology::of(graph, errors);
    let binding = Binding::of(&topology, registry, overrides, errors);
    let mut notes = Vec::new();
    let parallelism = parallelism::decide(&topology, &binding, &mut notes, errors);
    let exchanges = exchange::decide(&topology, &binding, &parallelism, errors);
    guarantee::check(&topology, &binding, &mut notes, errors);
    dead_letters::note(&topology, &binding, &mut notes);
    Physical { topology, binding, parallelism, exchanges, notes }
}
