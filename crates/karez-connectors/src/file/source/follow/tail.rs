//! Reading a file that others write to, without ever giving bytes of another content.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::super::input::{Fingerprint, HEAD_BYTES, raw_head};

/// The file holds another content than before.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the file was truncated")]
pub(in super::super) struct Truncated;

/// A file that grows, read from an offset.
#[derive(Debug)]
pub(in super::super) struct Tail {
    file: File,
    offset: u64,
    head: Fingerprint,
}

impl Tail {
    pub(super) const fn new(file: File, offset: u64, head: Fingerprint) -> Self {
        Self { file, offset, head }
    }

    /// Reads what has come; 0: nothing at present. [`Truncated`] where the content is another.
    pub(in super::super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        // Looked at behind the read: what was read before a truncation is good, what after it is not given.
        let head = raw_head(&self.file, HEAD_BYTES)?;
        if self.file.metadata()?.len() < self.offset + read as u64 || !self.head.matches(&head) {
            return Err(io::Error::other(Truncated));
        }
        self.head = self.head.longer(Fingerprint::of(&head));
        self.offset += read as u64;
        Ok(read)
    }

    /// The fingerprint, as long as the file has allowed so far.
    pub(super) const fn head(&self) -> Fingerprint {
        self.head
    }

    /// What the file system says of it.
    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Whether no name is left for it.
    pub(super) fn is_deleted(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() == 0)
    }
}
