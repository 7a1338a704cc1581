//! The file all engines read: Nexmark bids as NDJSON, written by a Karez job, once.

use std::path::{Path, PathBuf};

use super::work::run_job;

/// Makes rows of 246 bytes on average.
const BID_BYTES: usize = 90;

/// Where files are kept between runs: the user's cache.
pub(super) fn folder() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| std::env::var_os("HOME").map(|h| Path::new(&h).join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("karez").join("bench")
}

/// The file with so many bids in this folder; writes it if it is not there.
pub(super) fn bids(folder: &Path, rows: u64) -> Result<PathBuf, String> {
    let file = folder.join(format!("bids-{BID_BYTES}-{rows}.ndjson"));
    if !file.exists() {
        std::fs::create_dir_all(folder).map_err(|e| format!("`{}`: {e}", folder.display()))?;
        run_job(
            &format!(
                "job:
  id: bids
  name: Bids
  type: batch
  parallelism: 1
  source: {{ connector: generator, config: {{ kind: nexmark, event: bid, rows: {rows}, bidBytes: {BID_BYTES} }} }}
  sink: {{ name: out, connector: file, config: {{ path: {file:?}, ifExists: fail }} }}
"
            ),
            1,
        )?;
    }
    Ok(file)
}
