//! `karez dlq show`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use karez_core::{Letter, dead_letter};

use super::super::{Outcome, output};
use super::filter::{Filter, Sieve};
use super::ledger::Ledger;
use super::{DlqJob, Failure, edited, instant, outputs, plain};

#[derive(Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    job: DlqJob,
    /// The letters, by id (`karez dlq list --each`). Without any, and with `--export`: all that the filters leave.
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Write the letters to this file, one JSON object on each line, to be edited and given to `replay --from`: repair `raw` (the bytes as they were
    /// read) or `row`, remove the lines of letters to be left, keep `id` and `node`.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs) -> Outcome {
    if args.ids.is_empty() && args.export.is_none() && args.filter.is_open() {
        return Err(Failure::usage("error: name letters (`karez dlq list --each` shows their ids), or a filter, or a file to --export all to"));
    }
    let job = args.job.open()?;
    let ledger = Ledger::of(&job)?;
    let mut letters = Vec::new();
    let mut sieve = Sieve::new(&args.filter, &ledger);
    let no_letters = outputs::read(&job, &mut |letter| {
        let named = args.ids.is_empty() || args.ids.contains(&letter.id);
        if sieve.takes(&letter) && named {
            letters.push(letter);
        }
        args.ids.is_empty() || letters.len() < args.ids.len()
    })?;
    sieve.check(&job.file.graph)?;
    if let Some(missing) = args.ids.iter().find(|id| !letters.iter().any(|l| l.id == **id)) {
        return Err(Failure::failed(format!("error: there is no dead letter `{missing}` (or the filters leave it out)")));
    }
    if let Some(file) = &args.export {
        let text: String = letters.iter().map(|l| edited::json(l, None).to_string() + "\n").collect();
        std::fs::write(file, text).map_err(|e| Failure::failed(format!("error: cannot write {}: {e}", file.display())))?;
        output::line(format_args!("{} dead letters in {}{}", letters.len(), file.display(), no_letters.summary()))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        output::json(&letters.iter().map(|l| edited::json(l, Some(&ledger))).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (i, letter) in letters.iter().enumerate() {
        let gap = if i > 0 { "\n" } else { "" };
        output::line(format_args!("{gap}{}", whole(letter, &ledger).trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn whole(letter: &Letter, ledger: &Ledger) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| _ = writeln!(out, "{key:<8}{}", plain(value));
    line("letter", &letter.id);
    let replay = ledger.replay(&letter.id).map_or(String::new(), |r| format!(" (replay {r})"));
    line("status", &format!("{}{replay}", ledger.status(&letter.id)));
    line("time", &instant(letter.time_ms));
    line("run", &letter.run);
    line("node", &letter.node);
    line("reason", &letter.reason);
    line("origin", letter.origin.as_deref().unwrap_or("not known"));
    if let Some(raw) = &letter.raw {
        match std::str::from_utf8(raw) {
            Ok(text) => line("raw", text.trim_end_matches('\n')),
            Err(_) => line("raw", &format!("{} bytes: {}", raw.len(), dead_letter::to_hex(raw))),
        }
    }
    if let Some(row) = &letter.row {
        // A number that would look another way is shown as it stands.
        let value = serde_json::from_str::<serde_json::Value>(row).ok().filter(|value| serde_json::to_string(value).is_ok_and(|text| text == *row));
        let pretty = value.and_then(|value| serde_json::to_string_pretty(&value).ok());
        line("row", pretty.as_deref().unwrap_or(row));
    }
    out
}
