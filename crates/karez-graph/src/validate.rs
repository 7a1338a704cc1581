//! The shape of a graph: names, edges, cycles, dangling nodes; and the order in which nodes can be bound.

use std::collections::HashMap;

use karez_core::error::did_you_mean;
use karez_core::operator::MAIN;

use crate::plan::{Errors, PlanError};
use crate::settings::{JobSettings, RestartStrategy};
use crate::stream_graph::{ERRORS_PORT, NodeKind, OnError, StreamEdge, StreamGraph, StreamNode};

/// The longest name of a node, in bytes: it becomes part of file names.
const MAX_NAME_BYTES: usize = 100;

/// An edge whose ends exist.
pub(crate) struct Link<'g> {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) edge: &'g StreamEdge,
    /// The how-many-th edge of its consumer this is.
    pub(crate) nth: usize,
    /// Which input of the consumer it feeds: each edge of an operator is an input of its own, all edges of a sink feed one.
    pub(crate) input: usize,
}

impl Link<'_> {
    /// The key of a job file that names this input.
    pub(crate) fn path(&self) -> String {
        format!("inputs[{}]", self.nth)
    }

    pub(crate) fn is_errors(&self) -> bool {
        self.edge.port == ERRORS_PORT
    }
}

/// A graph whose edges are resolved to indices.
pub(crate) struct Topology<'g> {
    pub(crate) graph: &'g StreamGraph,
    pub(crate) links: Vec<Link<'g>>,
    /// Links into each node, in the order of its inputs.
    pub(crate) inputs: Vec<Vec<usize>>,
    /// Links out of each node.
    pub(crate) outputs: Vec<Vec<usize>>,
    /// Nodes whose inputs come before them. Nodes on a cycle are missing.
    pub(crate) order: Vec<usize>,
    /// Nodes with an edge that leads nowhere: they cannot be bound.
    pub(crate) broken: Vec<bool>,
}

impl<'g> Topology<'g> {
    pub(crate) fn of(graph: &'g StreamGraph, errors: &mut Errors) -> Self {
        let count = graph.nodes.len();
        let mut topology = Topology {
            graph,
            links: Vec::new(),
            inputs: vec![Vec::new(); count],
            outputs: vec![Vec::new(); count],
            order: Vec::new(),
            broken: vec![false; count],
        };
        let index = names(graph, errors);
        topology.link(&index, errors);
        topology.sort(errors);
        topology.dangling(errors);
        topology
    }

