//! `filter`: keeps the rows for which a condition is true.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use karez_core::config::{self, ConfigErrors};
use karez_core::operator::Determinism;
use karez_core::operator::{MAIN, OutputPort};
use karez_core::{Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result};
use karez_expr::CompiledExpr;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::{expressions, inputs, rejects};

/// Options of `filter`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FilterOptions {
    /// The condition, in SQL, such as `amount > 0 and country is not null`. Rows for which it is false or null are dropped.
    /// Without it every row passes.
    #[serde(default, rename = "where")]
    condition: Option<String>,
}

/// The factory of `filter`.
pub(crate) struct Filter;

impl OperatorFactory for Filter {
    fn name(&self) -> &'static str {
        "filter"
    }

    fn description(&self) -> &'static str {
        "Keeps the rows for which a SQL condition is true; null is not true.\n\n```yaml\n- { name: paid, type: filter, where: \"amount > 0\" }\n```\n\n\
         A row on which the condition fails (a bad cast, a division by zero) goes to the node's error policy. Where the source can, it filters itself. \
         Of a changelog each change is judged for itself."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(FilterOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<FilterOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        let options: FilterOptions = config::parse(context.config)?;
        let compile = |text: &String| expressions::expressions().compile_predicate(text, &input.visible());
        let condition = options.condition.as_ref().map(compile).transpose().map_err(|e| expressions::config_error("where", &e))?;
        Ok(Arc::new(FilterSpec { condition, outputs: [OutputPort { name: MAIN.into(), schema: input.clone() }] }))
    }
}

struct FilterSpec {
    condition: Option<CompiledExpr>,
    outputs: [OutputPort; 1],
}

impl OperatorSpec for FilterSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn determinism(&self) -> Determinism {
        match &self.condition {
            Some(c) if !c.deterministic() => Determinism::No(format!("`{}` gives another result each time", c.text())),
            _ => Determinism::Deterministic,
        }
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        Some(self.condition.as_ref().map_or_else(Vec::new, |c| c.columns().to_vec()))
    }

    fn passes_columns(&self) -> bool {
        true
    }

    fn predicate(&self) -> Option<&str> {
        self.condition.as_ref().filter(|c| c.deterministic()).map(CompiledExpr::text)
    }

    fn create(&self, _: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningFilter { condition: self.condition.clone() }))
    }
}

struct RunningFilter {
    condition: Option<CompiledExpr>,
}

impl Operator for RunningFilter {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let kept = match &self.condition {
            None => batch,
            Some(condition) => rejects::evaluate(&batch, |rows| condition.select(rows), out)?.0,
        };
        out.emit(0, kept);
        Ok(Progress::Done)
    }
}
