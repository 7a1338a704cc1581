//! Record batches (format version 2, KIP-98) as they lie in Kafka's log, built in place.
//!
//! The client's own producer makes an object, a channel and a clock reading of every record; here the bytes of a row go straight from its column into the
//! batch of its partition, which is then handed to the client's connection as it is.
//!
//! ```text
//!   0 base offset i64 │ 8 length i32 │ 12 leader epoch i32 │ 16 magic i8 │ 17 crc32c u32 │ 21 attributes i16 │ 23 last offset delta i32
//!  27 base timestamp i64 │ 35 max timestamp i64 │ 43 producer id i64 │ 51 producer epoch i16 │ 53 base sequence i32 │ 57 count i32 │ 61 records …
//! ```
//! The checksum covers everything from the attributes on. Producer, epoch, sequence and checksum are set by [`SealedBatch::stamp`] when the batch is first
//! sent.

use krafka::__private::util::crc32c;

use super::compression::{Codec, Compression};

/// Bytes before the records.
pub(super) const HEADER_BYTES: usize = 61;

const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const COUNT: usize = 57;

const TRANSACTIONAL: i16 = 1 << 4;

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub(super) value: Option<&'a [u8]>,
    /// Its headers as [`HeaderBytes`] writes them.
    pub(super) headers: &'a [u8],
    pub(super) timestamp_ms: i64,
}

/// Who writes a batch, and the how manieth row of its partition the first is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) transactional: bool,
}

impl Stamp {
    /// Of a producer that is not idempotent.
    pub(super) const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false };
}

/// A batch that takes rows.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    /// The header's place, then the records, not compressed; empty before the first.
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// A batch that is complete but for its stamp, without which no broker takes it.
#[derive(Debug)]
pub(super) struct SealedBatch {
    bytes: Vec<u8>,
    count: i32,
}

// ===== impl OpenBatch =====

impl OpenBatch {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, header included, before compression.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a row.
    pub(super) fn push(&mut self, record: Record<'_>) {
        if self.count == 0 {
            self.bytes.clear();
            self.bytes.resize(HEADER_BYTES, 0);
            self.base_timestamp = record.timestamp_ms;
            self.max_timestamp = record.timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp_ms);
        let timestamp = zigzag(record.timestamp_ms.wrapping_sub(self.base_timestamp));
        let offset = zigzag(i64::from(self.count));
        let body = 1 + varint_bytes(timestamp) + varint_bytes(offset) + blob_bytes(record.key) + blob_bytes(record.value) + record.headers.len();
        let out = &mut self.bytes;
        out.reserve(body + 5);
        put_varint(out, zigzag(body as i64));
        out.push(0);
        put_varint(out, timestamp);
        put_varint(out, offset);
        put_blob(out, record.key);
        put_blob(out, record.value);
        out.extend_from_slice(record.headers);
        self.count += 1;
    }

    /// An upper bound of the bytes that a row adds.
    pub(super) fn cost(record: Record<'_>) -> usize {
        // Length, attributes, and both deltas at their longest.
        5 + 1 + 10 + 5 + blob_bytes(record.key) + blob_bytes(record.value) + record.headers.len()
    }

    /// Ends the batch, and leaves an empty one.
    pub(super) fn seal(&mut self, compression: Compression) -> std::io::Result<SealedBatch> {
        let capacity = self.bytes.capacity();
        let mut bytes = std::mem::take(&mut self.bytes);
        let count = std::mem::take(&mut self.count);
        if compression.codec != Codec::None {
            let mut compressed = vec![0; HEADER_BYTES];
            compression.compress(&bytes[HEADER_BYTES..], &mut compressed)?;
            // The room of the records serves the next batch.
            self.bytes = std::mem::replace(&mut bytes, compressed);
        } else {
            self.bytes = Vec::with_capacity(capacity.min(bytes.len() + bytes.len() / 8));
        }
        let length = i32::try_from(bytes.len() - LENGTH - 4).map_err(|_| std::io::Error::other("a batch of more than 2 GiB"))?;
        put(&mut bytes, LENGTH, length.to_be_bytes());
        put(&mut bytes, LENGTH + 4, (-1i32).to_be_bytes());
        bytes[MAGIC] = 2;
        put(&mut bytes, ATTRIBUTES, i16::from(compression.codec as u8).to_be_bytes());
        put(&mut bytes, LAST_OFFSET_DELTA, (count - 1).to_be_bytes());
        put(&mut bytes, BASE_TIMESTAMP, self.base_timestamp.to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
        put(&mut bytes, COUNT, count.to_be_bytes());
        Ok(SealedBatch { bytes, count })
    }
}

// ===== impl SealedBatch =====

impl SealedBatch {
    /// How many rows.
    pub(super) const fn count(&self) -> i32 {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Says who writes it.
    pub(super) fn stamp(&mut self, stamp: Stamp) {
        let attributes = i16::from_be_bytes([self.bytes[ATTRIBUTES], self.bytes[ATTRIBUTES + 1]]) & !TRANSACTIONAL;
        let attributes = if stamp.transactional { attributes | TRANSACTIONAL } else { attributes };
        put(&mut self.bytes, ATTRIBUTES, attributes.to_be_bytes());
        put(&mut self.bytes, PRODUCER_ID, stamp.producer_id.to_be_bytes());
        put(&mut self.bytes, PRODUCER_EPOCH, stamp.producer_epoch.to_be_bytes());
        put(&mut self.bytes, BASE_SEQUENCE, stamp.base_sequence.to_be_bytes());
        let crc = crc32c(&self.bytes[ATTRIBUTES..]);
        put(&mut self.bytes, CRC, crc.to_be_bytes());
    }
}

// ===== headers =====

/// Headers of a message, as its last bytes.
#[derive(Debug)]
pub(super) struct HeaderBytes {
    bytes: Vec<u8>,
    count: i64,
}

/// The bytes of a message without headers.
pub(super) const NO_HEADERS: &[u8] = &[0];

impl HeaderBytes {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    pub(super) fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        put_blob(&mut self.bytes, Some(name));
        put_blob(&mut self.bytes, value);
        self.count += 1;
    }

