//! What a schema refers to, fetched with it.

use std::collections::HashSet;

use karez_core::{Error, Result};
use karez_formats::message::{RegisteredSchema, SchemaKind, SchemaReference};
use reqwest::Method;
use serde::Deserialize;

use super::http::{Http, NotThere};

/// Most schemas that one refers to, directly or through others.
const REFERENCES_LIMIT: usize = 200;

/// A schema as the API gives it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    #[serde(default)]
    pub(super) id: u32,
    pub(super) schema: String,
    /// Avro where it is left out.
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

/// A schema to be visited; or one whose own references have all been fetched.
enum Step {
    Fetch(Reference),
    Keep(SchemaReference),
}

/// The schema with all that it refers to: each before those that need it.
pub(super) async fn complete(http: &Http, answer: Answer) -> Result<Result<RegisteredSchema, NotThere>> {
    let kind = match answer.schema_type.as_deref() {
        None | Some("AVRO") => SchemaKind::Avro,
        Some("PROTOBUF") => SchemaKind::Protobuf,
        Some("JSON") => SchemaKind::Json,
        Some(other) => return Err(Error::external(format!("the schema registry gave a schema of the type `{other}`, which is not known here"))),
    };
    let mut references = Vec::new();
    let mut seen = HashSet::new();
    let mut steps: Vec<Step> = answer.references.unwrap_or_default().into_iter().rev().map(Step::Fetch).collect();
    while let Some(step) = steps.pop() {
        let reference = match step {
            Step::Keep(reference) => {
                references.push(reference);
                continue;
            }
            Step::Fetch(reference) => reference,
        };
        if !seen.insert(reference.name.clone()) {
            continue;
        }
        if seen.len() > REFERENCES_LIMIT {
            return Ok(Err(NotThere(format!("the schema refers to more than {REFERENCES_LIMIT} others"))));
        }
        let what = format!("asking for version {} of the subject `{}`, which a schema refers to", reference.version, reference.subject);
        let version = reference.version.to_string();
        let found: Result<Answer, NotThere> = http.ask(&what, Method::GET, &["subjects", &reference.subject, "versions", &version], None).await?;
        let found = match found {
            Ok(found) => found,
            Err(NotThere(why)) => return Ok(Err(NotThere(format!("it refers to `{}`, which the registry does not have: {why}", reference.name)))),
        };
        steps.push(Step::Keep(SchemaReference { name: reference.name, text: found.schema }));
        steps.extend(found.references.unwrap_or_default().into_iter().rev().map(Step::Fetch));
    }
    Ok(Ok(RegisteredSchema { kind, text: answer.schema, references }))
}
