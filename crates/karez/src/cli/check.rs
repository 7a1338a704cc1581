//! `karez check`: everything that can be known before a run, without side effects.

use std::path::Path;
use std::process::ExitCode;

use karez_core::{SourceContext, sql_type};
use karez_graph::settings::JobType;
use karez_graph::{Implementation, JobGraph, NodeKind, StreamGraph};

use super::load::load_and_plan;
use super::{Failure, Outcome, output};

pub(crate) fn check(path: &Path) -> Outcome {
    let (file, graph) = load_and_plan(path)?;
    print_schemas(&file.graph)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::failed(e.to_string()))?;
    let failures = runtime.block_on(unreachable(&graph));
    runtime.shutdown_background();
    if failures.is_empty() {
        output::line(format_args!("{}: the job can run", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::failed(failures.iter().map(|f| format!("error: {f}")).collect::<Vec<_>>().join("\n")))
}

/// The columns of every source: all it has, not only those the job turned out to read.
fn print_schemas(graph: &StreamGraph) -> Result<(), Failure> {
    let registry = karez::registry();
    for node in &graph.nodes {
        let NodeKind::Source { connector, schema, .. } = &node.kind else { continue };
        let (columns, how) = match (schema, connector) {
            (Some(declared), _) => (declared.clone(), "declared"),
            (None, Implementation::InCode(source)) => (columns(source.as_ref()), "in code"),
            (None, Implementation::Named { name, config }) => {
                let found = registry.connector(name).map_err(|e| Failure::usage(format!("error: {e}")))?;
                let context = SourceContext { node: &node.name, config, schema: None, batch: graph.settings.job_type == JobType::Batch };
                let source = found.source(context).map_err(|e| Failure::usage(format!("error: {}: {e}", node.name)))?;
                (columns(source.as_ref()), "inferred")
            }
        };
        output::line(format_args!("source `{}`, schema as {how}:", node.name))?;
        for (name, kind) in columns {
            output::line(format_args!("  {name}: {kind}"))?;
        }
    }
    Ok(())
}

fn columns(source: &dyn karez_core::Source) -> Vec<(String, String)> {
    source.schema().visible().fields().iter().map(|f| (f.name().clone(), sql_type::to_sql(f.data_type()))).collect()
}

/// What outside cannot be reached.
async fn unreachable(graph: &JobGraph) -> Vec<String> {
    let mut failures = Vec::new();
    for vertex in &graph.vertices {
        if let Some(source) = &vertex.source
            && let Err(e) = source.source.check().await
        {
            failures.push(e.at(&source.name).to_string());
        }
        for operator in &vertex.operators {
            if let Some(asks) = operator.spec.asynchronous()
                && let Err(e) = asks.check().await
            {
                failures.push(e.at(&operator.name).to_string());
            }
        }
        if let Some(sink) = &vertex.sink
            && let Err(e) = sink.sink.check().await
        {
            failures.push(e.at(&sink.name).to_string());
        }
    }
    failures
}
