//! Cuts `before`, `after` and `op` out of a change event, without parsing what they hold.
//!
//! What is cut out is decoded, and refused there if it is no JSON. What is passed over is looked at only as far as is needed to find its end.

/// What an event says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    /// The row before the change; `None`: null or missing.
    pub(super) before: Option<&'a [u8]>,
    /// The row behind the change; `None`: null or missing.
    pub(super) after: Option<&'a [u8]>,
    /// What happened.
    pub(super) op: Option<u8>,
    /// Nothing at all: a tombstone whose schema is written out.
    pub(super) is_null: bool,
}

/// Takes an event apart, with `{schema, payload}` around it or without.
pub(super) fn parse(message: &[u8]) -> Result<Envelope<'_>, String> {
    let mut envelope = Envelope::default();
    let mut payload = None;
    let end = members(message, space(message, 0), |key, value| match key {
        b"payload" => {
            payload = Some(value);
            Ok(())
        }
        _ => envelope.set(key, value),
    })?;
    if space(message, end) != message.len() {
        return Err(format!("there is more behind the event, at byte {end}"));
    }
    // A table's own column `payload` is deeper inside.
    match payload {
        None if envelope.op.is_none() => Err("there is no `op`: it is no change event of Debezium".to_owned()),
        None => Ok(envelope),
        Some(b"null") => Ok(Envelope { is_null: true, ..Envelope::default() }),
        Some(payload) => {
            let mut envelope = Envelope::default();
            members(payload, 0, |key, value| envelope.set(key, value))?;
            if envelope.op.is_some() { Ok(envelope) } else { Err("there is no `op` in its payload: it is no change event of Debezium".to_owned()) }
        }
    }
}

impl<'a> Envelope<'a> {
    fn set(&mut self, key: &[u8], value: &'a [u8]) -> Result<(), String> {
        let row = |value: &'a [u8]| (value != b"null").then_some(value);
        match key {
            b"before" => self.before = row(value),
            b"after" => self.after = row(value),
            b"op" => match value {
                [b'"', op, b'"'] => self.op = Some(*op),
                _ => return Err(format!("its `op` is {}", String::from_utf8_lossy(&value[..value.len().min(40)]))),
            },
            _ => {}
        }
        Ok(())
    }
}

const ENDS: &str = "the event ends in the middle";

/// Calls `each` for the members of the object at `pos`; gives the position behind it.
fn members<'a>(data: &'a [u8], mut pos: usize, mut each: impl FnMut(&[u8], &'a [u8]) -> Result<(), String>) -> Result<usize, String> {
    if data.get(pos) != Some(&b'{') {
        return Err(if data.is_empty() { "the message is empty".to_owned() } else { "it is no JSON object".to_owned() });
    }
    pos = space(data, pos + 1);
    if data.get(pos) == Some(&b'}') {
        return Ok(pos + 1);
    }
    loop {
        let key_end = string_end(data, pos)?;
        let key = &data[pos + 1..key_end - 1];
        pos = space(data, key_end);
        if data.get(pos) != Some(&b':') {
            return Err(unexpected(data, pos));
        }
        let begin = space(data, pos + 1);
        let end = value_end(data, begin)?;
        each(key, &data[begin..end])?;
        pos = space(data, end);
        match data.get(pos) {
            Some(b',') => pos = space(data, pos + 1),
            Some(b'}') => return Ok(pos + 1),
            _ => return Err(unexpected(data, pos)),
        }
    }
}

fn unexpected(data: &[u8], pos: usize) -> String {
    match data.get(pos) {
        Some(byte) => format!("`{}` at byte {pos} is not expected there", byte.escape_ascii()),
        None => ENDS.to_owned(),
    }
}

fn space(data: &[u8], mut pos: usize) -> usize {
    while matches!(data.get(pos), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        pos += 1;
    }
    pos
}

/// Behind the string at `pos`.
fn string_end(data: &[u8], pos: usize) -> Result<usize, String> {
    if data.get(pos) != Some(&b'"') {
        return Err(unexpected(data, pos));
    }
    let mut at = pos + 1;
    loop {
        let rest = data.get(at..).unwrap_or_default();
        at += memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| ENDS.to_owned())?;
        if data[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
}

/// Behind the value at `pos`.
fn value_end(data: &[u8], pos: usize) -> Result<usize, String> {
    let mut depth = 0_usize;
    let mut at = pos;
    loop {
        match data.get(at) {
            Some(b'"') => at = string_end(data, at)?,
            Some(b'{' | b'[') => {
                depth += 1;
                at += 1;
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            Some(b',' | b':' | b' ' | b'\t' | b'\r' | b'\n') if depth > 0 => {
                at += 1;
                continue;
            }
            Some(byte) if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.') => {
                while data.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')) {
                    at += 1;
                }
            }
            _ => return Err(unexpected(data, at)),
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_parts_of_an_event_are_cut_out_whatever_stands_around_them() {
        let plain = br#" {"before":null, "after" : {"a":"}\"","b":[1,{"op":"x"}]},"source":{"ts":1e3,"x":[true,null]},"op":"c"} "#;
        let wrapped = [br#"{"schema":{"type":"struct","fields":[]},"payload":"#.as_slice(), plain, b"}"].concat();
        for message in [plain.as_slice(), &wrapped] {
            let envelope = parse(message).unwrap();
            assert_eq!((envelope.before, envelope.op), (None, Some(b'c')));
            assert_eq!(envelope.after.unwrap(), br#"{"a":"}\"","b":[1,{"op":"x"}]}"#);
        }
        assert!(parse(br#"{"schema":null,"payload":null}"#).unwrap().is_null);
    }

    #[test]
    fn what_is_no_event_says_why() {
        for (message, reason) in [
            (r#""#, "the message is empty"),
            (r#"[]"#, "it is no JSON object"),
            (r#"{"a":1}"#, "there is no `op`: it is no change event of Debezium"),
            (r#"{"payload":{"a":1}}"#, "there is no `op` in its payload: it is no change event of Debezium"),
            (r#"{"op":"cc"}"#, "its `op` is \"cc\""),
            (r#"{"op":"c"} x"#, "there is more behind the event, at byte 10"),
            (r#"{"op":"c","after":{"#, "the event ends in the middle"),
            (r#"{"op" "c"}"#, "`\\\"` at byte 6 is not expected there"),
        ] {
            assert_eq!(parse(message.as_bytes()).unwrap_err(), reason, "{message}");
        }
    }
}
