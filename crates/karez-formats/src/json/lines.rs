//! Where lines end.

use memchr::{memchr, memrchr};

/// Behind the last line feed of `block`.
pub(super) fn lines_end(block: &[u8]) -> usize {
    memrchr(b'\n', block).map_or(0, |at| at + 1)
}

/// Where a chunk of complete lines ends that begins at `begin` and takes `wanted` bytes, if lines are short enough.
/// `end` is the end of the last complete line.
pub(super) fn chunk_end(block: &[u8], begin: usize, end: usize, wanted: usize) -> usize {
    let Some(near) = begin.checked_add(wanted).filter(|&near| near < end) else { return end };
    match memrchr(b'\n', &block[begin..near]) {
        Some(at) => begin + at + 1,
        None => memchr(b'\n', &block[near..end]).map_or(end, |at| near + at + 1),
    }
}

/// The line feed that ends the line at `pos`, or the end of `chunk`.
pub(super) fn line_end(chunk: &[u8], pos: usize) -> usize {
    memchr(b'\n', &chunk[pos..]).map_or(chunk.len(), |at| pos + at)
}

/// Whether `line` is but white space of JSON.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
