//! Protobuf's wire format: tags, varints, lengths.

/// A value as it stands in a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// Bytes with their length before them, or the inside of a group.
    Bytes(&'a [u8]),
}

/// Most levels of groups that are skipped.
const GROUP_DEPTH_LIMIT: usize = 100;

const TRUNCATED: &str = "the message ends in the middle of a field";

/// Takes a varint from the front.
#[inline]
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Ok(u64::from(byte));
    }
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(if bytes.len() < 10 { TRUNCATED.to_owned() } else { "a number is longer than ten bytes".to_owned() })
}

/// Takes a tag: the field's number and its wire type.
#[inline]
pub(super) fn tag(bytes: &mut &[u8]) -> Result<(u32, u8), String> {
    let tag = varint(bytes)?;
    match u32::try_from(tag >> 3) {
        Ok(number) if number > 0 && number < 1 << 29 => Ok((number, (tag & 7) as u8)),
        _ => Err(format!("a field has the number {}, which is none", tag >> 3)),
    }
}

/// Takes the value of a field.
#[inline]
pub(super) fn value<'a>(bytes: &mut &'a [u8], number: u32, wire_type: u8) -> Result<Wire<'a>, String> {
    match wire_type {
        0 => Ok(Wire::Varint(varint(bytes)?)),
        1 => Ok(Wire::Fixed64(u64::from_le_bytes(fixed(bytes)?))),
        2 => {
            let length = varint(bytes)?;
            let length = usize::try_from(length).ok().filter(|l| *l <= bytes.len()).ok_or_else(|| TRUNCATED.to_owned())?;
            let (value, rest) = bytes.split_at(length);
            *bytes = rest;
            Ok(Wire::Bytes(value))
        }
        3 => group(bytes, number).map(Wire::Bytes),
        5 => Ok(Wire::Fixed32(u32::from_le_bytes(fixed(bytes)?))),
        4 => Err(format!("the end of group {number} without its beginning")),
        other => Err(format!("field {number} has the wire type {other}, which is none")),
    }
}

#[inline]
fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
    let (value, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| TRUNCATED.to_owned())?;
    *bytes = rest;
    Ok(*value)
}

/// Takes what stands in a group, and its end.
fn group<'a>(bytes: &mut &'a [u8], number: u32) -> Result<&'a [u8], String> {
    let begin = *bytes;
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let inside = begin.len() - bytes.len();
        match tag(bytes)? {
            (ended, 4) if ended == *innermost => {
                open.pop();
                if open.is_empty() {
                    return Ok(&begin[..inside]);
                }
            }
            (began, 3) => {
                if open.len() >= GROUP_DEPTH_LIMIT {
                    return Err(format!("groups nest more than {GROUP_DEPTH_LIMIT} levels deep"));
                }
                open.push(began);
            }
            (other, wire_type) => {
                value(bytes, other, wire_type)?;
            }
        }
    }
    Err(TRUNCATED.to_owned())
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a tag.
pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Puts the length before what has been appended from `start` on.
pub(super) fn put_length_at(out: &mut Vec<u8>, start: usize) {
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

/// Signed numbers that are near zero as small varints.
pub(super) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The reverse of [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}
