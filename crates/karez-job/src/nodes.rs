//! Sources, operators and sinks as a file declares them.

use std::ops::Range;

use karez_graph::{Implementation, NodeKind, OnError, Overflow, RequestedExchange, StreamNode};
use serde_json::Value as Json;

use crate::diagnostics::Diagnostic;
use crate::place::head;
use crate::profiles::Profiles;
use crate::read::{Reader, place_of};
use crate::yaml::{Entry, Node, Value};

const SOURCE_KEYS: &[&str] =
    &["name", "connector", "type", "config", "schema", "eventTime", "overflow", "backpressure", "rateLimit", "onError", "parallelism"];
const SINK_KEYS: &[&str] = &["name", "connector", "type", "config", "batchSize", "flushInterval", "inputs", "onError", "parallelism"];
/// The keys of an operator that are the engine's; all others are the operator type's own.
pub(crate) const OPERATOR_KEYS: &[&str] = &["name", "type", "inputs", "onError", "parallelism"];

/// A node as declared.
pub(crate) struct Declared {
    pub(crate) node: StreamNode,
    /// Where its name stands, or what stands for it.
    pub(crate) at: Range<usize>,
    /// Its keys, `config` with the profile's and the sink's own options in it: what paths of errors lead through.
    pub(crate) tree: Node,
    /// What it reads; `None` where it does not say.
    pub(crate) inputs: Option<Vec<Input>>,
}

/// One of `inputs`.
pub(crate) struct Input {
    /// `name` or `name.output`.
    pub(crate) from: String,
    pub(crate) exchange: Option<RequestedExchange>,
}

/// What a section of the file declares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Source,
    Operator,
    Sink,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Operator => "operator",
            Self::Sink => "sink",
        }
    }

    const fn a(self) -> &'static str {
        match self {
            Self::Source => "a source",
            Self::Operator => "an operator",
            Self::Sink => "a sink",
        }
    }
}

/// Reads nodes. `incomplete` is set once one of them could not be read at all.
pub(crate) struct Nodes<'r, 'n> {
    pub(crate) reader: &'r mut Reader,
    pub(crate) profiles: Profiles<'n>,
    pub(crate) incomplete: bool,
}

impl Nodes<'_, '_> {
    /// All nodes of a section: `one` as a mapping, or `many` as a list, or as a mapping from names.
    pub(crate) fn section(&mut self, job: &Node, role: Role) -> Vec<Declared> {
        let (one, many) = (role.word(), format!("{}s", role.word()));
        let mut out = Vec::new();
        let single = job.get(one).filter(|_| role != Role::Operator);
        if let (Some(a), Some(b)) = (single, job.get(&many)) {
            let problem = Diagnostic::error(format!("both `{one}` and `{many}`"), b.key_span.clone()).label(a.key_span.clone(), "here too");
            self.reader.error(problem.help(format!("put all of them into `{many}`")));
        }
        if let Some(entry) = single
            && let Some(node) = self.reader.mapping(entry)
        {
            out.extend(self.declared(node, role, Some((one, entry.key_span.clone()))));
        }
        let Some(entry) = job.get(&many) else { return out };
        match &entry.value.value {
            Value::Null => {}
            Value::List(items) => {
                let only = items.len() == 1 && role != Role::Operator;
                for item in items {
                    if matches!(item.value, Value::Map(_)) {
                        out.extend(self.declared(item, role, only.then(|| (one, head(item)))));
                    } else {
                        self.incomplete = true;
                        let problem = Diagnostic::error(format!("{} is a mapping, not {}", role.a(), item.kind()), item.span.clone());
                        self.reader.error(problem.help("write `- { name: …, type: … }`"));
                    }
                }
            }
            Value::Map(entries) => {
                for e in entries {
                    match self.reader.mapping(e) {
                        Some(node) => out.extend(self.declared(node, role, Some((&e.key, e.key_span.clone())))),
                        None => self.incomplete = true,
                    }
                }
            }
            _ => {
                self.incomplete = true;
                self.reader.error(Diagnostic::error(format!("`{many}` is a list, not {}", entry.value.kind()), place_of(entry)));
            }
        }
        out
    }

    /// The sink of the job's dead letters.
    pub(crate) fn dead_letter(&mut self, entry: &Entry) -> Option<Declared> {
        let node = self.reader.mapping(entry)?;
        for key in ["inputs", "name", "onError"] {
            if let Some(e) = node.get(key) {
                self.reader.error(
                    Diagnostic::error(format!("`{key}` is given for `deadLetter`"), e.key_span.clone())
                        .help("it is the sink `dead-letter`, and reads the dead letters of all nodes"),
                );
            }
        }
        self.declared(node, Role::Sink, Some((DEAD_LETTER, entry.key_span.clone())))
    }

