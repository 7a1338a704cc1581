//! `karez-bench speed`: how fast Karez is, beside others.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use karez_bench::speed::{Against, Bench, Speed, Work};

#[derive(Args)]
pub(crate) struct SpeedArgs {
    /// What is measured; default: everything that needs no server. `kafka-…`, `postgres-…`, `mariadb-…` and `mysql-…` need theirs, started
    /// by `export $(cargo xtask services up)`.
    #[arg(value_parser = bench)]
    benches: Vec<Bench>,
    /// A line of JSON for each figure.
    #[arg(long)]
    json: bool,
    /// How often each is repeated, in turn with what it is compared with; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rows of the input: bids, for databases orders.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Where input files are kept. Default: the user's cache.
    #[arg(long)]
    data: Option<PathBuf>,
    /// What it is compared with: arrow-json, duckdb, none. Default: both.
    #[arg(long, value_delimiter = ',', value_parser = against)]
    against: Option<Vec<std::option::Option<Against>>>,
    /// A Python with the packages duckdb and pyarrow.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The `karez` binary. Default: the one beside this one.
    #[arg(long)]
    karez: Option<PathBuf>,
}

fn bench(name: &str) -> Result<Bench, String> {
    let all = Bench::all();
    let names: Vec<_> = all.iter().map(Bench::name).collect();
    all.iter().find(|b| b.name() == name).copied().ok_or_else(|| format!("there are {}", names.join(", ")))
}

fn against(name: &str) -> Result<Option<Against>, String> {
    match name {
        "none" => Ok(None),
        _ => Against::ALL.into_iter().find(|a| a.name() == name).map(Some).ok_or_else(|| "there are arrow-json, duckdb and none".into()),
    }
}

#[allow(clippy::print_stdout)] // A command line tool speaks.
pub(crate) fn run(arguments: &SpeedArgs) -> Result<ExitCode, String> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures say nothing");
    }
    let karez = super::karez(arguments.karez.as_ref())?;
    let speed = Speed {
        rounds: arguments.rounds.max(1),
        rows: arguments.rows,
        data: arguments.data.clone(),
        against: arguments.against.as_ref().map_or_else(|| Against::ALL.to_vec(), |a| a.iter().flatten().copied().collect()),
        python: arguments.python.clone(),
        karez,
    };
    let benches =
        if arguments.benches.is_empty() { Bench::all().into_iter().filter(|b| !b.needs_server()).collect() } else { arguments.benches.clone() };
    for bench in benches {
        for figure in speed.measure(bench)? {
            if arguments.json {
                println!("{}", serde_json::to_string(&figure).map_err(|e| e.to_string())?);
            } else {
                println!("{}", figure.line());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `karez-bench work`: one measurement, for the process that asked for it.
pub(crate) fn work() -> Result<ExitCode, String> {
    let work: Work = serde_json::from_reader(std::io::stdin()).map_err(|e| e.to_string())?;
    let measured = serde_json::to_vec(&work.measure()?).map_err(|e| e.to_string())?;
    std::io::stdout().write_all(&measured).map_err(|e| e.to_string())?;
    Ok(ExitCode::SUCCESS)
}
