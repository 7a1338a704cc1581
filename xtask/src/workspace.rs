//! Where the project lies and builds, and how its commands are run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a step comes to; an error is a message for the user.
pub(crate) type Outcome = Result<(), String>;

/// The same for every step, so that all of them share one build: the fail points of the crash tests, no cloud stores.
pub(crate) const FEATURES: [&str; 2] = ["--features", "karez/failpoints"];

/// cargo, building where all steps build.
pub(crate) fn cargo() -> Command {
    with_target(Command::new("cargo"))
}

/// `command`, building where all steps build.
pub(crate) fn with_target(mut command: Command) -> Command {
    command.env("CARGO_TARGET_DIR", target());
    command
}

/// One target directory for all checkouts, so that a new clone does not build the dependencies again.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

/// What outlives a clone: tools, builds, the inputs that fuzzing found.
pub(crate) fn cache() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| env::var_os("HOME").map(|h| Path::new(&h).join(".cache")));
    base.unwrap_or_else(env::temp_dir).join("karez")
}

/// The root of this checkout.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}