    pub(crate) fn node(&self, index: usize) -> &'g StreamNode {
        &self.graph.nodes[index]
    }

    fn link(&mut self, index: &HashMap<&'g str, usize>, errors: &mut Errors) {
        let mut nths: HashMap<&str, usize> = HashMap::new();
        for edge in &self.graph.edges {
            let nth = nths.entry(&edge.to).or_default();
            let path = format!("inputs[{nth}]");
            let this = *nth;
            *nth += 1;
            let Some(&to) = index.get(edge.to.as_str()) else {
                errors.push(unknown_node(&edge.from, "", &edge.to, index, "an edge leads to"));
                continue;
            };
            let Some(&from) = index.get(edge.from.as_str()) else {
                self.broken[to] = true;
                errors.push(unknown_node(&edge.to, &path, &edge.from, index, "unknown input"));
                continue;
            };
            if matches!(self.node(to).kind, NodeKind::Source { .. }) {
                errors.push(PlanError::at(&edge.to, path, "a source has no inputs").hint(format!("remove the edge from `{}`", edge.from)));
                continue;
            }
            if matches!(self.node(from).kind, NodeKind::Sink(_)) && edge.port != ERRORS_PORT {
                self.broken[to] = true;
                let port = if edge.port == MAIN { String::new() } else { format!(" `{}`", edge.port) };
                errors.push(
                    PlanError::at(&edge.to, path, format!("sink `{}` has no output{port} to read; outputs: errors", edge.from))
                        .hint("connect to the node before the sink"),
                );
                continue;
            }
            let sink = matches!(self.node(to).kind, NodeKind::Sink(_));
            if sink && self.inputs[to].iter().any(|&l| self.links[l].from == from && self.links[l].edge.port == edge.port) {
                errors.push(PlanError::at(&edge.to, path, format!("reads `{}` twice", input_name(edge))).hint("remove one of the two"));
                continue;
            }
            if edge.port == ERRORS_PORT && self.node(from).on_error != OnError::DeadLetter {
                errors.push(
                    PlanError::at(
                        &edge.to,
                        path,
                        format!("`{}` gives no dead letters: its bad records {}", edge.from, fate(self.node(from).on_error)),
                    )
                    .hint(format!("set `onError: dead-letter` on `{}`", edge.from)),
                );
            }
            let input = if sink { 0 } else { self.inputs[to].len() };
            let link = self.links.len();
            self.links.push(Link { from, to, edge, nth: this, input });
            self.inputs[to].push(link);
            self.outputs[from].push(link);
        }
    }

    /// Kahn's algorithm; nodes keep the user's order where the edges leave a choice.
    fn sort(&mut self, errors: &mut Errors) {
        let mut waits: Vec<usize> = self.inputs.iter().map(Vec::len).collect();
        let mut done = vec![false; waits.len()];
        while let Some(next) = (0..waits.len()).find(|&n| !done[n] && waits[n] == 0) {
            done[next] = true;
            self.order.push(next);
            for &l in &self.outputs[next] {
                waits[self.links[l].to] -= 1;
            }
        }
        if let Some(start) = (0..done.len()).find(|&n| !done[n]) {
            let cycle = self.cycle(start, &done);
            let names: Vec<String> = cycle.iter().map(|&n| format!("`{}`", self.node(n).name)).collect();
            errors.push(
                PlanError::at(&self.node(cycle[0]).name, "inputs", format!("the graph runs in a circle: {}", names.join(" -> ")))
                    .hint("rows flow from sources to sinks; remove one of these edges"),
            );
        }
    }

    /// Walks backwards from a node that never got free until a node comes a second time: that part is a cycle, given forwards.
    fn cycle(&self, start: usize, done: &[bool]) -> Vec<usize> {
        let mut path = vec![start];
        loop {
            let last = path[path.len() - 1];
            let Some(before) = self.inputs[last].iter().map(|&l| self.links[l].from).find(|&n| !done[n]) else {
                return path;
            };
            if let Some(at) = path.iter().position(|&n| n == before) {
                let mut cycle = path.split_off(at);
                cycle.push(before);
                cycle.reverse();
                return cycle;
            }
            path.push(before);
        }
    }

    fn dangling(&self, errors: &mut Errors) {
        if self.graph.nodes.is_empty() {
            errors.push(PlanError::job("", "the graph is empty").hint("add a source and a sink"));
            return;
        }
        for (n, node) in self.graph.nodes.iter().enumerate() {
            let (kind, needs_input, needs_reader) = match node.kind {
                NodeKind::Source { .. } => ("source", false, true),
                NodeKind::Operator(_) => ("operator", true, true),
                NodeKind::Sink(_) => ("sink", true, false),
            };
            if needs_input && self.inputs[n].is_empty() && !self.broken[n] {
                errors.push(PlanError::at(&node.name, "", format!("{kind} `{}` has no input", node.name)).hint("give it `inputs: [name]`"));
            }
            if needs_reader && self.outputs[n].iter().all(|&l| self.links[l].is_errors()) {
                errors.push(
                    PlanError::at(&node.name, "", format!("nobody reads {kind} `{}`", node.name))
                        .hint(format!("add `{}` to the `inputs` of another node, or remove it", node.name)),
                );
            }
            if node.on_error == OnError::DeadLetter && !self.outputs[n].iter().any(|&l| self.links[l].is_errors()) {
                errors.push(PlanError::at(&node.name, "onError", format!("the dead letters of `{}` go nowhere", node.name)).hint(format!(
                    "give the job a `deadLetter: {{ connector: …, config: … }}`, or a sink with `inputs: [{}.{ERRORS_PORT}]`",
                    node.name
                )));
            }
        }
    }
}

/// How a job file names what an edge reads.
pub(crate) fn input_name(edge: &StreamEdge) -> String {
    if edge.port == MAIN { edge.from.clone() } else { format!("{}.{}", edge.from, edge.port) }
}

const fn fate(on_error: OnError) -> &'static str {
    match on_error {
        OnError::Fail => "fail the job",
        OnError::Skip => "are skipped",
        OnError::DeadLetter => "go to its `errors` output",
    }
}

