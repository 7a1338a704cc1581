//! The systems.

mod database;
mod file;
mod kafka;
mod sqlite;

pub use database::{Mariadb, Mysql, Postgres};
pub use file::{NdjsonFiles, ParquetFiles};
pub use kafka::{Kafka, SecureKafka};
pub use sqlite::Sqlite;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::record_batch::RecordBatch;

/// An instant that most systems hold: before the epoch, and no whole second.
const BEFORE_THE_EPOCH_MS: i64 = -2_208_988_800_001;

/// Three rows of values and one of nulls of the types that nearly every system has, beside `id`; `leave_out` names those that one lacks, `least_instant_ms`
/// is the first instant that it is asked to hold.
fn common_types(leave_out: &[&str], least_instant_ms: i64) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])), false),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None])), true),
        ("small", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), Some(0), None])), true),
        ("int", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), Some(0), None])), true),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), Some(0), None])), true),
        ("real", Arc::new(Float32Array::from(vec![Some(-1.5e-3), Some(f32::MAX), Some(0.0), None])), true),
        ("double", Arc::new(Float64Array::from(vec![Some(0.1), Some(-1.797e308), Some(0.0), None])), true),
        (
            "amount",
            Arc::new(Decimal128Array::from(vec![Some(-9_999_999_999), Some(1), Some(0), None]).with_precision_and_scale(12, 2).unwrap()) as ArrayRef,
            true,
        ),
        ("text", Arc::new(StringArray::from(vec![Some("坎儿井 🐫"), Some(""), Some("0"), None])), true),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255, 39, 92, 10][..]), Some(b""), Some(b"0"), None])), true),
        ("day", Arc::new(Date32Array::from(vec![Some(-719_162 + 365), Some(20_000), Some(0), None])), true),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), Some(1), Some(-1), None])), true),
        (
            "instant",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_700_000_000_123), Some(least_instant_ms.max(0)), Some(least_instant_ms), None])
                    .with_timezone("UTC"),
            ),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().filter(|(name, ..)| !leave_out.contains(name))).unwrap()
}
