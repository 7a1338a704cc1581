//! A file being written under its hidden name.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::{BadRecord, Error, Result};
use karez_formats::encode::parquet::ParquetEncoder;
use karez_formats::encode::{EncodeError, Encoder, encode_or_reject};

use super::compress::Compressor;
use super::disk::{Output, failed};
use super::names::Names;
use super::options::{Compression, Plan};

/// Encoded bytes kept before they go to the operating system.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that rows are written to.
pub(super) struct OpenFile {
    pub(super) names: Names,
    /// Processing time of its first row.
    pub(super) created_ms: i64,
    /// The length of the file appended to.
    pub(super) base: Option<u64>,
    /// Named by a snapshot: it must outlive this writer.
    pub(super) saved: bool,
    /// Grows with each write to any file of the writer: tells which was written to last.
    pub(super) last_write: u64,
    content: Content,
}

/// A file that gets no more rows.
#[derive(Debug)]
pub(super) struct FinishedOutput {
    pub(super) names: Names,
    pub(super) base: Option<u64>,
    pub(super) saved: bool,
    pub(super) length: u64,
    pub(super) file: Arc<File>,
}

// There are at most `maxOpenFiles` of these; the room that the smaller kind wastes does not matter.
#[allow(clippy::large_enum_variant)]
enum Content {
    Lines { buffer: Vec<u8>, compressor: Compressor, out: Output },
    Parquet(Box<ParquetEncoder<Output>>),
}

impl OpenFile {
    /// A new file; one of the same hidden name is a leftover and is emptied.
    pub(super) fn create(
        plan: &Plan,
        encoder: Option<&(dyn Encoder + Sync)>,
        names: Names,
        append: bool,
        created_ms: i64,
        metrics: &Arc<NodeMetrics>,
    ) -> Result<Self> {
        let path = &names.temporary;
        let file = OpenOptions::new().write(true).read(true).create(true).truncate(true).open(path).map_err(|e| failed("create", path, &e))?;
        let mut out = Output::new(Arc::new(file), 0, Arc::clone(metrics));
        let mut base = None;
        let content = if let Some(encoder) = encoder {
            let mut buffer = Vec::with_capacity(BUFFER_BYTES);
            if append && names.target.exists() {
                let length = copy_existing(plan, encoder, &names.target, &mut out, &mut buffer)?;
                base = Some(length);
            } else {
                buffer.extend_from_slice(&encoder.header());
            }
            Content::Lines { buffer, compressor: Compressor::new(plan.compression), out }
        } else {
            Content::Parquet(Box::new(plan.parquet(out).map_err(|e| encoding(path, &e))?))
        };
        Ok(Self { names, created_ms, base, saved: false, last_write: 0, content })
    }

    /// Goes on with a file of lines at its durable length; what lies behind it is cut off.
    pub(super) fn reopen(plan: &Plan, names: Names, length: u64, base: Option<u64>, created_ms: i64, metrics: &Arc<NodeMetrics>) -> Result<Self> {
        let file = open_at(&names.temporary, length)?;
        let out = Output::new(Arc::new(file), length, Arc::clone(metrics));
        let content = Content::Lines { buffer: Vec::with_capacity(BUFFER_BYTES), compressor: Compressor::new(plan.compression), out };
        Ok(Self { names, created_ms, base, saved: true, last_write: 0, content })
    }

    /// Takes rows; gives back those that the format cannot hold.
    pub(super) fn write(&mut self, encoder: Option<&(dyn Encoder + Sync)>, batch: &RecordBatch) -> Result<Vec<BadRecord>> {
        match (&mut self.content, encoder) {
            (Content::Lines { buffer, compressor, out }, Some(encoder)) => {
                let rejects = encode_or_reject(encoder, batch, buffer);
                if buffer.len() >= BUFFER_BYTES {
                    compressor.write(buffer, out).map_err(|e| failed("write", &self.names.temporary, &e))?;
                    buffer.clear();
                }
                Ok(rejects)
            }
            (Content::Parquet(writer), _) => {
                writer.write(batch).map_err(|e| encoding(&self.names.temporary, &e))?;
                Ok(Vec::new())
            }
            (Content::Lines { .. }, None) => Err(Error::internal("a file of lines without an encoder")),
        }
    }

    /// Bytes, about: compressed bytes still in the compressor are not known.
    pub(super) fn bytes(&self) -> u64 {
        match &self.content {
            Content::Lines { buffer, out, .. } => out.length + buffer.len() as u64,
            Content::Parquet(writer) => writer.bytes(),
        }
    }

