//! Reading several state files as one: key group by key group, what a later file says overriding what an earlier one says.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, BinaryBuilder, Int64Array, Int64Builder, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use karez_core::{KeyGroup, Result};

use super::StateFileStore;
use super::file::StateFileReader;
use super::handle::StateFile;

/// Files that are open only while the key groups they hold are read: a large state is many files, of which few hold one group.
pub(super) struct OpenFiles<'a> {
    storage: &'a dyn StateFileStore,
    files: Vec<(StateFile, Option<StateFileReader>)>,
}

impl<'a> OpenFiles<'a> {
    /// Files in order, oldest first.
    pub(super) fn new(storage: &'a dyn StateFileStore, files: impl IntoIterator<Item = StateFile>) -> Self {
        Self { storage, files: files.into_iter().map(|f| (f, None)).collect() }
    }

    /// The key groups that any of them holds.
    pub(super) fn key_groups(&self) -> std::ops::RangeInclusive<u16> {
        let first = self.files.iter().map(|(f, _)| f.first_key_group).min();
        let last = self.files.iter().map(|(f, _)| f.last_key_group).max();
        match (first, last) {
            (Some(first), Some(last)) => first..=last,
            #[allow(clippy::reversed_empty_ranges)]
            _ => 1..=0,
        }
    }

    /// The rows of a key group, with the place of their file in the list. Groups must be asked for in ascending order.
    pub(super) fn rows(&mut self, key_group: u16) -> Result<Vec<(usize, RecordBatch)>> {
        let mut found = Vec::new();
        for (at, (file, open)) in self.files.iter_mut().enumerate() {
            if key_group < file.first_key_group || key_group > file.last_key_group {
                *open = None;
                continue;
            }
            let reader = match open {
                Some(reader) => reader,
                None => open.insert(StateFileReader::open(&file.name, &self.storage.get(&file.name)?)?),
            };
            found.extend(reader.rows(key_group, key_group)?.into_iter().map(|rows| (at, rows)));
        }
        Ok(found)
    }

    /// A file of the list.
    pub(super) fn file(&self, at: usize) -> &StateFile {
        &self.files[at].0
    }
}

/// The rows of a keyed table's file.
pub(super) fn keyed_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("value", DataType::Binary, true),
        Field::new("expires_ms", DataType::Int64, false),
    ]))
}

/// Rows of a keyed table, typed.
struct KeyedRows<'a> {
    file: usize,
    keys: &'a BinaryArray,
    values: &'a BinaryArray,
    expires: &'a Int64Array,
}

/// Calls `each` with the newest entry of every key, ascending by key: key, value (`None`: deleted, or expired), expiry.
pub(super) fn newest_entries(
    rows: &[(usize, RecordBatch)],
    expired_through: impl Fn(usize) -> i64,
    mut each: impl FnMut(&[u8], Option<&[u8]>, i64) -> Result<()>,
) -> Result<()> {
    let typed: Vec<KeyedRows<'_>> = rows
        .iter()
        .map(|(file, b)| KeyedRows {
            file: *file,
            keys: b.column(0).as_binary(),
            values: b.column(1).as_binary(),
            expires: b.column(2).as_primitive::<Int64Type>(),
        })
        .collect();
    let mut index: Vec<(u32, u32)> = typed.iter().enumerate().flat_map(|(b, r)| (0..r.keys.len()).map(move |i| (b as u32, i as u32))).collect();
    let key = |(b, i): (u32, u32)| typed[b as usize].keys.value(i as usize);
    // Files ascend by age, so the last of equal keys is the newest. One file's rows are in order already, which the sort notices.
    index.sort_by(|&a, &b| key(a).cmp(key(b)).then(a.0.cmp(&b.0)));
    for (n, &at) in index.iter().enumerate() {
        if index.get(n + 1).is_some_and(|&next| key(next) == key(at)) {
            continue;
        }
        let (rows, i) = (&typed[at.0 as usize], at.1 as usize);
        let expires = rows.expires.value(i);
        let live = rows.values.is_valid(i) && !is_expired(expires, expired_through(rows.file));
        each(key(at), live.then(|| rows.values.value(i)), expires)?;
    }
    Ok(())
}

/// Takes a live entry: key group, key, value, expiry.
pub(super) type EachEntry<'a> = dyn FnMut(KeyGroup, &[u8], &[u8], i64) -> Result<()> + 'a;

/// Whether an entry is over. `i64::MAX` never is.
pub(super) const fn is_expired(expires_ms: i64, now_ms: i64) -> bool {
    expires_ms != i64::MAX && expires_ms <= now_ms
}

/// Builds rows of a keyed table's file.
#[derive(Default)]
pub(super) struct KeyedRowsBuilder {
    keys: BinaryBuilder,
    values: BinaryBuilder,
    expires: Int64Builder,
    rows: usize,
    bytes: usize,
}

impl KeyedRowsBuilder {
    /// Adds an entry; `None` for a deleted key.
    pub(super) fn push(&mut self, key: &[u8], value: Option<&[u8]>, expires_ms: i64) {
        self.keys.append_value(key);
        self.values.append_option(value);
        self.expires.append_value(expires_ms);
        self.rows += 1;
        self.bytes += key.len() + value.map_or(0, <[u8]>::len) + 24;
    }

    /// Whether the rows should be taken: offsets are 32 bits wide, and a block should stay small.
    pub(super) const fn is_full(&self) -> bool {
        self.rows >= 16 * 1024 || self.bytes >= 4 << 20
    }

    /// The rows so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        Ok(RecordBatch::try_new(keyed_schema(), vec![Arc::new(self.keys.finish()), Arc::new(self.values.finish()), Arc::new(self.expires.finish())])?)
    }
}
