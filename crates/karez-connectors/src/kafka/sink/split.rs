//! Finds the row for which the broker refuses a batch, by halves.

use bytes::Bytes;
use karez_core::{BadRecord, Error, Result};
use krafka::__private::protocol::{Record as Read, RecordBatch};

use super::compression::Compression;
use super::partition_queue::Waiting;
use super::record_batch::{HeaderBytes, OpenBatch, Record};

/// What a refused batch becomes.
pub(super) enum Parts {
    Halves(Waiting, Waiting),
    /// It had one row: this one.
    Row(BadRecord),
}

pub(super) fn split(refused: Waiting, compression: Compression, topic: &str, partition: i32, why: &str) -> Result<Parts> {
    let Waiting { batch, deadline, mut permit, .. } = refused;
    let read = RecordBatch::decode(&mut Bytes::copy_from_slice(batch.bytes()));
    let read = read.map_err(|e| Error::internal("read a batch of one's own").caused_by(e))?;
    if let [row] = read.records.as_slice() {
        return Ok(Parts::Row(BadRecord {
            reason: format!("topic `{topic}` partition {partition}: the row {why}"),
            origin: None,
            raw: row.value.clone(),
            row: row.key.as_ref().map(|key| serde_json::json!({ "key": String::from_utf8_lossy(key) }).to_string()),
        }));
    }
    let (first, second) = read.records.split_at(read.records.len() / 2);
    let half = permit.num_permits() / 2;
    let mut seal = |rows: &[Read], permits: Option<usize>| {
        let sealed = rebuild(rows, read.base_timestamp).seal(compression).map_err(|e| Error::internal("compress a batch").caused_by(e))?;
        Ok::<_, Error>((sealed, permits.and_then(|n| permit.split(n))))
    };
    let (first, taken) = seal(first, Some(half))?;
    let (second, _) = seal(second, None)?;
    let taken = taken.ok_or_else(|| Error::internal("the memory of a batch cannot be divided"))?;
    Ok(Parts::Halves(Waiting::new(first, deadline, taken), Waiting::new(second, deadline, permit)))
}

fn rebuild(rows: &[Read], base_timestamp: i64) -> OpenBatch {
    let mut open = OpenBatch::default();
    let mut bytes = Vec::new();
    for row in rows {
        let mut headers = HeaderBytes::new();
        row.headers.iter().for_each(|h| headers.push(&h.key, h.value.as_deref()));
        bytes.clear();
        headers.write(&mut bytes);
        let timestamp_ms = base_timestamp.saturating_add(row.timestamp_delta);
        open.push(Record { key: row.key.as_deref(), value: row.value.as_deref(), headers: &bytes, timestamp_ms });
    }
    open
}
