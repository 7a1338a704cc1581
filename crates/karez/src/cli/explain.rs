//! `karez explain`: the graphs made from a job file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::load::load_and_plan;
use super::{Outcome, output};

#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// The job file (YAML).
    file: PathBuf,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A tree of chains and nodes.
    Text,
    /// For programs.
    Json,
    /// A Mermaid diagram.
    Mermaid,
}

pub(crate) fn explain(args: &ExplainArgs) -> Outcome {
    let (file, graph) = load_and_plan(&args.file)?;
    let explanation = karez_graph::explain(&file.graph, &graph, &karez::registry());
    match args.format {
        Format::Text => output::line(explanation.to_string().trim_end())?,
        Format::Mermaid => output::line(explanation.mermaid().trim_end())?,
        Format::Json => output::json(&explanation)?,
    }
    Ok(ExitCode::SUCCESS)
}
