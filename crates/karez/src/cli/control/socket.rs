//! Where the socket of a running job is: `<state-dir>/<job id>/control.sock`.
//!
//! The address of a Unix socket holds about a hundred bytes. Where the path is longer, the socket is in the user's runtime directory (else the
//! directory for temporary files), and `control.path` in the job's directory says where.

use std::io;
use std::path::{Path, PathBuf};

const SOCKET: &str = "control.sock";
const POINTER: &str = "control.path";

/// `sun_path` holds 108 bytes on Linux and 104 on macOS, a NUL at the end.
const MAX_PATH_BYTES: usize = 103;

/// The files that lead to a socket; removed when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) socket: PathBuf,
    pointer: Option<PathBuf>,
}

impl Place {
    /// Decides on a place below the job's directory and clears it. The caller holds the job's lock, so what stands there is of a process that died.
    pub(super) fn claim(job: &Path) -> io::Result<Self> {
        let direct = job.join(SOCKET);
        for old in [find(job), Some(direct.clone()), Some(job.join(POINTER))].into_iter().flatten() {
            match std::fs::remove_file(&old) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if fits(&direct) {
            return Ok(Self { socket: direct, pointer: None });
        }
        let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_dir()).unwrap_or_else(std::env::temp_dir);
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let socket = base.join(format!("karez-{}-{nanos:08x}.sock", std::process::id()));
        if !fits(&socket) {
            let message =
                format!("both {} and {} are longer than the {MAX_PATH_BYTES} bytes of a socket's address", direct.display(), socket.display());
            return Err(io::Error::other(message));
        }
        let pointer = job.join(POINTER);
        std::fs::write(&pointer, socket.as_os_str().as_encoded_bytes())?;
        Ok(Self { socket, pointer: Some(pointer) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in std::iter::once(&self.socket).chain(&self.pointer) {
            if let Err(e) = std::fs::remove_file(path) {
                tracing::debug!("cannot remove {}: {e}", path.display());
            }
        }
    }
}

/// The socket of the job with this directory, if it has one.
pub(super) fn find(job: &Path) -> Option<PathBuf> {
    let direct = job.join(SOCKET);
    if std::fs::symlink_metadata(&direct).is_ok() {
        return Some(direct);
    }
    std::fs::read_to_string(job.join(POINTER)).ok().map(PathBuf::from)
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().len() <= MAX_PATH_BYTES
}
