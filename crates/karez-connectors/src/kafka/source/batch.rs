//! A record batch of the log as an index over its bytes: nothing is copied or allocated per record.
//!
//! Format: <https://kafka.apache.org/documentation/#recordbatch>. A batch that is not compressed is read where it lies in the broker's answer; a
//! compressed one is unpacked by the client.

use std::ops::Range;

use bytes::Bytes;
use karez_core::{Error, Result};
use krafka::__private::protocol::{Record, RecordBatch, RecordBatchHeader, TimestampType};
use krafka::__private::util::crc32c;
use krafka::Compression;

/// What the checksum covers begins here.
const CRC_COVERED_START: usize = 21;
/// The most that a batch may hold when it is unpacked.
const UNPACKED_LIMIT: usize = RecordBatch::MAX_DECOMPRESSED_SIZE;

/// Where something lies in a batch; `None` in Kafka's sense: null.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    /// -1: null.
    length: i32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    offset: i64,
    timestamp: i64,
    key: Place,
    value: Place,
    /// From the number of headers to the end of the record.
    headers: Place,
}

/// The records of one batch.
#[derive(Debug)]
pub(super) struct Records {
    header: RecordBatchHeader,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Plain { bytes: Bytes, entries: Vec<Entry> },
    Unpacked(Vec<Record>),
}

/// The header of the batch at the start of `bytes`, if the whole batch is there.
pub(super) fn whole(bytes: &[u8]) -> Result<Option<RecordBatchHeader>, String> {
    if bytes.len() < RecordBatchHeader::SIZE {
        return Ok(None);
    }
    let header = RecordBatchHeader::peek(bytes).map_err(|e| e.to_string())?;
    Ok((bytes.len() >= header.total_size()).then_some(header))
}

/// Whether a control batch ends a transaction by aborting it: the key is its version and its kind, of which 0 is an abort.
pub(super) fn is_abort(bytes: &Bytes) -> Result<bool, String> {
    let batch = RecordBatch::decode(&mut bytes.clone()).map_err(|e| e.to_string())?;
    let key = batch.records.first().and_then(|r| r.key.as_ref());
    Ok(key.is_some_and(|key| key.len() >= 4 && key[2..4] == [0, 0]))
}

impl Records {
    /// Reads a whole batch. `spare` is an index that is used again.
    pub(super) fn read(header: RecordBatchHeader, batch: &Bytes, spare: Vec<Entry>, check_crc: bool) -> Result<Self, String> {
        if header.attributes.compression != Compression::None {
            let batch = RecordBatch::decode_with_limit(&mut batch.clone(), UNPACKED_LIMIT).map_err(|e| e.to_string())?;
            return Ok(Self { header, body: Body::Unpacked(batch.records) });
        }
        if check_crc {
            let crc = crc32c(&batch[CRC_COVERED_START..header.total_size()]);
            if crc != header.crc {
                return Err(format!("its checksum is {crc:08x}, and should be {:08x}", header.crc));
            }
        }
        let mut entries = spare;
        entries.clear();
        // Only a hint: what a damaged header claims is not reserved.
        let count = usize::try_from(header.records_count).unwrap_or(0).min(batch.len() / 7);
        entries.reserve(count);
        let mut cursor = Cursor { bytes: &batch[..header.total_size()], at: RecordBatchHeader::SIZE };
        for _ in 0..header.records_count {
            entries.push(cursor.record(&header).ok_or("a record is damaged")?);
        }
        Ok(Self { header, body: Body::Plain { bytes: batch.clone(), entries } })
    }

    /// The index, to be used again.
    pub(super) fn into_spare(self) -> Vec<Entry> {
        match self.body {
            Body::Plain { entries, .. } => entries,
            Body::Unpacked(_) => Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Plain { entries, .. } => entries.len(),
            Body::Unpacked(records) => records.len(),
        }
    }

    /// The offset behind the batch, whatever compaction has left of it.
    pub(super) fn end(&self) -> i64 {
        self.header.last_offset() + 1
    }

    pub(super) fn offset(&self, row: usize) -> i64 {
        match &self.body {
            Body::Plain { entries, .. } => entries[row].offset,
            Body::Unpacked(records) => self.header.base_offset.saturating_add(i64::from(records[row].offset_delta)),
        }
    }

