//! Finding the end of things: strings, runs of digits, white space.
//!
//! Everything here stops at the end of `data`, and at a line feed inside a string, since a line feed ends the record.

/// Sixteen bytes from `pos`, the first in the lowest place; `None` within sixteen bytes of the end.
#[inline(always)]
pub(super) fn load16(data: &[u8], pos: usize) -> Option<u128> {
    let window = data.get(pos..)?.first_chunk::<16>()?;
    Some(u128::from_le_bytes(*window))
}

/// Eight bytes from `pos`, the first in the lowest place; behind the end they are zero.
#[inline(always)]
pub(super) fn load8(data: &[u8], pos: usize) -> u64 {
    let rest = data.get(pos..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(window) => u64::from_le_bytes(*window),
        None => load8_end(rest),
    }
}

#[cold]
#[inline(never)]
fn load8_end(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// How many of the eight bytes of `word`, from the lowest, are ASCII digits.
#[inline(always)]
pub(super) fn leading_digits(word: u64) -> u32 {
    let value = word ^ 0x3030_3030_3030_3030;
    // High half of a byte stays zero for 0..=9 alone. A carry can only leave a byte that is not a digit itself,
    // and spoils but the bytes behind it, which do not count any more.
    let spoilt = (value | value.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0;
    spoilt.trailing_zeros() / 8
}

/// The number that eight digits stand for.
///
/// `digits` holds values 0 to 9, not ASCII, the most significant in the lowest byte. (D. Lemire, "Quickly parsing eight
/// digits", 2018.)
#[inline(always)]
pub(super) fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    low.wrapping_add(high) >> 32
}

/// Whether a record may hold bytes that are not ASCII, and so has to be checked for UTF-8.
///
/// Gathered while strings are scanned, since a pass over all the bytes for it took a quarter of the decoder's time.
#[derive(Debug, Default)]
pub(super) struct Seen(u32);

impl Seen {
    /// Whether one of the bytes scanned, or of their neighbours, is not ASCII.
    pub(super) fn non_ascii(&self) -> bool {
        self.0 != 0
    }
}

/// Position of the first quote, backslash or line feed at or behind `pos`.
#[inline(always)]
pub(super) fn string_stop(data: &[u8], mut pos: usize, seen: &mut Seen) -> Option<usize> {
    while let Some(window) = data.get(pos..).and_then(|rest| rest.first_chunk::<16>()) {
        let (stops, non_ascii) = stops16(window);
        seen.0 |= non_ascii;
        if stops != 0 {
            return Some(pos + stops.trailing_zeros() as usize);
        }
        pos += 16;
    }
    let rest = data.get(pos..)?;
    seen.0 |= u32::from(!rest.is_ascii());
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).map(|at| pos + at)
}

/// A bit for each byte of `window` that is a quote, a backslash or a line feed, and for each that is not ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stops16(window: &[u8; 16]) -> (u32, u32) {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8};
    // SAFETY: SSE2 is part of every x86-64, and the load reads exactly the bytes of `window`. Measured: a
    // byte loop halves the speed of the whole decoder.
    unsafe {
        let bytes = _mm_loadu_si128(window.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let line_feed = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\n' as i8));
        let stops = _mm_or_si128(_mm_or_si128(quote, backslash), line_feed);
        (_mm_movemask_epi8(stops) as u32, _mm_movemask_epi8(bytes) as u32)
    }
}

/// A bit for each byte of `window` that is a quote, a backslash or a line feed, and for each that is not ASCII.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn stops16(window: &[u8; 16]) -> (u32, u32) {
    let (mut stops, mut non_ascii) = (0, 0);
    for (at, byte) in window.iter().enumerate() {
        stops |= u32::from(matches!(byte, b'"' | b'\\' | b'\n')) << at;
        non_ascii |= u32::from(byte >> 7) << at;
    }
    (stops, non_ascii)
}

/// Behind the number at `pos`, in the sense of arrow-json's tape: a digit or a minus, then any of `0-9 - + . e E`.
#[inline(always)]
pub(super) fn number_end(data: &[u8], mut pos: usize) -> Option<usize> {
    if !matches!(data.get(pos)?, b'-' | b'0'..=b'9') {
        return None;
    }
    pos += 1;
    loop {
        let digits = leading_digits(load8(data, pos));
        pos += digits as usize;
        if digits == 8 {
            continue;
        }
        match data.get(pos) {
            Some(b'-' | b'+' | b'.' | b'e' | b'E') => pos += 1,
            _ => return Some(pos),
        }
    }
}

/// Which byte sequences count as white space between two tokens of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A record ends at a line feed.
    Line,
    /// A record ends with the data, and a line feed is white space.
    Message,
}

