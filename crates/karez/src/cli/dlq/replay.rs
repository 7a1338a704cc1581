//! `karez dlq replay`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use karez_core::{Clock, Letter, RunId, SystemClock, result_letter};
use karez_graph::JobGraph;
use karez_runtime::checkpoint::Start;
use karez_runtime::replay::{MAX_LETTERS, MAX_REQUESTS, check, queue, view};

use super::super::log::LogFormat;
use super::super::{Outcome, control, output, run};
use super::filter::{Filter, Sieve};
use super::ledger::{Ledger, Status};
use super::{DlqJob, Failure, Opened, edited, outputs};

/// Letters that one command feeds, at most.
const MAX_AT_ONCE: usize = MAX_LETTERS * 10;

const AS_EXPORTED: &str = "leave `id` and `node` as they were exported, and mend `raw` or `row`";

/// Mistakes that are told, at most.
const MAX_TOLD: usize = 10;

#[derive(Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    job: DlqJob,
    /// The letters, by id (`karez dlq list --each`).
    #[arg(conflicts_with = "from")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// The letters in this file, repaired: as `karez dlq show --export` wrote it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node", "reason", "run", "since", "status"])]
    from: Option<PathBuf>,
    /// All letters of the run that are open, as they are: after the job has been mended.
    #[arg(long, conflicts_with = "from")]
    all: bool,
    /// Also letters that have been fed again before: they count once more.
    #[arg(long)]
    again: bool,
    /// Where the last run is over: feed the letters in a run of their own, in which the sources read nothing. Only where nothing on the way of the letters
    /// keeps state, and no sink replaces what the run before wrote.
    #[arg(long)]
    pub(super) separate_run: bool,
}

pub(super) fn replay(args: &ReplayArgs, format: LogFormat) -> Outcome {
    if args.ids.is_empty() && args.from.is_none() && !args.all && args.filter.is_open() {
        return Err(Failure::usage("error: name letters, or a filter (`--node`, `--reason`, …), or a file (`--from`), or `--all` that are open"));
    }
    let job = args.job.open()?;
    let ledger = Ledger::of(&job)?;
    let Some(last) = &ledger.last else {
        return Err(Failure::failed(format!("error: job `{}` has not been run with the state directory {}", job.id(), job.state_dir.display())));
    };
    if last.finished && !args.separate_run {
        return Err(Failure::failed(format!(
            "error: the last run of job `{}`, {}, is over: its windows and keys are final. `--separate-run` feeds the letters in a run of their own, where \
             nothing on their way keeps state",
            job.id(),
            last.run
        )));
    }
    if !last.finished && args.separate_run {
        return Err(Failure::usage(format!(
            "error: the last run of job `{}`, {}, is not over: leave out `--separate-run`, and the letters go into it",
            job.id(),
            last.run
        )));
    }
    let letters = chosen(args, &job, &ledger)?;
    let letters = fresh(letters, args, &ledger)?;
    if letters.is_empty() {
        output::line("no letter is to be fed again")?;
        return Ok(ExitCode::SUCCESS);
    }
    unfit(&job.graph, &letters)?;
    if let Some(file) = &args.from {
        real(file, &job, &letters)?;
    }
    if args.separate_run {
        stateless(&job.graph, &letters)?;
        output::line(format_args!("{} letters are fed in a run of their own", letters.len()))?;
        return run::start_with(job.graph, Start::Letters(letters), &job.state_dir, format);
    }
    let run = last.run.clone();
    let (queued, left_out) = queue(&job.state_dir.join(job.id()), &run, letters, args.again, SystemClock.now_ms())?;
    let count: usize = queued.iter().map(|r| r.letters.len()).sum();
    if !left_out.is_empty() {
        output::note(format_args!("{} letters have been given to the run meanwhile and are left out", left_out.len()));
    }
    for request in &queued {
        output::line(&request.id)?;
    }
    let told = match control::replay(&job.state_dir, job.id()) {
        Ok(told) => told,
        Err(e) => return unanswered(&job, &run, count, &e),
    };
    match told {
        Some(refused) if refused.is_empty() => {
            output::note(format_args!("{count} letters given to the running job; they count with its next checkpoint"))
        }
        Some(refused) => {
            let told = refused.iter().take(MAX_TOLD).cloned().collect::<Vec<_>>().join("\n  ");
            return Err(Failure::failed(format!("error: {} letters cannot be fed to the running job and stay queued:\n  {told}", refused.len())));
        }
        None => output::note(format_args!("{count} letters queued; the job is not running, its next start feeds them")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what has become of queued letters when the job ended before it answered, or could not be reached.
fn unanswered(job: &Opened, run: &RunId, count: usize, why: &Failure) -> Outcome {
    let why = why.message.trim_start_matches("error: ");
    if view(&job.state_dir, job.id(), Some(run))?.is_some_and(|r| r.finished) {
        return Err(Failure::failed(format!("error: {why}; its run is over now, and what it had not fed by then is open still")));
    }
    output::note(format_args!("{count} letters queued; {why}. If it has not taken them, its next start feeds them"));
    Ok(ExitCode::SUCCESS)
}

/// The letters that were asked for.
fn chosen(args: &ReplayArgs, job: &Opened, ledger: &Ledger) -> Result<Vec<Letter>, Failure> {
    if let Some(file) = &args.from {
        return from_file(file, job);
    }
    let mut letters = Vec::new();
    let mut sieve = Sieve::new(&args.filter, ledger);
    outputs::read(job, &mut |letter| {
        let taken = sieve.takes(&letter);
        let named = args.ids.is_empty() || args.ids.contains(&letter.id);
        // By its name a letter of an earlier run is meant; filters mean the last run, unless they say which.
        let of_run = !args.ids.is_empty() || args.filter.names_run() || ledger.last.as_ref().is_some_and(|l| l.run.0 == letter.run);
        // What has been fed again is meant only where it is named, or `--again` says so.
        let open = args.again || !args.ids.is_empty() || ledger.status(&letter.id) == Status::Open;
        if taken && named && of_run && open {
            letters.push(letter);
        }
        letters.len() <= MAX_AT_ONCE && (args.ids.is_empty() || letters.len() < args.ids.len())
    })?;
    sieve.check(&job.file.graph)?;
    if let Some(missing) = args.ids.iter().find(|id| !letters.iter().any(|l| l.id == **id)) {
        return Err(Failure::failed(format!("error: there is no dead letter `{missing}` (or the filters leave it out)")));
    }
    if letters.len() > MAX_AT_ONCE {
        return Err(Failure::usage(format!(
            "error: these are more than {MAX_AT_ONCE} letters, and {MAX_REQUESTS} replays are kept of a job; narrow the filters"
        )));
    }
    Ok(letters)
}

fn from_file(file: &Path, job: &Opened) -> Result<Vec<Letter>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("error: cannot read {}: {e}", file.display())))?;
    let letters = edited::parse(&file.display().to_string(), &text)?;
    if let Some(other) = letters.iter().find(|l| !l.job.is_empty() && l.job != job.id()) {
        return Err(Failure::usage(format!("error: letter {} is one of job `{}`, not of `{}`", other.id, other.job, job.id())));
    }
    if letters.len() > MAX_AT_ONCE {
        return Err(Failure::usage(format!("error: {} holds more than {MAX_AT_ONCE} letters; part it", file.display())));
    }
    Ok(letters)
}

