//! `karez explain`: the graphs made from a job file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::load::load_and_plan;
use super::{Failure, Outcome};

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
        Format::Text => print!("{explanation}"),
        Format::Mermaid => print!("{}", explanation.mermaid()),
        Format::Json => println!("{}", serde_json::to_string_pretty(&explanation).map_err(|e| Failure::failed(e.to_string()))?),
    }
    Ok(ExitCode::SUCCESS)
}
