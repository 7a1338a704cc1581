//! Options as they may be shown: what the schema calls a password is `***`, and so is the password in a URL. References to the environment stay.

use karez_core::url_password;
use schemars::Schema;
use serde_json::{Map, Value};

const MASKED: &str = "***";
/// How deep a schema is followed: it may refer to itself.
const MAX_DEPTH: usize = 32;

/// The options with every secret masked.
#[must_use]
pub fn mask(config: &Value, schema: Option<&Schema>) -> Value {
    let root = schema.map_or(&Value::Null, |s| s.as_value());
    masked(config, &[root], root, 0)
}

/// `schemas`: all that may describe `value`.
fn masked(value: &Value, schemas: &[&Value], root: &Value, depth: usize) -> Value {
    let mut schemas: Vec<&Value> = schemas.iter().flat_map(|s| alternatives(s, root, 0)).collect();
    if depth > MAX_DEPTH {
        schemas.clear();
    }
    if schemas.iter().any(|s| s.get("format").and_then(Value::as_str) == Some("password")) {
        return hidden(value);
    }
    match value {
        Value::String(text) => Value::String(without_password(&without_parameters(text))),
        Value::Array(items) => {
            let inner: Vec<&Value> = schemas.iter().filter_map(|s| s.get("items")).collect();
            Value::Array(items.iter().map(|v| masked(v, &inner, root, depth + 1)).collect())
        }
        Value::Object(map) => {
            let member = |key: &str| -> Vec<&Value> {
                schemas.iter().filter_map(|s| s.get("properties").and_then(|p| p.get(key)).or_else(|| s.get("additionalProperties"))).collect()
            };
            Value::Object(map.iter().map(|(k, v)| (k.clone(), masked(v, &member(k), root, depth + 1))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// A schema and everything it refers to or combines.
fn alternatives<'a>(schema: &'a Value, root: &'a Value, depth: usize) -> Vec<&'a Value> {
    let mut out = vec![schema];
    if depth > MAX_DEPTH {
        return out;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')).and_then(|p| root.pointer(p)) {
        out.extend(alternatives(target, root, depth + 1));
    }
    for combined in ["anyOf", "oneOf", "allOf"].iter().filter_map(|k| schema.get(k)).filter_map(Value::as_array).flatten() {
        out.extend(alternatives(combined, root, depth + 1));
    }
    out
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) => Value::String(match reference(text) {
            Some((name, None)) => format!("${{{name}}}"),
            Some((name, Some(_))) => format!("${{{name}:-{MASKED}}}"),
            None => MASKED.to_owned(),
        }),
        _ => Value::String(MASKED.to_owned()),
    }
}

/// `${NAME}` or `${NAME:-default}` and nothing else.
fn reference(text: &str) -> Option<(&str, Option<&str>)> {
    let body = text.strip_prefix("${")?.strip_suffix('}')?;
    let (name, default) = body.split_once(":-").map_or((body, None), |(n, d)| (n, Some(d)));
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some((name, default))
}

/// `scheme://user:password@host` with the password masked, unless it is a reference. A text with one URL is that to its end; else every such place in it.
fn without_password(text: &str) -> String {
    let mut out = text.to_owned();
    let is_one = text.matches("://").count() == 1;
    let passwords = if is_one { url_password::password_of(text).into_iter().collect() } else { url_password::passwords(text) };
    for password in passwords.into_iter().rev() {
        if reference(&text[password.clone()]).is_none_or(|(_, default)| default.is_some()) {
            out.replace_range(password, MASKED);
        }
    }
    out
}

/// `…?password=…` with the value masked, unless it is a reference: JDBC URLs carry secrets as parameters.
fn without_parameters(text: &str) -> String {
    if !text.contains("://") {
        return text.to_owned();
    }
    // Behind the first, a `?` is part of a value.
    let (before, parameters) = text.split_at(text.find(['?', ';']).map_or(text.len(), |at| at + 1));
    let masked = parameters
        .split_inclusive(['&', ';'])
        .map(|part| {
            let (body, separator) = part.strip_suffix(['&', ';']).map_or((part, ""), |b| (b, &part[b.len()..]));
            match body.split_once('=') {
                Some((key, value)) if is_secret_name(key) && reference(value).is_none_or(|(_, d)| d.is_some()) => {
                    format!("{key}={MASKED}{separator}")
                }
                _ => part.to_owned(),
            }
        })
        .collect::<String>();
    format!("{before}{masked}")
}

fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "pwd", "secret", "token"].iter().any(|s| key.contains(s))
}
