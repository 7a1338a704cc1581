//! Parquet files: a writer with a bounded row group, and joining finished files without decoding them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::EncodeError;

/// How the pages of a Parquet file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// Fast, in every reader.
    #[default]
    Snappy,
    /// Smaller.
    Zstd,
}

/// Bytes (as encoded) after which a row group is closed: what an open file holds in memory.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// Writes one Parquet file.
pub struct ParquetEncoder<W: Write + Send> {
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> ParquetEncoder<W> {
    /// Begins a file of `schema`. Refuses a column that Parquet has no form for.
    pub fn new(schema: SchemaRef, compression: ParquetCompression, out: W) -> Result<Self, EncodeError> {
        let compression = match compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder().set_compression(compression).set_created_by("karez".to_owned()).build();
        Ok(Self { writer: ArrowWriter::try_new(out, schema, Some(properties)).map_err(error)? })
    }

    /// Adds rows; a row group that has become large is written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), EncodeError> {
        self.writer.write(batch).map_err(error)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the row group begun, to free its memory.
    pub fn flush(&mut self) -> Result<(), EncodeError> {
        self.writer.flush().map_err(error)
    }

    /// The size of the file if it ended here, without its footer; bytes, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Bytes held in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Writes the footer; gives back what was written to.
    pub fn finish(self) -> Result<W, EncodeError> {
        self.writer.into_inner().map_err(error)
    }
}

/// Joins finished files of one schema, row group by row group, as bytes: nothing is decoded. Fails when the schemas differ.
pub fn concatenate(files: &[&Path], out: impl Write + Send) -> Result<(), EncodeError> {
    let open = files
        .iter()
        .map(|path| {
            let at = |e: &dyn std::fmt::Display| EncodeError(format!("`{}`: {e}", path.display()));
            let file = File::open(path).map_err(|e| at(&e))?;
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|e| at(&e))?;
            Ok((file, metadata))
        })
        .collect::<Result<Vec<(File, ParquetMetaData)>, EncodeError>>()?;
    let Some((_, first)) = open.first() else {
        return Err(EncodeError("no files to join".to_owned()));
    };
    let schema = first.file_metadata().schema_descr();
    for (path, (_, metadata)) in files.iter().zip(&open) {
        if metadata.file_metadata().schema_descr().root_schema() != schema.root_schema() {
            return Err(EncodeError(format!("`{}` has other columns than the rows to write", path.display())));
        }
    }
    let properties = WriterProperties::builder()
        .set_created_by("karez".to_owned())
        .set_key_value_metadata(first.file_metadata().key_value_metadata().cloned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema.root_schema_ptr(), properties.into()).map_err(error)?;
    for (file, metadata) in &open {
        for group in metadata.row_groups() {
            let mut target = writer.next_row_group().map_err(error)?;
            for column in group.columns() {
                let close = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                target.append_column(file, close).map_err(error)?;
            }
            target.close().map_err(error)?;
        }
    }
    writer.close().map_err(error)?;
    Ok(())
}

fn error(e: parquet::errors::ParquetError) -> EncodeError {
    EncodeError(e.to_string())
}
