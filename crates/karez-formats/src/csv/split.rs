//! Where records and fields end.

use memchr::{memchr, memchr2, memchr3};

use super::CsvOptions;

/// A field of a record, without its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    start: usize,
    end: usize,
    /// It stood in quotes.
    pub(super) quoted: bool,
    /// It holds escapes.
    escaped: bool,
}

impl Field {
    /// The same in a text that begins at `offset`.
    #[inline]
    pub(super) const fn relative_to(mut self, offset: usize) -> Self {
        self.start -= offset;
        self.end -= offset;
        self
    }
}

/// What stands at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A record up to `end`; the next one begins at `next`.
    Record { end: usize, next: usize },
    /// A blank line or a comment.
    Skip { next: usize },
    /// A line that is no record.
    Bad { end: usize, next: usize, reason: &'static str },
    /// A record that may go on behind the block.
    Incomplete,
}

/// Splits a block into records and fields.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    multiline: bool,
    /// The bytes that end a plain field.
    ends_plain: [bool; 256],
}

/// How a quoted field ends.
enum Quoted {
    Closed { at: usize, escaped: bool },
    Unclosed,
    Incomplete,
}

impl Splitter {
    pub(super) fn new(options: &CsvOptions) -> Self {
        let mut ends_plain = [false; 256];
        ends_plain[usize::from(options.delimiter)] = true;
        ends_plain[usize::from(b'\n')] = true;
        Self {
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape.filter(|e| Some(*e) != options.quote),
            comment: options.comment,
            multiline: options.multiline,
            ends_plain,
        }
    }

    /// What stands at `begin`; the fields of a record go to `fields`. `last`: nothing follows behind `text`.
    #[inline]
    pub(super) fn step(&self, text: &[u8], begin: usize, last: bool, fields: &mut Vec<Field>) -> Step {
        fields.clear();
        match text.get(begin) {
            None => return Step::Incomplete,
            Some(b'\n') => return Step::Skip { next: begin + 1 },
            Some(b'\r') if text.get(begin + 1) == Some(&b'\n') => return Step::Skip { next: begin + 2 },
            Some(b'\r') if last && begin + 1 == text.len() => return Step::Skip { next: begin + 1 },
            Some(first) if Some(*first) == self.comment => {
                return match memchr(b'\n', &text[begin..]) {
                    Some(at) => Step::Skip { next: begin + at + 1 },
                    None if last => Step::Skip { next: text.len() },
                    None => Step::Incomplete,
                };
            }
            Some(_) => {}
        }
        let mut pos = begin;
        loop {
            if let Some(quote) = self.quote
                && text.get(pos) == Some(&quote)
            {
                let (at, escaped) = match self.quoted(text, pos + 1, quote, last) {
                    Quoted::Closed { at, escaped } => (at, escaped),
                    Quoted::Incomplete => return Step::Incomplete,
                    Quoted::Unclosed => return bad_line(text, begin, last, "a quote is not closed"),
                };
                fields.push(Field { start: pos + 1, end: at, quoted: true, escaped });
                let behind = at + 1;
                match text.get(behind) {
                    Some(&b) if b == self.delimiter => pos = behind + 1,
                    Some(b'\n') => return Step::Record { end: behind, next: behind + 1 },
                    Some(b'\r') if text.get(behind + 1) == Some(&b'\n') => return Step::Record { end: behind, next: behind + 2 },
                    Some(b'\r') if behind + 1 == text.len() && last => return Step::Record { end: behind, next: behind + 1 },
                    Some(b'\r') if behind + 1 == text.len() => return Step::Incomplete,
                    Some(_) => return bad_line(text, begin, last, "there is text between a closing quote and the next delimiter"),
                    None if last => return Step::Record { end: behind, next: behind },
                    None => return Step::Incomplete,
                }
            } else {
                let mut at = pos;
                while at < text.len() && !self.ends_plain[usize::from(text[at])] {
                    at += 1;
                }
                let is_delimiter = text.get(at) == Some(&self.delimiter);
                if at == text.len() && !last {
                    return Step::Incomplete;
                }
                let end = if !is_delimiter && at > pos && text[at - 1] == b'\r' { at - 1 } else { at };
                fields.push(Field { start: pos, end, quoted: false, escaped: false });
                if !is_delimiter {
                    return Step::Record { end, next: (at + 1).min(text.len()) };
                }
                pos = at + 1;
            }
        }
    }

    /// The end of the quoted field whose text begins at `start`.
    fn quoted(&self, text: &[u8], start: usize, quote: u8, last: bool) -> Quoted {
        let escape = self.escape.unwrap_or(quote);
        let mut at = start;
        let mut escaped = false;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let found = if self.multiline { memchr2(quote, escape, rest) } else { memchr3(quote, escape, b'\n', rest) };
            let Some(found) = found else { return if last { Quoted::Unclosed } else { Quoted::Incomplete } };
            at += found;
            let (byte, next) = (text[at], text.get(at + 1));
            if byte == b'\n' && byte != quote {
                return Quoted::Unclosed;
            }
            match next {
                None if !last => return Quoted::Incomplete,
                Some(b'\n') if byte != quote && !self.multiline => return Quoted::Unclosed,
                Some(_) if byte != quote => {
                    escaped = true;
                    at += 2;
                }
                Some(next) if *next == quote => {
                    escaped = true;
                    at += 2;
                }
                None if byte != quote => return Quoted::Unclosed,
                _ => return Quoted::Closed { at, escaped },
            }
        }
    }

    /// The value of a field of `text`; one with escapes is written to `scratch`.
    #[inline]
    pub(super) fn value<'a>(&self, text: &'a str, field: &Field, scratch: &'a mut String) -> &'a str {
        let value = &text[field.start..field.end];
        if !field.escaped {
            return value;
        }
        scratch.clear();
        let (quote, escape) = (self.quote.map(char::from), self.escape.map(char::from));
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            // Inside quotes every quote left is the first of two.
            let kept = if Some(c) == quote || Some(c) == escape { chars.next() } else { Some(c) };
            scratch.extend(kept);
        }
        scratch
    }
}

/// The line at `begin` is no record.
fn bad_line(text: &[u8], begin: usize, last: bool, reason: &'static str) -> Step {
    match memchr(b'\n', &text[begin..]) {
        Some(at) => {
            let end = begin + at;
            Step::Bad { end: if end > begin && text[end - 1] == b'\r' { end - 1 } else { end }, next: end + 1, reason }
        }
        None if last => Step::Bad { end: text.len(), next: text.len(), reason },
        None => Step::Incomplete,
    }
}