/// Refuses letters of a file that are none of the job's: another id or node would count a record twice, or at the wrong place.
fn real(file: &Path, job: &Opened, letters: &[Letter]) -> Result<(), Failure> {
    let mut sought: HashMap<&str, &Letter> = letters.iter().map(|l| (l.id.as_str(), l)).collect();
    let mut wrong = None;
    outputs::read(job, &mut |letter| {
        if let Some(edited) = sought.remove(letter.id.as_str()) {
            if edited.node != letter.node {
                wrong = Some(format!("letter {} was refused by `{}`, not by `{}`; {AS_EXPORTED}", letter.id, letter.node, edited.node));
            } else if result_letter::is_result(&letter) {
                wrong = Some(format!("letter {}: {}", letter.id, result_letter::of_results(&letter.node)));
            }
        }
        wrong.is_none() && !sought.is_empty()
    })?;
    let unknown =
        || letters.iter().find(|l| sought.contains_key(l.id.as_str())).map(|l| format!("the job has no dead letter `{}`; {AS_EXPORTED}", l.id));
    match wrong.or_else(unknown) {
        Some(wrong) => Err(Failure::usage(format!("error: {}: {wrong}", file.display()))),
        None => Ok(()),
    }
}

/// Refuses letters that have been given to the job before.
fn fresh(letters: Vec<Letter>, args: &ReplayArgs, ledger: &Ledger) -> Result<Vec<Letter>, Failure> {
    let given: Vec<&Letter> = letters.iter().filter(|l| !args.again && ledger.status(&l.id) != Status::Open).collect();
    if let Some(first) = given.first() {
        let what = if ledger.status(&first.id) == Status::Replayed { "has been fed again already" } else { "is queued already" };
        let replay = ledger.replay(&first.id).unwrap_or_default();
        let more = if given.len() > 1 { format!(", and so with {} more", given.len() - 1) } else { String::new() };
        return Err(Failure::failed(format!("error: letter {} {what} (replay {replay}){more}; `--again` feeds such letters once more", first.id)));
    }
    Ok(letters)
}

/// Refuses letters that the job, as its file says now, cannot take.
fn unfit(graph: &JobGraph, letters: &[Letter]) -> Result<(), Failure> {
    let wrong: Vec<String> = letters.iter().filter_map(|l| check(graph, l).err().map(|e| format!("letter {}, `{}`: {e}", l.id, l.node))).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let told = wrong.iter().take(MAX_TOLD).cloned().collect::<Vec<_>>().join("\n  ");
    Err(Failure::usage(format!(
        "error: {} of {} letters cannot be fed, and none is:\n  {told}\nrepair them (`karez dlq show --export FILE`, `replay --from FILE`), or leave them out",
        wrong.len(),
        letters.len()
    )))
}

/// Refuses a run of their own for letters whose way keeps state, and for a job with a sink that begins anew with each run.
fn stateless(graph: &JobGraph, letters: &[Letter]) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::failed(format!("error: the letters cannot be fed in a run of their own: {why}")));
    for sink in graph.vertices.iter().filter_map(|v| v.sink.as_ref()) {
        if sink.sink.replaces_earlier_runs() {
            return refuse(format!("sink `{}` replaces what the run before wrote", sink.name));
        }
    }
    let mut behind: Vec<usize> = Vec::new();
    for (at, vertex) in graph.vertices.iter().enumerate() {
        let refused_here = |name: &str| letters.iter().any(|l| l.node == name);
        let mut reached = behind.contains(&at) || vertex.source.as_ref().is_some_and(|s| refused_here(&s.name));
        for operator in &vertex.operators {
            reached |= refused_here(&operator.name);
            if reached && operator.spec.is_stateful() {
                return refuse(format!("`{}` keeps state, and what the run before counted is final", operator.name));
            }
        }
        reached |= vertex.sink.as_ref().is_some_and(|s| refused_here(&s.name));
        if reached {
            behind.extend(graph.edges.iter().filter(|e| e.from == at).map(|e| e.to));
        }
    }
    Ok(())
}
