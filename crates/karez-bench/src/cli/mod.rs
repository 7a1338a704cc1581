//! The subcommands.

use std::path::PathBuf;

pub(crate) mod crash;
pub(crate) mod speed;

/// The `karez` binary that is named, or the one beside this one.
fn karez(named: Option<&PathBuf>) -> Result<PathBuf, String> {
    match named {
        Some(karez) => Ok(karez.clone()),
        None => Ok(std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("karez")),
    }
}