    /// Milliseconds since the epoch; -1: none.
    pub(super) fn timestamp(&self, row: usize) -> i64 {
        match &self.body {
            _ if self.header.attributes.timestamp_type == TimestampType::LogAppendTime => self.header.max_timestamp,
            Body::Plain { entries, .. } => entries[row].timestamp,
            Body::Unpacked(records) => self.header.base_timestamp.saturating_add(records[row].timestamp_delta),
        }
    }

    pub(super) fn timestamp_type(&self) -> &'static str {
        match self.header.attributes.timestamp_type {
            TimestampType::LogAppendTime => "LogAppendTime",
            _ => "CreateTime",
        }
    }

    pub(super) fn key(&self, row: usize) -> Option<&[u8]> {
        match &self.body {
            Body::Plain { bytes, entries } => slice(bytes, entries[row].key),
            Body::Unpacked(records) => records[row].key.as_deref(),
        }
    }

    pub(super) fn value(&self, row: usize) -> Option<&[u8]> {
        match &self.body {
            Body::Plain { bytes, entries } => slice(bytes, entries[row].value),
            Body::Unpacked(records) => records[row].value.as_deref(),
        }
    }

    /// The values of some records.
    pub(super) fn values(&self, rows: Range<usize>) -> Vec<Option<&[u8]>> {
        match &self.body {
            Body::Plain { bytes, entries } => entries[rows].iter().map(|e| slice(bytes, e.value)).collect(),
            Body::Unpacked(records) => records[rows].iter().map(|r| r.value.as_deref()).collect(),
        }
    }

    /// The first record at or behind an offset; records lie in the order of their offsets.
    pub(super) fn first_from(&self, offset: i64) -> usize {
        match &self.body {
            Body::Plain { entries, .. } => entries.partition_point(|e| e.offset < offset),
            Body::Unpacked(records) => {
                let base = self.header.base_offset;
                records.partition_point(|r| base.saturating_add(i64::from(r.offset_delta)) < offset)
            }
        }
    }

    /// Gives the headers of a record, in order.
    pub(super) fn headers(&self, row: usize, mut each: impl FnMut(&[u8], Option<&[u8]>)) -> Result<()> {
        match &self.body {
            Body::Unpacked(records) => {
                for header in &records[row].headers {
                    each(&header.key, header.value.as_deref());
                }
                Ok(())
            }
            Body::Plain { bytes, entries } => {
                let bytes = slice(bytes, entries[row].headers).unwrap_or_default();
                let mut cursor = Cursor { bytes, at: 0 };
                cursor.headers(each).ok_or_else(|| Error::external(format!("the headers of the record at offset {} are damaged", self.offset(row))))
            }
        }
    }
}

fn slice(bytes: &Bytes, place: Place) -> Option<&[u8]> {
    let length = usize::try_from(place.length).ok()?;
    bytes.get(place.start as usize..place.start as usize + length)
}

/// Reads the numbers and texts of records. Nothing it is given makes it panic.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn record(&mut self, header: &RecordBatchHeader) -> Option<Entry> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let mut inner = Cursor { bytes: &self.bytes[..end], at: self.at };
        inner.at += 1; // Attributes: none are in use.
        let timestamp = header.base_timestamp.saturating_add(inner.varint()?);
        let offset = header.base_offset.saturating_add(inner.varint()?);
        let key = inner.place()?;
        let value = inner.place()?;
        let headers = Place { start: u32::try_from(inner.at).ok()?, length: i32::try_from(end.checked_sub(inner.at)?).ok()? };
        self.at = end;
        Some(Entry { offset, timestamp, key, value, headers })
    }

    fn headers(&mut self, mut each: impl FnMut(&[u8], Option<&[u8]>)) -> Option<()> {
        let count = self.varint()?;
        for _ in 0..count {
            let key = self.place()?;
            let value = self.place()?;
            each(self.of(key)?, self.of(value));
        }
        Some(())
    }

    fn of(&self, place: Place) -> Option<&'a [u8]> {
        let length = usize::try_from(place.length).ok()?;
        self.bytes.get(place.start as usize..place.start as usize + length)
    }

    /// A length and that many bytes.
    fn place(&mut self) -> Option<Place> {
        let length = i32::try_from(self.varint()?).ok()?;
        let start = u32::try_from(self.at).ok()?;
        if let Ok(length) = usize::try_from(length) {
            self.at = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        }
        Some(Place { start, length })
    }

    /// A number in zigzag, seven bits to a byte.
    #[inline]
    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        None
    }
}
