//! How rows are spread on each edge: what the consumer needs, what the user asked for, and what a changelog allows.
//!
//! A changelog's changes to one row leave one subtask in order (its producer is keyed); every exchange must keep that order, up to the sink.

use karez_core::{ChangeMode, Distribution, StreamSchema};

use crate::bind::{Binding, Bound, BoundNode};
use crate::job_graph::Exchange;
use crate::plan::{Errors, PlanError};
use crate::stream_graph::RequestedExchange;
use crate::validate::{Link, Topology, input_name};

/// By link. Where a decision is refused, or a side is not bound, [`Exchange::Forward`] stands in.
pub(crate) fn decide(topology: &Topology<'_>, binding: &Binding, parallelism: &[usize], errors: &mut Errors) -> Vec<Exchange> {
    let decide = |link: &Link<'_>| -> Result<Exchange, Box<PlanError>> {
        let (Some(to), Some((_, schema))) = (binding.get(link.to), binding.output(link.from, &link.edge.port)) else {
            return Ok(Exchange::Forward);
        };
        let edge = Edge { topology, binding, link, schema: &schema, from: parallelism[link.from], to: parallelism[link.to] };
        let exchange = edge.exchange(to)?;
        edge.check_changelog(to, &exchange)?;
        Ok(exchange)
    };
    topology
        .links
        .iter()
        .map(|link| {
            decide(link).unwrap_or_else(|e| {
                errors.push(*e);
                Exchange::Forward
            })
        })
        .collect()
}

struct Edge<'a> {
    topology: &'a Topology<'a>,
    binding: &'a Binding,
    link: &'a Link<'a>,
    schema: &'a StreamSchema,
    /// The parallelism of the producer.
    from: usize,
    /// The parallelism of the consumer.
    to: usize,
}

