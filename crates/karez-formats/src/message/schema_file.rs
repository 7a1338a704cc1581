//! Schemas that a job names as text or as a file.

use karez_core::config::{ConfigError, ConfigErrors};

/// Longest schema read from a file, bytes.
const FILE_BYTES_LIMIT: u64 = 16 << 20;

/// The text given, or that of the file; `None` where there is neither.
pub(super) fn text_of(key: &str, text: Option<String>, file: Option<&str>) -> Result<Option<String>, ConfigErrors> {
    match (text, file) {
        (Some(_), Some(_)) => Err(ConfigError::new(key, format!("is given, and `{key}File` too")).hint("leave one of them out").into()),
        (Some(text), None) => Ok(Some(text)),
        (None, Some(path)) => read(path).map(Some).map_err(|e| ConfigError::new(format!("{key}File"), e).into()),
        (None, None) => Ok(None),
    }
}

/// The text of a file.
fn read(path: &str) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|e| format!("cannot read `{path}`: {e}"))?.len();
    if length > FILE_BYTES_LIMIT {
        return Err(format!("`{path}` has {length} bytes, more than {FILE_BYTES_LIMIT}"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot read `{path}`: {e}"))
}
