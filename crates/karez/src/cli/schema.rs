//! `karez schema`: JSON Schemas for editors.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{Outcome, output};

#[derive(Args)]
pub(crate) struct SchemaArgs {
    /// What the schema is of.
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A job file.
    Job,
}

pub(crate) fn schema(args: &SchemaArgs) -> Outcome {
    let schema = match args.what {
        What::Job => karez_job::job_schema(&karez::registry()),
    };
    output::json(&schema)?;
    Ok(ExitCode::SUCCESS)
}
