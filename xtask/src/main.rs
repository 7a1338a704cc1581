//! `cargo xtask …`: what the project does to itself. No dependency, so that the first step on a fresh machine is short.
//!
//! ```text
//! cargo xtask test [-- NEXTEST ARGUMENTS]   all tests; installs what they need
//! cargo xtask lint                          formatting, clippy, documentation: warnings are errors
//! cargo xtask docs                          writes the generated pages of docs/ anew (and `--check` says whether they are current)
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command line tool speaks.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The test runner, pinned so that its output and options do not change under CI.
const NEXTEST_VERSION: &str = "0.9.151";

/// The same for every step, so that all of them share one build: the fail points of the crash tests, no cloud stores.
const FEATURES: [&str; 2] = ["--features", "karez/failpoints"];

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let rest = || arguments.iter().skip(1).filter(|a| *a != "--").map(String::as_str).collect::<Vec<_>>();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test(&rest()),
        Some("lint") => lint(),
        Some("docs") => docs(&rest()),
        _ => Err("usage: cargo xtask test [-- ARGUMENTS] | lint | docs [--check]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn test(extra: &[&str]) -> Outcome {
    let nextest = nextest()?;
    run(cargo().args(["test", "--workspace", FEATURES[0], FEATURES[1], "--doc", "--quiet"]))?;
    // Last, so that its summary closes the output.
    run(with_target(Command::new(nextest)).args(["nextest", "run", "--workspace", FEATURES[0], FEATURES[1], "--no-fail-fast"]).args(extra))
}

fn lint() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", FEATURES[0], FEATURES[1], "--", "-D", "warnings"]))?;
    run(cargo().args(["doc", "--workspace", FEATURES[0], FEATURES[1], "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    docs(&["--check"])
}

fn docs(extra: &[&str]) -> Outcome {
    // The binary that the tests build: `cargo build` has other features, without those of the tests' dependencies, and would build everything again.
    run(cargo().args(["test", "--quiet", "--workspace", FEATURES[0], FEATURES[1], "--test", "cli", "--no-run"]))?;
    run(Command::new(target().join("debug").join("karez")).arg("docs").args(extra))
}

/// Installs the test runner once, under the user's cache.
fn nextest() -> Result<PathBuf, String> {
    let binary = tools().join("bin/cargo-nextest");
    let current = Command::new(&binary).args(["nextest", "--version"]).output();
    if !current.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(NEXTEST_VERSION)) {
        println!("xtask: installing cargo-nextest {NEXTEST_VERSION} (once)");
        run(Command::new("cargo")
            .args(["install", "cargo-nextest", "--version", NEXTEST_VERSION, "--locked", "--force"])
            .args(["--no-default-features", "--features", "default-no-update", "--root"])
            .arg(tools())
            .env("CARGO_TARGET_DIR", cache().join("tools-target")))?;
    }
    Ok(binary)
}

fn cargo() -> Command {
    with_target(Command::new("cargo"))
}

fn with_target(mut command: Command) -> Command {
    command.env("CARGO_TARGET_DIR", target());
    command
}

/// One target directory for all checkouts, so that a new clone does not build the dependencies again.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| env::var_os("HOME").map(|h| Path::new(&h).join(".cache")));
    base.unwrap_or_else(env::temp_dir).join("karez")
}

fn tools() -> PathBuf {
    cache().join("tools")
}

fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}