fn names<'g>(graph: &'g StreamGraph, errors: &mut Errors) -> HashMap<&'g str, usize> {
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        let name = node.name.as_str();
        let valid = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        if !valid {
            errors.push(PlanError::at(name, "name", format!("`{name}` cannot be a node's name")).hint(format!(
                "names hold letters, digits, `-` and `_`, at most {MAX_NAME_BYTES} bytes: they are part of file names and of `node.output`"
            )));
        }
        if index.insert(name, n).is_some() {
            errors.push(
                PlanError::at(name, "name", format!("two nodes are named `{name}`"))
                    .hint("state, metrics and files are kept by name: give each its own `name`"),
            );
        }
    }
    index
}

fn unknown_node(node: &str, path: &str, name: &str, index: &HashMap<&str, usize>, what: &str) -> PlanError {
    let mut known: Vec<&str> = index.keys().copied().collect();
    known.sort_unstable();
    let error = PlanError::at(node, path, format!("{what} `{name}`"));
    match did_you_mean(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("nodes: {}", known.join(", "))),
    }
}

/// Checks what the types of the settings cannot say.
pub(crate) fn settings(s: &JobSettings, errors: &mut Errors) {
    if !s.id.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')) || s.id.starts_with('.') {
        errors.push(
            PlanError::job("id", format!("`{}` cannot be a job's id", s.id))
                .hint("ids hold letters, digits, `-`, `_` and `.`, and do not begin with `.`"),
        );
    }
    if s.max_parallelism == 0 {
        errors.push(PlanError::job("maxParallelism", "there is at least one key group").hint("leave it out for 128"));
    }
    let mut parallelism = |path: &str, p: usize| {
        if p == 0 {
            errors.push(PlanError::job(path, "a parallelism of 0 runs nothing").hint("write 1 or more"));
        } else if s.max_parallelism > 0 && p > usize::from(s.max_parallelism) {
            errors.push(
                PlanError::job(path, format!("a parallelism of {p} is above `maxParallelism` ({})", s.max_parallelism))
                    .hint("raise `maxParallelism`, or lower this"),
            );
        }
    };
    parallelism("parallelism", s.parallelism);
    if let Some(p) = s.resources.parallelism {
        parallelism("resources.parallelism", p);
        if s.parallelism != 1 && s.parallelism != p {
            errors.push(
                PlanError::job("resources.parallelism", format!("says {p}, `parallelism` says {}", s.parallelism))
                    .hint("they mean the same: keep one"),
            );
        }
    }
    for (path, zero) in [
        ("checkpoint.interval", s.checkpoint.interval.as_millis() == 0),
        ("checkpoint.timeout", s.checkpoint.timeout.as_millis() == 0),
        ("checkpoint.retained", s.checkpoint.retained == 0),
        ("resources.memory", s.resources.memory.is_some_and(|m| m.0 == 0)),
        ("resources.buffer.sourceBuffer", s.resources.buffer.source_buffer == 0),
        ("resources.buffer.sinkBuffer", s.resources.buffer.sink_buffer == 0),
        ("resources.buffer.bytes", s.resources.buffer.bytes.0 == 0),
        ("resources.threadPool.compute.coreSize", s.resources.thread_pool.compute.core_size == Some(0)),
        ("resources.threadPool.io.maxSize", s.resources.thread_pool.io.max_size == Some(0)),
    ] {
        if zero {
            errors.push(PlanError::job(path, "must be more than 0"));
        }
    }
    if let Some(external) = &s.checkpoint.external {
        if let Err(e) = external.check() {
            errors.push(PlanError { hint: e.hint, ..PlanError::job(format!("checkpoint.external.{}", e.path), e.message) });
        }
        if !external.retry.jitter {
            errors.push(
                PlanError::job("checkpoint.external.retry.jitter", "the client of object stores waits with jitter, always")
                    .hint("leave it out, or write true"),
            );
        }
    }
    if let RestartStrategy::ExponentialBackoff { initial_delay, max_delay, multiplier, .. } = &s.restart {
        if !(*multiplier >= 1.0 && multiplier.is_finite()) {
            errors
                .push(PlanError::job("restart.multiplier", format!("{multiplier} would not let the delay grow")).hint("write 1 or more, such as 2"));
        }
        if initial_delay > max_delay {
            errors.push(PlanError::job("restart.initialDelay", format!("{initial_delay} is longer than `maxDelay` ({max_delay})")));
        }
    }
}
