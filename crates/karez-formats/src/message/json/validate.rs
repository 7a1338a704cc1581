//! JSON Schema: whether a message fulfils it.

use std::collections::HashMap;
use std::error::Error;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

use crate::message::{RegisteredSchema, SchemaKind};

/// Characters of what a schema says that are shown.
const SHOWN_CHARS: usize = 400;

/// What a schema refers to, by URI: nothing is fetched from anywhere.
struct References(HashMap<String, Value>);

impl Retrieve for References {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let uri = uri.as_str();
        // A relative name stands behind the base that the schema is given.
        let found = self.0.get(uri).or_else(|| uri.strip_prefix("json-schema:///").and_then(|name| self.0.get(name)));
        found.cloned().ok_or_else(|| format!("it refers to `{uri}`, which is neither in it nor among its references").into())
    }
}

/// A compiled schema.
pub(super) fn compile(text: &str) -> Result<Validator, String> {
    build(text, HashMap::new())
}

/// A compiled schema of a registry.
pub(super) fn compile_registered(schema: &RegisteredSchema) -> Result<Validator, String> {
    if schema.kind != SchemaKind::Json {
        return Err(format!("it is {}, not JSON", schema.kind.name()));
    }
    let references = schema.references.iter().map(|r| Ok((r.name.clone(), parse(&r.text)?)));
    build(&schema.text, references.collect::<Result<_, String>>()?)
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|e| format!("the JSON Schema is no JSON: {e}"))
}

fn build(text: &str, references: HashMap<String, Value>) -> Result<Validator, String> {
    let schema = parse(text)?;
    let built = jsonschema::options().with_retriever(References(references)).build(&schema);
    built.map_err(|e| format!("the JSON Schema cannot be used: {}", shown(&e.to_string())))
}

/// Whether a message fulfils a schema; else what is wrong with it, and where.
pub(super) fn check(validator: &Validator, message: &[u8]) -> Result<(), String> {
    let value: Value = serde_json::from_slice(message).map_err(|e| format!("the message is no JSON: {e}"))?;
    validator.validate(&value).map_err(|e| {
        let at = e.instance_path().to_string();
        let at = if at.is_empty() { "the message".to_owned() } else { format!("`{at}`") };
        format!("{at} does not fulfil the JSON Schema: {}", shown(&e.to_string()))
    })
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
