//! Files that older generations of a run began and no checkpoint names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use karez_core::Result;
use karez_core::sink::SinkRunContext;

use super::disk::failed;
use super::options::Plan;

/// Removes the hidden files of older generations of this run that are not in `keep`. Files of other runs and of anybody else are left alone.
pub(super) fn remove(plan: &Plan, context: &SinkRunContext, keep: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let template = plan.template.for_run(context.scheduled_ms);
    let folders = template.existing_folders().map_err(|e| failed("look through", &template.root(), &e))?;
    let mut removed = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(&folder).map_err(|e| failed("look through", &folder, &e))?;
        for entry in entries {
            let path = entry.map_err(|e| failed("look through", &folder, &e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let ours = if plan.fixed { belongs_to_file(plan, &template.path(), name, context) } else { is_older_part(name, context) };
            if ours && !keep.contains(&path) {
                std::fs::remove_file(&path).map_err(|e| failed("remove the leftover", &path, &e))?;
                tracing::info!(file = %path.display(), "removed what an earlier start of this run had left");
                removed.push(path);
            }
        }
    }
    Ok(removed)
}

/// `.part-RUN-gGENERATION-…inprogress`, of a generation before this one.
fn is_older_part(name: &str, context: &SinkRunContext) -> bool {
    let Some(rest) = name.strip_prefix(&format!(".part-{}-g", context.run)) else {
        return false;
    };
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    name.ends_with(".inprogress") && digits.parse::<u64>().is_ok_and(|g| g < context.generation.0)
}

/// `.NAME.inprogress-RUN` or one of its segments. The sink has one writer, which is not open yet: all of them are of older generations.
fn belongs_to_file(plan: &Plan, path: &Option<PathBuf>, name: &str, context: &SinkRunContext) -> bool {
    let Some((begin, rest)) = name.rsplit_once(&format!(".inprogress-{}", context.run)) else {
        return false;
    };
    let whole = rest.is_empty() || rest.starts_with("-g");
    let named = match path.as_deref().and_then(Path::file_name).and_then(|n| n.to_str()) {
        Some(target) => begin == format!(".{target}"),
        None => begin.starts_with('.') && Path::new(begin).extension() == Path::new(&plan.template.file_name()).extension(),
    };
    whole && named
}
