//! `map` (also `select`): computes the columns of each row.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use karez_core::config::{self, ConfigErrors};
use karez_core::operator::Determinism;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::schema::is_hidden;
use karez_core::{Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result, StreamSchema};
use karez_expr::Projection;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::named::Named;
use crate::{expressions, inputs, rejects};

/// Options of `map`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MapOptions {
    /// The output columns: a list of SQL expressions (`amount * 1.1 AS gross`, `user_id`, `*`, `* EXCEPT (a, b)`) or a map of names to
    /// expressions. Without it rows pass unchanged.
    #[serde(default)]
    columns: Option<Columns>,
}

/// The output columns of `map`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of SQL expressions (texts such as `amount * 1.1 AS gross`) or a map of names to expressions")]
enum Columns {
    /// SQL expressions, named by `AS` or by the column they are.
    List(Vec<String>),
    /// Names and their expressions.
    Named(Named),
}

/// The factory of `map`, by the name it is registered under.
pub(crate) struct Map(pub(crate) &'static str);

impl OperatorFactory for Map {
    fn name(&self) -> &'static str {
        self.0
    }

    fn description(&self) -> &'static str {
        "Computes the columns of each row with SQL expressions.\n\n```yaml\n- { name: price, type: map, columns: [\"*\", \"amount * 1.1 AS gross\"] }\n```\n\n\
         Event time stays event time where its column is passed on unchanged, also under another name. A row on which an expression fails goes to \
         the node's error policy."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(MapOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<MapOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        let options: MapOptions = config::parse(context.config)?;
        let Some(columns) = options.columns else {
            return Ok(Arc::new(MapSpec { mapping: None, outputs: [OutputPort { name: MAIN.into(), schema: input.clone() }] }));
        };
        let items: Vec<(Option<String>, String)> = match columns {
            Columns::List(texts) => texts.into_iter().map(|text| (None, text)).collect(),
            Columns::Named(Named(entries)) => entries.into_iter().map(|(name, text)| (Some(name), text)).collect(),
        };
        if items.is_empty() {
            return Err(config::ConfigError::new("columns", "no column is left")
                .hint("name one at least, or leave `columns` out to pass rows unchanged")
                .into());
        }
        let projection = expressions::expressions()
            .compile_projection(&items, &input.visible())
            .map_err(|e| expressions::config_error(place(&items, &e.text), &e))?;
        if let Some(hidden) = projection.schema().fields().iter().find(|f| is_hidden(f)) {
            return Err(config::ConfigError::new("columns", format!("the name `{}` is the engine's; choose another", hidden.name())).into());
        }
        let mapping = Mapping::new(projection, &input.arrow);
        let schema = output_schema(input, &mapping);
        Ok(Arc::new(MapSpec { mapping: Some(mapping), outputs: [OutputPort { name: MAIN.into(), schema }] }))
    }
}

/// Which of the items an error is about.
fn place(items: &[(Option<String>, String)], text: &str) -> String {
    match items.iter().position(|(_, t)| t == text) {
        Some(i) => match &items[i].0 {
            Some(name) => format!("columns.{name}"),
            None => format!("columns[{i}]"),
        },
        None => "columns".into(),
    }
}

fn output_schema(input: &StreamSchema, mapping: &Mapping) -> StreamSchema {
    // The name under which an input column goes on unchanged: its own, if that is one of them.
    let renamed = |name: &String| {
        let source = input.arrow.index_of(name).ok()?;
        let names: Vec<&String> =
            (0..mapping.visible).filter(|&o| mapping.projection.source_column(o) == Some(source)).map(|o| mapping.schema.field(o).name()).collect();
        names.iter().copied().find(|n| *n == name).or_else(|| names.first().copied()).cloned()
    };
    let key: Option<Vec<String>> = input.key.iter().map(renamed).collect();
    StreamSchema {
        arrow: Arc::clone(&mapping.schema),
        event_time: input.event_time.as_ref().and_then(renamed),
        change_mode: input.change_mode,
        key: key.unwrap_or_default(),
    }
}

/// The projection and the hidden columns that ride along behind it.
#[derive(Clone)]
struct Mapping {
    projection: Projection,
    /// Indices into the input.
    hidden: Vec<usize>,
    schema: SchemaRef,
    visible: usize,
}

impl Mapping {
    fn new(projection: Projection, input: &Schema) -> Self {
        let hidden: Vec<usize> = (0..input.fields().len()).filter(|&i| is_hidden(input.field(i))).collect();
        let fields: Vec<_> = projection.schema().fields().iter().cloned().chain(hidden.iter().map(|&i| Arc::clone(&input.fields()[i]))).collect();
        let visible = projection.schema().fields().len();
        Self { projection, hidden, schema: Arc::new(Schema::new(fields)), visible }
    }

    /// The projected rows with the hidden columns of the good ones.
    fn with_hidden(&self, projected: &RecordBatch, input: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = projected.columns().to_vec();
        columns.extend(self.hidden.iter().map(|&i| Arc::clone(input.column(i))));
        let options = RecordBatchOptions::new().with_row_count(Some(projected.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

struct MapSpec {
    /// `None`: the identity.
    mapping: Option<Mapping>,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for MapSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn determinism(&self) -> Determinism {
        match &self.mapping {
            Some(m) if !m.projection.deterministic() => {
                Determinism::No("a column gives another result each time (`now()`, `random()` or the like)".into())
            }
            _ => Determinism::Deterministic,
        }
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.mapping.as_ref().map_or_else(Vec::new, |m| m.projection.columns().into_iter().chain(m.hidden.iter().copied()).collect()))
    }

    fn passes_columns(&self) -> bool {
        self.mapping.is_none()
    }

    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningMap { mapping: self.mapping.clone() }))
    }
}

struct RunningMap {
    mapping: Option<Mapping>,
}

impl Operator for RunningMap {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let mapped = match &self.mapping {
            None => batch,
            Some(mapping) => {
                let (projected, good) = rejects::evaluate(&batch, |rows| mapping.projection.evaluate(rows), out)?;
                mapping.with_hidden(&projected, &good)?
            }
        };
        out.emit(0, mapped);
        Ok(Progress::Done)
    }
}
