//! Where checkpoints are kept: named bytes, written whole or not at all, durable when the call returns, never changed afterwards.
//!
//! All calls block; see [`super::storage::CheckpointStorage::run_blocking`]. Names are relative, with `/` between folders.

mod calls;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod counted;
pub(crate) mod local;
mod memory;
mod object;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use karez_core::{Error, Result};

pub use calls::StoreCalls;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use object::RemoteStore;

/// How [`DurableStore::create`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The name is ours now.
    Created,
    /// The name was taken; nothing was changed.
    Exists,
}

/// Named, immutable, durable bytes.
pub trait DurableStore: Send + Sync + fmt::Debug {
    /// Writes under a new name. On success the bytes survive a crash of the machine; readers never see a part of them.
    /// After an error the name may or may not exist (a lost answer), but never in part.
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation>;

    /// The bytes of a name; `None` where there are none.
    fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// All names below a folder, with the folder, ascending. A folder that does not exist is empty.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Deletes a name; one that does not exist is deleted already.
    fn delete(&self, name: &str) -> Result<()>;

    /// What a person would look for: the path or URL of a name.
    fn describe(&self, name: &str) -> String;
}

/// Opens the store at a path, a `file://` URL or an object store's URL, which is called as `calls` says. Local folders are created.
///
/// # Errors
/// An unknown scheme; an object store whose cargo feature this build lacks (the message names it); a folder that cannot be made.
pub fn open(location: &str, calls: &StoreCalls) -> Result<Arc<dyn DurableStore>> {
    match location.split_once("://") {
        None => Ok(Arc::new(LocalStore::open(Path::new(location))?)),
        Some(("file", path)) => {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if !path.starts_with('/') {
                return Err(Error::user(format!("`{location}` names a host or a relative path; write file:///absolute/path or a plain path")));
            }
            Ok(Arc::new(LocalStore::open(Path::new(&percent_decoded(path)))?))
        }
        Some(_) => Ok(Arc::new(RemoteStore::open(location, calls)?)),
    }
}

/// `location` with more path behind it.
#[must_use]
pub fn join(location: &str, more: &str) -> String {
    format!("{}/{more}", location.trim_end_matches('/'))
}

fn percent_decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let hex = path.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (b, hex) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                i += 3;
            }
            _ => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

/// Refuses names that would leave the store.
fn checked(name: &str) -> Result<&str> {
    let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']) && !part.starts_with(".tmp-");
    if name.split('/').all(sound) { Ok(name) } else { Err(Error::internal(format!("`{name}` is no name for a file of a checkpoint"))) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_store() {
        for bad in ["../x", "/etc/x", "a//b", "a/./b", "", "a/..", ".tmp-1"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        assert!(checked("files/7/a-b_c.arrow").is_ok());
    }

    #[test]
    fn a_file_url_may_hold_escapes_and_needs_an_absolute_path() {
        assert_eq!(percent_decoded("/a%20b/%zz"), "/a b/%zz");
        let error = open("file://host/x", &StoreCalls::default()).unwrap_err().to_string();
        assert!(error.contains("file:///absolute/path"), "{error}");
    }

    #[test]
    fn an_unknown_scheme_is_named_with_those_that_are_known() {
        let error = open("ftp://x/y", &StoreCalls::default()).unwrap_err().to_string();
        assert!(error.contains("ftp") && error.contains("s3://"), "{error}");
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn an_object_store_without_its_cargo_feature_is_refused_by_the_features_name() {
        let error = open("s3://bucket/x", &StoreCalls::default()).unwrap_err().to_string();
        assert!(error.contains("--features s3"), "{error}");
    }
}
