//! DuckDB, through Python: the packages `duckdb` and `pyarrow`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::query::{COLUMNS, Query};
use super::work::Measured;

const SCRIPT: &str = include_str!("duckdb.py");

/// Runs the query over the file.
pub(super) fn measure(python: &Path, query: Query, file: &Path) -> Result<Measured, String> {
    let columns: Vec<_> = COLUMNS.iter().filter(|(name, _)| query.columns().contains(name)).collect();
    let todo = json!({ "file": file, "columns": columns, "sql": query.sql() });
    let hint = format!(
        "`{}` must have the packages duckdb and pyarrow: python3 -m venv V && V/bin/pip install duckdb pyarrow, then --python V/bin/python; or leave it out with --against arrow-json",
        python.display()
    );
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("`{}` does not start: {e}; {hint}", python.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(todo.to_string().as_bytes()).map_err(|e| format!("DuckDB's process: {e}"))?;
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!("DuckDB's process failed: {}; {hint}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("what DuckDB's process has measured: {e}"))
}
