//! The codecs of record batches, as the Java client writes them.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Deserialize;

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
    #[default]
    None = 0,
    /// Gzip.
    Gzip = 1,
    /// Snappy.
    Snappy = 2,
    /// LZ4.
    Lz4 = 3,
    /// Zstandard.
    Zstd = 4,
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compression {
    pub(super) codec: Codec,
    /// `None`: the codec's default (gzip 6, zstd 3).
    pub(super) level: Option<i32>,
}

/// The stream format of snappy-java: magic, its version twice, then blocks, each behind its length.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK: usize = 32 * 1024;

impl Compression {
    /// The levels that a codec takes; none for those that have none (here).
    pub(super) fn levels(codec: Codec) -> Option<std::ops::RangeInclusive<i32>> {
        match codec {
            Codec::Gzip => Some(1..=9),
            Codec::Zstd => Some(zstd::compression_level_range()),
            Codec::None | Codec::Snappy | Codec::Lz4 => None,
        }
    }

    /// Appends `records`, compressed.
    pub(super) fn compress(self, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self.codec {
            Codec::None => out.extend_from_slice(records),
            Codec::Gzip => {
                let level = self.level.and_then(|l| u32::try_from(l).ok()).map_or_else(flate2::Compression::default, flate2::Compression::new);
                let mut encoder = flate2::write::GzEncoder::new(out, level);
                encoder.write_all(records)?;
                encoder.finish()?;
            }
            Codec::Snappy => snappy(records, out)?,
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(records)?;
                encoder.finish().map_err(io::Error::other)?;
            }
            Codec::Zstd => zstd::stream::copy_encode(records, out, self.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?,
        }
        Ok(())
    }
}

fn snappy(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&XERIAL_HEADER);
    for block in records.chunks(XERIAL_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let length = encoder.compress(block, &mut out[at + 4..]).map_err(io::Error::other)?;
        out[at..at + 4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        out.truncate(at + 4 + length);
    }
    Ok(())
}
