//! Letters as a person sees and edits them: one JSON object each.

use karez_core::{Letter, dead_letter};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ledger::Ledger;
use super::{Failure, instant};

/// A letter as JSON: its bytes as text where they are UTF-8, else in hexadecimal; its row as an object. With a ledger also what has become of it.
pub(super) fn json(letter: &Letter, ledger: Option<&Ledger>) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| _ = out.insert(key.to_owned(), value);
    put("id", json!(letter.id));
    put("time", json!(instant(letter.time_ms)));
    put("job", json!(letter.job));
    put("run", json!(letter.run));
    put("node", json!(letter.node));
    put("reason", json!(letter.reason));
    if let Some(origin) = &letter.origin {
        put("origin", json!(origin));
    }
    if let Some(raw) = &letter.raw {
        match std::str::from_utf8(raw) {
            Ok(text) => put("raw", json!(text)),
            Err(_) => put("rawHex", json!(dead_letter::to_hex(raw))),
        }
    }
    if let Some(row) = &letter.row {
        put("row", serde_json::from_str(&exact(row)).unwrap_or_else(|_| json!(row)));
    }
    if let Some(ledger) = ledger {
        put("status", json!(ledger.status(&letter.id)));
        if let Some(replay) = ledger.replay(&letter.id) {
            put("replay", json!(replay));
        }
    }
    Value::Object(out)
}

/// JSON with the numbers in quotes that a double would not hold exactly (decimals): columns of numbers take them so, too.
fn exact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => string_length(rest),
            '-' | '0'..='9' => {
                let number = &rest[..rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len())];
                let digits = number.bytes().filter(u8::is_ascii_digit).count();
                let whole = number.bytes().all(|b| b == b'-' || b.is_ascii_digit());
                let held = if whole { number.parse::<i64>().is_ok() } else { digits <= 15 };
                if !held {
                    out.push_str(&format!("\"{number}\""));
                    rest = &rest[number.len()..];
                    continue;
                }
                number.len()
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// The length of the string that the text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A letter that somebody may have edited.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Edited {
    id: String,
    node: String,
    #[serde(default)]
    time: Option<chrono::DateTime<chrono::Utc>>,
    #[serde(default)]
    job: Option<String>,
    #[serde(default)]
    run: Option<String>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    origin: Option<String>,
    #[serde(default)]
    raw: Option<String>,
    #[serde(default)]
    raw_hex: Option<String>,
    #[serde(default)]
    row: Option<Map<String, Value>>,
    /// What `--json` adds; not looked at.
    #[serde(default, rename = "status")]
    _status: Option<String>,
    #[serde(default, rename = "replay")]
    _replay: Option<String>,
}

/// Reads letters, one JSON object on each line; empty lines are left out.
pub(super) fn parse(name: &str, text: &str) -> Result<Vec<Letter>, Failure> {
    let mut letters: Vec<Letter> = Vec::new();
    for (line, text) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("error: {name}:{}: {e}", line + 1));
        let edited: Edited = serde_json::from_str(&exact(text)).map_err(|e| wrong(&e))?;
        let letter = edited.letter().map_err(|e| wrong(&e))?;
        if letters.iter().any(|l| l.id == letter.id) {
            return Err(wrong(&format_args!(
                "letter {} is there twice; it counts once (give the letter several lines in `raw`, where its format has them)",
                letter.id
            )));
        }
        letters.push(letter);
    }
    Ok(letters)
}

impl Edited {
    fn letter(self) -> Result<Letter, String> {
        if self.id.is_empty() || self.id.len() > 64 {
            return Err("`id` must be that of the letter as it was exported".into());
        }
        let raw = match (self.raw, self.raw_hex) {
            (Some(_), Some(_)) => return Err("give either `raw` or `rawHex`".into()),
            (Some(text), None) => Some(text.into_bytes().into()),
            (None, Some(hex)) => Some(dead_letter::from_hex(&hex).map_err(|e| e.to_string())?),
            (None, None) => None,
        };
        if raw.is_none() && self.row.is_none() {
            return Err("it holds neither `raw` (or `rawHex`) nor `row`".into());
        }
        Ok(Letter {
            id: self.id,
            time_ms: self.time.map_or(0, |t| t.timestamp_millis()),
            job: self.job.unwrap_or_default(),
            run: self.run.unwrap_or_default(),
            node: self.node,
            reason: self.reason.unwrap_or_default(),
            origin: self.origin,
            raw,
            row: self.row.map(|r| Value::Object(r).to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_exported_is_read_back_as_it_was() {
        let letter = Letter {
            id: "a1".into(),
            time_ms: 1_700_000_000_123,
            job: "j".into(),
            run: "r".into(),
            node: "n".into(),
            reason: "said \"no\"".into(),
            origin: Some("file=x offset=1".into()),
            raw: Some(b"{\"a\": 1e400}\n"[..].into()),
            row: None,
        };
        let bytes = Letter { id: "a2".into(), raw: Some(b"\xff\x00"[..].into()), ..letter.clone() };
        let row = Letter { id: "a3".into(), raw: None, row: Some(r#"{"n":9007199254740993,"s":"1.23456789012345678"}"#.into()), ..letter.clone() };
        let text: String = [&letter, &bytes, &row].map(|l| json(l, None).to_string() + "\n").concat();
        assert_eq!(parse("f", &text).unwrap(), [letter, bytes, row]);
    }

    #[test]
    fn numbers_that_a_double_does_not_hold_are_kept_digit_for_digit() {
        assert_eq!(
            exact(r#"{"a":1.5,"t":9223372036854775807,"b":-12345678901234567.25,"c":["12345678901234567.25\"",12345678901234567890]}"#),
            r#"{"a":1.5,"t":9223372036854775807,"b":"-12345678901234567.25","c":["12345678901234567.25\"","12345678901234567890"]}"#
        );
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let of = |text: &str| parse("f.ndjson", text).unwrap_err().message;
        assert!(of("\n{\"id\":\"a\"}").contains("f.ndjson:2: missing field `node`"));
        assert!(of("{\"id\":\"a\",\"node\":\"n\"}").contains("neither `raw`"));
        assert!(of("{\"id\":\"a\",\"node\":\"n\",\"rwo\":{}}").contains("unknown field `rwo`"));
        let twice = "{\"id\":\"a\",\"node\":\"n\",\"row\":{}}\n".repeat(2);
        assert!(of(&twice).contains("f.ndjson:2") && of(&twice).contains("twice"));
    }
}
