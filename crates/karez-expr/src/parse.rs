//! Text to SQL tree, one expression or select item, with the place of what does not parse.

use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, SelectItem};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::dialect::KarezDialect;
use crate::error::{ExprError, Span};

/// Depth of nesting beyond which a text is refused.
const RECURSION_LIMIT: usize = 200;

/// Parses one expression, to the end of the text.
pub(crate) fn parse_expr(text: &str) -> Result<SqlExpr, ExprError> {
    parse(text, |parser| parser.parse_expr())
}

/// Parses one item of a SELECT list: `expr`, `expr AS name`, `*`, `* EXCEPT (a, b)`.
pub(crate) fn parse_select_item(text: &str) -> Result<SelectItem, ExprError> {
    parse(text, |parser| parser.parse_select_item())
}

fn parse<T>(text: &str, parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>) -> Result<T, ExprError> {
    if text.trim().is_empty() {
        return Err(ExprError::new(text, "the expression is empty"));
    }
    let dialect = KarezDialect;
    let mut parser = Parser::new(&dialect).with_recursion_limit(RECURSION_LIMIT).try_with_sql(text).map_err(|error| syntax_error(text, &error))?;
    let parsed = parse(&mut parser).map_err(|error| syntax_error(text, &error))?;
    let next = parser.peek_token_ref();
    if next.token != Token::EOF {
        let (start, end) = (next.span.start, next.span.end);
        return Err(ExprError::new(text, format!("unexpected `{}` after the expression", next.token)).at(Span::new(
            text,
            start.line,
            start.column,
            end.line,
            end.column,
        )));
    }
    Ok(parsed)
}

fn syntax_error(text: &str, error: &ParserError) -> ExprError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => "the expression is nested too deep",
    };
    match split_position(message) {
        Some((message, line, column)) => ExprError::new(text, message.trim_end()).at(Span::new(text, line, column, line, column)),
        None => ExprError::new(text, message.trim_end()),
    }
}

/// Takes the place off the end of the parser's message: `Expected: …, found: … at Line: 1, Column: 5`.
fn split_position(message: &str) -> Option<(&str, u64, u64)> {
    let (head, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((head, line.trim().parse().ok()?, column.trim().parse().ok()?))
}
