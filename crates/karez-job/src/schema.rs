//! The JSON Schema of a job file, for editors: completion, documentation on hover, and errors while one types.

use karez_core::Registry;
use karez_graph::{EventTime, JobSettings, OnError, Overflow, RequestedExchange};
use schemars::{JsonSchema, Schema, schema_for};
use serde_json::{Map, Value, json};

use crate::schedule::Schedule;

/// The schema of a job file for the connectors and operators of a registry.
#[must_use]
pub fn job_schema(registry: &Registry) -> Value {
    let mut defs = Definitions::default();
    let mut job = defs.embed("settings", schema_for!(JobSettings).to_value());
    let source = source(&mut defs, registry);
    let sink = sink(&mut defs, registry);
    let operator = operator(&mut defs, registry);
    defs.0.insert("source".into(), source);
    defs.0.insert("sink".into(), sink);
    defs.0.insert("operator".into(), operator);
    let several = |what: &str| {
        let item = json!({ "$ref": format!("#/$defs/{what}") });
        json!({ "oneOf": [
            { "type": "array", "items": item, "description": "A list; each has a `name`." },
            { "type": "object", "additionalProperties": item, "description": "A mapping from names." },
        ] })
    };
    let schedule = defs.embed("schedule", schema_for!(Schedule).to_value());
    if let Some(properties) = job.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, schema) in [
            ("schedule", schedule),
            ("source", json!({ "$ref": "#/$defs/source" })),
            ("sources", several("source")),
            ("operators", several("operator")),
            ("sink", json!({ "$ref": "#/$defs/sink" })),
            ("sinks", several("sink")),
            (
                "deadLetter",
                json!({ "$ref": "#/$defs/sink", "description": "The sink of the bad records of every node with `onError: dead-letter`." }),
            ),
        ] {
            properties.insert(key.into(), schema);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Karez job",
        "type": "object",
        "properties": {
            "job": job,
            "connectors": {
                "description": "Named connections: `connector: NAME` in a source or sink takes the type and the options of the connection.",
                "type": "object",
                "additionalProperties": { "type": "object", "properties": { "type": names(&connectors(registry, |_| true), "The connector.") }, "required": ["type"] },
            },
        },
        "required": ["job"],
        "additionalProperties": false,
        "$defs": defs.0,
    })
}

fn connectors(registry: &Registry, has: impl Fn(&dyn karez_core::Connector) -> bool) -> Vec<(&'static str, String)> {
    registry.connectors().filter(|c| has(c.as_ref())).map(|c| (c.name(), summary(c.description()))).collect()
}

fn summary(description: &str) -> String {
    description.trim().lines().next().unwrap_or_default().to_owned()
}

/// One of these names, each with its summary; or any other (a named connection).
fn names(known: &[(&str, String)], description: &str) -> Value {
    let mut choices: Vec<Value> = known.iter().map(|(name, summary)| json!({ "const": name, "description": summary })).collect();
    choices.push(json!({ "type": "string", "description": "The name of a connection under `connectors`." }));
    json!({ "description": description, "anyOf": choices })
}

fn source(defs: &mut Definitions, registry: &Registry) -> Value {
    let types = connectors(registry, |c| c.source_options().is_some());
    let cases: Vec<Value> = registry
        .connectors()
        .filter_map(|c| Some((c.name(), c.source_options()?)))
        .map(|(name, options)| case("connector", name, json!({ "config": defs.embed(&format!("source-{name}"), options.to_value()) })))
        .collect();
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "Its name: state, metrics and errors carry it." },
            "connector": names(&types, "The connector, or a named connection."),
            "type": names(&types, "The same as `connector`."),
            "config": { "type": "object", "description": "The options of the connector." },
            "schema": { "type": "object", "additionalProperties": { "type": "string" }, "description": "The columns and their SQL types, in order. Default: inferred." },
            "eventTime": defs.of::<EventTime>("event-time"),
            "overflow": any_case(&defs.of::<Overflow>("overflow")),
            "backpressure": any_case(&defs.of::<Overflow>("overflow")),
            "rateLimit": { "type": ["integer", "string"], "minimum": 1, "description": "The most rows per second, all subtasks together." },
            "onError": any_case(&defs.of::<OnError>("on-error")),
            "parallelism": parallelism(),
        },
        "anyOf": [{ "required": ["connector"] }, { "required": ["type"] }],
        "additionalProperties": false,
        "allOf": cases,
    })
}

