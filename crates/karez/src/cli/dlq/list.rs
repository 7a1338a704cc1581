//! `karez dlq list`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use karez_core::Letter;
use serde::Serialize;
use serde_json::json;

use super::super::connectors::table;
use super::super::{Outcome, output};
use super::filter::{Filter, Sieve};
use super::ledger::{Ledger, Status};
use super::{DlqJob, instant, outputs, plain};

/// Characters of a reason that letters are grouped by and that a table shows.
const REASON_CHARS: usize = 160;

/// Groups that are counted, at most.
const MAX_GROUPS: usize = 100_000;

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    job: DlqJob,
    #[command(flatten)]
    filter: Filter,
    /// Show each letter instead of counts: its id, time and reason. The newest first.
    #[arg(long)]
    each: bool,
    /// The most lines.
    #[arg(long, value_name = "LINES", default_value_t = 50)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Letters of one node for one reason.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    letters: u64,
    open: u64,
    queued: u64,
    replayed: u64,
    #[serde(skip)]
    first_ms: i64,
    #[serde(skip)]
    last_ms: i64,
}

impl Group {
    fn add(&mut self, letter: &Letter, status: Status) {
        self.first_ms = if self.letters == 0 { letter.time_ms } else { self.first_ms.min(letter.time_ms) };
        self.last_ms = self.last_ms.max(letter.time_ms);
        self.letters += 1;
        match status {
            Status::Open => self.open += 1,
            Status::Queued => self.queued += 1,
            Status::Replayed => self.replayed += 1,
        }
    }
}

pub(super) fn list(args: &ListArgs) -> Outcome {
    let job = args.job.open()?;
    let ledger = Ledger::of(&job)?;
    let mut total = Group::default();
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut newest: Vec<Letter> = Vec::new();
    let mut sieve = Sieve::new(&args.filter, &ledger);
    let no_letters = outputs::read(&job, &mut |letter| {
        if !sieve.takes(&letter) {
            return true;
        }
        let status = ledger.status(&letter.id);
        total.add(&letter, status);
        if args.each {
            newest.push(letter);
            if newest.len() >= args.limit.saturating_mul(2).max(1_024) {
                keep_newest(&mut newest, args.limit);
            }
            return true;
        }
        let key = (letter.node.clone(), shortened(&letter.reason));
        if groups.len() < MAX_GROUPS || groups.contains_key(&key) {
            groups.entry(key).or_default().add(&letter, status);
        }
        true
    })?;
    sieve.check(&job.file.graph)?;
    keep_newest(&mut newest, args.limit);
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, g)| std::cmp::Reverse(g.letters));
    groups.truncate(args.limit);
    match (args.json, args.each) {
        (true, true) => output::json(&newest.iter().map(|l| super::edited::json(l, Some(&ledger))).collect::<Vec<_>>())?,
        (true, false) => {
            let group = |(key, g): &((String, String), Group)| {
                json!({ "node": key.0, "reason": key.1, "letters": g.letters, "open": g.open, "queued": g.queued, "replayed": g.replayed,
                        "first": instant(g.first_ms), "last": instant(g.last_ms) })
            };
            let run = ledger.last.as_ref().map(|l| l.run.0.clone());
            output::json(&json!({ "job": job.id(), "run": run, "total": total, "groups": groups.iter().map(group).collect::<Vec<_>>(),
                                   "noLetters": no_letters }))?;
        }
        (false, each) => {
            print(&groups, &newest, &ledger, each)?;
            let Group { letters, open, queued, replayed, .. } = total;
            output::line(format_args!("{letters} dead letters: {open} open, {queued} queued, {replayed} replayed{}", no_letters.summary()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(groups: &[((String, String), Group)], newest: &[Letter], ledger: &Ledger, each: bool) -> Result<(), super::Failure> {
    if each && !newest.is_empty() {
        let mut rows = table(["id", "time", "node", "status", "reason"]);
        for l in newest {
            rows.add_row([l.id.clone(), short(l.time_ms), l.node.clone(), ledger.status(&l.id).to_string(), plain(&shortened(&l.reason))]);
        }
        output::line(rows)?;
    } else if !groups.is_empty() {
        let mut rows = table(["node", "reason", "letters", "open", "queued", "replayed", "first", "last"]);
        for ((node, reason), g) in groups {
            let counts = [g.letters, g.open, g.queued, g.replayed].map(|n| n.to_string());
            rows.add_row([node.clone(), plain(reason)].into_iter().chain(counts).chain([short(g.first_ms), short(g.last_ms)]));
        }
        output::line(rows)?;
    }
    Ok(())
}

/// An instant in a table: to the second.
fn short(ms: i64) -> String {
    let text = instant(ms);
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn keep_newest(letters: &mut Vec<Letter>, limit: usize) {
    letters.sort_by_key(|l| std::cmp::Reverse(l.time_ms));
    letters.truncate(limit);
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARS) {
        None => reason.to_owned(),
        Some((end, _)) => format!("{}…", &reason[..end]),
    }
}
