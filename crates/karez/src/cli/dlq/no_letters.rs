//! What stands in an output of letters and is none: a line that was cut off, another program's message or row.

use karez_core::BadRecord;
use serde::Serialize;

use super::super::output;
use super::plain;

/// Records that are told, at most; others are counted.
const MAX_TOLD: usize = 5;

/// Records that are no letters. They are left out, and never in silence.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NoLetters {
    records: u64,
    shown: Vec<NoLetter>,
}

#[derive(Serialize)]
struct NoLetter {
    output: String,
    origin: Option<String>,
    reason: String,
}

impl NoLetters {
    /// A record of the sink `output`.
    pub(super) fn add(&mut self, output: &str, bad: BadRecord) {
        self.records += 1;
        if self.shown.len() < MAX_TOLD {
            self.shown.push(NoLetter { output: output.to_owned(), origin: bad.origin, reason: bad.reason });
        }
    }

    /// Says on the standard error which there are.
    pub(super) fn tell(&self) {
        if self.records == 0 {
            return;
        }
        let mut text = format!("warning: {} left out", self.counted());
        for NoLetter { output, origin, reason } in &self.shown {
            let origin = origin.as_ref().map_or(String::new(), |o| format!(" ({o})"));
            text.push_str(&plain(&format!("\n  in `{output}`{origin}: {reason}")));
        }
        match self.records - self.shown.len() as u64 {
            0 => {}
            more => text.push_str(&format!("\n  and {more} more")),
        }
        output::note(text);
    }

    /// What the last line of a command says of them; nothing where there are none.
    pub(super) fn summary(&self) -> String {
        if self.records == 0 { String::new() } else { format!("; {} left out", self.counted()) }
    }

    fn counted(&self) -> String {
        match self.records {
            1 => "1 record that is no letter is".into(),
            n => format!("{n} records that are no letters are"),
        }
    }
}
