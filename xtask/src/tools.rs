//! The tools that are not part of a Rust installation: each installed once, under the user's cache, in a version that is pinned, so that output and
//! options do not change under CI.

use std::path::PathBuf;
use std::process::Command;

use crate::workspace::{cache, run};

/// Runs the tests.
pub(crate) fn nextest() -> Result<PathBuf, String> {
    installed("cargo-nextest", "0.9.151", &["nextest", "--version"], &["--no-default-features", "--features", "default-no-update"])
}

/// Builds and runs the fuzz targets.
pub(crate) fn fuzz() -> Result<PathBuf, String> {
    installed("cargo-fuzz", "0.13.2", &["--version"], &[])
}

/// Checks what is depended on.
pub(crate) fn deny() -> Result<PathBuf, String> {
    installed("cargo-deny", "0.20.2", &["--version"], &[])
}

/// The binary of a crate, which says its version when it is called with `ask`.
fn installed(name: &str, version: &str, ask: &[&str], options: &[&str]) -> Result<PathBuf, String> {
    let tools = cache().join("tools");
    let binary = tools.join("bin").join(name);
    let current = Command::new(&binary).args(ask).output();
    if !current.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains(version)) {
        println!("xtask: installing {name} {version} (once)");
        run(Command::new("cargo")
            .args(["install", name, "--version", version, "--locked", "--force"])
            .args(options)
            .arg("--root")
            .arg(&tools)
            .env("CARGO_TARGET_DIR", cache().join("tools-target")))?;
    }
    Ok(binary)
}
