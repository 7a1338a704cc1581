//! The `karez` binary.
#![allow(clippy::print_stderr)] // A command line tool speaks.

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Crash tests name in FAILPOINTS where the process dies.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    cli::main()
}
