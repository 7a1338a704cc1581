//! The edges: in the order of the file where it is a line, by `inputs` where it is a graph; dead letters to the job's sink for them.

use std::collections::HashSet;

use karez_core::operator::MAIN;
use karez_graph::stream_graph::ERRORS_PORT;
use karez_graph::{OnError, StreamEdge};

use crate::diagnostics::Diagnostic;
use crate::nodes::Declared;
use crate::read::Reader;

/// The nodes of a file.
pub(crate) struct Parts {
    pub(crate) sources: Vec<Declared>,
    pub(crate) operators: Vec<Declared>,
    pub(crate) sinks: Vec<Declared>,
    pub(crate) dead_letter: Option<Declared>,
}

impl Parts {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Declared> {
        self.sources.iter().chain(&self.operators).chain(&self.sinks)
    }

    fn is_line(&self) -> bool {
        self.sources.len() == 1 && self.sinks.len() == 1 && self.all().all(|d| d.inputs.is_none())
    }
}

/// The edges of all nodes. Drops the sink for dead letters, with a warning, where no node has any.
pub(crate) fn edges(reader: &mut Reader, parts: &mut Parts) -> Vec<StreamEdge> {
    let mut edges = if parts.is_line() { line(parts) } else { graph(reader, parts) };
    if let Some(sink) = parts.dead_letter.take() {
        let read: HashSet<&str> = edges.iter().filter(|e| e.port == ERRORS_PORT).map(|e| e.from.as_str()).collect();
        let letters: Vec<StreamEdge> = parts
            .all()
            .filter(|d| d.node.on_error == OnError::DeadLetter && !read.contains(d.node.name.as_str()))
            .map(|d| edge(&d.node.name, ERRORS_PORT, &sink.node.name))
            .collect();
        if letters.is_empty() {
            reader.warnings.push(
                Diagnostic::warning("`deadLetter` gets no letters: no node says `onError: dead-letter`", sink.at)
                    .help("add it to the nodes whose bad records are to go there"),
            );
        } else {
            edges.extend(letters);
            parts.dead_letter = Some(sink);
        }
    }
    edges
}

fn edge(from: &str, port: &str, to: &str) -> StreamEdge {
    StreamEdge { from: from.to_owned(), port: port.to_owned(), to: to.to_owned(), exchange: None }
}

fn line(parts: &Parts) -> Vec<StreamEdge> {
    let nodes: Vec<&Declared> = parts.all().collect();
    nodes.windows(2).map(|pair| edge(&pair[0].node.name, MAIN, &pair[1].node.name)).collect()
}

fn graph(reader: &mut Reader, parts: &Parts) -> Vec<StreamEdge> {
    let names: HashSet<&str> = parts.all().map(|d| d.node.name.as_str()).collect();
    let mut edges = Vec::new();
    for declared in parts.operators.iter().chain(&parts.sinks) {
        let Some(inputs) = &declared.inputs else {
            reader.error(
                Diagnostic::error(format!("`{}` does not say what it reads", declared.node.name), declared.at.clone())
                    .help("add `inputs: [name]`: only a job of one source and one sink where no node has `inputs` is read as a line"),
            );
            continue;
        };
        for input in inputs {
            let (from, port) = match input.from.rsplit_once('.') {
                Some((from, port)) if !names.contains(input.from.as_str()) => (from, port),
                _ => (input.from.as_str(), MAIN),
            };
            edges.push(StreamEdge { exchange: input.exchange.clone(), ..edge(from, port, &declared.node.name) });
        }
    }
    edges
}
