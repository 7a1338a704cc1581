//! Keys of the stream as keys of the table: which types can be equal, and the values in the table's type.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use karez_core::Result;

/// Whether every value of a stream's type is one of the table's, or of none: so that a cast is right, or gives null.
pub(super) fn comparable(stream: &DataType, table: &DataType) -> bool {
    use DataType as T;
    let text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let binary = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    match (stream, table) {
        (a, b) if a == b => true,
        (T::Dictionary(_, value), b) => comparable(value, b),
        (a, b) if a.is_integer() && b.is_integer() => true,
        (a, b) if text(a) && text(b) => true,
        (a, b) if binary(a) && binary(b) => true,
        (a, T::Decimal128(..) | T::Decimal256(..)) if a.is_integer() => true,
        (T::Decimal128(_, a) | T::Decimal256(_, a), T::Decimal128(_, b) | T::Decimal256(_, b)) => a <= b,
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) | (T::Date32, T::Date64) | (T::Date64, T::Date32) => true,
        (T::Timestamp(a, x), T::Timestamp(b, y)) => x.is_some() == y.is_some() && finer(*a) <= finer(*b),
        (T::Time32(a) | T::Time64(a), T::Time32(b) | T::Time64(b)) => finer(*a) <= finer(*b),
        _ => false,
    }
}

fn finer(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

/// A column of keys in the table's type. A value that the type cannot hold becomes null: no row can have it.
pub(super) fn as_key(column: &ArrayRef, table: &DataType) -> Result<ArrayRef> {
    if column.data_type() == table { Ok(ArrayRef::clone(column)) } else { Ok(cast(column, table)?) }
}

/// The rows in which no column is null.
pub(super) fn without_null(columns: &[ArrayRef], rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).filter(|&row| columns.iter().all(|c| c.is_valid(row)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, Int64Array};

    use super::*;

    #[test]
    fn types_compare_where_no_value_changes() {
        use DataType as T;
        let ms = |zone: Option<&str>| T::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
        let us = |zone: Option<&str>| T::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (stream, table) in [
            (T::Int64, T::Int32),
            (T::UInt8, T::Int64),
            (T::Utf8View, T::Utf8),
            (T::Dictionary(Box::new(T::Int32), Box::new(T::Utf8)), T::Utf8),
            (T::Int32, T::Decimal128(10, 2)),
            (T::Decimal128(10, 2), T::Decimal128(12, 4)),
            (ms(None), us(None)),
            (ms(Some("UTC")), us(Some("+01:00"))),
        ] {
            assert!(comparable(&stream, &table), "{stream} {table}");
        }
        for (stream, table) in [
            (T::Utf8, T::Int64),
            (T::Float64, T::Int64),
            (T::Float64, T::Float32),
            (T::Decimal128(10, 4), T::Decimal128(10, 2)),
            (us(None), ms(None)),
            (ms(None), ms(Some("UTC"))),
            (T::Boolean, T::Int64),
        ] {
            assert!(!comparable(&stream, &table), "{stream} {table}");
        }
    }

    #[test]
    fn a_value_beyond_the_tables_type_is_in_no_row() {
        let stream: ArrayRef = Arc::new(Int64Array::from(vec![1, i64::MAX]));
        let keys = as_key(&stream, &DataType::Int32).unwrap();
        assert_eq!(keys.as_any().downcast_ref::<Int32Array>().unwrap(), &Int32Array::from(vec![Some(1), None]));
    }
}
