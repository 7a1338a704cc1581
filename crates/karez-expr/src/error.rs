//! What is wrong with an expression: what, where, and what to write instead.

use std::fmt;
use std::ops::Range;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use karez_core::sql_type;

/// Characters of an expression that a row's error shows.
const MAX_TEXT_CHARS: usize = 100;

/// Why an expression could not be compiled or evaluated.
///
/// Shown (`Display`) as the message with its suggestion; the text and the place in it are for the caller, who knows the file
/// that the text stands in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ExprError {
    /// What is wrong, without the text of the expression.
    pub message: String,
    /// The expression as the user wrote it.
    pub text: String,
    /// Where in the text, when that is known.
    pub span: Option<Span>,
    /// What the user may have meant: the name of a column or of a function.
    pub suggestion: Option<String>,
}

/// A place in the text of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Byte offsets into the text, on character borders; empty where only a point is known.
    pub bytes: Range<usize>,
    /// Line of the start, from 1.
    pub line: usize,
    /// Column of the start in characters, from 1.
    pub column: usize,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ", did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl ExprError {
    /// An error about the whole of `text`.
    pub fn new(text: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), text: text.into(), span: None, suggestion: None }
    }

    /// What is wrong with a row, for a person who sees neither job nor file: the message says the value, the text the column.
    pub(crate) fn of_a_row(self) -> String {
        match self.text.char_indices().nth(MAX_TEXT_CHARS) {
            _ if self.text.is_empty() => self.message,
            None => format!("{} (in `{}`)", self.message, self.text),
            Some((end, _)) => format!("{} (in `{}…`)", self.message, &self.text[..end]),
        }
    }

    pub(crate) fn at(mut self, span: Option<Span>) -> Self {
        self.span = span;
        self
    }

    pub(crate) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// Turns DataFusion's error into ours: the innermost message without the names of error kinds, and its place.
    pub(crate) fn from_datafusion(text: &str, error: &DataFusionError) -> Self {
        let span = error
            .diagnostic()
            .and_then(|diagnostic| diagnostic.span)
            .and_then(|span| Span::new(text, span.start.line, span.start.column, span.end.line, span.end.column));
        Self::new(text, sql_type::translated(&plain_message(error))).at(span)
    }

    /// Turns Arrow's error into ours.
    pub(crate) fn from_arrow(text: &str, error: &ArrowError) -> Self {
        Self::new(text, sql_type::translated(&plain_arrow_message(error)))
    }
}

impl Span {
    /// Makes a place of lines and columns that count characters from 1, the end after the last character.
    ///
    /// `None` where the parser knew no place (it says line 0) or the place is not in the text.
    pub(crate) fn new(text: &str, line: u64, column: u64, end_line: u64, end_column: u64) -> Option<Self> {
        let start = byte_offset(text, line, column)?;
        let end = byte_offset(text, end_line, end_column).unwrap_or(start).max(start);
        Some(Self { bytes: start..end, line: usize::try_from(line).ok()?, column: usize::try_from(column).ok()? })
    }
}

fn byte_offset(text: &str, line: u64, column: u64) -> Option<usize> {
    let (line, column) = (usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?.checked_sub(1)?);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..)?;
    let width = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).nth(column)?;
    Some(start + width)
}

fn plain_message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::ArrowError(error, _) => plain_arrow_message(error),
        DataFusionError::Plan(message)
        | DataFusionError::Execution(message)
        | DataFusionError::Internal(message)
        | DataFusionError::NotImplemented(message)
        | DataFusionError::Configuration(message) => first_part(message),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => plain_message(inner),
        DataFusionError::Shared(inner) => plain_message(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => plain_message(first),
            None => error.strip_backtrace(),
        },
        other => other.strip_backtrace(),
    }
}

fn plain_arrow_message(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(message)
        | ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::InvalidArgumentError(message)
        | ArrowError::ArithmeticOverflow(message)
        | ArrowError::NotYetImplemented(message) => message.clone(),
        ArrowError::DivideByZero => "division by zero".to_owned(),
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => plain_message(inner),
            None => inner.to_string(),
        },
        other => other.to_string(),
    }
}

/// Without the back-trace that a debugging build of DataFusion appends.
fn first_part(message: &str) -> String {
    message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or(message).trim_end().to_owned()
}
