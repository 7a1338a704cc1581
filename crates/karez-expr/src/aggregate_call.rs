//! [`Aggregate`]: one call of an aggregate function.

use std::mem::discriminant;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use karez_core::sql_type::to_sql;

use crate::accumulator::GroupAccumulator;
use crate::compiled::CompiledExpr;
use crate::error::ExprError;
use crate::plan::{Planner, is_deterministic};

/// Functions whose result hangs on the order of their rows.
const ORDERED: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];
/// Functions that take any of several rows.
const ARBITRARY: [&str; 1] = ["any_value"];

/// Beginnings of the names of functions that take no notice of `DISTINCT`.
const NOT_DISTINCT: [&str; 5] = ["approx_percentile", "corr", "covar", "nth_value", "regr_"];

/// One call of an aggregate function, with its arguments, `DISTINCT`, `FILTER`, and `ORDER BY`. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Aggregate {
    text: Arc<str>,
    function: Arc<AggregateFunctionExpr>,
    /// The function's arguments and, where it sorts, what it sorts by.
    arguments: Vec<CompiledExpr>,
    filter: Option<CompiledExpr>,
    state_fields: Vec<FieldRef>,
    columns: Vec<usize>,
    deterministic: bool,
}

/// The arguments of an aggregate call, computed for the rows of a batch.
#[derive(Debug, Clone)]
pub struct AggregateInput {
    /// One array per argument, all as long as the batch.
    pub values: Vec<ArrayRef>,
    /// Which rows `FILTER` lets in, without nulls; `None` when all.
    pub filter: Option<BooleanArray>,
}

impl Aggregate {
    /// `call` is typed and is an aggregate function.
    pub(crate) fn compile(planner: &Planner<'_>, call: &Expr) -> Result<Self, ExprError> {
        let Expr::AggregateFunction(call) = call else {
            return Err(planner.refuse("an aggregate function is needed here"));
        };
        let call = without_idle_order(call);
        let name = call.func.name().to_owned();
        if call.params.distinct && NOT_DISTINCT.iter().any(|start| name.starts_with(start)) {
            return Err(planner.refuse(format!("`{name}` does not support DISTINCT")));
        }
        let ordered_set = call.func.supports_within_group_clause();
        let deterministic = call_is_deterministic(&call);
        let call = Expr::AggregateFunction(call);
        let text = call.human_display().to_string();
        let lowered = LoweredAggregateBuilder::new(
            &call,
            planner.input(),
            planner.input().as_arrow(),
            &ExecutionProps::default(),
            &PhysicalPlanningContext::default(),
        )
        // The name is part of the names of state columns, which checkpoints hold: the function's alone does not change with
        // how DataFusion prints expressions.
        .with_name(name)
        .build()
        .map_err(|error| planner.fail(&error))?;
        let function = lowered.aggregate;

        let input = planner.input().as_arrow();
        let compiled = |physical| CompiledExpr::try_new(&text, physical, input, deterministic);
        // An ordered set (WITHIN GROUP) has what it sorts among its arguments already.
        let sorted_by = if ordered_set { &[][..] } else { function.order_bys() };
        let arguments = function
            .expressions()
            .into_iter()
            .chain(sorted_by.iter().map(|sort| Arc::clone(&sort.expr)))
            .map(compiled)
            .collect::<Result<Vec<_>, _>>()?;
        let filter = lowered.filter.map(compiled).transpose()?;
        if let Some(filter) = filter.as_ref().filter(|filter| *filter.data_type() != DataType::Boolean) {
            return Err(planner.refuse(format!("FILTER must be boolean, but is {}", to_sql(filter.data_type()))));
        }
        let mut columns: Vec<usize> = arguments.iter().chain(&filter).flat_map(CompiledExpr::columns).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        let state_fields = function.state_fields().map_err(|error| planner.fail(&error))?;
        let aggregate = Self { text: text.into(), function, arguments, filter, state_fields, columns, deterministic };
        // What a function does not support (DISTINCT, a type) shows only when it is made.
        aggregate.accumulator().map_err(|error| ExprError { text: planner.text().to_owned(), ..error })?;
        Ok(aggregate)
    }

    /// The call, printed: for explain and errors, not to be compared.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The function's name, in lower case.
    pub fn function(&self) -> &str {
        self.function.fun().name()
    }