    /// Bytes of a row group not written yet.
    pub(super) fn row_group_bytes(&self) -> usize {
        match &self.content {
            Content::Lines { .. } => 0,
            Content::Parquet(writer) => writer.memory_bytes(),
        }
    }

    /// Frees the memory of the row group begun.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        match &mut self.content {
            Content::Lines { .. } => Ok(()),
            Content::Parquet(writer) => writer.flush().map_err(|e| encoding(&self.names.temporary, &e)),
        }
    }

    /// Hands what is buffered to the operating system.
    pub(super) fn flush(&mut self) -> Result<()> {
        if let Content::Lines { buffer, compressor, out } = &mut self.content {
            compressor.write(buffer, out).map_err(|e| failed("write", &self.names.temporary, &e))?;
            buffer.clear();
        }
        Ok(())
    }

    /// Puts every row into the file, in such a way that the file could end here. Gives the length and the file to sync. Not for Parquet.
    pub(super) fn settle(&mut self) -> Result<(u64, Arc<File>)> {
        self.flush()?;
        match &mut self.content {
            Content::Lines { compressor, out, .. } => {
                compressor.end_member(out).map_err(|e| failed("write", &self.names.temporary, &e))?;
                Ok((out.length, Arc::clone(&out.file)))
            }
            Content::Parquet(_) => Err(Error::internal("a Parquet file cannot go on after a checkpoint")),
        }
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<FinishedOutput> {
        self.flush()?;
        let path = &self.names.temporary;
        let out = match self.content {
            Content::Lines { mut compressor, mut out, .. } => {
                compressor.end_member(&mut out).and_then(|()| compressor.fill_empty(&mut out)).map_err(|e| failed("write", path, &e))?;
                out
            }
            Content::Parquet(writer) => writer.finish().map_err(|e| encoding(path, &e))?,
        };
        Ok(FinishedOutput { names: self.names, base: self.base, saved: self.saved, length: out.length, file: out.file })
    }
}

/// Opens a file for writing at its durable length and cuts off the rest.
pub(super) fn open_at(path: &Path, length: u64) -> Result<File> {
    let mut file = OpenOptions::new().write(true).read(true).open(path).map_err(|e| failed("open", path, &e))?;
    let found = file.metadata().map_err(|e| failed("open", path, &e))?.len();
    if found < length {
        return Err(Error::external(format!(
            "`{}` has {found} bytes but the checkpoint says {length}: somebody changed it; rows are lost if it is not restored",
            path.display()
        )));
    }
    file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(|e| failed("cut", path, &e))?;
    Ok(file)
}

fn encoding(path: &Path, e: &EncodeError) -> Error {
    Error::external(format!("cannot write `{}`: {e}", path.display()))
}

/// `ifExists: append`: begins with a copy of the file there is. It must have the same header; a last line without its end gets one.
fn copy_existing(plan: &Plan, encoder: &dyn Encoder, target: &Path, out: &mut Output, buffer: &mut Vec<u8>) -> Result<u64> {
    let at = |e: &std::io::Error| failed("read", target, e);
    let mut source = File::open(target).map_err(|e| at(&e))?;
    let length = std::io::copy(&mut source, out).map_err(|e| failed("copy", target, &e))?;
    source.rewind().map_err(|e| at(&e))?;
    let mut lines: Box<dyn BufRead> = match plan.compression {
        Compression::Gzip => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(source))),
        Compression::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::new(source).map_err(|e| at(&e))?)),
        Compression::None | Compression::Snappy => Box::new(BufReader::new(source)),
    };
    let header = encoder.header();
    let mut start = Vec::new();
    (&mut lines).take(header.len() as u64).read_to_end(&mut start).map_err(|e| at(&e))?;
    let mut last = start.last().copied();
    if length == 0 {
        buffer.extend_from_slice(&header);
    } else if start != header {
        return Err(Error::user(format!(
            "`{}` does not begin with the line `{}`: rows of other columns cannot be appended to it",
            target.display(),
            String::from_utf8_lossy(&header).trim_end()
        )));
    }
    loop {
        let bytes = lines.fill_buf().map_err(|e| at(&e))?;
        let n = bytes.len();
        match bytes.last() {
            Some(b) => last = Some(*b),
            None => break,
        }
        lines.consume(n);
    }
    if last.is_some_and(|b| b != b'\n') {
        buffer.push(b'\n');
    }
    out.flush().map_err(|e| failed("write", target, &e))?;
    Ok(length)
}
