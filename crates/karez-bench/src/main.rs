//! The `karez-bench` binary: what it takes long to find out.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command line tool speaks.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "karez-bench", version, about = "Measures Karez, and tries to break it.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kills jobs with -9, starts them again, and counts lost and doubled rows.
    Crash(cli::crash::CrashArgs),
    /// Measures how fast Karez is, beside others on the same bytes.
    Speed(cli::speed::SpeedArgs),
    /// One measurement, told on standard input: what `speed` starts.
    #[command(hide = true)]
    Work,
}

/// The allocator of the `karez` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Crash(arguments) => cli::crash::run(&arguments),
        Command::Speed(arguments) => cli::speed::run(&arguments),
        Command::Work => cli::speed::work(),
    };
    done.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        ExitCode::FAILURE
    })
}
