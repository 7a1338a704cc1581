//! What commands print to the standard output, and say on the standard error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::Failure;

/// Prints a line. A reader that has seen enough (`karez connectors | head`) is no error.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::failed(format!("error: cannot print: {e}"))),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(|e| Failure::failed(format!("error: {e}")))?)
}

/// Says something to the user on the standard error, unlike `eprintln!` also without panic where that is closed.
pub(crate) fn note(text: impl Display) {
    let _nobody_reads = writeln!(std::io::stderr().lock(), "{text}");
}
