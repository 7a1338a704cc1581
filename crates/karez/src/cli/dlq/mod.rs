//! `karez dlq list | show | replay JOB`: the dead letters of a job, and their way back into it.
//!
//! Letters are read from the sinks that they were written to, by the connector that wrote them, and never changed there: which have been fed again is
//! known by the replays in the state directory and the checkpoints of the runs (`karez_runtime::replay`).

mod edited;
mod filter;
mod ledger;
mod list;
mod no_letters;
mod outputs;
mod replay;
mod show;

use std::path::Path;

use clap::{Args, Subcommand};
use karez_graph::JobGraph;
use karez_job::JobFile;

use super::load::load_and_plan;
use super::log::LogFormat;
use super::{Failure, Outcome, StateDir, place};

#[derive(Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

impl DlqArgs {
    /// Whether the letters are fed in a run of their own.
    pub(crate) const fn runs_a_job(&self) -> bool {
        matches!(&self.command, DlqCommand::Replay(args) if args.separate_run)
    }
}

#[derive(Subcommand)]
enum DlqCommand {
    /// Count the dead letters of a job by node and reason.
    List(list::ListArgs),
    /// Show dead letters whole, or export them for repair.
    Show(show::ShowArgs),
    /// Feed dead letters to the job again, as they are or repaired: to the running one, or to its next start.
    Replay(replay::ReplayArgs),
}

#[derive(Args)]
struct DlqJob {
    /// The job file (YAML), or the job's id where it has been run with this state directory.
    job: String,
    #[command(flatten)]
    state: StateDir,
}

pub(crate) fn dlq(args: &DlqArgs, format: LogFormat) -> Outcome {
    match &args.command {
        DlqCommand::List(args) => list::list(args),
        DlqCommand::Show(args) => show::show(args),
        DlqCommand::Replay(args) => replay::replay(args, format),
    }
}

/// A job with the place of its state.
struct Opened {
    file: JobFile,
    graph: JobGraph,
    state_dir: std::path::PathBuf,
}

impl DlqJob {
    fn open(&self) -> Result<Opened, Failure> {
        let state_dir = self.state.path()?;
        let path = Path::new(&self.job);
        let (file, graph) = if path.is_file() { load_and_plan(path)? } else { load_and_plan(&place::recall(&state_dir, &self.job)?)? };
        Ok(Opened { file, graph, state_dir })
    }
}

impl Opened {
    fn id(&self) -> &str {
        &self.graph.settings.id
    }
}

/// An instant for a person.
fn instant(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(|| format!("{ms} ms"), |t| t.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// A text for a terminal: what could change how that shows it is written out.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            plain.extend(c.escape_default())
        } else {
            plain.push(c)
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_written_out_for_a_terminal() {
        assert_eq!(super::plain("a\u{1b}[2Jb\r\n\tä"), "a\\u{1b}[2Jb\\r\n\tä");
    }
}
