//! The Confluent wire format: a zero byte, the id of the schema in four bytes (big-endian), then the payload.

use super::SchemaId;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 5;

/// The id, and what stands behind it.
pub(super) fn split(message: &[u8]) -> Result<(SchemaId, &[u8]), String> {
    match message.split_first_chunk::<HEADER_BYTES>() {
        Some(([0, id @ ..], payload)) => Ok((SchemaId(u32::from_be_bytes(*id)), payload)),
        Some(([first, ..], _)) => {
            Err(format!("the message is not in the schema registry's wire format: it begins with the byte {first:#04x} instead of 0x00"))
        }
        None => Err(format!("the message is not in the schema registry's wire format: it has {} bytes, fewer than {HEADER_BYTES}", message.len())),
    }
}

/// What stands before a payload.
pub(super) const fn header(id: SchemaId) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [0, a, b, c, d]
}
