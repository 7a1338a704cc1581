//! Expressions and aggregate functions of Karez, on DataFusion.
//!
//! ```text
//! text ──parse──► SQL tree ──check──► Expr ──coerce, simplify──► PhysicalExpr
//!                            (columns, functions:                 evaluate(batch)
//!                             place and suggestion)
//! ```
//!
//! Everything above `evaluate` happens once, when the graph is built; a batch is a call of kernels. There is no
//! `SessionContext` and no plan.
//!
//! - [`Expressions`] knows the functions and compiles text.
//! - [`CompiledExpr`] is one column computed from a batch, [`Projection`] a whole output row.
//! - [`AggregateExpr`] is an expression over aggregate calls, [`GroupAccumulator`] the running state of one call for many
//!   groups, [`GroupTable`] numbers the groups.
//! - [`evaluate_rows`] finds the rows at fault when a batch fails.
//!
//! Names of columns are matched exactly as written (as Flink does: `userId` and `userid` are two columns) and may be quoted by
//! `"` or `` ` ``; names of functions in any case. A column wins over a function that SQL calls without parentheses (`user`, `current_date`).
//!
//! ```
//! use arrow::datatypes::{DataType, Field, Schema};
//! use karez_expr::Expressions;
//!
//! let input = Schema::new(vec![Field::new("amount", DataType::Float64, true)]);
//! let functions = Expressions::new();
//! assert!(functions.compile_predicate("amount > 0", &input)?.deterministic());
//!
//! let typo = functions.compile("amout * 2", &input).unwrap_err();
//! assert_eq!(typo.to_string(), "unknown column `amout`, did you mean `amount`?");
//! # Ok::<(), karez_expr::ExprError>(())
//! ```

mod accumulator;
mod aggregate;
mod aggregate_call;
mod check;
mod clock;
mod compiled;
mod decimals;
mod dialect;
mod error;
mod expressions;
mod functions;
mod group_table;
mod integer_groups;
mod keywords;
mod literals;
mod parse;
mod percentile;
mod plan;
mod projection;
mod rows;

pub use accumulator::GroupAccumulator;
pub use aggregate::AggregateExpr;
pub use aggregate_call::{Aggregate, AggregateInput};
pub use clock::Clock;
pub use compiled::CompiledExpr;
pub use error::{ExprError, Span};
pub use expressions::{Expressions, FunctionKind, FunctionName};
pub use group_table::GroupTable;
pub use projection::Projection;
pub use rows::{Evaluated, RowFailure, evaluate_rows};
