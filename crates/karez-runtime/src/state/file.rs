//! State files on disk, format version 1.
//!
//! ```text
//! offset 0   8 bytes   "KZSTATE", then the format version as a byte
//! offset 8   n bytes   an Arrow IPC file
//! end - 8    8 bytes   XXH3-64 of everything before, little-endian
//! ```
//! The first column of the IPC file, `__key_group` (UInt16), ascends over the whole file. Behind it:
//! * pane tables: `__pane` (Int64, milliseconds), and the table's columns, dictionaries unpacked. Rows of one key and pane stand in
//!   the order in which they were added.
//! * keyed tables: `key` (Binary), `value` (Binary; null: the key was deleted), `expires_ms` (Int64). Ascending by key within a key
//!   group; a key occurs once.
//!
//! The footer's metadata `karez.blocks` lists each record batch as `[first key group, last key group]` (JSON), so that a subtask
//! decodes only the batches of its range.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt16Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt16Type};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use karez_core::schema::batch_bytes;
use karez_core::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 7] = b"KZSTATE";
const VERSION: u8 = 1;
const HEADER: usize = 8;
const CHECKSUM: usize = 8;
const BLOCKS: &str = "karez.blocks";
/// A record batch is cut once it has this many rows.
const BLOCK_ROWS: usize = 16 * 1024;
/// Or this many bytes, about.
const BLOCK_BYTES: usize = 4 << 20;

/// Builds a file in memory.
pub(super) struct StateFileBuilder {
    writer: FileWriter<Vec<u8>>,
    file_schema: SchemaRef,
    row_schema: SchemaRef,
    blocks: Vec<(u16, u16)>,
    waiting: Vec<RecordBatch>,
    waiting_groups: Vec<u16>,
    waiting_bytes: usize,
    rows: u64,
}

/// A finished file.
pub(super) struct BuiltFile {
    pub(super) bytes: Bytes,
    pub(super) rows: u64,
    pub(super) first_key_group: u16,
    pub(super) last_key_group: u16,
}

impl StateFileBuilder {
    /// A file of rows of this schema (without the key group).
    pub(super) fn new(row_schema: &SchemaRef) -> Result<Self> {
        let mut fields = vec![Arc::new(Field::new("__key_group", DataType::UInt16, false))];
        fields.extend(row_schema.fields().iter().cloned());
        let file_schema = Arc::new(Schema::new(fields));
        let mut header = MAGIC.to_vec();
        header.push(VERSION);
        let writer = FileWriter::try_new(header, &file_schema)?;
        let row_schema = Arc::clone(row_schema);
        Ok(Self { writer, file_schema, row_schema, blocks: Vec::new(), waiting: Vec::new(), waiting_groups: Vec::new(), waiting_bytes: 0, rows: 0 })
    }

    /// Adds rows of one key group; groups come in ascending order.
    pub(super) fn push(&mut self, key_group: u16, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.waiting_groups.extend(std::iter::repeat_n(key_group, rows.num_rows()));
        self.waiting_bytes += batch_bytes(&rows);
        self.waiting.push(rows);
        if self.waiting_groups.len() >= BLOCK_ROWS || self.waiting_bytes >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Bytes so far, about.
    pub(super) fn bytes(&self) -> usize {
        self.writer.get_ref().len() + self.waiting_bytes
    }

    /// The file; `None` if it has no rows.
    pub(super) fn finish(mut self) -> Result<Option<BuiltFile>> {
        self.flush()?;
        let (Some(&(first_key_group, _)), Some(&(_, last_key_group))) = (self.blocks.first(), self.blocks.last()) else { return Ok(None) };
        let blocks = serde_json::to_string(&self.blocks).map_err(|e| Error::internal("state file").caused_by(e))?;
        self.writer.write_metadata(BLOCKS, blocks);
        self.writer.finish()?;
        let mut bytes = self.writer.into_inner()?;
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        Ok(Some(BuiltFile { bytes: bytes.into(), rows: self.rows, first_key_group, last_key_group }))
    }

    fn flush(&mut self) -> Result<()> {
        let (Some(&first), Some(&last)) = (self.waiting_groups.first(), self.waiting_groups.last()) else { return Ok(()) };
        let rows = concat_batches(&self.row_schema, &self.waiting)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        let groups = UInt16Array::from(std::mem::take(&mut self.waiting_groups));
        self.rows += rows.num_rows() as u64;
        let mut columns: Vec<Arc<dyn Array>> = vec![Arc::new(groups)];
        columns.extend(rows.columns().iter().cloned());
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.file_schema), columns)?)?;
        self.blocks.push((first, last));
        Ok(())
    }
}

