//! Files that older generations of a run began and no checkpoint names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use karez_core::Result;
use karez_core::sink::SinkRunContext;

use super::disk::failed;
use super::names;
use super::options::Plan;

/// Removes the hidden files of older generations of this run that are not in `keep`. Files of other runs and of anybody else are left alone.
pub(super) fn remove(plan: &Plan, context: &SinkRunContext, keep: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let template = plan.template.for_run(context.scheduled_ms);
    let folders = template.existing_folders().map_err(|e| failed("look through", &template.root(), &e))?;
    let path = template.path();
    let is_target = |name: &str| match path.as_deref().and_then(Path::file_name) {
        Some(target) => target == name,
        None => Path::new(name).extension() == Path::new(&plan.template.file_name()).extension(),
    };
    let mut removed = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).map_err(|e| failed("look through", &folder, &e))?;
        for entry in entries {
            let path = entry.map_err(|e| failed("look through", &folder, &e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            // The one file's writer is not open yet, so all of its hidden files are of older generations.
            let ours = if plan.fixed { names::target_of(name, context).is_some_and(is_target) } else { names::is_older_part(name, context) };
            if ours && !keep.contains(&path) {
                std::fs::remove_file(&path).map_err(|e| failed("remove the leftover", &path, &e))?;
                tracing::info!(file = %path.display(), "removed what an earlier start of this run had left");
                removed.push(path);
            }
        }
    }
    Ok(removed)
}
