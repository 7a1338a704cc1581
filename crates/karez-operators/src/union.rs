//! `union`: puts streams of equal columns together.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::error::did_you_mean;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::schema::{CHANGE_COLUMN, change_field, is_hidden, origin_field};
use karez_core::sql_type::to_sql;
use karez_core::{ChangeMode, Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result, StreamSchema};
use schemars::JsonSchema;
use serde::Deserialize;

/// Options of `union`: there are none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UnionOptions {}

/// The factory of `union`.
pub(crate) struct Union;

impl OperatorFactory for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn description(&self) -> &'static str {
        "Puts several streams together.\n\n```yaml\n- { name: all, type: union, inputs: [web, shop] }\n```\n\n\
         All inputs have the same columns of the same types; their order is the first input's. Rows of one input stay in order. Event time stays event \
         time where it is the same column in every input."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(UnionOptions)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let UnionOptions {} = if context.config.is_null() { UnionOptions {} } else { config::parse(context.config)? };
        let Some((first, others)) = context.inputs.split_first() else {
            return Err(ConfigError::new("inputs", "no input is given").into());
        };
        let visible = first.visible();
        let mut nullable: Vec<bool> = visible.fields().iter().map(|f| f.is_nullable()).collect();
        let mut errors = Vec::new();
        for (i, other) in others.iter().enumerate() {
            if let Err(e) = check_columns(i + 1, &visible, &other.visible(), &mut nullable) {
                errors.push(e);
            }
        }
        let event_time = event_time(context.inputs).map_err(|e| errors.push(e)).ok().flatten();
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let hidden = |name: &str| context.inputs.iter().any(|i| i.arrow.index_of(name).is_ok());
        let mut fields: Vec<Field> = visible.fields().iter().zip(nullable).map(|(f, n)| f.as_ref().clone().with_nullable(n)).collect();
        fields.extend([origin_field(), change_field()].into_iter().filter(|f| hidden(f.name())));
        let change_mode = if hidden(CHANGE_COLUMN) { ChangeMode::Changelog } else { ChangeMode::AppendOnly };
        // Rows of two inputs may have one key: it identifies a row no longer.
        let key = if others.is_empty() { first.key.clone() } else { Vec::new() };
        let schema = StreamSchema { arrow: Arc::new(Schema::new(fields)), event_time, change_mode, key };
        let sources = context.inputs.iter().map(|input| positions(&schema.arrow, &input.arrow)).collect();
        Ok(Arc::new(UnionSpec { sources, outputs: [OutputPort { name: MAIN.into(), schema }] }))
    }
}

fn check_columns(input: usize, first: &Schema, other: &Schema, nullable: &mut [bool]) -> Result<(), ConfigError> {
    let place = format!("inputs[{input}]");
    let names = || other.fields().iter().map(|f| f.name().as_str());
    for (field, nullable) in first.fields().iter().zip(nullable) {
        match other.field_with_name(field.name()) {
            Err(_) => {
                let e = ConfigError::new(place, format!("the column `{}` of the first input is missing", field.name()));
                return Err(match did_you_mean(field.name(), names()) {
                    Some(near) => e.hint(format!("is it `{near}`? rename it with a `map` in front")),
                    None => e.hint("give all inputs the same columns with a `map` in front"),
                });
            }
            Ok(same) if same.data_type() != field.data_type() => {
                let (is, first) = names_apart(same.data_type(), field.data_type());
                return Err(ConfigError::new(place, format!("the column `{}` is {is}, but {first} in the first input", field.name()))
                    .hint("cast it with a `map` in front"));
            }
            Ok(same) => *nullable |= same.is_nullable(),
        }
    }
    match names().find(|name| first.index_of(name).is_err()) {
        Some(name) => {
            Err(ConfigError::new(place, format!("the first input has no column `{name}`"))
                .hint("give all inputs the same columns with a `map` in front"))
        }
        None => Ok(()),
    }
}

/// The names of two types: Arrow's, where SQL has one for both.
fn names_apart(one: &DataType, other: &DataType) -> (String, String) {
    let sql = (to_sql(one), to_sql(other));
    if sql.0 == sql.1 { (one.to_string(), other.to_string()) } else { sql }
}

fn event_time(inputs: &[StreamSchema]) -> Result<Option<String>, ConfigError> {
    let mut names = inputs.iter().map(|i| i.event_time.as_ref());
    let first = names.next().flatten();
    match names.find(|name| *name != first) {
        None => Ok(first.cloned()),
        Some(other) => {
            let name = |n: Option<&String>| n.map_or_else(|| "none".to_owned(), |n| format!("`{n}`"));
            Err(ConfigError::new("inputs", format!("the event time of the inputs differs: {} and {}", name(first), name(other)))
                .hint("declare the same `eventTime` column on all sources"))
        }
    }
}

/// For each output column its index in the input.
fn positions(output: &Schema, input: &Schema) -> Vec<Option<usize>> {
    output.fields().iter().map(|f| input.index_of(f.name()).ok()).collect()
}

struct UnionSpec {
    /// For each input, where its columns are.
    sources: Vec<Vec<Option<usize>>>,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for UnionSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(Vec::new())
    }

    fn passes_columns(&self) -> bool {
        true
    }

    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningUnion { sources: self.sources.clone(), schema: Arc::clone(&self.outputs[0].schema.arrow) }))
    }
}

struct RunningUnion {
    sources: Vec<Vec<Option<usize>>>,
    schema: SchemaRef,
}

impl Operator for RunningUnion {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let rows = batch.num_rows();
        let column = |(source, field): (&Option<usize>, &Arc<Field>)| -> ArrayRef {
            match source {
                Some(i) => Arc::clone(batch.column(*i)),
                // Rows of an append-only input are insertions; those of a node without origin have none.
                None if is_hidden(field) && field.name() == CHANGE_COLUMN => Arc::new(Int8Array::from(vec![0; rows])),
                None => new_null_array(field.data_type(), rows),
            }
        };
        let columns = self.sources[input].iter().zip(self.schema.fields()).map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        out.emit(0, RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?);
        Ok(Progress::Done)
    }
}
