//! Gives durable files their names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use karez_core::sink::CommitPermit;
use karez_core::{CommitOutcome, Committable, Committer, Error, Result};

use super::disk::{blocking, failed, sync_folder};
use super::state::FinishedFile;

pub(super) struct FileCommitter;

#[async_trait]
impl Committer for FileCommitter {
    async fn commit(&mut self, permit: &CommitPermit, committables: &[Committable]) -> Result<Vec<CommitOutcome>> {
        if let Some(early) = committables.iter().find(|c| c.epoch > permit.epoch()) {
            return Err(Error::internal(format!("epoch {} is not permitted to commit yet", early.epoch)));
        }
        let files = committables.iter().map(|c| FinishedFile::parse(&c.payload)).collect::<Result<Vec<_>>>()?;
        blocking(move || {
            let outcomes = files.iter().map(commit).collect::<Result<Vec<_>>>()?;
            let folders: BTreeSet<&Path> = files.iter().filter_map(|f| f.target.parent()).collect();
            folders.into_iter().filter(|f| f.exists()).try_for_each(sync_folder)?;
            // Segments go only after the file that contains them lasts under its name.
            files.iter().zip(&outcomes).filter(|(_, o)| !matches!(o, CommitOutcome::Lost(_))).try_for_each(|(f, _)| remove(&f.segments))?;
            Ok(outcomes)
        })
        .await
    }
}

fn commit(file: &FinishedFile) -> Result<CommitOutcome> {
    let FinishedFile { temporary, target, .. } = file;
    let there = |path: &Path| match std::fs::metadata(path) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("look at", path, &e)),
    };
    let (source, existing) = (there(temporary)?, there(target)?);
    match (source, existing) {
        (None, Some(_)) => return Ok(CommitOutcome::AlreadyCommitted),
        (None, None) => {
            return Ok(CommitOutcome::Lost(Error::external(format!(
                "`{}` is gone, and `{}` is not there: its rows are lost, unless something has taken the finished file away between a crash and now",
                temporary.display(),
                target.display()
            ))));
        }
        (Some(length), _) if length != file.length => {
            return Err(Error::external(format!(
                "`{}` has {length} bytes but {} were written: somebody changed it",
                temporary.display(),
                file.length
            )));
        }
        (Some(_), Some(_)) if !file.replace => {
            return Err(Error::external(format!(
                "`{}` is there, so the finished `{}` cannot get this name; move it away, or use `ifExists: replace`",
                target.display(),
                temporary.display()
            )));
        }
        (Some(_), found) if file.base.is_some() && found != file.base => {
            return Err(Error::external(format!(
                "`{}` was changed by somebody else while rows were appended to its copy `{}`; put the two together by hand",
                target.display(),
                temporary.display()
            )));
        }
        (Some(_), _) => {}
    }
    point("file-sink-rename-before")?;
    std::fs::rename(temporary, target).map_err(|e| failed("rename", temporary, &e))?;
    point("file-sink-rename-after")?;
    Ok(CommitOutcome::Committed)
}

/// A step at which the crash tests make the process die (`return(kill)`) or fail (feature `failpoints`).
fn point(name: &str) -> Result<()> {
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("kill") {
            std::process::abort();
        }
        Err(Error::external(format!("fail point {name}: {}", action.unwrap_or_default())))
    });
    let _ = name;
    Ok(())
}

fn remove(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", path, &e)),
            _ => {}
        }
    }
    Ok(())
}
