//! Names and forms in the SQL tree, checked before planning, where each still has its place in the text.

use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Function, Ident, ObjectNamePart, Query, Value, Visit, Visitor};

use crate::error::{ExprError, Span};
use crate::functions::Functions;

/// Names that the planner understands without a function behind them.
const PLANNED: [&str; 1] = ["make_map"];

/// Checks that every column and function exists and that nothing but an expression over one row, or over the rows of a group
/// where `aggregates` are allowed, is asked for.
pub(crate) fn check(text: &str, expr: &SqlExpr, input: &Schema, functions: &Functions, aggregates: bool) -> Result<(), ExprError> {
    let mut checker = Checker { text, input, functions, aggregates, lambda_parameters: Vec::new() };
    match expr.visit(&mut checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The error for a column that the input does not have.
pub(crate) fn unknown_column(text: &str, name: &Ident, input: &Schema) -> ExprError {
    let suggestion = closest(&name.value, input.fields().iter().map(|field| field.name().as_str()));
    let error = ExprError::new(text, format!("unknown column `{}`", name.value)).at(place(text, name));
    match suggestion {
        Some(_) => error.suggest(suggestion),
        None => {
            let names: Vec<_> = input.fields().iter().take(20).map(|field| format!("`{}`", field.name())).collect();
            let more = if input.fields().len() > names.len() { ", …" } else { "" };
            ExprError { message: format!("{} (columns: {}{more})", error.message, names.join(", ")), ..error }
        }
    }
}

/// Where an identifier stands in the text.
pub(crate) fn place(text: &str, name: &Ident) -> Option<Span> {
    let (start, end) = (name.span.start, name.span.end);
    Span::new(text, start.line, start.column, end.line, end.column)
}

/// The known name nearest to `name`, if it is near enough to be a typing error.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|&(distance, candidate)| (distance, candidate))
        .map(|(_, candidate)| candidate.to_owned())
}

struct Checker<'a> {
    text: &'a str,
    input: &'a Schema,
    functions: &'a Functions,
    aggregates: bool,
    /// Names bound by `x -> …`, wherever in the expression: the planner checks their scope.
    lambda_parameters: Vec<String>,
}

impl Checker<'_> {
    fn column(&self, name: &Ident) -> ControlFlow<Box<ExprError>> {
        let known = self.lambda_parameters.contains(&name.value) || self.input.fields().iter().any(|field| *field.name() == name.value);
        if known { ControlFlow::Continue(()) } else { self.stop(unknown_column(self.text, name, self.input)) }
    }

    fn function(&self, function: &Function) -> ControlFlow<Box<ExprError>> {
        let Some(ObjectNamePart::Identifier(ident)) = function.name.0.last() else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_ascii_lowercase();
        let name = if function.name.0.len() == 1 { ident.value.to_ascii_lowercase() } else { name };
        let error = |message: String| ExprError::new(self.text, message).at(place(self.text, ident));
        let functions = self.functions;
        if function.over.is_some() || functions.window.contains_key(&name) && !functions.aggregate.contains_key(&name) {
            return self
                .stop(error(format!("`{name}` is used as a window function, which an expression cannot be: use a window-aggregate operator")));
        }
        if functions.aggregate.contains_key(&name) {
            if self.aggregates {
                return ControlFlow::Continue(());
            }
            return self
                .stop(error(format!("`{name}` is an aggregate function, which cannot stand here: use an aggregate or window-aggregate operator")));
        }
        if functions.scalar.contains_key(&name) || functions.higher_order.contains_key(&name) || PLANNED.contains(&name.as_str()) {
            return ControlFlow::Continue(());
        }
        match name.as_str() {
            "unnest" | "unnest_outer" => {
                self.stop(error(format!("`{name}` makes several rows of one, which an expression cannot: use an unnest operator")))
            }
            "grouping" => self.stop(error("`grouping` has a meaning only with GROUPING SETS".to_owned())),
            _ => {
                let names = functions.scalar.keys().chain(functions.higher_order.keys());
                let aggregates = functions.aggregate.keys().filter(|_| self.aggregates);
                let suggestion = closest(&name, names.chain(aggregates).map(String::as_str));
                self.stop(error(format!("unknown function `{name}`")).suggest(suggestion))
            }
        }
    }

    fn stop(&self, error: ExprError) -> ControlFlow<Box<ExprError>> {
        ControlFlow::Break(Box::new(error))
    }
}

impl Visitor for Checker<'_> {
    type Break = Box<ExprError>;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.stop(ExprError::new(self.text, "a subquery cannot stand in an expression: use a join or look-up operator"))
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Self::Break> {
        match expr {
            SqlExpr::Identifier(name) => self.column(name),
            SqlExpr::CompoundIdentifier(names) => match names.first() {
                Some(name) => self.column(name),
                None => ControlFlow::Continue(()),
            },
            SqlExpr::Function(function) => self.function(function),
            SqlExpr::Lambda(lambda) => {
                self.lambda_parameters.extend(lambda.params.iter().map(|parameter| parameter.name.value.clone()));
                ControlFlow::Continue(())
            }
            SqlExpr::Value(value) => match &value.value {
                Value::Placeholder(name) => self
                    .stop(ExprError::new(self.text, format!("`{name}` is a parameter of a prepared statement, which an expression does not have"))),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}
