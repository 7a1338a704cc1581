//! A folder on a local disk. `object_store`'s own local store does not sync, so a checkpoint in it could vanish with the power; this one syncs
//! the file before it gets its name and the folder after.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use karez_core::{Error, Result};

use super::{Creation, DurableStore, checked};

const TEMPORARY: &str = ".tmp-";

/// A folder.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens a folder; creates it, and makes that durable.
    pub fn open(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(|e| failed("use", root, e))?;
        create_folders(&root)?;
        Ok(Self { root })
    }

    /// Removes what writers that died left half-written. Only while no one else can write.
    pub fn remove_temporary(&self) -> Result<()> {
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|e| failed("list", &folder, e))? {
                let entry = entry.map_err(|e| failed("list", &folder, e))?;
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(entry.path());
                } else if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    remove_if_there(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.root.join(checked(name)?))
    }
}

impl DurableStore for LocalStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        create_folders(folder)?;
        let temporary = write_temporary(folder, bytes)?;
        let named = give_name(&temporary, &path);
        // A temporary file that stays behind hurts no one: it is removed at the next start.
        let _ = fs::remove_file(&temporary);
        match named {
            Ok(()) => {
                sync_folder(folder)?;
                Ok(Creation::Created)
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(Creation::Exists),
            Err(e) => Err(failed("create", &path, e)),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path, e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let path = self.path(&folder)?;
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(failed("list", &path, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| failed("list", &path, e))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if entry.file_type().map_err(|e| failed("list", &path, e))?.is_dir() {
                    folders.push(format!("{folder}/{name}"));
                } else if !name.starts_with(TEMPORARY) {
                    names.push(format!("{folder}/{name}"));
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        remove_if_there(&self.path(name)?)
    }

    fn describe(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
}

/// Replaces a small file as a whole, durably: readers see the old or the new text.
pub(crate) fn replace_file(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let temporary = write_temporary(folder, text.as_bytes())?;
    fs::rename(&temporary, path).map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed("replace", path, e)
    })?;
    sync_folder(folder)
}

/// Creates a folder and those above it, each durably.
pub(crate) fn create_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Err(e) if !(e.kind() == ErrorKind::AlreadyExists && folder.is_dir()) => return Err(failed("create the folder", folder, e)),
        _ => {}
    }
    parent.map_or(Ok(()), sync_folder)
}

fn write_temporary(folder: &Path, bytes: &[u8]) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!("{TEMPORARY}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let written = OpenOptions::new().write(true).create(true).truncate(true).open(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| {
        let _ = fs::remove_file(&path);
        failed("write", &path, e)
    })?;
    Ok(path)
}

/// Names a file unless the name is taken. A hard link does that on every Unix file system that has them; where there are none (FAT, some network
/// mounts) Linux has `RENAME_NOREPLACE`.
fn give_name(temporary: &Path, path: &Path) -> std::io::Result<()> {
    match fs::hard_link(temporary, path) {
        #[cfg(target_os = "linux")]
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::TooManyLinks) => {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE)
                .map_err(|second| if second == rustix::io::Errno::EXIST { second.into() } else { e })
        }
        result => result,
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed("sync the folder", folder, e))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("delete", path, e)),
        _ => Ok(()),
    }
}

/// An error that says what was tried where, and what to do about the usual causes.
pub(crate) fn failed(what: &str, path: &Path, cause: std::io::Error) -> Error {
    let advice = match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            " (the disk or the quota is full: free space there, or set another `checkpoint.storage` or `--state-dir`)"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            " (Karez must be able to write there: change its permissions, or set another `checkpoint.storage` or `--state-dir`)"
        }
        _ => "",
    };
    Error::external(format!("cannot {what} {}{advice}", path.display())).caused_by(cause)
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let path = Path::new("/dev/full");
        let cause = OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(b"x")).unwrap_err();
        let error = failed("write", path, cause).to_string();
        assert!(error.contains("/dev/full") && error.contains("the disk or the quota is full") && error.contains("checkpoint.storage"), "{error}");
    }

    #[test]
    fn what_a_writer_that_died_left_is_removed_and_never_listed() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        store.create("log/1", &Bytes::from_static(b"whole")).unwrap();
        fs::write(dir.path().join("log/.tmp-1-0"), "ha").unwrap();
        assert_eq!(store.list("log").unwrap(), ["log/1"]);
        store.remove_temporary().unwrap();
        assert_eq!(fs::read_dir(dir.path().join("log")).unwrap().count(), 1);
    }
}
