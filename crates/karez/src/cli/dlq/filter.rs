//! Which letters are meant.

use clap::Args;
use karez_core::config::Span;
use karez_core::{Clock, Letter, SystemClock};

use super::ledger::{Ledger, Status};

#[derive(Args, Default)]
pub(super) struct Filter {
    /// Only letters of this node.
    #[arg(long)]
    node: Option<String>,
    /// Only letters whose reason contains this text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only letters of this run.
    #[arg(long)]
    run: Option<String>,
    /// Only letters since then: a time span (`2h`), or an instant (`2026-01-31T00:00:00Z`).
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<i64>,
    /// Only letters in this state.
    #[arg(long, value_enum)]
    status: Option<Status>,
}

impl Filter {
    /// Whether nothing narrows it.
    pub(super) const fn is_open(&self) -> bool {
        self.node.is_none() && self.reason.is_none() && self.run.is_none() && self.since.is_none() && self.status.is_none()
    }

    /// Whether it names a run.
    pub(super) const fn names_run(&self) -> bool {
        self.run.is_some()
    }

    pub(super) fn takes(&self, letter: &Letter, ledger: &Ledger) -> bool {
        self.node.as_ref().is_none_or(|n| *n == letter.node)
            && self.reason.as_ref().is_none_or(|r| letter.reason.contains(r.as_str()))
            && self.run.as_ref().is_none_or(|r| *r == letter.run)
            && self.since.is_none_or(|s| letter.time_ms >= s)
            && self.status.is_none_or(|s| s == ledger.status(&letter.id))
    }
}

/// Milliseconds since the epoch.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(span) = text.parse::<Span>() {
        return Ok(SystemClock.now_ms().saturating_sub(span.as_millis()));
    }
    let instant = chrono::DateTime::parse_from_rfc3339(text).map(|t| t.timestamp_millis());
    instant.map_err(|_| format!("`{text}` is neither a time span such as `2h` nor an instant such as `2026-01-31T00:00:00Z`"))
}
