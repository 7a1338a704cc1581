//! [`AggregateExpr`]: an expression over the rows of a group.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;

use crate::aggregate_call::Aggregate;
use crate::compiled::CompiledExpr;
use crate::decimals;
use crate::error::ExprError;
use crate::plan::Planner;

/// One or more aggregate calls and what is computed of their results: `sum(a) / count(*)` is two calls and a division.
///
/// ```text
/// rows ──► calls[0] ─┐
///      ──► calls[1] ─┴─► one column per call ──finish──► the result
/// ```
///
/// A call that stands twice in the text is made once.
#[derive(Debug, Clone)]
pub struct AggregateExpr {
    text: Arc<str>,
    calls: Vec<Aggregate>,
    results: SchemaRef,
    finish: CompiledExpr,
}

impl AggregateExpr {
    pub(crate) fn compile(planner: &Planner<'_>, expr: Expr) -> Result<Self, ExprError> {
        let expr = rewrite_ordered_nth_value(expr).map_err(|error| planner.fail(&error))?;
        let expr = decimals::exact(planner.typed(expr)?, planner.input()).map_err(|error| planner.fail(&error))?;
        let (calls, rest) = split(planner, expr)?;
        let mut compiled = Vec::with_capacity(calls.len());
        for call in &calls {
            compiled.push(Aggregate::compile(planner, call)?);
        }
        let results: Vec<Field> = compiled.iter().enumerate().map(|(i, call)| call.field(&result_name(i))).collect();
        let results = Arc::new(Schema::new(results));
        let over_results = planner.over(&results)?;
        // Types of the calls' results are settled by now: only the outer expression may need a cast.
        let finish = over_results.lower(over_results.typed(rest)?)?;
        Ok(Self { text: planner.text().into(), calls: compiled, results, finish })
    }

    /// The expression as the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The aggregate calls, in the order of their first appearance.
    pub fn calls(&self) -> &[Aggregate] {
        &self.calls
    }

    /// What is computed of the calls' results, over a batch with one column per call; identity for a single call.
    pub fn finish_expr(&self) -> &CompiledExpr {
        &self.finish
    }

    /// The type of the result.
    pub fn data_type(&self) -> &DataType {
        self.finish.data_type()
    }

    /// The result as a column named `name`.
    pub fn field(&self, name: &str) -> Field {
        self.finish.field(name)
    }

    /// Indices of the input columns that the calls read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.calls.iter().flat_map(|call| call.columns()).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Whether the same rows give the same result; see [`Aggregate::deterministic`].
    pub fn deterministic(&self) -> bool {
        self.finish.deterministic() && self.calls.iter().all(Aggregate::deterministic)
    }

    /// Whether no call is an approximation.
    pub fn exact(&self) -> bool {
        self.calls.iter().all(Aggregate::exact)
    }

    /// Computes the result column of the calls' results: one array per call, all of the same length.
    ///
    /// # Errors
    /// When the arrays do not fit the calls, or an expression over them fails: a division by zero, a sum of decimals with more digits than its type has.
    pub fn finish(&self, results: Vec<ArrayRef>) -> Result<ArrayRef, ExprError> {
        if self.finish.as_column().is_some() && results.len() == 1 {
            return results.into_iter().next().ok_or_else(|| ExprError::new(&*self.text, "no result"));
        }
        let options = RecordBatchOptions::new().with_row_count(results.first().map(|array| array.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.results), results, &options)
            .map_err(|error| ExprError::from_arrow(&self.text, &error))?;
        self.finish.evaluate(&batch)
    }
}

fn result_name(call: usize) -> String {
    format!("#{call}")
}

/// Takes the aggregate calls out of the expression and leaves columns of their results in their places.
fn split(planner: &Planner<'_>, expr: Expr) -> Result<(Vec<Expr>, Expr), ExprError> {
    let mut calls: Vec<Expr> = Vec::new();
    let mut nested = false;
    let rest = expr
        .transform_down(|node| {
            if !matches!(node, Expr::AggregateFunction(_)) {
                return Ok(Transformed::no(node));
            }
            nested |= contains_call_within(&node);
            let index = calls.iter().position(|call| *call == node).unwrap_or_else(|| {
                calls.push(node);
                calls.len() - 1
            });
            let result = Expr::Column(Column::new_unqualified(result_name(index)));
            Ok(Transformed::new(result, true, TreeNodeRecursion::Jump))
        })
        .map_err(|error| planner.fail(&error))?
        .data;
    if nested {
        return Err(planner.refuse("an aggregate function cannot stand within another"));
    }
    if calls.is_empty() {
        return Err(planner.refuse("an aggregate function is needed here, such as `sum(…)` or `count(*)`"));
    }
    let outside: Vec<_> = rest.column_refs().into_iter().filter(|column| !is_result(column, calls.len())).collect();
    match outside.iter().map(|column| column.name()).min() {
        Some(name) => {
            Err(planner.refuse(format!("column `{name}` has many values in a group: put it into an aggregate function, such as `min({name})`")))
        }
        None => Ok((calls, rest)),
    }
}

fn is_result(column: &Column, calls: usize) -> bool {
    (0..calls).any(|call| column.name == result_name(call))
}

fn contains_call_within(call: &Expr) -> bool {
    let mut calls = 0;
    // The closure fails never, so neither does the walk.
    let _ = call.apply(|node| {
        calls += usize::from(matches!(node, Expr::AggregateFunction(_)));
        Ok(TreeNodeRecursion::Continue)
    });
    calls > 1
}

/// `nth_value(x, n ORDER BY y)` as `array_element(array_agg(x ORDER BY y), n)`.
///
/// DataFusion's `nth_value` relies on a plan that sorts its input first, which a stream has not.
fn rewrite_ordered_nth_value(expr: Expr) -> datafusion::common::Result<Expr> {
    expr.transform_down(|node| match node {
        Expr::AggregateFunction(AggregateFunction { func, mut params })
            if func.name() == "nth_value" && !params.order_by.is_empty() && params.args.len() == 2 =>
        {
            let n = params.args.remove(1);
            let all = Expr::AggregateFunction(AggregateFunction { func: array_agg_udaf(), params });
            Ok(Transformed::new(array_element(all, n), true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
    .map(|rewritten| rewritten.data)
}
