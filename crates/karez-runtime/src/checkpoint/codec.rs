//! How manifests and fences stand on disk: one line that says format, kind, checksum and length, then JSON.
//!
//! ```text
//! karez-checkpoint 1 checkpoint xxh3-128:0f3c… 1234
//! { … }
//! ```
//! The first three words keep their meaning in every later format, so that an older build can say what it cannot read.

use karez_core::{Error, Generation, Result};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::manifest::Manifest;

/// The version this build writes, and the only one there is so far.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &str = "karez-checkpoint";

/// An entry of a run's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A process has taken over the run.
    Generation(GenerationStart),
    /// A checkpoint.
    Checkpoint(Box<Manifest>),
}

/// A process has taken over the run: whatever an older one wants to add comes too late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStart {
    /// Its generation.
    pub generation: Generation,
    /// When, milliseconds since the epoch.
    pub created_ms: i64,
    /// The version of Karez.
    pub karez: String,
    /// The process, on its machine.
    pub pid: u32,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Another build wrote it. Never fallen back from.
    Version(String),
    /// It is torn or damaged.
    Damaged(String),
}

impl From<String> for Unreadable {
    fn from(reason: String) -> Self {
        Self::Damaged(reason)
    }
}

impl From<&str> for Unreadable {
    fn from(reason: &str) -> Self {
        Self::Damaged(reason.to_owned())
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(reason) | Self::Damaged(reason) => f.write_str(reason),
        }
    }
}

impl Entry {
    /// The generation that wrote it.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        match self {
            Self::Generation(g) => g.generation,
            Self::Checkpoint(m) => m.generation,
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let (kind, body) = match self {
            Self::Generation(g) => ("generation", serde_json::to_vec_pretty(g)),
            Self::Checkpoint(m) => ("checkpoint", serde_json::to_vec_pretty(m)),
        };
        let body = body.map_err(|e| Error::internal(format!("a {kind} cannot be written as JSON: {e}")))?;
        let mut bytes = format!("{MAGIC} {FORMAT_VERSION} {kind} xxh3-128:{:032x} {}\n", checksum(kind, &body), body.len()).into_bytes();
        bytes.extend_from_slice(&body);
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// From bytes. The error says what is wrong, not where: the caller knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let end = bytes.iter().position(|&b| b == b'\n').ok_or("it is cut off in its first line")?;
        let header = std::str::from_utf8(&bytes[..end]).map_err(|_| "its first line is not text")?;
        let mut words = header.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(format!("it does not begin with `{MAGIC}`").into());
        }
        let version = words.next().and_then(|w| w.parse::<u32>().ok()).ok_or("its first line holds no format version")?;
        if version != FORMAT_VERSION {
            let built = env!("CARGO_PKG_VERSION");
            let message = format!(
                "it has format version {version}, and this build (karez {built}) reads version {FORMAT_VERSION}: use the build that wrote it"
            );
            return Err(Unreadable::Version(message));
        }
        let (Some(kind), Some(sum), Some(length)) = (words.next(), words.next(), words.next()) else {
            return Err("its first line is cut off".into());
        };
        let sum = sum.strip_prefix("xxh3-128:").and_then(|h| u128::from_str_radix(h, 16).ok()).ok_or("its first line holds no checksum")?;
        let length: usize = length.parse().map_err(|_| "its first line holds no length")?;
        let rest = &bytes[end + 1..];
        let body = rest.strip_suffix(b"\n").filter(|b| b.len() == length);
        let body = body.ok_or_else(|| format!("it is torn: {} of {} bytes", rest.len(), length + 1))?;
        if checksum(kind, body) != sum {
            return Err("its checksum does not fit its content".into());
        }
        let parsed = match kind {
            "generation" => serde_json::from_slice(body).map(Self::Generation),
            "checkpoint" => serde_json::from_slice(body).map(Self::Checkpoint),
            _ => return Err(format!("it is a `{kind}`, which this build does not know").into()),
        };
        parsed.map_err(|e| format!("its JSON is not that of a {kind}: {e}").into())
    }
}

fn checksum(kind: &str, body: &[u8]) -> u128 {
    xxh3_128(body) ^ xxh3_128(kind.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::Generation(GenerationStart { generation: Generation(3), created_ms: 5, karez: "0.1.0".into(), pid: 7 })
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Entry::decode(&entry().encode().unwrap()).unwrap(), entry());
    }

    #[test]
    fn no_part_of_an_entry_and_no_flipped_bit_reads_as_whole() {
        let whole = entry().encode().unwrap();
        for length in 0..whole.len() {
            assert!(Entry::decode(&whole[..length]).is_err(), "the first {length} bytes");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(Entry::decode(&flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn another_format_version_is_named_and_says_what_to_do() {
        let newer = String::from_utf8(entry().encode().unwrap()).unwrap().replacen("karez-checkpoint 1", "karez-checkpoint 2", 1);
        let Err(Unreadable::Version(error)) = Entry::decode(newer.as_bytes()) else { panic!("read") };
        assert!(error.contains("format version 2") && error.contains("reads version 1"), "{error}");
    }
}
