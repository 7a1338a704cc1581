//! A job file, loaded and planned, its errors as a person wants them.

use std::io::IsTerminal;
use std::path::Path;

use karez_graph::{JobGraph, plan};
use karez_job::JobFile;

use super::Failure;

/// Whether errors and log lines may be coloured.
pub(crate) fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Reads a job file and plans its job: all errors of both at once.
pub(crate) fn load_and_plan(path: &Path) -> Result<(JobFile, JobGraph), Failure> {
    let (file, graph) = JobFile::load_and_plan(path, &karez::registry()).map_err(|d| Failure::usage(d.render(color())))?;
    tell(&file, &graph);
    Ok((file, graph))
}

/// Reads a job file.
pub(crate) fn load(path: &Path) -> Result<JobFile, Failure> {
    JobFile::load(path).map_err(|d| Failure::usage(d.render(color())))
}

/// Plans the job of a file whose graph has been changed since.
pub(crate) fn plan_job(file: &JobFile) -> Result<JobGraph, Failure> {
    let graph = plan(&file.graph, &karez::registry()).map_err(|e| Failure::usage(file.locate(&e).render(color())))?;
    tell(file, &graph);
    Ok(graph)
}

fn tell(file: &JobFile, graph: &JobGraph) {
    for item in file.warnings.items() {
        let place = file.warnings.line_column(item).map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
        let help = item.help.as_ref().map_or(String::new(), |h| format!("; {h}"));
        tracing::warn!("{}{place}: {}{help}", file.name(), item.message);
    }
    for note in &graph.notes {
        tracing::info!("{note}");
    }
}
