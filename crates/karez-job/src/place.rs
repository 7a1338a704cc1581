//! From a dotted path (`config.batchSize`, `inputs[1]`) to the place in a tree that it means.

use std::ops::Range;

use crate::yaml::{Entry, Node, Value};

/// Where a path leads.
pub(crate) struct Place<'n> {
    /// The node it means, or the nearest one around it.
    pub(crate) node: &'n Node,
    /// The key that node stands under.
    pub(crate) key_span: Option<Range<usize>>,
    /// Whether the path was found to its end.
    pub(crate) exact: bool,
}

impl Place<'_> {
    /// The key: for keys that are unknown, and for what is missing below it.
    pub(crate) fn key(&self) -> Range<usize> {
        self.key_span.clone().unwrap_or_else(|| head(self.node))
    }

    /// The value where it is one word, else its key.
    pub(crate) fn value(&self) -> Range<usize> {
        if self.exact && !self.node.is_container() && !self.node.span.is_empty() { self.node.span.clone() } else { self.key() }
    }
}

/// A place for a node as a whole: its name where it has one, its type, or its first key.
pub(crate) fn head(node: &Node) -> Range<usize> {
    let named = ["name", "type", "connector"].iter().find_map(|k| node.get(k)).map(|e| e.value.span.clone());
    named.or_else(|| node.entries().first().map(|e| e.key_span.clone())).unwrap_or_else(|| node.span.clone())
}

/// Follows a path. Keys may hold dots: the longest key that fits is taken.
pub(crate) fn find<'n>(root: &'n Node, path: &str) -> Place<'n> {
    let mut place = Place { node: root, key_span: None, exact: true };
    let mut rest = path;
    loop {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return place;
        }
        let next = match &place.node.value {
            Value::Map(entries) => entry(entries, rest).map(|(e, rest)| (&e.value, Some(e.key_span.clone()), rest)),
            Value::List(items) => item(items, rest).map(|(node, rest)| (node, None, rest)),
            _ => None,
        };
        match next {
            Some((node, key_span, behind)) => {
                let list_key = if node.is_container() { None } else { Some(node.span.clone()) };
                place = Place { node, key_span: key_span.or(list_key), exact: true };
                rest = behind;
            }
            None => {
                place.exact = false;
                return place;
            }
        }
    }
}

fn entry<'n, 'p>(entries: &'n [Entry], path: &'p str) -> Option<(&'n Entry, &'p str)> {
    let fits = |e: &&Entry| path.strip_prefix(e.key.as_str()).is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']));
    entries.iter().filter(fits).max_by_key(|e| e.key.len()).map(|e| (e, &path[e.key.len()..]))
}

fn item<'n, 'p>(items: &'n [Node], path: &'p str) -> Option<(&'n Node, &'p str)> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((items.get(index.parse::<usize>().ok()?)?, rest))
}
