//! What has been learnt of the records' layouts: which key follows which.
//!
//! A layout is a path through a graph. A node is the literal text between two values, with its white space: `{"auction":`
//! or `,"bidder":` or `}`. Each node knows the literals that were seen behind its value, the first seen first:
//!
//! ```text
//!  {"auction":   ──▶   ,"bidder":   ──▶   ,"price":   ──▶   }
//!                          └──▶   ,"extra":   ──▶   ,"price":
//! ```
//!
//! So a record of the layout before is a walk that takes the first successor each time, and a record with a key more, a
//! key less or two keys swapped leaves the walk for a step and is back on it: nothing is read twice.

use std::collections::HashMap;

use arrow::datatypes::Schema;

use super::scan::{Framing, Seen, load16, skip_space, string_stop};

/// Most literals kept. Beyond, as when keys are data, no more are learnt and the columns are found by name.
const NODES_LIMIT: usize = 512;

/// Most successors a literal has; the ninth takes the place of another.
const SUCCESSORS_LIMIT: usize = 8;

/// Longest literal kept, bytes.
const LITERAL_LIMIT: usize = 256;

/// What comes behind a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The value of a column, by its place in the schema.
    Column(usize),
    /// A value that the job does not read.
    Unread,
    /// Nothing: the record has ended.
    End,
}

/// A literal, by its place among the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(u16);

impl NodeId {
    /// Before the record.
    pub(super) const START: Self = Self(0);
    /// Behind the value of a key that is not kept.
    const ELSEWHERE: Self = Self(1);
}

#[derive(Debug)]
struct Node {
    /// The first sixteen bytes of the literal, zeros behind a shorter one.
    head: u128,
    /// Set where `head` counts.
    mask: u128,
    literal: Box<[u8]>,
    target: Target,
    successors: [NodeId; SUCCESSORS_LIMIT],
    successors_len: u8,
    /// The successor that goes when there is one too many.
    evicted: u8,
}

/// The graph, and the names of the columns.
#[derive(Debug)]
pub(super) struct Layouts {
    nodes: Vec<Node>,
    by_literal: HashMap<Box<[u8]>, NodeId>,
    columns: HashMap<Box<[u8]>, usize>,
}

/// A step of the walk: the literal, what comes behind, and where.
pub(super) type Step = (NodeId, Target, usize);

// ===== impl Node =====

impl Node {
    fn new(literal: &[u8], target: Target) -> Self {
        let mut head = [0; 16];
        let mut mask = [0; 16];
        for (at, byte) in literal.iter().take(16).enumerate() {
            head[at] = *byte;
            mask[at] = 0xff;
        }
        Self {
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            literal: literal.into(),
            target,
            successors: [NodeId::START; SUCCESSORS_LIMIT],
            successors_len: 0,
            evicted: 0,
        }
    }

    /// Whether the literal stands at `pos`, where `window` was loaded.
    #[inline(always)]
    fn fits(&self, data: &[u8], pos: usize, window: u128) -> bool {
        (window ^ self.head) & self.mask == 0 && (self.literal.len() <= 16 || self.rest_fits(data, pos))
    }

    #[inline(always)]
    fn rest_fits(&self, data: &[u8], pos: usize) -> bool {
        data.get(pos + 16..).is_some_and(|rest| rest.starts_with(&self.literal[16..]))
    }
}

// ===== impl Layouts =====

impl Layouts {
    /// Nothing learnt, for a job that reads the columns of `schema`.
    pub(super) fn new(schema: &Schema) -> Self {
        let mut columns = HashMap::new();
        for (place, field) in schema.fields().iter().enumerate() {
            // Of two columns with one name arrow-json fills the first, and so do we.
            columns.entry(field.name().as_bytes().into()).or_insert(place);
        }
        // `START` and `ELSEWHERE` have no literal, and are nobody's successor.
        let nodes = vec![Node::new(&[], Target::End), Node::new(&[], Target::End)];
        Self { nodes, by_literal: HashMap::new(), columns }
    }