/// Reads a file by key group.
pub(super) struct StateFileReader {
    name: String,
    reader: FileReader<Cursor<Bytes>>,
    blocks: Vec<(u16, u16)>,
    /// The block decoded last: a small file has all its key groups in one.
    decoded: Option<(usize, RecordBatch)>,
}

impl StateFileReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It is torn, corrupt, or of another format version; the message names it.
    pub(super) fn open(name: &str, bytes: &Bytes) -> Result<Self> {
        let damaged = |what: String| {
            Error::user(format!(
                "the state file {name} {what}; put it back from a backup, or remove it: the next start then takes it for missing \
                 and goes on from an older checkpoint, where that writes no row twice"
            ))
        };
        if bytes.len() < HEADER + CHECKSUM || &bytes[..7] != MAGIC {
            return Err(damaged(format!("({} bytes) is no state file, or a torn one", bytes.len())));
        }
        if bytes[7] != VERSION {
            return Err(Error::user(format!("the state file {name} has format version {}; this build reads version {VERSION}", bytes[7])));
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if xxh3_64(body).to_le_bytes() != checksum {
            return Err(damaged(format!("({} bytes) is torn or corrupt: its checksum does not match", bytes.len())));
        }
        let ipc = bytes.slice(HEADER..bytes.len() - CHECKSUM);
        let reader = FileReader::try_new(Cursor::new(ipc), None).map_err(|e| damaged("cannot be read".to_owned()).caused_by(e))?;
        let blocks: Option<Vec<(u16, u16)>> = reader.custom_metadata().get(BLOCKS).and_then(|b| serde_json::from_str(b).ok());
        let blocks = blocks.filter(|b| b.len() == reader.num_batches()).ok_or_else(|| damaged("has no list of its blocks".to_owned()))?;
        Ok(Self { name: name.to_owned(), reader, blocks, decoded: None })
    }

    /// The schema of its rows, without the key group.
    pub(super) fn row_schema(&self) -> Schema {
        Schema::new(self.reader.schema().fields().iter().skip(1).cloned().collect::<Vec<_>>())
    }

    /// Rows of the key groups from `first` to `last`, without the key group, in order.
    pub(super) fn rows(&mut self, first: u16, last: u16) -> Result<Vec<RecordBatch>> {
        let mut found = Vec::new();
        // Blocks ascend, so those that overlap stand together.
        let from = self.blocks.partition_point(|&(_, end)| end < first);
        let to = self.blocks.partition_point(|&(start, _)| start <= last);
        for index in from..to {
            let block = self.block(index)?;
            let groups = block.column(0).as_primitive::<UInt16Type>().values();
            let start = groups.partition_point(|&g| g < first);
            let end = groups.partition_point(|&g| g <= last);
            if start < end {
                let columns: Vec<usize> = (1..block.num_columns()).collect();
                found.push(block.slice(start, end - start).project(&columns)?);
            }
        }
        Ok(found)
    }

    fn block(&mut self, index: usize) -> Result<RecordBatch> {
        if let Some((at, block)) = &self.decoded
            && *at == index
        {
            return Ok(block.clone());
        }
        let read = self.reader.set_index(index).and_then(|()| self.reader.next().transpose());
        let block = read.map_err(|e| Error::external(format!("the state file {} cannot be read", self.name)).caused_by(e))?;
        let block = block.ok_or_else(|| Error::external(format!("the state file {} has lost block {index}", self.name)))?;
        self.decoded = Some((index, block.clone()));
        Ok(block)
    }
}