    fn declared(&mut self, node: &Node, role: Role, default: Option<(&str, Range<usize>)>) -> Option<Declared> {
        let declared = self.read(node, role, default);
        self.incomplete |= declared.is_none();
        declared
    }

    fn read(&mut self, node: &Node, role: Role, default: Option<(&str, Range<usize>)>) -> Option<Declared> {
        let known = match role {
            Role::Source => Some(SOURCE_KEYS),
            Role::Sink => Some(SINK_KEYS),
            Role::Operator => None,
        };
        if let Some(known) = known {
            self.reader.known_keys(node, known, role.a());
        }
        let named = node.get("name").and_then(|e| self.reader.text(e).map(|t| (t.to_owned(), e.value.span.clone())));
        let by_type = || node.get("type").filter(|_| role == Role::Operator).and_then(|e| Some((e.value.text()?.to_owned(), e.value.span.clone())));
        let default = default.map(|(name, at)| (name.to_owned(), at));
        let Some((name, at)) = named.or(default).or_else(by_type) else {
            if !(role == Role::Operator && node.get("type").is_none()) {
                self.reader.error(Diagnostic::error(format!("{} has no name", role.a()), head(node)).help("give it a `name`"));
                return None;
            }
            self.reader.error(Diagnostic::error("an operator has no type", head(node)).help("add `type: filter`, or another of `karez connectors`"));
            return None;
        };
        let parallelism = node.get("parallelism").and_then(|e| self.reader.value::<usize>(e));
        let on_error = node.get("onError").and_then(|e| self.reader.word::<OnError>(e)).unwrap_or_default();
        let inputs = node.get("inputs").filter(|_| role != Role::Source).map(|e| self.inputs(e));
        let mut tree = node.clone();
        let kind = match role {
            Role::Operator => {
                self.asked_connection(node, &mut tree);
                self.operator(&tree, &name, &at)?
            }
            Role::Source | Role::Sink => {
                let (connector, config) = self.connector(node, &name, &at)?;
                let json = config.json();
                set(&mut tree, "config", config);
                if role == Role::Sink { NodeKind::Sink(Implementation::named(connector, json)) } else { self.source(node, connector, json) }
            }
        };
        Some(Declared { node: StreamNode { name, parallelism, on_error, kind }, at, tree, inputs })
    }

    fn operator(&mut self, node: &Node, name: &str, at: &Range<usize>) -> Option<NodeKind> {
        let Some(entry) = node.get("type") else {
            self.reader.error(
                Diagnostic::error(format!("operator `{name}` has no type"), at.clone()).help("add `type: filter`, or another of `karez connectors`"),
            );
            return None;
        };
        let type_name = self.reader.text(entry)?.to_owned();
        let own = node.entries().iter().filter(|e| !OPERATOR_KEYS.contains(&e.key.as_str()));
        let config: Json = own.map(|e| (e.key.clone(), e.value.json())).collect::<serde_json::Map<_, _>>().into();
        Some(NodeKind::Operator(Implementation::named(type_name, config)))
    }

    /// An operator that asks a connector (`connector`, `config`) may name a connection, too.
    fn asked_connection(&mut self, node: &Node, tree: &mut Node) {
        let Some(entry) = node.get("connector") else { return };
        let Some(profile) = entry.value.text().and_then(|said| self.profiles.find(said)) else { return };
        let nothing = || Node { value: Value::Map(Vec::new()), span: entry.key_span.clone() };
        let own = node.get("config").filter(|e| matches!(e.value.value, Value::Map(_))).map_or_else(nothing, |e| e.value.clone());
        let config = profile.under(&own);
        set(tree, "connector", Node { value: Value::String(profile.connector.to_owned()), span: entry.value.span.clone() });
        set(tree, "config", config);
    }

    /// The connector's type and the options for it: the profile's under the node's own.
    fn connector(&mut self, node: &Node, name: &str, at: &Range<usize>) -> Option<(String, Node)> {
        let (connector, type_entry) = (node.get("connector"), node.get("type"));
        let Some(entry) = connector.or(type_entry) else {
            self.reader.error(
                Diagnostic::error(format!("`{name}` has no connector"), at.clone()).help("add `connector: file`, or another of `karez connectors`"),
            );
            return None;
        };
        let said = self.reader.text(entry)?;
        let mut config = match node.get("config") {
            Some(e) if matches!(e.value.value, Value::Null) => Node { value: Value::Map(Vec::new()), span: e.key_span.clone() },
            Some(e) => self.reader.mapping(e)?.clone(),
            None => Node { value: Value::Map(Vec::new()), span: head(node) },
        };
        for key in ["batchSize", "flushInterval"] {
            let Some(e) = node.get(key) else { continue };
            if let Some(twice) = config.get(key) {
                let problem = Diagnostic::error(format!("`{key}` is set beside `config` and in it"), e.key_span.clone());
                self.reader.error(problem.label(twice.key_span.clone(), "in `config`").help("keep one of them"));
            } else if let Value::Map(entries) = &mut config.value {
                entries.push(e.clone());
            }
        }
        let resolved = match self.profiles.find(said) {
            Some(profile) => {
                config = profile.under(&config);
                profile.connector.to_owned()
            }
            None => said.to_owned(),
        };
        if let (Some(_), Some(t)) = (connector, type_entry)
            && let Some(text) = self.reader.text(t)
            && text != resolved
            && text != said
        {
            let problem = Diagnostic::error(format!("`connector` names `{resolved}`, `type` names `{text}`"), t.value.span.clone());
            self.reader.error(problem.label(entry.value.span.clone(), "the connector").help("they mean the same: keep `connector`"));
        }
        Some((resolved, config))
    }