    /// The step from the value of `node` to the next key's value, or to the end; `None` if it is not plain JSON.
    ///
    /// `pos` is behind the value of `node`.
    #[inline(always)]
    pub(super) fn step(&mut self, node: NodeId, data: &[u8], pos: usize, framing: Framing, seen: &mut Seen) -> Option<Step> {
        let from = &self.nodes[usize::from(node.0)];
        let successors = from.successors.get(..usize::from(from.successors_len)).unwrap_or_default();
        match load16(data, pos) {
            Some(window) => {
                for &id in successors {
                    let to = &self.nodes[usize::from(id.0)];
                    if to.fits(data, pos, window) {
                        return Some((id, to.target, pos + to.literal.len()));
                    }
                }
            }
            None => {
                let rest = data.get(pos..)?;
                for &id in successors {
                    let to = &self.nodes[usize::from(id.0)];
                    if rest.starts_with(&to.literal) {
                        return Some((id, to.target, pos + to.literal.len()));
                    }
                }
            }
        }
        self.learn(node, data, pos, framing, seen)
    }

    /// The step that was not predicted, kept for the next time.
    #[inline(never)]
    fn learn(&mut self, node: NodeId, data: &[u8], pos: usize, framing: Framing, seen: &mut Seen) -> Option<Step> {
        let (key, end) = parse_literal(node == NodeId::START, data, pos, framing, seen)?;
        let literal = data.get(pos..end)?;
        let id = match self.by_literal.get(literal) {
            Some(&id) => id,
            None => {
                let target = match key {
                    Some(key) => self.columns.get(key).map_or(Target::Unread, |&column| Target::Column(column)),
                    None => Target::End,
                };
                // A literal with a line feed in it comes from a message alone, and must not lead over the end of a line.
                if self.nodes.len() >= NODES_LIMIT || literal.len() > LITERAL_LIMIT || literal.contains(&b'\n') {
                    return Some((NodeId::ELSEWHERE, target, end));
                }
                // What is but compared the next time is not scanned any more.
                simdutf8::basic::from_utf8(literal).ok()?;
                let id = NodeId(self.nodes.len() as u16);
                self.nodes.push(Node::new(literal, target));
                self.by_literal.insert(literal.into(), id);
                id
            }
        };
        let from = &mut self.nodes[usize::from(node.0)];
        let places = usize::from(from.successors_len);
        if places < SUCCESSORS_LIMIT {
            from.successors[places] = id;
            from.successors_len += 1;
        } else {
            from.successors[usize::from(from.evicted)] = id;
            from.evicted = (from.evicted + 1) % SUCCESSORS_LIMIT as u8;
        }
        Some((id, self.nodes[usize::from(id.0)].target, end))
    }
}

/// The text from `pos` to the next value, or behind the closing brace: the key, if there is one, and the end.
fn parse_literal<'a>(start: bool, data: &'a [u8], pos: usize, framing: Framing, seen: &mut Seen) -> Option<(Option<&'a [u8]>, usize)> {
    let mut at = skip_space(data, pos, framing);
    match data.get(at)? {
        b'{' if start => {
            at = skip_space(data, at + 1, framing);
            if data.get(at) == Some(&b'}') {
                return Some((None, at + 1));
            }
        }
        b',' if !start => at = skip_space(data, at + 1, framing),
        b'}' if !start => return Some((None, at + 1)),
        _ => return None,
    }
    if *data.get(at)? != b'"' {
        return None;
    }
    let stop = string_stop(data, at + 1, seen)?;
    if data[stop] != b'"' {
        return None;
    }
    let colon = skip_space(data, stop + 1, framing);
    if *data.get(colon)? != b':' {
        return None;
    }
    Some((Some(&data[at + 1..stop]), skip_space(data, colon + 1, framing)))
}