    /// The type of the total in the partial states of a sum of decimals, where it has more bits than the values. Builds that added up in the type of the
    /// result wrote other states for the same call, which are not to be read as these.
    pub fn widened(&self) -> Option<&DataType> {
        let (values, total) = (self.arguments.first()?.data_type(), self.state_fields.first()?.data_type());
        let decimals = self.function() == "sum" && values.is_decimal() && total.is_decimal();
        (decimals && discriminant(values) != discriminant(total)).then_some(total)
    }

    /// The types of the columns of a partial state: states of other types are not to be read as these. Where one is bytes, whose inside nobody knows, those
    /// of the arguments behind.
    pub fn state_types(&self) -> String {
        let names = |types: &mut dyn Iterator<Item = &DataType>| types.map(DataType::to_string).collect::<Vec<_>>().join(", ");
        let states = names(&mut self.state_fields.iter().map(|field| field.data_type()));
        let is_bytes = |field: &FieldRef| matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
        if self.state_fields.iter().any(is_bytes) {
            return format!("{states} of {}", names(&mut self.arguments.iter().map(CompiledExpr::data_type)));
        }
        states
    }

    /// The result as [`GroupAccumulator::evaluate`] gives it, as a column named `name`. Of sums and averages of decimals it is in the type in which they
    /// are added up: [`AggregateExpr::finish`](crate::AggregateExpr::finish) judges whether it fits.
    pub fn field(&self, name: &str) -> Field {
        self.function.field().as_ref().clone().with_name(name).with_nullable(self.function.is_nullable())
    }

    /// The columns of a partial state, as [`GroupAccumulator::state`] returns and [`GroupAccumulator::merge`] takes them.
    ///
    /// Their number and types are the function's, as of the DataFusion version; names are unique within a call only.
    pub fn state_fields(&self) -> &[FieldRef] {
        &self.state_fields
    }

    /// Indices of the input columns that arguments, filter and order read, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether the same rows give the same result in whatever order and batches they come.
    ///
    /// False for `first_value`, `last_value`, `nth_value`, `array_agg` and `string_agg` without `ORDER BY`, for `any_value`, and
    /// when an argument or the filter is not deterministic. With `ORDER BY` rows that are equal by it are taken in the order
    /// in which they come, which counts as deterministic: order by a unique column to be sure. True for sums of floats, whose
    /// last digits hang on the order, and for `approx_*`, which stay within their stated error.
    pub fn deterministic(&self) -> bool {
        self.deterministic
    }

    /// Whether the result is exact: false for `approx_*`.
    pub fn exact(&self) -> bool {
        !self.function().starts_with("approx_")
    }

    /// Computes arguments and filter for the rows of a batch.
    ///
    /// # Errors
    /// When an expression fails on any row; [`evaluate_rows`](crate::evaluate_rows) finds which.
    pub fn inputs(&self, batch: &RecordBatch) -> Result<AggregateInput, ExprError> {
        let values = self.arguments.iter().map(|argument| argument.evaluate(batch)).collect::<Result<_, _>>()?;
        let filter = self.filter.as_ref().map(|filter| filter.evaluate_predicate(batch)).transpose()?;
        Ok(AggregateInput { values, filter })
    }

    /// A new running state, without groups.
    ///
    /// # Errors
    /// When DataFusion refuses, which compiling the call has ruled out.
    pub fn accumulator(&self) -> Result<GroupAccumulator, ExprError> {
        GroupAccumulator::try_new(Arc::clone(&self.text), &self.function)
    }
}

/// Without `ORDER BY` where it changes nothing, as in `sum(x ORDER BY y)`: kernels expect no column for it.
fn without_idle_order(call: &AggregateFunction) -> AggregateFunction {
    let mut call = call.clone();
    if !ORDERED.contains(&call.func.name()) && !call.func.supports_within_group_clause() {
        call.params.order_by.clear();
    }
    call
}

fn call_is_deterministic(call: &AggregateFunction) -> bool {
    let (name, params) = (call.func.name(), &call.params);
    if ARBITRARY.contains(&name) || ORDERED.contains(&name) && params.order_by.is_empty() {
        return false;
    }
    params.args.iter().chain(params.filter.as_deref()).chain(params.order_by.iter().map(|sort| &sort.expr)).all(is_deterministic)
}