impl Edge<'_> {
    fn error(&self, message: String) -> Box<PlanError> {
        Box::new(PlanError::at(&self.link.edge.to, self.link.path(), message))
    }

    fn indices(&self, columns: &[String]) -> Result<Vec<usize>, Box<PlanError>> {
        let index = |c: &String| {
            self.schema.arrow.index_of(c).map_err(|_| self.error(format!("`{}` has no column `{c}` to spread rows by", input_name(self.link.edge))))
        };
        columns.iter().map(index).collect()
    }

    fn is_changelog(&self) -> bool {
        self.schema.change_mode == ChangeMode::Changelog
    }

    fn exchange(&self, to: &BoundNode) -> Result<Exchange, Box<PlanError>> {
        let (needed, who) = match &to.bound {
            Bound::Source { .. } => return Ok(Exchange::Forward),
            Bound::Operator { spec, .. } => (spec.distribution(self.link.input), "operator"),
            Bound::Sink { sink, .. } => (self.by_sink_key(&sink.key())?, "sink"),
        };
        match &self.link.edge.exchange {
            Some(requested) => self.requested(requested, &needed, who),
            None => Ok(self.default(needed)?),
        }
    }

    /// Rows of one key meet in one writer of a keyed sink.
    fn by_sink_key(&self, key: &[String]) -> Result<Distribution, Box<PlanError>> {
        if key.is_empty() || (self.is_changelog() && self.same_key(key) && self.from == self.to) {
            return Ok(Distribution::Any);
        }
        Ok(Distribution::Hash(self.indices(key)?))
    }

    fn same_key(&self, key: &[String]) -> bool {
        let mut a: Vec<&String> = key.iter().collect();
        let mut b: Vec<&String> = self.schema.key.iter().collect();
        a.sort();
        b.sort();
        a == b
    }

    fn default(&self, needed: Distribution) -> Result<Exchange, Box<PlanError>> {
        let single = self.from == 1 && self.to == 1;
        Ok(match needed {
            _ if single => Exchange::Forward,
            Distribution::Any if self.from == self.to => Exchange::Forward,
            Distribution::Broadcast => Exchange::Broadcast,
            _ if self.to == 1 => Exchange::Global,
            Distribution::Any if self.is_changelog() && !self.schema.key.is_empty() => Exchange::Hash(self.indices(&self.schema.key)?),
            Distribution::Any => Exchange::Rebalance,
            Distribution::Hash(columns) => Exchange::Hash(columns),
            Distribution::Global => Exchange::Global,
        })
    }

    fn requested(&self, requested: &RequestedExchange, needed: &Distribution, who: &str) -> Result<Exchange, Box<PlanError>> {
        let name = &self.link.edge.to;
        let exchange = match requested {
            RequestedExchange::Forward if self.from != self.to => {
                return Err(self
                    .error(format!("`forward` needs equal parallelism, but `{}` has {} and `{name}` {}", self.link.edge.from, self.from, self.to))
                    .into_hint("leave the exchange out, or give both the same `parallelism`"));
            }
            RequestedExchange::Forward => Exchange::Forward,
            RequestedExchange::Hash(columns) if columns.is_empty() => return Err(self.error("`hash` needs at least one column".into())),
            RequestedExchange::Hash(columns) => Exchange::Hash(self.indices(columns)?),
            RequestedExchange::Rebalance => Exchange::Rebalance,
            RequestedExchange::Broadcast => Exchange::Broadcast,
            RequestedExchange::Global => Exchange::Global,
        };
        let fits = match needed {
            _ if self.to == 1 => true,
            Distribution::Any => true,
            Distribution::Hash(columns) => exchange == Exchange::Hash(columns.clone()),
            Distribution::Global => exchange == Exchange::Global,
            Distribution::Broadcast => exchange == Exchange::Broadcast,
        };
        if fits {
            return Ok(exchange);
        }
        let columns = |c: &[usize]| c.iter().map(|&i| self.schema.arrow.field(i).name().clone()).collect::<Vec<_>>().join(", ");
        let needs = match needed {
            Distribution::Any => "nothing".into(),
            Distribution::Hash(c) => format!("rows of equal ({}) in one subtask", columns(c)),
            Distribution::Global => "all rows in one subtask".into(),
            Distribution::Broadcast => "all rows in every subtask".into(),
        };
        Err(self.error(format!("{who} `{name}` needs {needs}, which the requested exchange does not give")).into_hint("leave the exchange out"))
    }

    /// Design, decision 9: changes to a row reach their target in order, or the plan is refused.
    fn check_changelog(&self, to: &BoundNode, exchange: &Exchange) -> Result<(), Box<PlanError>> {
        if !self.is_changelog() {
            return Ok(());
        }
        let input = input_name(self.link.edge);
        let name = &self.link.edge.to;
        if *exchange == Exchange::Rebalance {
            return Err(self
                .error(format!("`{input}` gives a changelog, and spreading it in turn would bring the changes to one row out of order"))
                .into_hint(format!("give `{}` and `{name}` the same `parallelism`, or ask for `exchange: global`", self.link.edge.from)));
        }
        let Bound::Sink { sink, .. } = &to.bound else { return Ok(()) };
        if !sink.accepts_changelog() {
            return Err(self.error(format!("sink `{name}` only appends, but {}", self.why_changelog())).into_hint(
                "write to a sink with a key (one that upserts and deletes), use a window without allowed lateness, or make the job `type: batch`",
            ));
        }
        let key = sink.key();
        if !key.is_empty() && !self.same_key(&key) && self.from > 1 {
            let of = if self.schema.key.is_empty() { "an unknown key".to_owned() } else { format!("({})", self.schema.key.join(", ")) };
            return Err(self
                .error(format!(
                    "the rows of `{input}` are identified by {of}, sink `{name}` writes by ({}): changes from {} subtasks could overtake each other",
                    key.join(", "),
                    self.from
                ))
                .into_hint(format!("let the sink's key be that of its input, or give `{}` a `parallelism` of 1", self.link.edge.from)));
        }
        Ok(())
    }

    /// The node that makes a changelog of rows that only grow, in words.
    fn why_changelog(&self) -> String {
        let mut node = self.link.from;
        loop {
            let before = self.topology.inputs[node]
                .iter()
                .map(|&l| &self.topology.links[l])
                .find(|l| self.binding.output(l.from, &l.edge.port).is_some_and(|(_, s)| s.change_mode == ChangeMode::Changelog));
            match before {
                Some(link) => node = link.from,
                None => break,
            }
        }
        let n = self.topology.node(node);
        match self.binding.get(node).map(|b| (&b.bound, b.bounded)) {
            Some((Bound::Source { .. }, _)) => format!("source `{}` reads changes (inserts, updates, deletes)", n.name),
            Some((_, false)) => format!("`{}` corrects its results as further rows of an unbounded input come in: its output is a changelog", n.name),
            _ => format!("`{}` corrects its results as further rows come in: its output is a changelog", n.name),
        }
    }
}

trait IntoHint {
    fn into_hint(self, hint: impl Into<String>) -> Self;
}

impl IntoHint for Box<PlanError> {
    fn into_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
