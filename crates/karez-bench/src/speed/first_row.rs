//! How long `karez run` takes to the first row.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::figure::{Figure, median};

const RUNS: usize = 11;

/// From the start of the process to the first byte that a file's rows leave on standard output.
pub(super) fn measure(karez: &Path, file: &Path) -> Result<Figure, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let job = folder.path().join("first-row.yaml");
    let text = format!(
        "job:
  id: first-row
  name: First row
  type: streaming
  parallelism: 1
  source: {{ connector: file, config: {{ path: {file:?}, format: ndjson }}, schema: {{ auction: bigint, price: bigint }} }}
  operators:
    - {{ name: dear, type: filter, where: \"price > 100\" }}
  sink: {{ name: out, connector: stdout }}
"
    );
    std::fs::write(&job, text).map_err(|e| e.to_string())?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        let mut child = Command::new(karez)
            .args(["run", "--fresh"])
            .arg(&job)
            .env("KAREZ_STATE_DIR", folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("there is no `{}` ({e}); build it, or say where it is with --karez", karez.display()))?;
        let mut stdout = child.stdout.take().ok_or("no standard output")?;
        let mut byte = [0];
        stdout.read_exact(&mut byte).map_err(|e| format!("`karez run` gave no row: {e}"))?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        child.kill().map_err(|e| e.to_string())?;
        child.wait().map_err(|e| e.to_string())?;
    }
    Ok(Figure::new("first-row").with("ms", median(times)))
}
