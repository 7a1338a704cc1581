//! Reference text made from the code: the options of connectors, operators and jobs from their JSON Schemas.
//!
//! ```text
//! JSON Schema ──option_tables()──► OptionTable ──► a terminal (`karez connectors NAME`) or a page (`karez docs`)
//! ```

mod kinds;
pub(crate) mod markdown;
mod options;

pub(crate) use options::{OptionTable, choices_of, option_tables, option_tables_in};
