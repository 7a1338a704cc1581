//! [`Expressions`]: the functions a job knows, and the compiler of its expressions.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use karez_core::sql_type::to_sql;

use crate::aggregate::AggregateExpr;
use crate::clock::Clock;
use crate::compiled::CompiledExpr;
use crate::error::ExprError;
use crate::functions::Functions;
use crate::plan::Planner;
use crate::projection::Projection;

/// The functions that expressions may call, and the compiler of text. Built once per process; cloning is cheap.
#[derive(Clone)]
pub struct Expressions {
    functions: Arc<Functions>,
}

/// The name of a function, for documentation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionName {
    /// The name or one of its aliases, in lower case.
    pub name: String,
    /// Where it may be called.
    pub kind: FunctionKind,
}

/// Where a function may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FunctionKind {
    /// In every expression.
    Scalar,
    /// In every expression; takes a lambda: `array_transform(xs, x -> x + 1)`.
    HigherOrder,
    /// In the expressions of aggregate operators.
    Aggregate,
}

impl Default for Expressions {
    fn default() -> Self {
        Self::new()
    }
}

impl Expressions {
    /// All scalar, nested and aggregate functions of DataFusion, with the system's clock.
    pub fn new() -> Self {
        Self::with_clock(Clock::system())
    }

    /// As [`new`](Self::new), with a clock of the caller's for `now()` and its kin.
    pub fn with_clock(clock: Clock) -> Self {
        Self { functions: Arc::new(Functions::new(&clock)) }
    }

    /// Compiles an expression over one row of `input`.
    ///
    /// # Errors
    /// Text that does not parse; unknown columns and functions; types that do not fit; aggregate and window functions,
    /// subqueries.
    pub fn compile(&self, text: &str, input: &Schema) -> Result<CompiledExpr, ExprError> {
        Planner::new(&self.functions, input, text)?.compile()
    }

    /// Compiles a condition: as [`compile`](Self::compile), and the result must be boolean (or `NULL`).
    ///
    /// # Errors
    /// As [`compile`](Self::compile), and when the expression is not boolean.
    pub fn compile_predicate(&self, text: &str, input: &Schema) -> Result<CompiledExpr, ExprError> {
        let compiled = self.compile(text, input)?;
        match compiled.data_type() {
            DataType::Boolean | DataType::Null => Ok(compiled),
            other => Err(ExprError::new(text, format!("a condition must be boolean, but this is {}", to_sql(other)))),
        }
    }

    /// Compiles an expression over the rows of a group: one or more aggregate calls, and what is computed of them.
    ///
    /// # Errors
    /// As [`compile`](Self::compile); a text without any aggregate call; columns outside of the calls; calls within calls;
    /// combinations that a function does not support.
    pub fn compile_aggregate(&self, text: &str, input: &Schema) -> Result<AggregateExpr, ExprError> {
        Planner::new(&self.functions, input, text)?.compile_aggregate()
    }

    /// Compiles a SELECT list: each item a name (or none) and a text, which may be `expr`, `expr AS name`, `*` or
    /// `* EXCEPT (a, b)`. See [`Projection`].
    ///
    /// # Errors
    /// As [`compile`](Self::compile); two output columns of one name; a name for `*`.
    pub fn compile_projection<N: AsRef<str>, T: AsRef<str>>(&self, items: &[(Option<N>, T)], input: &Schema) -> Result<Projection, ExprError> {
        Projection::compile(self, items, input)
    }

    /// All function names, aliases included, sorted.
    pub fn functions(&self) -> Vec<FunctionName> {
        let of = |kind| move |name: &String| FunctionName { name: name.clone(), kind };
        let functions = &self.functions;
        let mut names: Vec<_> = functions
            .scalar
            .keys()
            .map(of(FunctionKind::Scalar))
            .chain(functions.higher_order.keys().map(of(FunctionKind::HigherOrder)))
            .chain(functions.aggregate.keys().map(of(FunctionKind::Aggregate)))
            .collect();
        names.sort();
        names
    }

    pub(crate) fn planner<'a>(&'a self, text: &'a str, input: &Schema) -> Result<Planner<'a>, ExprError> {
        Planner::new(&self.functions, input, text)
    }
}
