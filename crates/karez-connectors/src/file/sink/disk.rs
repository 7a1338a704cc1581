//! The disk: writing with the path in each error, and making files and folders durable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Result};

/// An error of the operating system about a path.
pub(super) fn failed(what: &str, path: &Path, e: &io::Error) -> Error {
    let advice = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room and start the job again, it goes on where it was",
        io::ErrorKind::PermissionDenied => "; the user that runs karez needs the right to write there",
        _ => "",
    };
    Error::external(format!("cannot {what} `{}`: {e}{advice}", path.display()))
}

/// Runs blocking work beside the tasks of the job.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("file work was interrupted").caused_by(e))?
}

/// Makes folders that are missing; notes those that must be synced for them to last.
pub(super) fn create_folder(folder: &Path, to_sync: &mut BTreeSet<PathBuf>) -> Result<()> {
    let mut missing: Vec<&Path> = folder.ancestors().take_while(|p| !p.exists()).collect();
    missing.reverse();
    std::fs::create_dir_all(folder).map_err(|e| failed("create the folder", folder, &e))?;
    to_sync.extend(missing.iter().filter_map(|p| p.parent()).map(Path::to_owned));
    Ok(())
}

/// Makes a folder's entries durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| failed("sync the folder", folder, &e))
}

/// A file that is written from front to back.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: Arc<File>,
    /// Bytes in the file.
    pub(super) length: u64,
    metrics: Arc<NodeMetrics>,
}

impl Output {
    /// Goes on at the end of a file of this length.
    pub(super) const fn new(file: Arc<File>, length: u64, metrics: Arc<NodeMetrics>) -> Self {
        Self { file, length, metrics }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = (&*self.file).write(bytes)?;
        self.length += n as u64;
        self.metrics.bytes_out.add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
