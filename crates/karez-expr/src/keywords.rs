//! Columns named like the keywords that SQL calls without parentheses: `user`, `session_user`, `current_date`, …
//!
//! The parser takes such a word for a call. A column of the input wins: bare, the word is the column; `current_date()` is the function.

use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{AccessExpr, Expr as SqlExpr, Function, FunctionArguments, Ident, ObjectNamePart, visit_expressions_mut};

use crate::functions::Functions;

/// Makes columns, and fields of columns, of keywords that name one; also of those that no function has, so that it is a column that is missing.
pub(crate) fn prefer_columns(expr: &mut SqlExpr, input: &Schema, functions: &Functions) {
    // The closure stops never.
    let _: ControlFlow<()> = visit_expressions_mut(expr, |expr| {
        match expr {
            SqlExpr::Function(function) => {
                if let Some(path) = path(function).filter(|path| is_column(path, input, functions)) {
                    *expr = column(path);
                }
            }
            SqlExpr::CompoundFieldAccess { root, access_chain } => {
                if let (SqlExpr::Identifier(root), Some(fields)) = (root.as_ref(), fields(access_chain)) {
                    *expr = column(std::iter::once(root.clone()).chain(fields).collect());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
}

/// The names of a call without parentheses: the keyword, and what it is a field of.
fn path(function: &Function) -> Option<Vec<Ident>> {
    if !matches!(function.args, FunctionArguments::None) {
        return None;
    }
    let ident = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Some(ident.clone()),
        ObjectNamePart::Function(_) => None,
    };
    function.name.0.iter().map(ident).collect()
}

fn is_column(path: &[Ident], input: &Schema, functions: &Functions) -> bool {
    match path {
        [only] => input.index_of(&only.value).is_ok() || !functions.scalar.contains_key(&only.value.to_ascii_lowercase()),
        _ => true,
    }
}

/// The names of a chain of fields, if it is nothing else.
fn fields(chain: &[AccessExpr]) -> Option<Vec<Ident>> {
    let field = |access: &AccessExpr| match access {
        AccessExpr::Dot(SqlExpr::Identifier(ident)) => Some(vec![ident.clone()]),
        AccessExpr::Dot(SqlExpr::Function(function)) => path(function),
        _ => None,
    };
    chain.iter().map(field).collect::<Option<Vec<_>>>().map(|fields| fields.concat())
}

fn column(mut path: Vec<Ident>) -> SqlExpr {
    if path.len() > 1 { SqlExpr::CompoundIdentifier(path) } else { path.pop().map_or(SqlExpr::CompoundIdentifier(Vec::new()), SqlExpr::Identifier) }
}
