//! DuckDB, through Python: the packages `duckdb` and `pyarrow`.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::query::{COLUMNS, Query};
use super::work::{Measured, measured_by};

const SCRIPT: &str = include_str!("duckdb.py");

/// Runs the query over the file.
pub(super) fn measure(python: &Path, query: Query, file: &Path) -> Result<Measured, String> {
    let columns: Vec<_> = COLUMNS.iter().filter(|(name, _)| query.columns().contains(name)).collect();
    let todo = json!({ "file": file, "columns": columns, "sql": query.sql() });
    measured_by(Command::new(python).args(["-c", SCRIPT]), todo.to_string().as_bytes()).map_err(|e| {
        format!(
            "DuckDB's process (`{}`) {e}; it must have the packages duckdb and pyarrow: python3 -m venv V && V/bin/pip install duckdb pyarrow, then \
             --python V/bin/python; or leave it out with --against arrow-json",
            python.display()
        )
    })
}
