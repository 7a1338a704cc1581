//! The command line. Each command is one file; this one parses and dispatches.

mod check;
mod connectors;
mod control;
mod dlq;
mod docs;
mod explain;
mod load;
mod log;
mod output;
mod place;
mod preview;
mod progress;
mod reference;
mod run;
mod runtimes;
mod schema;
mod signals;
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What a command comes to: the exit code, or a message for a person.
type Outcome = Result<ExitCode, Failure>;

/// A command that did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The job file or the arguments are wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// It was tried and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }
}

impl From<karez_core::Error> for Failure {
    fn from(e: karez_core::Error) -> Self {
        Self::failed(format!("error: {e}"))
    }
}

/// Streaming and batch ETL in one binary.
///
/// Exit codes: 0 completed or stopped as asked, 1 failed, 2 the job file or the arguments are wrong, 130 stopped at once.
#[derive(Parser)]
#[command(name = "karez", version, max_term_width = 110)]
struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: log::LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a job until it ends or is stopped.
    Run(run::RunArgs),
    /// Stop a running job behind a last checkpoint; the next `run` goes on there.
    Stop(control::StopArgs),
    /// Let a running job's sources wait.
    Pause(control::JobArgs),
    /// Let a paused job's sources go on.
    Resume(control::JobArgs),
    /// Take a savepoint of a running job.
    Savepoint(control::SavepointArgs),
    /// Show the state and figures of a running job as JSON.
    Status(control::JobArgs),
    /// Dead letters: list them, show or export them, feed them to the job again.
    Dlq(dlq::DlqArgs),
    /// Check a job file: types, options, guarantees, and whether everything outside can be reached. No side effect.
    Check(FileArgs),
    /// Show the graphs made from a job file.
    Explain(explain::ExplainArgs),
    /// Run a job for a look at its rows: writes nothing anywhere.
    Preview(preview::PreviewArgs),
    /// List connectors and operators, or show the options of one.
    Connectors(connectors::ConnectorsArgs),
    /// Print a JSON Schema.
    Schema(schema::SchemaArgs),
    /// Write the generated pages of docs/ anew.
    #[command(hide = true)]
    Docs(docs::DocsArgs),
}

impl Command {
    fn log_default(&self) -> log::LogDefault {
        match self {
            Self::Check(_) => log::LogDefault::Planning,
            Self::Dlq(args) if !args.runs_a_job() => log::LogDefault::Quiet,
            _ => log::LogDefault::Running,
        }
    }
}

#[derive(Args)]
struct FileArgs {
    /// The job file (YAML).
    file: PathBuf,
}

#[derive(Args)]
struct StateDir {
    /// Where jobs keep their state. Default: `$XDG_STATE_HOME/karez`, or `~/.local/state/karez`.
    #[arg(long, value_name = "DIR", env = "KAREZ_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
}

impl StateDir {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.state_dir {
            return Ok(path.clone());
        }
        let base = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
            .or_else(|| std::env::home_dir().map(|h| h.join(".local/state")));
        base.map(|b| b.join("karez")).ok_or_else(|| Failure::usage("no home directory is known; name a folder with --state-dir"))
    }
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init(cli.log_format, cli.command.log_default());
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args, cli.log_format),
        Command::Stop(args) => control::stop(&args),
        Command::Pause(args) => control::pause(&args),
        Command::Resume(args) => control::resume(&args),
        Command::Savepoint(args) => control::savepoint(&args),
        Command::Status(args) => control::status(&args),
        Command::Dlq(args) => dlq::dlq(&args, cli.log_format),
        Command::Check(args) => check::check(&args.file),
        Command::Explain(args) => explain::explain(&args),
        Command::Preview(args) => preview::preview(&args),
        Command::Connectors(args) => connectors::connectors(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Docs(args) => docs::docs(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            output::note(message.trim_end());
            ExitCode::from(code)
        }
    }
}
