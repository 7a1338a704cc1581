//! YAML as a tree that knows where everything stands.
//!
//! YAML 1.2: `yes`, `no`, `on` and `off` are strings. A key stands once in a mapping. Aliases and merge keys (`<<`) work, within a limit on the
//! nodes they make; a value written through an alias points at its anchor.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Number};

use crate::diagnostics::Diagnostic;

mod scalar;

/// The most nodes a file may hold, those that aliases repeat included.
const MAX_NODES: usize = 50_000;

/// A value and its place, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Range<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping and what stands under it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) const fn is_container(&self) -> bool {
        matches!(self.value, Value::List(_) | Value::Map(_))
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("the boolean `{b}`"),
            Value::Number(n) => format!("the number `{n}`"),
            Value::String(s) => format!("the text `{s}`"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Number(n) => n.clone().into(),
            Value::String(s) => s.clone().into(),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.json())).collect::<Map<_, _>>().into(),
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|e| e.value.count()).sum(),
            _ => 0,
        }
    }
}

/// Parses a file with one document. Errors that leave a tree (a key that stands twice) go to `problems` beside it.
pub(crate) fn parse(text: &str, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { events: Parser::new_from_str_with_options(text, options), anchors: HashMap::new(), nodes: 0, problems };
    match builder.document() {
        Ok(node) => node,
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

type Failed = Box<Diagnostic>;

struct Builder<'t, 'p> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: &'p mut Vec<Diagnostic>,
}

impl<'t> Builder<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), Failed> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, bytes(&span))),
            Some(Err(e)) => Err(syntax(&e)),
            None => Ok((Event::StreamEnd, 0..0)),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Failed> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Box::new(Diagnostic::error("a job file holds one document", span).help("put the second job into a file of its own")));
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(root),
                event => root = Some(self.node(event, span)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Range<usize>) -> Result<Node, Failed> {
        self.grow(1, &span)?;
        match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| Diagnostic::error("an alias refers to what it stands in", span.clone()))?;
                self.grow(node.count(), &span)?;
                Ok(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = match tag.as_deref() {
                    Some(tag) if tag.is_yaml_core_schema_tag("str") => Value::String(text.into_owned()),
                    Some(tag) if !tag.is_yaml_core_schema() && tag.suffix() != "!" => {
                        let message = format!("the tag `{}` has no meaning in a job file", tag.original());
                        return Err(Box::new(Diagnostic::error(message, span).help("remove it")));
                    }
                    _ if style == ScalarStyle::Plain => scalar::resolve(&text),
                    _ => Value::String(text.into_owned()),
                };
                Ok(self.anchored(anchor, Node { value, span }))
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break span;
                    }
                    items.push(self.node(event, span)?);
                };
                Ok(self.anchored(anchor, Node { value: Value::List(items), span: span.start..end.end.max(span.end) }))
            }
            Event::MappingStart(_, anchor, _) => {
                let mut entries = Entries::default();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::MappingEnd) {
                        break span;
                    }
                    self.entry(event, span, &mut entries)?;
                };
                Ok(self.anchored(anchor, Node { value: Value::Map(entries.merged()), span: span.start..end.end.max(span.end) }))
            }
            other => Err(Box::new(Diagnostic::error(format!("YAML that a job file does not use: {other:?}"), span))),
        }
    }

    fn entry(&mut self, event: Event<'t>, key_span: Range<usize>, entries: &mut Entries) -> Result<(), Failed> {
        let Event::Scalar(key, style, ..) = &event else {
            return Err(Box::new(Diagnostic::error("a key is a plain word", key_span).help("quote what begins with `{`, `[`, `*` or `&`")));
        };
        let (key, plain) = (key.clone().into_owned(), *style == ScalarStyle::Plain);
        let (event, span) = self.next()?;
        let value = self.node(event, span)?;
        if plain && key == "<<" {
            entries.merge(value, key_span)?;
        } else if let Some(first) = entries.own.iter().find(|e| e.key == key) {
            self.problems.push(
                Diagnostic::error(format!("the key `{key}` stands twice"), key_span)
                    .label(first.key_span.clone(), "first here")
                    .help("keep one of them"),
            );
        } else {
            entries.own.push(Entry { key, key_span, value });
        }
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }

    fn grow(&mut self, by: usize, span: &Range<usize>) -> Result<(), Failed> {
        self.nodes += by;
        if self.nodes > MAX_NODES {
            let error = Diagnostic::error(format!("the file holds more than {MAX_NODES} values, aliases written out"), span.clone());
            return Err(Box::new(error.help("split the job, or use fewer aliases")));
        }
        Ok(())
    }
}

/// The entries of a mapping, and those of the mappings it merges: its own come first.
#[derive(Default)]
struct Entries {
    own: Vec<Entry>,
    merged: Vec<Entry>,
}

impl Entries {
    fn merge(&mut self, node: Node, span: Range<usize>) -> Result<(), Failed> {
        match node.value {
            Value::Map(entries) => self.merged.extend(entries),
            Value::List(nodes) => {
                for node in nodes {
                    self.merge(node, span.clone())?;
                }
            }
            _ => return Err(Box::new(Diagnostic::error("`<<` merges a mapping", span).help("write `<<: *anchor`"))),
        }
        Ok(())
    }

    fn merged(self) -> Vec<Entry> {
        let mut all = self.own;
        for entry in self.merged {
            if !all.iter().any(|e| e.key == entry.key) {
                all.push(entry);
            }
        }
        all
    }
}

fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

fn syntax(error: &ScanError) -> Failed {
    let at = error.marker().byte_offset().unwrap_or(0);
    Box::new(Diagnostic::error(format!("this is no YAML: {}", error.info()), at..at))
}
