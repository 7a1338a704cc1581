//! `split` (also `route`): sends rows to several outputs by conditions.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::{and, filter_record_batch, not, or};
use arrow::record_batch::RecordBatch;
use karez_core::config::{self, ConfigError, ConfigErrors};
use karez_core::metrics::NodeMetrics;
use karez_core::operator::{Determinism, MAIN, OutputPort};
use karez_core::{Operator, OperatorContext, OperatorFactory, OperatorSpec, Output, PlanContext, Progress, Result};
use karez_expr::{CompiledExpr, ExprError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::named::Named;
use crate::pending::Pending;
use crate::{expressions, inputs, rejects};

/// Options of `split`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SplitOptions {
    /// The outputs and the SQL condition of each, in the order in which they are tried, such as `{ vip: "amount > 1000", paid: "amount > 0" }`. Connect
    /// to one as `NODE.vip`.
    routes: Named,
    /// Whether a row goes to the first route whose condition is true, or to all such. Default: `first`.
    #[serde(default)]
    mode: Mode,
    /// What becomes of rows that no route takes: they go to the main output (connect to it as `NODE`), or are dropped and counted as `unrouted`.
    /// Default: `main`.
    #[serde(default)]
    otherwise: Otherwise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// To the first route that takes it.
    #[default]
    First,
    /// To every route that takes it.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Otherwise {
    /// They go to the main output.
    #[default]
    Main,
    /// They are dropped and counted.
    Drop,
}

/// The factory of `split`, by the name it is registered under.
pub(crate) struct Split(pub(crate) &'static str);

impl OperatorFactory for Split {
    fn name(&self) -> &'static str {
        self.0
    }

    fn description(&self) -> &'static str {
        "Sends rows to several outputs by SQL conditions.\n\n```yaml\n- name: flown\n  type: split\n  routes: { cancelled: \"dep_time is null\" }\n```\n\n\
         A node connects to `flown` for the rows that no route takes, and to `flown.cancelled` for the route's. A row on which a condition fails \
         goes to the node's error policy."
    }

    fn options(&self) -> schemars::Schema {
        schemars::schema_for!(SplitOptions)
    }

    fn check(&self, config: &Value) -> Result<(), ConfigErrors> {
        config::parse::<SplitOptions>(config).map(drop)
    }

    fn plan(&self, context: PlanContext<'_>) -> Result<Arc<dyn OperatorSpec>, ConfigErrors> {
        let input = inputs::single(&context)?;
        let options: SplitOptions = config::parse(context.config)?;
        let visible = input.visible();
        let mut outputs = vec![OutputPort { name: MAIN.into(), schema: input.clone() }];
        let (mut conditions, mut errors) = (Vec::new(), Vec::new());
        for (name, condition) in options.routes.0 {
            let path = format!("routes.{name}");
            if name == MAIN || name == "errors" || name.is_empty() || name.contains('.') {
                errors.push(
                    ConfigError::new(path, format!("`{name}` is no name for a route"))
                        .hint("`main` and `errors` are outputs already; a name has no `.`"),
                );
                continue;
            }
            match expressions::expressions().compile_predicate(&condition, &visible) {
                Ok(condition) => conditions.push(condition),
                Err(e) => errors.push(expressions::config_error(path, &e)),
            }
            outputs.push(OutputPort { name, schema: input.clone() });
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        if conditions.is_empty() {
            return Err(ConfigError::new("routes", "no route is given").hint("write `routes: { NAME: \"condition\" }`").into());
        }
        Ok(Arc::new(SplitSpec { routes: Routes { conditions, mode: options.mode, otherwise: options.otherwise }, outputs }))
    }
}

#[derive(Clone)]
struct Routes {
    conditions: Vec<CompiledExpr>,
    mode: Mode,
    otherwise: Otherwise,
}

impl Routes {
    /// Which rows go to each route, in order, and which to none.
    fn masks(&self, rows: &RecordBatch) -> Result<(Vec<BooleanArray>, BooleanArray), ExprError> {
        let mut masks = Vec::with_capacity(self.conditions.len());
        let mut taken = BooleanArray::from(vec![false; rows.num_rows()]);
        for condition in &self.conditions {
            let mut mask = condition.evaluate_predicate(rows)?;
            let combine = |e| ExprError::new(condition.text(), format!("{e}"));
            if self.mode == Mode::First {
                // Not `and_not`: arrow 59 mixes up the offsets of its arguments, and the mask of a slice has one.
                mask = not(&taken).and_then(|free| and(&mask, &free)).map_err(combine)?;
            }
            taken = or(&taken, &mask).map_err(combine)?;
            masks.push(mask);
        }
        let none = not(&taken).map_err(|e| ExprError::new("", e.to_string()))?;
        Ok((masks, none))
    }
}

struct SplitSpec {
    routes: Routes,
    outputs: Vec<OutputPort>,
}

impl OperatorSpec for SplitSpec {
    fn outputs(&self) -> &[OutputPort] {
        &self.outputs
    }

    fn determinism(&self) -> Determinism {
        match self.routes.conditions.iter().find(|c| !c.deterministic()) {
            Some(c) => Determinism::No(format!("`{}` gives another result each time", c.text())),
            None => Determinism::Deterministic,
        }
    }

    fn required_columns(&self, _: usize) -> Option<Vec<usize>> {
        let mut columns: Vec<usize> = self.routes.conditions.iter().flat_map(|c| c.columns()).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        Some(columns)
    }

    fn passes_columns(&self) -> bool {
        true
    }

    fn create(&self, context: OperatorContext<'_>) -> Result<Box<dyn Operator>> {
        Ok(Box::new(RunningSplit { routes: self.routes.clone(), metrics: context.metrics, pending: Pending::default() }))
    }
}

struct RunningSplit {
    routes: Routes,
    metrics: Arc<NodeMetrics>,
    pending: Pending,
}

impl Operator for RunningSplit {
    fn process(&mut self, _: usize, batch: RecordBatch, out: &mut dyn Output) -> Result<Progress> {
        let ((masks, none), good) = rejects::evaluate(&batch, |rows| self.routes.masks(rows), out)?;
        let unrouted = none.true_count();
        if unrouted > 0 {
            match self.routes.otherwise {
                Otherwise::Main => self.pending.push(0, select(&good, &none)?),
                Otherwise::Drop => self.metrics.add("unrouted", unrouted as u64),
            }
        }
        for (port, mask) in masks.iter().enumerate() {
            if mask.true_count() > 0 {
                self.pending.push(port + 1, select(&good, mask)?);
            }
        }
        Ok(self.pending.flush(out))
    }

    fn resume(&mut self, out: &mut dyn Output) -> Result<Progress> {
        Ok(self.pending.flush(out))
    }
}

/// The rows of a mask; all of them without a copy.
fn select(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    if mask.true_count() == batch.num_rows() { Ok(batch.clone()) } else { Ok(filter_record_batch(batch, mask)?) }
}
