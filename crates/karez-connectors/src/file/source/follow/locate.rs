//! Where known content is now.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use karez_core::Result;

use super::super::glob::Patterns;
use super::super::input::{Compression, Fingerprint, cannot_read, head};
use super::super::options::CompressionOption;

/// A file as it is at this moment.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) path: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Bytes on disk.
    pub(super) size: u64,
    pub(super) compression: Compression,
    /// Its first bytes, decompressed.
    pub(super) head: Vec<u8>,
}

impl Facts {
    /// `None`: there is no such file (any more), or it is compressed and still too short to be recognised.
    pub(super) fn of(path: &str, option: CompressionOption) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        let is_named_compressed = Path::new(path).extension().is_some_and(|e| matches!(e.to_str(), Some("gz" | "zst" | "zstd")));
        let can_be_compressed = option != CompressionOption::None && (is_named_compressed || option != CompressionOption::Auto);
        if can_be_compressed && meta.len() < SHORTEST_COMPRESSED {
            return Ok(None);
        }
        let compression = Compression::of(path, &file, option)?;
        let head = head(&file, compression)?;
        Ok(Some(Self { path: path.to_owned(), device: meta.dev(), inode: meta.ino(), size: meta.len(), compression, head }))
    }
}

/// Bytes of an empty zstd file; gzip's has more. A shorter one is being written.
const SHORTEST_COMPRESSED: u64 = 9;

/// Content known from before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Where it was found first.
    pub(super) path: &'a str,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) head: Fingerprint,
    /// Bytes it has at least, decompressed.
    pub(super) size: u64,
}

impl Known<'_> {
    pub(super) const fn has_inode(&self, device: u64, inode: u64) -> bool {
        self.device == device && self.inode == inode
    }

    /// Whether it stands in its inode still.
    pub(super) fn is_in(&self, facts: &Facts) -> bool {
        let is_long_enough = facts.compression != Compression::None || facts.size >= self.size;
        self.has_inode(facts.device, facts.inode) && is_long_enough && self.head.matches(&facts.head)
    }

    /// Whether another file holds it: a copy, or a compressed one.
    pub(super) fn is_copied_to(&self, facts: &Facts) -> bool {
        if self.head.is_empty() || !self.head.matches(&facts.head) {
            return false;
        }
        // Compressed it may be in an inode that was its own before: file systems use them again.
        if facts.compression == Compression::None && (self.has_inode(facts.device, facts.inode) || facts.size < self.size) {
            return false;
        }
        // Few equal bytes, such as a header, are no proof: then the name must tell.
        self.head.is_strong() || is_related(self.path, &facts.path)
    }
}

/// Whether a file's name says that it was made of another: the same folder, and the same beginning of the name.
pub(super) fn is_related(original: &str, path: &str) -> bool {
    let (original, path) = (Path::new(original), Path::new(path));
    let (Some(stem), Some(name)) = (original.file_stem().and_then(|s| s.to_str()), path.file_name().and_then(|s| s.to_str())) else { return false };
    let rest = name.strip_prefix(stem);
    original.parent() == path.parent() && original != path && rest.is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric()))
}

/// Where content was found.
#[derive(Debug)]
pub(super) enum Place {
    /// In its inode.
    Same(Facts),
    /// In another file, which is read to its end.
    Copy(Facts),
    /// Nowhere; `truncated`: its inode holds other content.
    Nowhere { truncated: bool },
}

/// Looks for content in all files that match, and in the folder where it was found first.
pub(super) fn locate(known: Known<'_>, patterns: &Patterns, option: CompressionOption) -> Result<Place> {
    let mut paths: BTreeSet<String> = patterns.list()?.into_iter().collect();
    let folder = Path::new(known.path).parent().filter(|p| !p.as_os_str().is_empty());
    if let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) {
        let here = entries.flatten().map(|e| folder.map_or_else(|| e.file_name().into(), |f| f.join(e.file_name())));
        paths.extend(here.filter_map(|p| p.to_str().map(str::to_owned)));
    }
    let mut inode_exists = false;
    for path in &paths {
        let Ok(meta) = fs::metadata(path) else { continue };
        if meta.is_file() && known.has_inode(meta.dev(), meta.ino()) {
            inode_exists = true;
            match Facts::of(path, option).map_err(|e| cannot_read(path, e))? {
                Some(facts) if known.is_in(&facts) => return Ok(Place::Same(facts)),
                _ => {}
            }
        }
    }
    let mut newest: Option<(std::time::SystemTime, Facts)> = None;
    for path in paths.iter().filter(|p| known.head.is_strong() || is_related(known.path, p)) {
        let Ok(meta) = fs::metadata(path) else { continue };
        let Ok(modified) = meta.modified() else { continue };
        // What cannot be read is no copy of ours.
        let Some(facts) = meta.is_file().then(|| Facts::of(path, option).ok().flatten()).flatten() else { continue };
        if known.is_copied_to(&facts) && newest.as_ref().is_none_or(|(time, _)| modified > *time) {
            newest = Some((modified, facts));
        }
    }
    Ok(newest.map_or(Place::Nowhere { truncated: inode_exists }, |(_, facts)| Place::Copy(facts)))
}
