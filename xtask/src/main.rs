//! `cargo xtask …`: what the project does to itself. No dependency, so that the first step on a fresh machine is short.
//!
//! ```text
//! cargo xtask test [--services NAMES] [-- NEXTEST …]     all tests; installs and starts what they need
//! cargo xtask services up|down|status|crash [NAME…]      the servers that tests need
//! cargo xtask fuzz [TARGET [INPUT]] [--seconds N]        fuzzes, or runs one input again
//! cargo xtask lint                                       formatting, clippy, documentation, dependencies: warnings are errors
//! cargo xtask docs [--check]                             writes the generated pages of docs/ anew, or says whether they are current
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command line tool speaks.

mod fuzz;
mod services;
mod tools;
mod workspace;

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use services::Servers;
use workspace::{FEATURES, Outcome, cargo, root, run, target, with_target};

/// How long the test command fuzzes each target.
const SMOKE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rest = || arguments.iter().skip(1).filter(|a| *a != "--").map(String::as_str).collect::<Vec<_>>();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test(&arguments[1..]),
        Some("services") => services::by_hand(&rest()),
        Some("fuzz") => fuzz::by_hand(&rest()),
        Some("lint") => lint(),
        Some("docs") => docs(&rest()),
        _ => Err("usage: cargo xtask test [--services NAME,…|none] [-- ARGUMENTS] | services up|down|status|crash|wipe [NAME…] | fuzz [TARGET [INPUT]] [--seconds N] | lint | docs [--check]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn test(arguments: &[String]) -> Outcome {
    let (own, extra) = match arguments.iter().position(|a| a == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let names = match own {
        [] => None,
        [option, names] if option == "--services" => Some(names.as_str()),
        _ => return Err("usage: cargo xtask test [--services NAME,…|none] [-- NEXTEST ARGUMENTS]".into()),
    };
    let nextest = tools::nextest()?;
    // Beside the build; ended when this returns, however it does.
    let mut servers = Servers::start(names)?;
    let mut tests = with_target(Command::new(&nextest));
    tests.args(["nextest", "run", "--workspace", FEATURES[0], FEATURES[1], "--no-fail-fast"]).args(extra);
    if !extra.is_empty() {
        tests.envs(servers.addresses()?);
        return run(&mut tests);
    }
    run(cargo().args(["test", "--workspace", FEATURES[0], FEATURES[1], "--doc", "--quiet"]))?;
    let fuzzed = fuzz::smoke(SMOKE);
    if let Err(message) = &fuzzed {
        eprintln!("xtask: {message}");
    }
    tests.envs(servers.addresses()?);
    // Last, also where fuzzing failed, so that the summary closes the output.
    run(&mut tests)?;
    fuzzed.map_err(|_| "fuzzing failed, see above".into())
}

fn lint() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--check", "--manifest-path"]).arg(root().join("fuzz/Cargo.toml")))?;
    dependencies()?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", FEATURES[0], FEATURES[1], "--", "-D", "warnings"]))?;
    run(cargo().args(["doc", "--workspace", FEATURES[0], FEATURES[1], "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    docs(&["--check"])
}

/// Licences, sources and versions of what the workspace and the fuzz targets depend on, by `deny.toml`. What only one of the two has, the other may lack.
fn dependencies() -> Outcome {
    let deny = tools::deny()?;
    for (manifest, unused) in [("Cargo.toml", "license-exception-not-encountered"), ("fuzz/Cargo.toml", "license-not-encountered")] {
        let mut check = Command::new(&deny);
        check.current_dir(root()).args(["--locked", "--config", "deny.toml", "--manifest-path", manifest]);
        run(check.args(["check", "-D", "warnings", "-A", unused, "bans", "licenses", "sources"]))?;
    }
    Ok(())
}

fn docs(extra: &[&str]) -> Outcome {
    // The binary that the tests build: `cargo build` has other features, without those of the tests' dependencies, and would build everything again.
    run(cargo().args(["test", "--quiet", "--workspace", FEATURES[0], FEATURES[1], "--test", "cli", "--no-run"]))?;
    run(Command::new(target().join("debug").join("karez")).arg("docs").args(extra))
}
