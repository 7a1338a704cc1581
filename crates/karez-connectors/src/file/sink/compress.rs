//! Compression in members (gzip) or frames (zstd) that end at every checkpoint: a file cut at a durable length is a whole file, and one that goes
//! on is just more members, which every reader joins.

use std::io::{self, Write};

use flate2::write::GzEncoder;

use super::disk::Output;
use super::options::Compression;

pub(super) enum Compressor {
    Plain,
    Gzip(Option<GzEncoder<Vec<u8>>>),
    Zstd(Option<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Compressor {
    pub(super) const fn new(compression: Compression) -> Self {
        match compression {
            Compression::None | Compression::Snappy => Self::Plain,
            Compression::Gzip => Self::Gzip(None),
            Compression::Zstd => Self::Zstd(None),
        }
    }

    /// Writes bytes; part of them may stay in the compressor. On an error it is unknown how much has been written.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Output) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self {
            Self::Plain => out.write_all(bytes),
            Self::Gzip(encoder) => {
                let encoder = encoder.get_or_insert_with(gzip);
                encoder.write_all(bytes)?;
                drain(encoder.get_mut(), out)
            }
            Self::Zstd(encoder) => {
                let encoder = match encoder {
                    Some(e) => e,
                    None => encoder.insert(zstd_frame()?),
                };
                encoder.write_all(bytes)?;
                drain(encoder.get_mut(), out)
            }
        }
    }

    /// Ends the member, so that everything written is in the file.
    pub(super) fn end_member(&mut self, out: &mut Output) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(encoder) => encoder.take().map_or(Ok(()), |e| out.write_all(&e.finish()?)),
            Self::Zstd(encoder) => encoder.take().map_or(Ok(()), |e| out.write_all(&e.finish()?)),
        }
    }

    /// A file without any bytes would be no gzip or zstd file: gives it an empty member.
    pub(super) fn fill_empty(&mut self, out: &mut Output) -> io::Result<()> {
        match self {
            Self::Gzip(None) if out.length == 0 => out.write_all(&gzip().finish()?),
            Self::Zstd(None) if out.length == 0 => out.write_all(&zstd_frame()?.finish()?),
            _ => Ok(()),
        }
    }
}

fn gzip() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), flate2::Compression::default())
}

fn zstd_frame() -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    zstd::stream::write::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)
}

fn drain(buffer: &mut Vec<u8>, out: &mut Output) -> io::Result<()> {
    out.write_all(buffer)?;
    buffer.clear();
    Ok(())
}
