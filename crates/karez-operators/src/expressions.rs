//! The functions that the operators' expressions know, and how an expression's error becomes one of the configuration.

use std::sync::LazyLock;

use karez_core::config::ConfigError;
use karez_expr::{ExprError, Expressions};

/// The functions of every job, built once per process.
pub(crate) fn expressions() -> &'static Expressions {
    static EXPRESSIONS: LazyLock<Expressions> = LazyLock::new(Expressions::new);
    &EXPRESSIONS
}

/// What is wrong with the expression at `path` of the options.
pub(crate) fn config_error(path: impl Into<String>, error: &ExprError) -> ConfigError {
    let message = match &error.span {
        Some(span) if !error.text.is_empty() => format!("{} (line {}, column {} of `{}`)", error.message, span.line, span.column, error.text),
        _ if !error.text.is_empty() => format!("{} (in `{}`)", error.message, error.text),
        _ => error.message.clone(),
    };
    let e = ConfigError::new(path, message);
    match &error.suggestion {
        Some(near) => e.hint(format!("did you mean `{near}`?")),
        None => e,
    }
}
