//! The file sink: rows to CSV, NDJSON, Parquet or text files, exactly once.
//!
//! A file is written under a name that begins with `.` in the folder it will stay in, made durable before the manifest of its checkpoint, and
//! renamed by the commit (decision 14 of the design):
//!
//! ```text
//!  folder:    .part-RUN-NODE-gGENERATION-SUBTASK-N.csv.inprogress ─► part-RUN-NODE-gGENERATION-SUBTASK-N.csv    when large, old, or at the end
//!  one file:  .NAME.inprogress-RUN-NODE                           ─► NAME                                       at the end of the input
//! ```
//! Files of lines go on over checkpoints: the checkpoint holds their durable length, a restart cuts off what lies behind it. Parquet files end at
//! each checkpoint; where one file is asked for they are joined at the end of the input, without decoding.

mod committer;
mod compress;
mod disk;
mod leftovers;
mod names;
mod open_file;
mod options;
pub(in crate::file) mod read_back;
mod state;
mod template;
mod writer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use karez_core::config::ConfigErrors;
use karez_core::sink::{SinkGuarantee, SinkRunContext, WriterContext};
use karez_core::{Committable, Committer, Error, Result, Sink, SinkContext, SinkWriter};
use rustix::fs::{Access, access};
use serde_json::Value;

use committer::FileCommitter;
use disk::{blocking, failed};
use options::Plan;
use state::{FileState, FinishedFile};
use writer::FileWriter;

pub use options::{Compression, FileSinkOptions, IfExists};

/// Validates the options of a file sink against the rows it will get.
pub fn plan(context: SinkContext<'_>) -> Result<Arc<dyn Sink>, ConfigErrors> {
    Ok(Arc::new(FileSink { plan: Arc::new(Plan::new(context)?) }))
}

#[derive(Debug)]
struct FileSink {
    plan: Arc<Plan>,
}

impl FileSink {
    /// The one file, where the path does not depend on rows.
    fn file(&self, scheduled_ms: i64) -> Option<PathBuf> {
        if self.plan.fixed { self.plan.template.for_run(scheduled_ms).path() } else { None }
    }

    fn refuse_existing(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Err(Error::user(format!("`{0}` is a folder; write `{0}/` to have files put into it", path.display())));
        }
        if self.plan.if_exists == IfExists::Fail && path.exists() {
            return Err(Error::user(format!("`{}` exists already; remove it, or set `ifExists: replace` or `ifExists: append`", path.display())));
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FileSink {
    fn guarantee(&self) -> SinkGuarantee {
        SinkGuarantee::Transactional
    }

    fn replaces_earlier_runs(&self) -> bool {
        self.plan.fixed && self.plan.if_exists == IfExists::Replace
    }

    fn max_parallelism(&self) -> Option<usize> {
        self.plan.fixed.then_some(1)
    }

    async fn check(&self) -> Result<()> {
        let template = &self.plan.template;
        if let (true, Some(path)) = (self.plan.fixed, template.path()) {
            self.refuse_existing(&path)?;
        }
        let root = template.root();
        let folder = if self.plan.fixed && template.path().is_some() { root.parent().unwrap_or(Path::new("/")) } else { root.as_path() };
        let nearest = folder.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
        if !nearest.is_dir() {
            return Err(Error::user(format!("`{}` is a file, so no folder can be made below it", nearest.display())));
        }
        access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| failed("write to", nearest, &e.into()))
    }

    async fn prepare_restored(&self, context: &SinkRunContext, committed: &[Committable], states: &[Value]) -> Result<()> {
        let mut keep = BTreeSet::new();
        let mut ours = BTreeSet::new();
        for committable in committed {
            let file = FinishedFile::parse(&committable.payload)?;
            // Only where its commit is still to be tried again do these exist.
            if file.temporary.exists() {
                keep.extend(file.segments);
            }
            keep.insert(file.temporary);
            ours.insert(file.target);
        }
        for state in states {
            let state = FileState::parse(state)?;
            keep.extend(state.temporary().cloned());
            if let FileState::Done { target } = state {
                ours.insert(target);
            }
        }
        if let Some(path) = self.file(context.scheduled_ms).filter(|p| !ours.contains(p)) {
            self.refuse_existing(&path)?;
        }
        let (plan, context) = (Arc::clone(&self.plan), context.clone());
        blocking(move || leftovers::remove(&plan, &context, &keep).map(drop)).await
    }

    async fn writer(&self, context: WriterContext, state: Vec<Value>) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(FileWriter::open(Arc::clone(&self.plan), context, state).await?))
    }

    async fn committer(&self, _: &SinkRunContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(FileCommitter)))
    }
}