fn sink(defs: &mut Definitions, registry: &Registry) -> Value {
    let types = connectors(registry, |c| c.sink_options().is_some());
    let cases: Vec<Value> = registry
        .connectors()
        .filter_map(|c| Some((c.name(), c.sink_options()?)))
        .map(|(name, options)| case("connector", name, json!({ "config": defs.embed(&format!("sink-{name}"), options.to_value()) })))
        .collect();
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "description": "Its name: state, metrics, files and errors carry it." },
            "connector": names(&types, "The connector, or a named connection."),
            "type": names(&types, "The same as `connector`."),
            "config": { "type": "object", "description": "The options of the connector." },
            "batchSize": { "description": "The same as in `config`." },
            "flushInterval": { "description": "The same as in `config`." },
            "inputs": inputs(defs),
            "onError": any_case(&defs.of::<OnError>("on-error")),
            "parallelism": parallelism(),
        },
        "anyOf": [{ "required": ["connector"] }, { "required": ["type"] }],
        "additionalProperties": false,
        "allOf": cases,
    })
}

fn operator(defs: &mut Definitions, registry: &Registry) -> Value {
    let types: Vec<Value> = registry.operators().map(|o| json!({ "const": o.name(), "description": summary(o.description()) })).collect();
    let own = [
        ("name".to_owned(), json!({ "type": "string", "description": "Its name: state, metrics and errors carry it. Default: its type." })),
        ("type".to_owned(), json!({ "description": "What it does.", "anyOf": types })),
        ("inputs".to_owned(), inputs(defs)),
        ("onError".to_owned(), any_case(&defs.of::<OnError>("on-error"))),
        ("parallelism".to_owned(), parallelism()),
    ];
    let cases: Vec<Value> = registry
        .operators()
        .map(|o| {
            let mut options = defs.embed(&format!("operator-{}", o.name()), o.options().to_value());
            asks_connector(&mut options, defs, registry);
            if let Some(properties) = options.get_mut("properties").and_then(Value::as_object_mut) {
                for (key, schema) in &own {
                    properties.entry(key.clone()).or_insert_with(|| schema.clone());
                }
            } else if let Some(options) = options.as_object_mut() {
                // Without a list of its own keys a type cannot refuse others, and must not refuse ours.
                options.remove("additionalProperties");
            }
            json!({ "if": { "properties": { "type": { "const": o.name() } }, "required": ["type"] }, "then": options })
        })
        .collect();
    json!({ "type": "object", "properties": Map::from_iter(own), "required": ["type"], "allOf": cases })
}

/// The options of an operator that asks a connector (`connector`, `config`): which ones there are, and what `config` is for each.
fn asks_connector(options: &mut Value, defs: &mut Definitions, registry: &Registry) {
    let Some(properties) = options.get_mut("properties").and_then(Value::as_object_mut) else { return };
    if !(properties.contains_key("connector") && properties.contains_key("config")) {
        return;
    }
    let types = connectors(registry, |c| c.lookup_options().is_some());
    properties.insert("connector".into(), names(&types, "The connector that is asked, or a named connection."));
    let cases = registry
        .connectors()
        .filter_map(|c| Some((c.name(), c.lookup_options()?)))
        .map(|(name, schema)| case("connector", name, json!({ "config": defs.embed(&format!("lookup-{name}"), schema.to_value()) })));
    options["allOf"] = cases.collect();
}

fn case(key: &str, name: &str, then: Value) -> Value {
    json!({ "if": { "properties": { key: { "const": name } }, "required": [key] }, "then": { "properties": then } })
}

fn inputs(defs: &mut Definitions) -> Value {
    let input = json!({ "anyOf": [
        { "type": "string", "description": "`name` or `name.output`." },
        { "type": "object", "properties": { "from": { "type": "string" }, "port": { "type": "string" }, "exchange": defs.of::<RequestedExchange>("exchange") },
          "required": ["from"], "additionalProperties": false },
    ] });
    json!({ "description": "What it reads: nodes, or outputs of nodes.", "anyOf": [{ "type": "string" }, { "type": "array", "items": input }] })
}

fn parallelism() -> Value {
    json!({ "type": ["integer", "string"], "minimum": 1, "description": "How many subtasks. Default: the job's." })
}

/// A fixed list of words, also in upper case: §10.3 of the design document writes `DROP`.
fn any_case(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "string" }] })
}

/// Schemas that others refer to. Each embedded schema's own definitions are moved here under a prefix.
#[derive(Default)]
struct Definitions(Map<String, Value>);

impl Definitions {
    fn of<T: JsonSchema>(&mut self, prefix: &str) -> Value {
        let schema: Schema = schema_for!(T);
        self.embed(prefix, schema.to_value())
    }

    fn embed(&mut self, prefix: &str, mut schema: Value) -> Value {
        rename(&mut schema, prefix);
        if let Some(object) = schema.as_object_mut() {
            object.shift_remove("$schema");
            if let Some(Value::Object(defs)) = object.shift_remove("$defs") {
                for (name, def) in defs {
                    self.0.insert(format!("{prefix}.{name}"), def);
                }
            }
        }
        schema
    }
}

/// Points references into `$defs` to where these are moved.
fn rename(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("#/$defs/{prefix}.{name}");
                        }
                    }
                    other => rename(other, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| rename(v, prefix)),
        _ => {}
    }
}