    /// Appends them, behind their number.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, zigzag(self.count));
        out.extend_from_slice(&self.bytes);
    }
}

// ===== numbers =====

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

const fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

const fn varint_bytes(n: u64) -> usize {
    // 7 bits each, at least one byte.
    (70 - (n | 1).leading_zeros() as usize) / 7
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn blob_bytes(blob: Option<&[u8]>) -> usize {
    blob.map_or(1, |b| varint_bytes(zigzag(b.len() as i64)) + b.len())
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => put_varint(out, zigzag(-1)),
        Some(blob) => {
            put_varint(out, zigzag(blob.len() as i64));
            out.extend_from_slice(blob);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use krafka::__private::protocol::RecordBatch;

    use super::*;

    fn read(batch: &SealedBatch) -> RecordBatch {
        RecordBatch::decode(&mut Bytes::copy_from_slice(batch.bytes())).unwrap()
    }

    fn open() -> OpenBatch {
        let mut headers = HeaderBytes::new();
        headers.push(b"trace", Some(b"abc"));
        headers.push(b"none", None);
        let mut bytes = Vec::new();
        headers.write(&mut bytes);
        let mut open = OpenBatch::default();
        open.push(Record { key: Some(b"k"), value: Some(b"first"), headers: &bytes, timestamp_ms: 1_000 });
        open.push(Record { key: None, value: None, headers: NO_HEADERS, timestamp_ms: 900 });
        open.push(Record { key: Some(b""), value: Some(&[7; 300]), headers: NO_HEADERS, timestamp_ms: 5_000 });
        open
    }

    #[test]
    fn a_batch_is_read_by_the_client_as_it_was_written_with_every_codec() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut batch = open().seal(Compression { codec, level: None }).unwrap();
            batch.stamp(Stamp { producer_id: 42, producer_epoch: 3, base_sequence: 17, transactional: true });
            let read = read(&batch);
            assert_eq!((read.producer_id, read.producer_epoch, read.base_sequence), (42, 3, 17));
            assert!(read.attributes.is_transactional);
            assert_eq!((read.base_timestamp, read.max_timestamp, read.last_offset_delta), (1_000, 5_000, 2));
            let seen: Vec<_> = read.records.iter().map(|r| (r.key.as_deref(), r.value.as_deref(), r.timestamp_delta, r.offset_delta)).collect();
            assert_eq!(seen[0], (Some(&b"k"[..]), Some(&b"first"[..]), 0, 0), "{codec:?}");
            assert_eq!(seen[1], (None, None, -100, 1));
            assert_eq!(seen[2], (Some(&b""[..]), Some(&[7; 300][..]), 4_000, 2));
            let headers: Vec<_> = read.records[0].headers.iter().map(|h| (&h.key[..], h.value.as_deref())).collect();
            assert_eq!(headers, [(&b"trace"[..], Some(&b"abc"[..])), (b"none", None)]);
        }
    }

    #[test]
    fn stamping_again_leaves_nothing_of_the_first() {
        let mut batch = open().seal(Compression::default()).unwrap();
        batch.stamp(Stamp { producer_id: 1, producer_epoch: 1, base_sequence: 1, transactional: true });
        batch.stamp(Stamp::NONE);
        let read = read(&batch);
        assert_eq!((read.producer_id, read.producer_epoch, read.base_sequence, read.attributes.is_transactional), (-1, -1, -1, false));
    }

    #[test]
    fn the_cost_of_a_row_is_never_less_than_its_bytes() {
        for length in [0, 1, 63, 64, 8_191, 8_192, 70_000] {
            let value = vec![1; length];
            let record = Record { key: Some(b"key"), value: Some(&value), headers: NO_HEADERS, timestamp_ms: i64::MIN };
            let mut open = OpenBatch::default();
            open.push(Record { timestamp_ms: 0, ..record });
            let before = open.len();
            open.push(record);
            assert!(open.len() - before <= OpenBatch::cost(record));
        }
    }

    #[test]
    fn numbers_take_as_many_bytes_as_is_said() {
        for n in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!(out.len(), varint_bytes(n), "{n}");
        }
    }
}
