//! Where the file of a job is that has been run: `<state-dir>/<job id>/job.json`, for commands that are given the job's id and need its file.

use std::path::{Path, PathBuf};

use karez_core::error::did_you_mean;
use serde::{Deserialize, Serialize};

use super::Failure;

const NAME: &str = "job.json";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    file: PathBuf,
    /// Relative paths in the file begin here.
    working_directory: PathBuf,
}

/// Keeps the place of a job's file, for commands to come. The caller holds the job's lock.
pub(crate) fn remember(state_dir: &Path, id: &str, file: &Path) {
    let write = || {
        let place = Place { file: std::path::absolute(file)?, working_directory: std::env::current_dir()? };
        // Commands may read it at any moment.
        let (file, temporary) = (state_dir.join(id).join(NAME), state_dir.join(id).join(format!(".{NAME}.inprogress")));
        std::fs::write(&temporary, serde_json::to_string_pretty(&place)? + "\n")?;
        std::fs::rename(temporary, file)
    };
    if let Err(e) = write() {
        tracing::warn!(job_id = id, "commands will need the job's file, its id will not do: {e}");
    }
}

/// The file of a job that has been run. Goes to the folder that it was run in.
pub(crate) fn recall(state_dir: &Path, id: &str) -> Result<PathBuf, Failure> {
    let unknown = || {
        let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
        let known: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        let hint = did_you_mean(id, known.iter().map(String::as_str)).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Failure::usage(format!(
            "error: `{id}` is neither a job file nor the id of a job that has been run with the state directory {}{hint}",
            state_dir.display()
        ))
    };
    let sound = !id.is_empty() && !id.contains('/') && !id.starts_with('.');
    let text = sound.then(|| std::fs::read_to_string(state_dir.join(id).join(NAME)).ok()).flatten().ok_or_else(unknown)?;
    let place: Place =
        serde_json::from_str(&text).map_err(|e| Failure::failed(format!("error: {NAME} of job `{id}` is damaged ({e}); give its file")))?;
    std::env::set_current_dir(&place.working_directory).map_err(|e| {
        Failure::failed(format!("error: the folder {} that job `{id}` was run in: {e}; give its file", place.working_directory.display()))
    })?;
    Ok(place.file)
}
