//! The job file: YAML, diagnostics and JSON Schema.
