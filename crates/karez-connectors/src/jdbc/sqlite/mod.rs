//! SQLite, through the library itself: one file, many readers, one writer at a time.

mod apply;
mod committer;
mod connection;
mod decode;
mod encode;
mod fit;
pub(super) mod lookup;
mod query;
mod reader;
pub(super) mod sink;
pub(super) mod source;
mod stage;
mod table;
mod types;
mod writer;

use arrow::datatypes::DataType;

use super::dialect::Dialect;

/// How SQLite writes names and types.
#[derive(Clone, Copy, Debug)]
struct Sqlite;

impl Dialect for Sqlite {
    fn column_type(&self, data_type: &DataType) -> String {
        types::declared(data_type)
    }
}
