//! Which letters are meant.

use std::collections::HashMap;

use clap::Args;
use karez_core::config::Span;
use karez_core::error::did_you_mean;
use karez_core::{Clock, Letter, SystemClock};
use karez_graph::StreamGraph;

use super::super::output;
use super::Failure;
use super::ledger::{Ledger, Status};

/// Runs that are remembered, and told, at most.
const MAX_RUNS: usize = 10_000;
const MAX_RUNS_TOLD: usize = 10;

#[derive(Args, Default)]
pub(super) struct Filter {
    /// Only letters of this node.
    #[arg(long)]
    node: Option<String>,
    /// Only letters whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only letters of this run.
    #[arg(long)]
    run: Option<String>,
    /// Only letters since then: a time span (`2h`), or an instant (`2026-01-31T00:00:00Z`).
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<i64>,
    /// Only letters in this state.
    #[arg(long, value_enum)]
    status: Option<Status>,
}

impl Filter {
    /// Whether nothing narrows it.
    pub(super) const fn is_open(&self) -> bool {
        self.node.is_none() && self.reason.is_none() && self.run.is_none() && self.since.is_none() && self.status.is_none()
    }

    /// Whether it names a run.
    pub(super) const fn names_run(&self) -> bool {
        self.run.is_some()
    }
}

/// A filter at work.
pub(super) struct Sieve<'a> {
    filter: &'a Filter,
    ledger: &'a Ledger,
    /// Whether a letter of the node asked for has been seen.
    node_seen: bool,
    /// Whether one of the run asked for has been.
    run_seen: bool,
    /// Other runs that have letters, each with the time of the last one.
    others: HashMap<String, i64>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(filter: &'a Filter, ledger: &'a Ledger) -> Self {
        Self { filter, ledger, node_seen: false, run_seen: false, others: HashMap::new() }
    }

    pub(super) fn takes(&mut self, letter: &Letter) -> bool {
        let of_node = self.filter.node.as_ref().is_none_or(|n| *n == letter.node);
        let of_run = self.filter.run.as_ref().is_none_or(|r| *r == letter.run);
        self.node_seen |= of_node;
        self.run_seen |= of_run;
        if !of_run {
            self.saw(letter);
        }
        of_node
            && of_run
            && self.filter.reason.as_ref().is_none_or(|r| letter.reason.contains(r.as_str()))
            && self.filter.since.is_none_or(|s| letter.time_ms >= s)
            && self.filter.status.is_none_or(|s| s == self.ledger.status(&letter.id))
    }

    fn saw(&mut self, letter: &Letter) {
        if let Some(last) = self.others.get_mut(&letter.run) {
            *last = letter.time_ms.max(*last);
        } else if self.others.len() < MAX_RUNS && !letter.run.is_empty() {
            self.others.insert(letter.run.clone(), letter.time_ms);
        }
    }

    /// Says what was asked for and is not there, once all letters have been seen.
    ///
    /// # Errors
    /// The job has no such node, and no letter is of one.
    pub(super) fn check(&self, graph: &StreamGraph) -> Result<(), Failure> {
        if let Some(node) = self.filter.node.as_deref().filter(|_| !self.node_seen)
            && !graph.nodes.iter().any(|n| n.name == node)
        {
            let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
            let near = did_you_mean(node, names.iter().copied()).map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            return Err(Failure::usage(format!("error: the job has no node `{node}`{near}\nits nodes are {}", names.join(", "))));
        }
        if let Some(run) = self.filter.run.as_ref().filter(|_| !self.run_seen) {
            let mut runs: Vec<_> = self.others.iter().collect();
            runs.sort_unstable_by_key(|(_, last)| std::cmp::Reverse(**last));
            let told: Vec<_> = runs.iter().take(MAX_RUNS_TOLD).map(|(run, _)| run.as_str()).collect();
            let others =
                if told.is_empty() { "nor of another".into() } else { format!("runs that have some, the newest first: {}", told.join(", ")) };
            output::note(format_args!("no dead letter is of run `{run}`; {others}"));
        }
        Ok(())
    }
}

/// Milliseconds since the epoch.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(SystemClock.now_ms().saturating_sub(span.as_millis()));
    }
    let instant = chrono::DateTime::parse_from_rfc3339(text).map(|t| t.timestamp_millis());
    instant.map_err(|_| format!("`{text}` is neither a time span such as `2h` nor an instant such as `2026-01-31T00:00:00Z`"))
}