    fn source(&mut self, node: &Node, connector: String, config: Json) -> NodeKind {
        if let (Some(a), Some(b)) = (node.get("overflow"), node.get("backpressure")) {
            let problem = Diagnostic::error("`overflow` and `backpressure` mean the same", b.key_span.clone()).label(a.key_span.clone(), "also here");
            self.reader.error(problem.help("keep one of them"));
        }
        let rate_limit = node.get("rateLimit").and_then(|e| {
            let rows = self.reader.value::<u64>(e);
            if rows == Some(0) {
                self.reader
                    .error(Diagnostic::error("a rate of 0 rows per second reads nothing", place_of(e)).help("write 1 or more, or leave it out"));
            }
            rows
        });
        NodeKind::Source {
            connector: Implementation::named(connector, config),
            schema: node.get("schema").and_then(|e| self.schema(e)),
            event_time: node.get("eventTime").and_then(|e| self.reader.value(e)),
            overflow: node.get("overflow").or_else(|| node.get("backpressure")).and_then(|e| self.reader.word::<Overflow>(e)).unwrap_or_default(),
            rate_limit,
        }
    }

    fn schema(&mut self, entry: &Entry) -> Option<Vec<(String, String)>> {
        let mut columns = Vec::new();
        for column in self.reader.mapping(entry)?.entries() {
            if matches!(column.value.value, Value::Null) {
                let problem = Diagnostic::error(format!("column `{}` has no type", column.key), column.key_span.clone());
                self.reader.error(problem.help("write one such as `bigint`; inside `{ … }` a type with a comma needs quotes: `\"decimal(10, 2)\"`"));
            } else if let Some(text) = self.reader.text(column) {
                columns.push((column.key.clone(), text.to_owned()));
            }
        }
        Some(columns)
    }

    fn inputs(&mut self, entry: &Entry) -> Vec<Input> {
        let one;
        let items = match &entry.value.value {
            Value::List(items) => items.as_slice(),
            Value::String(_) => {
                one = [entry.value.clone()];
                &one
            }
            _ => {
                let problem = Diagnostic::error(format!("`inputs` is a list of names, not {}", entry.value.kind()), place_of(entry));
                self.reader.error(problem.help("write `inputs: [name]`, or `inputs: [name.output]`"));
                self.incomplete = true;
                return Vec::new();
            }
        };
        items.iter().filter_map(|item| self.input(item)).collect()
    }

    fn input(&mut self, item: &Node) -> Option<Input> {
        match &item.value {
            Value::String(from) => Some(Input { from: from.clone(), exchange: None }),
            Value::Map(_) => {
                self.reader.known_keys(item, &["from", "port", "exchange"], "an input");
                let Some(from) = item.get("from") else {
                    self.incomplete = true;
                    self.reader
                        .error(Diagnostic::error("an input does not say from which node", head(item)).help("write `{ from: name, exchange: … }`"));
                    return None;
                };
                let mut from = self.reader.text(from)?.to_owned();
                if let Some(port) = item.get("port").and_then(|e| self.reader.text(e)) {
                    from = format!("{from}.{port}");
                }
                Some(Input { from, exchange: item.get("exchange").and_then(|e| self.reader.word(e)) })
            }
            _ => {
                self.incomplete = true;
                self.reader.error(Diagnostic::error(format!("an input is the name of a node, not {}", item.kind()), item.span.clone()));
                None
            }
        }
    }
}

/// The name of the sink that `deadLetter` makes.
pub(crate) const DEAD_LETTER: &str = "dead-letter";

fn set(tree: &mut Node, key: &str, value: Node) {
    if let Value::Map(entries) = &mut tree.value {
        match entries.iter_mut().find(|e| e.key == key) {
            Some(e) => e.value = value,
            None => {
                let key_span = head(&Node { value: Value::Map(entries.clone()), span: value.span.clone() });
                entries.push(Entry { key: key.to_owned(), key_span, value });
            }
        }
    }
}
