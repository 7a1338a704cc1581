use karez_job::job_schema;
use serde_json::Value;

use crate::kit::registry;

/// All `$ref`s of a schema.
fn references<'a>(schema: &'a Value, out: &mut Vec<&'a str>) {
    match schema {
        Value::Object(map) => {
            for (k, v) in map {
                match v {
                    Value::String(target) if k == "$ref" => out.push(target),
                    v => references(v, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let schema = job_schema(&registry());
    let mut all = Vec::new();
    references(&schema, &mut all);
    assert!(all.iter().any(|r| r.contains("Format")));
    for target in all {
        assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
    }
}

#[test]
fn options_follow_the_connector_and_the_operator_type() {
    let schema = job_schema(&registry());
    let then = |what: &str, name: &str| {
        let cases = schema["$defs"][what]["allOf"].as_array().unwrap();
        let case = cases.iter().find(|c| c["if"]["properties"].as_object().unwrap().values().any(|v| v["const"] == name)).unwrap();
        case["then"]["properties"].clone()
    };
    assert_eq!(then("source", "kafka")["config"]["properties"]["bootstrapServers"]["description"], "The servers.");
    assert!(then("sink", "jdbc")["config"]["properties"]["password"].is_object());
    let filter = then("operator", "filter");
    assert_eq!(filter["where"]["description"], "The rows that stay.");
    assert!(filter["inputs"].is_object() && filter["name"].is_object(), "the engine's own keys are allowed too");
    assert!(schema["properties"]["job"]["properties"]["checkpoint"].is_object());
    assert!(schema["properties"]["job"]["properties"]["deadLetter"].is_object());
}
