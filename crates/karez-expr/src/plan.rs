//! SQL tree to typed, simplified DataFusion expression, to physical expression.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;

use crate::aggregate::AggregateExpr;
use crate::check::check;
use crate::compiled::CompiledExpr;
use crate::error::ExprError;
use crate::functions::Functions;
use crate::keywords::prefer_columns;
use crate::literals;
use crate::parse::parse_expr;

/// Compiles one text against one input schema.
pub(crate) struct Planner<'a> {
    functions: &'a Functions,
    input: DFSchemaRef,
    text: &'a str,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(functions: &'a Functions, input: &Schema, text: &'a str) -> Result<Self, ExprError> {
        let input = DFSchema::try_from(input.clone()).map_err(|error| ExprError::from_datafusion(text, &error))?;
        Ok(Self { functions, input: Arc::new(input), text })
    }

    /// The same text's next step, over another schema: what is computed of aggregate results.
    pub(crate) fn over(&self, input: &Schema) -> Result<Self, ExprError> {
        Self::new(self.functions, input, self.text)
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn input(&self) -> &DFSchemaRef {
        &self.input
    }

    pub(crate) fn compile(&self) -> Result<CompiledExpr, ExprError> {
        self.compile_parsed(self.parsed()?)
    }

    fn parsed(&self) -> Result<SqlExpr, ExprError> {
        let mut parsed = parse_expr(self.text)?;
        self.prefer_columns(&mut parsed);
        Ok(parsed)
    }

    /// Makes columns of what the parser took for calls of keywords.
    pub(crate) fn prefer_columns(&self, parsed: &mut SqlExpr) {
        prefer_columns(parsed, self.input.as_arrow(), self.functions);
    }

    /// `parsed` has been through [`prefer_columns`](Self::prefer_columns).
    pub(crate) fn compile_parsed(&self, parsed: SqlExpr) -> Result<CompiledExpr, ExprError> {
        check(self.text, &parsed, self.input.as_arrow(), self.functions, false)?;
        let expr = self.typed(self.logical(parsed)?)?;
        self.lower(expr)
    }

    pub(crate) fn compile_aggregate(&self) -> Result<AggregateExpr, ExprError> {
        let parsed = self.parsed()?;
        check(self.text, &parsed, self.input.as_arrow(), self.functions, true)?;
        AggregateExpr::compile(self, self.logical(parsed)?)
    }

    fn logical(&self, parsed: SqlExpr) -> Result<Expr, ExprError> {
        let options = ParserOptions::from(&self.functions.options.sql_parser);
        SqlToRel::new_with_options(self.functions, options)
            .sql_to_expr(parsed, &self.input, &mut PlannerContext::new())
            .map_err(|error| self.fail(&error))
    }

    /// Coerces types and simplifies: constants folded, casts moved from columns to literals.
    pub(crate) fn typed(&self, expr: Expr) -> Result<Expr, ExprError> {
        let simplifier = ExprSimplifier::new(
            SimplifyContext::builder().with_schema(Arc::clone(&self.input)).with_config_options(Arc::clone(&self.functions.options)).build(),
        );
        literals::exact(expr, &self.input)
            .and_then(|expr| simplifier.coerce(expr, &self.input))
            .and_then(|expr| simplifier.simplify(expr))
            .map_err(|error| self.fail(&error))
    }

    /// Makes an expression that [`typed`](Self::typed) returned ready to run.
    pub(crate) fn lower(&self, expr: Expr) -> Result<CompiledExpr, ExprError> {
        let deterministic = is_deterministic(&expr);
        let physical = self.physical(&expr)?;
        CompiledExpr::try_new(self.text, physical, self.input.as_arrow(), deterministic)
    }

    pub(crate) fn physical(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>, ExprError> {
        let properties = ExecutionProps { config_options: Some(Arc::clone(&self.functions.options)), ..ExecutionProps::default() };
        create_physical_expr(expr, &self.input, &properties, &PhysicalPlanningContext::default()).map_err(|error| self.fail(&error))
    }

    pub(crate) fn fail(&self, error: &DataFusionError) -> ExprError {
        ExprError::from_datafusion(self.text, error)
    }

    pub(crate) fn refuse(&self, message: impl Into<String>) -> ExprError {
        ExprError::new(self.text, message)
    }
}

/// Whether the expression gives the same for the same row, whenever it is evaluated.
pub(crate) fn is_deterministic(expr: &Expr) -> bool {
    let mut deterministic = true;
    // The closure fails never, so neither does the walk.
    let _ = expr.apply(|node| {
        let volatility = match node {
            Expr::ScalarFunction(call) => call.func.signature().volatility,
            Expr::HigherOrderFunction(call) => call.func.signature().volatility,
            _ => Volatility::Immutable,
        };
        deterministic &= volatility == Volatility::Immutable;
        Ok(if deterministic { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    deterministic
}
