//! Bytes of a file from an offset on, decompressed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use karez_core::{Error, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::options::CompressionOption;

/// Bytes at the start of a file that a fingerprint covers, if there are so many.
pub(super) const HEAD_BYTES: usize = 1_024;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// How the file at `path` is compressed: as `option` says, or its first bytes.
    pub(super) fn of(path: &str, file: &File, option: CompressionOption) -> io::Result<Self> {
        Ok(match option {
            CompressionOption::None => Self::None,
            CompressionOption::Gzip => Self::Gzip,
            CompressionOption::Zstd => Self::Zstd,
            CompressionOption::Auto => {
                let head = raw_head(file, 4)?;
                let suffix = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
                match head.as_slice() {
                    [0x1f, 0x8b, ..] => Self::Gzip,
                    [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
                    [_, ..] if matches!(suffix.as_str(), "gz" | "zst" | "zstd") => {
                        let message =
                            format!("its name ends in `.{suffix}`, but it does not begin like such a file; set `compression` if that is right");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                    }
                    _ => Self::None,
                }
            }
        })
    }
}

/// Opens a file, with errors that name it.
pub(super) fn open(path: &str) -> Result<File> {
    File::open(path).map_err(|e| cannot_read(path, e))
}

/// The error for a file that cannot be read.
pub(super) fn cannot_read(path: &str, e: io::Error) -> Error {
    Error::external(format!("the file `{path}` cannot be read")).caused_by(e)
}

/// The first bytes of a file as they are on disk.
pub(super) fn raw_head(file: &File, length: usize) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut head = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut head[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// The bytes of a file from `offset` (decompressed) on.
pub(super) fn stream(file: File, compression: Compression, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = file;
    let mut reader: Box<dyn Read + Send> = match compression {
        Compression::None => {
            file.seek(SeekFrom::Start(offset))?;
            return Ok(Box::new(file));
        }
        Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    };
    let skipped = io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
    if skipped < offset {
        let message = format!("it holds {skipped} bytes, but {offset} had been read before; it was changed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(reader)
}

/// The first bytes of a file, decompressed, at most [`HEAD_BYTES`]; fewer where the file ends in the middle of a compressed block.
pub(super) fn head(file: &File, compression: Compression) -> io::Result<Vec<u8>> {
    if compression == Compression::None {
        return raw_head(file, HEAD_BYTES);
    }
    let mut reader = stream(file.try_clone()?, compression, 0)?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    match reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head) {
        Ok(_) => Ok(head),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(head),
        Err(e) => Err(e),
    }
}

/// The hash of a file's first bytes: part of its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    hash: u64,
    length: u16,
}

impl Fingerprint {
    /// Of the first bytes of a file, at most [`HEAD_BYTES`].
    pub(super) fn of(head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD_BYTES)];
        Self { hash: xxh3_64(head), length: u16::try_from(head.len()).unwrap_or(u16::MAX) }
    }

    /// Whether a file that begins with `head` can be the one this was taken of; it may have grown.
    pub(super) fn matches(self, head: &[u8]) -> bool {
        head.get(..self.length.into()).is_some_and(|h| self.length == 0 || xxh3_64(h) == self.hash)
    }

    /// Whether it covers so much that other files will not match.
    pub(super) const fn is_strong(self) -> bool {
        self.length as usize == HEAD_BYTES
    }

    /// Whether it covers nothing.
    pub(super) const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The one that covers more.
    pub(super) const fn longer(self, other: Self) -> Self {
        if other.length > self.length { other } else { self }
    }
}

/// The size of a file on disk.
pub(super) fn size(path: &str) -> Result<u64> {
    Ok(fs::metadata(path).map_err(|e| cannot_read(path, e))?.len())
}
