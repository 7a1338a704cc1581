//! The job file: YAML to a [`karez_graph::StreamGraph`], every error with its file, line, column and what to do.
//!
//! ```text
//! text ─► tree with places ─► settings, nodes, edges = StreamGraph ─► plan() ─► errors, located in the text again
//! ```
//!
//! A file has the form of §6.2 of the design document (`source`, `operators`, `sink`: a line) or names its parts (`sources`, `operators` and `sinks`
//! with `inputs`). Relative paths in it are relative to the current directory of the process, not to the file: a job means the same wherever its file
//! lies. `${ENV}` is resolved in settings when the file is read, in the options of connectors and operators not before they are used.

mod connect;
mod diagnostics;
mod file;
mod nodes;
mod place;
mod profiles;
mod read;
mod schedule;
pub mod schema;
mod secrets;
mod settings;
mod yaml;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use file::JobFile;
pub use schedule::{Misfire, Schedule};
pub use schema::job_schema;
