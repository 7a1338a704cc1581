//! Parquet files.

mod reader;

pub use reader::{BadRow, ParquetMeta, ParquetRows, RowGroup};
