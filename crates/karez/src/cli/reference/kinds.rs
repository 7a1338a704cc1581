//! JSON Schema types in a reader's words.

use serde_json::Value;

/// Follows `$ref`s; what stands beside one wins over what it points at.
pub(super) fn resolve(schema: &Value, root: &Value) -> Value {
    let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#'))) else {
        return schema.clone();
    };
    let mut resolved = resolve(target, root);
    if let (Value::Object(resolved), Value::Object(own)) = (&mut resolved, schema) {
        resolved.extend(own.iter().filter(|(k, _)| *k != "$ref").map(|(k, v)| (k.clone(), v.clone())));
    }
    resolved
}

/// The alternatives of a schema, `null` left out; empty where it has none.
pub(super) fn alternatives(schema: &Value, root: &Value) -> Vec<Value> {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
    let resolved = list.into_iter().flatten().map(|s| resolve(s, root));
    resolved.filter(|s| s.get("type").and_then(Value::as_str) != Some("null")).collect()
}

/// An optional value's schema is that of the value.
pub(super) fn unwrap_optional(schema: Value, root: &Value) -> Value {
    let mut several = alternatives(&schema, root);
    if several.len() != 1 || schema.get("properties").is_some() {
        return schema;
    }
    let mut inner = several.remove(0);
    if let (Value::Object(inner), Value::Object(own)) = (&mut inner, &schema) {
        let about = own.iter().filter(|(k, _)| matches!(k.as_str(), "description" | "default"));
        inner.extend(about.map(|(k, v)| (k.clone(), v.clone())));
    }
    inner
}

pub(super) fn is_mapping(schema: &Value) -> bool {
    schema.get("properties").is_some_and(Value::is_object)
}

/// The fixed words a schema allows, each with what it means.
pub(super) fn words(schema: &Value, root: &Value) -> Vec<(String, String)> {
    let about = |s: &Value| s.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    if let Some(word) = schema.get("const") {
        return vec![(word_text(word), about(schema))];
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return list.iter().filter(|w| !w.is_null()).map(|w| (word_text(w), String::new())).collect();
    }
    let several = alternatives(schema, root);
    let words: Vec<_> = several.iter().map(|s| words(s, root)).collect();
    if words.iter().any(Vec::is_empty) { Vec::new() } else { words.into_iter().flatten().collect() }
}

/// The fixed words among what a schema allows, where it may also allow mappings: `json`, or an object with `type: json` and options.
pub(super) fn words_among(schema: &Value, root: &Value) -> Vec<(String, String)> {
    let only = words(schema, root);
    if !only.is_empty() {
        return only;
    }
    alternatives(schema, root).iter().filter(|s| !is_mapping(s)).flat_map(|s| words(s, root)).collect()
}

fn word_text(word: &Value) -> String {
    word.as_str().map_or_else(|| word.to_string(), str::to_owned)
}

/// The type of a schema in words.
pub(super) fn kind(schema: &Value, root: &Value) -> String {
    if let Some(kind) = schema.get("x-karez-type").and_then(Value::as_str) {
        return kind.to_owned();
    }
    let words = words(schema, root);
    if !words.is_empty() {
        return words.iter().map(|(w, _)| format!("`{w}`")).collect::<Vec<_>>().join(" or ");
    }
    let several = alternatives(schema, root);
    if !several.is_empty() && !is_mapping(schema) {
        let mut kinds: Vec<String> = several.iter().map(|s| kind(s, root)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    let names = match schema.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).filter(|n| *n != "null").collect(),
        _ => return "any value".into(),
    };
    let named = |name: &str| match name {
        "array" => match schema.get("items").map(|s| unwrap_optional(resolve(s, root), root)) {
            Some(items) => format!("list of {}", kind(&items, root)),
            None => "list".into(),
        },
        "object" => match schema.get("additionalProperties").filter(|s| s.is_object()).map(|s| resolve(s, root)) {
            Some(values) => format!("mapping of names to {}", kind(&values, root)),
            None => "mapping".into(),
        },
        "string" if schema.get("format").and_then(Value::as_str) == Some("password") => "secret".into(),
        other => other.to_owned(),
    };
    names.into_iter().map(named).collect::<Vec<_>>().join(" or ")
}