/// Behind the white space at `pos`.
#[inline]
pub(super) fn skip_space(data: &[u8], mut pos: usize, framing: Framing) -> usize {
    while let Some(byte) = data.get(pos) {
        match byte {
            b' ' | b'\t' | b'\r' => pos += 1,
            b'\n' if framing == Framing::Message => pos += 1,
            _ => break,
        }
    }
    pos
}

/// Behind the value at `pos`, whatever it is; `None` for what is not plainly valid.
///
/// What this accepts arrow-json accepts; the reverse does not hold.
#[inline(always)]
pub(super) fn skip_value(data: &[u8], pos: usize, framing: Framing, seen: &mut Seen) -> Option<usize> {
    match data.get(pos)? {
        b'{' | b'[' => skip_nested(data, pos, framing, seen),
        _ => skip_scalar(data, pos, seen),
    }
}

/// Behind the string, number or word at `pos`.
#[inline(always)]
fn skip_scalar(data: &[u8], pos: usize, seen: &mut Seen) -> Option<usize> {
    match data.get(pos)? {
        b'"' => {
            let stop = string_stop(data, pos + 1, seen)?;
            if data[stop] == b'"' { Some(stop + 1) } else { skip_escaped(data, stop, seen) }
        }
        b'-' | b'0'..=b'9' => number_end(data, pos),
        b't' => literal(data, pos, b"true"),
        b'f' => literal(data, pos, b"false"),
        b'n' => literal(data, pos, b"null"),
        _ => None,
    }
}

/// Behind `text`, if it stands at `pos`.
#[inline(always)]
pub(super) fn literal(data: &[u8], pos: usize, text: &[u8]) -> Option<usize> {
    data.get(pos..)?.starts_with(text).then_some(pos + text.len())
}

/// Behind the closing quote of a string whose scan stopped at `stop`, at something else than its closing quote.
#[inline(never)]
fn skip_escaped(data: &[u8], mut stop: usize, seen: &mut Seen) -> Option<usize> {
    loop {
        match data.get(stop)? {
            b'"' => return Some(stop + 1),
            b'\\' => stop = string_stop(data, unescape(data, stop)?.1, seen)?,
            _ => return None,
        }
    }
}

/// The character of the escape sequence at `pos`, and the position behind it. Surrogates are left to the general path.
pub(super) fn unescape(data: &[u8], pos: usize) -> Option<(char, usize)> {
    let character = match data.get(pos + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let mut code = 0;
            for &digit in data.get(pos + 2..)?.first_chunk::<4>()? {
                code = code << 4 | char::from(digit).to_digit(16)?;
            }
            return Some((char::from_u32(code)?, pos + 6));
        }
        _ => return None,
    };
    Some((character, pos + 2))
}

/// Deepest nesting skipped here; anything deeper takes the general path.
const DEPTH_LIMIT: u32 = 64;

/// Behind the object or list at `pos`.
#[inline(never)]
fn skip_nested(data: &[u8], mut pos: usize, framing: Framing, seen: &mut Seen) -> Option<usize> {
    // One bit a level, the innermost lowest: set in an object, clear in a list.
    let mut objects = 0_u64;
    let mut depth = 0;
    loop {
        // A value begins at `pos`.
        let open = *data.get(pos)?;
        if open == b'{' || open == b'[' {
            if depth == DEPTH_LIMIT {
                return None;
            }
            depth += 1;
            objects = objects << 1 | u64::from(open == b'{');
            pos = skip_space(data, pos + 1, framing);
            let close = if open == b'{' { b'}' } else { b']' };
            if *data.get(pos)? != close {
                if open == b'{' {
                    pos = skip_key(data, pos, framing, seen)?;
                }
                continue;
            }
        } else {
            pos = skip_scalar(data, pos, seen)?;
        }
        // A value has ended, or an empty list or object ends at `pos`.
        loop {
            if depth == 0 {
                return Some(pos);
            }
            let object = objects & 1 == 1;
            pos = skip_space(data, pos, framing);
            match data.get(pos)? {
                b',' => {
                    pos = skip_space(data, pos + 1, framing);
                    if object {
                        pos = skip_key(data, pos, framing, seen)?;
                    }
                    break;
                }
                b'}' if object => {}
                b']' if !object => {}
                _ => return None,
            }
            pos += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

/// Behind the key at `pos`, its colon and the white space around.
fn skip_key(data: &[u8], pos: usize, framing: Framing, seen: &mut Seen) -> Option<usize> {
    if *data.get(pos)? != b'"' {
        return None;
    }
    let colon = skip_space(data, skip_scalar(data, pos, seen)?, framing);
    (*data.get(colon)? == b':').then(|| skip_space(data, colon + 1, framing))
}
