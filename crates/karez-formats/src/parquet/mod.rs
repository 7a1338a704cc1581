//! Parquet files.

mod reader;

pub use reader::{ParquetMeta, ParquetRows, RowGroup};
