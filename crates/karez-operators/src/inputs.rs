//! What the planning of every operator checks of its inputs.

use arrow::datatypes::Schema;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::error::did_you_mean;
use karez_core::{ChangeMode, PlanContext, StreamSchema};

/// The input of an operator that takes exactly one.
pub(crate) fn single<'a>(context: &PlanContext<'a>) -> Result<&'a StreamSchema, ConfigErrors> {
    match context.inputs {
        [input] => Ok(input),
        inputs => Err(ConfigError::new("inputs", format!("one input is needed, but there are {}", inputs.len()))
            .hint("put several streams together with a `union` in front")
            .into()),
    }
}

/// Refuses a changelog, which `operator` would count as if every change were a new row.
pub(crate) fn append_only(operator: &str, input: &StreamSchema) -> Result<(), ConfigErrors> {
    match input.change_mode {
        ChangeMode::AppendOnly => Ok(()),
        ChangeMode::Changelog => Err(ConfigError::new("inputs", format!("`{operator}` cannot take a stream whose rows are updated or deleted"))
            .hint("the input is a changelog: put this node before the one that updates its results (a running aggregate, allowed lateness, `keep: last`), or run the job as `type: batch`")
            .into()),
    }
}

/// The indices of columns named at `path` of the options; `schema` is the visible one.
pub(crate) fn columns(path: &str, names: &[String], schema: &Schema) -> Result<Vec<usize>, ConfigErrors> {
    let mut errors = Vec::new();
    let mut found = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        match column(&format!("{path}[{i}]"), name, schema) {
            Ok(index) if found.contains(&index) => errors.push(ConfigError::new(format!("{path}[{i}]"), format!("column `{name}` is named twice"))),
            Ok(index) => found.push(index),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(ConfigErrors(errors)) }
}

/// The index of the column named at `path` of the options.
pub(crate) fn column(path: &str, name: &str, schema: &Schema) -> Result<usize, ConfigError> {
    schema.index_of(name).map_err(|_| {
        let known = || schema.fields().iter().map(|f| f.name().as_str());
        let e = ConfigError::new(path, format!("unknown column `{name}`"));
        match did_you_mean(name, known()) {
            Some(near) => e.hint(format!("did you mean `{near}`?")),
            None => e.hint(format!("the input has: {}", known().collect::<Vec<_>>().join(", "))),
        }
    })
}
