//! The key hash `karez-xxh3-1`: which key group a row belongs to, and with it where its state is stored.
//!
//! It is a function of logical values, not of their Arrow layout, and is the same in every version, process and platform: what is
//! stored under a key group must be found there again. A change of anything below needs a new [`KEY_HASH_NAME`].
//!
//! **A value** is written as bytes and hashed by XXH3-64 (seed 0, default secret; the specification is doc/xxhash_spec.md of
//! <https://github.com/Cyan4973/xxHash>). All numbers are little-endian.
//!
//! | type | bytes |
//! | --- | --- |
//! | null, of any type | none: its hash is the constant `9e3779b97f4a7c15` |
//! | `Boolean` | `i64` 0 or 1 |
//! | `Int8` … `Int64`, `UInt8` … `UInt64` | the value as `i64`; a `UInt64` above `i64::MAX` as byte 1 and the `u64` |
//! | `Float16`, `Float32`, `Float64` | the value as `f64`; −0.0 as 0.0; every NaN as `7ff8000000000000` |
//! | `Decimal32` … `Decimal256` | without trailing zeros (0 has scale 0): unscaled value as `i128` (`i256` if it does not fit), scale as `i64` |
//! | `Utf8`, `LargeUtf8`, `Utf8View`, `Binary`, `LargeBinary`, `BinaryView`, `FixedSizeBinary` | the bytes |
//! | `Date32`, `Date64` | days since 1970-01-01 as `i64` |
//! | `Timestamp`, `Time32`, `Time64`, `Duration`, any unit, with or without zone | nanoseconds as `i64` (`i128` if they do not fit) |
//! | `Interval` | months `i32`, days `i32`, nanoseconds `i64` |
//! | `Dictionary`, `RunEndEncoded`, `Union` | those of the value it stands for |
//! | lists, `Map` (a list of structs) | the hashes of the elements, `u64` each |
//! | `Struct` | the hashes of the fields, `u64` each |
//!
//! **A row** of one column has its value's hash; of none, 0; of several, from left to right, where `h` is the hash so far and `v` the
//! next column's: `p = (rotl(h, 29) ^ v) * 9e3779b97f4a7c15 (mod 2^64)`, then `h = p ^ (p >> 32)`.
//!
//! Test vectors stand in the tests of this file.

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType, RunEndIndexType, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayRef, AsArray, RunArray};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit, i256};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, Result};

/// The name of the algorithm, recorded in every checkpoint.
pub const KEY_HASH_NAME: &str = "karez-xxh3-1";

const NULL_HASH: u64 = 0x9e37_79b9_7f4a_7c15;
const NO_COLUMNS_HASH: u64 = 0;

/// The hash of every row over `columns`, in `out` (whose former content is lost). `rows` is their length; it matters where there are no columns.
///
/// Fails for a type that has no place in the table above.
pub fn hash_columns(columns: &[ArrayRef], rows: usize, out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    out.resize(rows, NO_COLUMNS_HASH);
    let Some((first, rest)) = columns.split_first() else { return Ok(()) };
    hash_array(first, out)?;
    let mut next = vec![0; if rest.is_empty() { 0 } else { rows }];
    for column in rest {
        hash_array(column, &mut next)?;
        for (h, v) in out.iter_mut().zip(&next) {
            let product = (h.rotate_left(29) ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *h = product ^ (product >> 32);
        }
    }
    Ok(())
}

/// XXH3-64 of eight bytes: the short-input path of the specification, spelt out so that it stays in registers.
#[inline]
fn hash_i64(value: i64) -> u64 {
    // The xor of bytes 8..16 and 16..24 of XXH3's default secret.
    let mut h = (value as u64).rotate_left(32) ^ 0xc73a_b174_c5ec_d5a2;
    h ^= h.rotate_left(49) ^ h.rotate_left(24);
    h = h.wrapping_mul(0x9fb2_1c65_1e98_df25);
    h ^= (h >> 35).wrapping_add(8);
    h = h.wrapping_mul(0x9fb2_1c65_1e98_df25);
    h ^ (h >> 28)
}

fn hash_u64(value: u64) -> u64 {
    i64::try_from(value).map_or_else(
        |_| {
            let mut bytes = [1; 9];
            bytes[1..].copy_from_slice(&value.to_le_bytes());
            xxh3_64(&bytes)
        },
        hash_i64,
    )
}

fn hash_f64(value: f64) -> u64 {
    let bits = if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    hash_i64(bits as i64)
}

fn hash_nanos(value: i64, nanos_per_unit: i64) -> u64 {
    value.checked_mul(nanos_per_unit).map_or_else(|| xxh3_64(&(i128::from(value) * i128::from(nanos_per_unit)).to_le_bytes()), hash_i64)
}

fn hash_decimal(mut value: i128, scale: i8) -> u64 {
    let mut scale = if value == 0 { 0 } else { i64::from(scale) };
    while value != 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&value.to_le_bytes());
    bytes[16..].copy_from_slice(&scale.to_le_bytes());
    xxh3_64(&bytes)
}

fn hash_wide_decimal(mut value: i256, scale: i8) -> u64 {
    let mut scale = i64::from(scale);
    let ten = i256::from_i128(10);
    while value.to_i128().is_none() && value.wrapping_rem(ten) == i256::ZERO {
        value = value.wrapping_div(ten);
        scale -= 1;
    }
    // The scale has moved by at most 77, so it still fits where the narrow form takes over.
    if let (Some(narrow), Ok(scale)) = (value.to_i128(), i8::try_from(scale)) {
        return hash_decimal(narrow, scale);
    }
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(&value.to_le_bytes());
    bytes[32..].copy_from_slice(&scale.to_le_bytes());
    xxh3_64(&bytes)
}

fn hash_interval(months: i32, days: i32, nanos: i64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&months.to_le_bytes());
    bytes[4..8].copy_from_slice(&days.to_le_bytes());
    bytes[8..].copy_from_slice(&nanos.to_le_bytes());
    xxh3_64(&bytes)
}

fn each<T: ArrowPrimitiveType>(array: &dyn Array, out: &mut [u64], hash: impl Fn(T::Native) -> u64) {
    for (h, &v) in out.iter_mut().zip(array.as_primitive::<T>().values().iter()) {
        *h = hash(v);
    }
}

fn each_bytes<'a>(out: &mut [u64], values: impl Iterator<Item = Option<&'a [u8]>>) {
    for (h, v) in out.iter_mut().zip(values) {
        *h = v.map_or(NULL_HASH, xxh3_64);
    }
}

/// The hash of each element, nulls included.
fn hashes_of(array: &dyn Array) -> Result<Vec<u64>> {
    let mut hashes = vec![0; array.len()];
    hash_array(array, &mut hashes)?;
    Ok(hashes)
}

fn each_list(out: &mut [u64], values: &dyn Array, range: impl Fn(usize) -> (usize, usize)) -> Result<()> {
    let elements = hashes_of(values)?;
    let mut bytes = Vec::new();
    for (row, h) in out.iter_mut().enumerate() {
        let (start, end) = range(row);
        bytes.clear();
        // A null slot may point anywhere; its hash is overwritten.
        bytes.extend(elements.get(start..end).unwrap_or_default().iter().flat_map(|e| e.to_le_bytes()));
        *h = xxh3_64(&bytes);
    }
    Ok(())
}

fn each_run<R: RunEndIndexType>(array: &dyn Array, out: &mut [u64]) -> Result<()> {
    let runs: &RunArray<R> = array.as_run();
    let values = hashes_of(runs.values())?;
    for (row, h) in out.iter_mut().enumerate() {
        *h = values[runs.get_physical_index(row)];
    }
    Ok(())
}

fn hash_array(array: &dyn Array, out: &mut [u64]) -> Result<()> {
    match array.data_type() {
        DataType::Null => out.fill(NULL_HASH),
        DataType::Boolean => {
            for (h, v) in out.iter_mut().zip(array.as_boolean().values()) {
                *h = hash_i64(i64::from(v));
            }
        }
        DataType::Int8 => each::<Int8Type>(array, out, |v| hash_i64(v.into())),
        DataType::Int16 => each::<Int16Type>(array, out, |v| hash_i64(v.into())),
        DataType::Int32 => each::<Int32Type>(array, out, |v| hash_i64(v.into())),
        DataType::Int64 => each::<Int64Type>(array, out, hash_i64),
        DataType::UInt8 => each::<UInt8Type>(array, out, |v| hash_i64(v.into())),
        DataType::UInt16 => each::<UInt16Type>(array, out, |v| hash_i64(v.into())),
        DataType::UInt32 => each::<UInt32Type>(array, out, |v| hash_i64(v.into())),
        DataType::UInt64 => each::<UInt64Type>(array, out, hash_u64),
        DataType::Float16 => each::<Float16Type>(array, out, |v| hash_f64(v.to_f64())),
        DataType::Float32 => each::<Float32Type>(array, out, |v| hash_f64(v.into())),
        DataType::Float64 => each::<Float64Type>(array, out, hash_f64),
        DataType::Decimal32(_, s) => each::<Decimal32Type>(array, out, |v| hash_decimal(v.into(), *s)),
        DataType::Decimal64(_, s) => each::<Decimal64Type>(array, out, |v| hash_decimal(v.into(), *s)),
        DataType::Decimal128(_, s) => each::<Decimal128Type>(array, out, |v| hash_decimal(v, *s)),
        DataType::Decimal256(_, s) => each::<Decimal256Type>(array, out, |v| hash_wide_decimal(v, *s)),
        DataType::Date32 => each::<Date32Type>(array, out, |v| hash_i64(v.into())),
        DataType::Date64 => each::<Date64Type>(array, out, |v| hash_i64(v.div_euclid(86_400_000))),
        DataType::Timestamp(TimeUnit::Second, _) => each::<TimestampSecondType>(array, out, |v| hash_nanos(v, 1_000_000_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => each::<TimestampMillisecondType>(array, out, |v| hash_nanos(v, 1_000_000)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => each::<TimestampMicrosecondType>(array, out, |v| hash_nanos(v, 1_000)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => each::<TimestampNanosecondType>(array, out, hash_i64),
        DataType::Time32(TimeUnit::Second) => each::<Time32SecondType>(array, out, |v| hash_nanos(v.into(), 1_000_000_000)),
        DataType::Time32(_) => each::<Time32MillisecondType>(array, out, |v| hash_nanos(v.into(), 1_000_000)),
        DataType::Time64(TimeUnit::Microsecond) => each::<Time64MicrosecondType>(array, out, |v| hash_nanos(v, 1_000)),
        DataType::Time64(_) => each::<Time64NanosecondType>(array, out, hash_i64),
        DataType::Duration(TimeUnit::Second) => each::<DurationSecondType>(array, out, |v| hash_nanos(v, 1_000_000_000)),
        DataType::Duration(TimeUnit::Millisecond) => each::<DurationMillisecondType>(array, out, |v| hash_nanos(v, 1_000_000)),
        DataType::Duration(TimeUnit::Microsecond) => each::<DurationMicrosecondType>(array, out, |v| hash_nanos(v, 1_000)),
        DataType::Duration(TimeUnit::Nanosecond) => each::<DurationNanosecondType>(array, out, hash_i64),
        DataType::Interval(IntervalUnit::YearMonth) => each::<IntervalYearMonthType>(array, out, |v| hash_interval(v, 0, 0)),
        DataType::Interval(IntervalUnit::DayTime) => {
            each::<IntervalDayTimeType>(array, out, |v| hash_interval(0, v.days, i64::from(v.milliseconds) * 1_000_000));
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            each::<IntervalMonthDayNanoType>(array, out, |v| hash_interval(v.months, v.days, v.nanoseconds));
        }
        DataType::Utf8 => each_bytes(out, array.as_string::<i32>().iter().map(|v| v.map(str::as_bytes))),
        DataType::LargeUtf8 => each_bytes(out, array.as_string::<i64>().iter().map(|v| v.map(str::as_bytes))),
        DataType::Utf8View => each_bytes(out, array.as_string_view().iter().map(|v| v.map(str::as_bytes))),
        DataType::Binary => each_bytes(out, array.as_binary::<i32>().iter()),
        DataType::LargeBinary => each_bytes(out, array.as_binary::<i64>().iter()),
        DataType::BinaryView => each_bytes(out, array.as_binary_view().iter()),
        DataType::FixedSizeBinary(_) => each_bytes(out, array.as_fixed_size_binary().iter()),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = hashes_of(dictionary.values().as_ref())?;
            if values.is_empty() {
                out.fill(NULL_HASH);
            } else {
                for (h, key) in out.iter_mut().zip(dictionary.normalized_keys()) {
                    *h = values[key];
                }
            }
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => each_run::<Int16Type>(array, out)?,
            DataType::Int32 => each_run::<Int32Type>(array, out)?,
            _ => each_run::<Int64Type>(array, out)?,
        },
        DataType::Union(_, _) => {
            let union = array.as_union();
            let mut children: Vec<Option<Vec<u64>>> = vec![None; 128];
            for (row, h) in out.iter_mut().enumerate() {
                let id = union.type_id(row);
                let slot = &mut children[usize::try_from(id).unwrap_or_default()];
                let child = match slot {
                    Some(child) => child,
                    None => slot.insert(hashes_of(union.child(id).as_ref())?),
                };
                *h = child[union.value_offset(row)];
            }
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let ends = list.value_offsets();
            each_list(out, list.values(), |r| (ends[r] as usize, ends[r + 1] as usize))?;
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let ends = list.value_offsets();
            each_list(out, list.values(), |r| (ends[r] as usize, ends[r + 1] as usize))?;
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let (starts, sizes) = (list.value_offsets(), list.value_sizes());
            each_list(out, list.values(), |r| (starts[r] as usize, (starts[r] + sizes[r]) as usize))?;
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            let (starts, sizes) = (list.value_offsets(), list.value_sizes());
            each_list(out, list.values(), |r| (starts[r] as usize, (starts[r] + sizes[r]) as usize))?;
        }
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or_default();
            each_list(out, array.as_fixed_size_list().values(), |r| (r * size, (r + 1) * size))?;
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let ends = map.value_offsets();
            each_list(out, map.entries(), |r| (ends[r] as usize, ends[r + 1] as usize))?;
        }
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter().map(|c| hashes_of(c)).collect::<Result<Vec<_>>>()?;
            let mut bytes = Vec::new();
            for (row, h) in out.iter_mut().enumerate() {
                bytes.clear();
                bytes.extend(fields.iter().flat_map(|f| f[row].to_le_bytes()));
                *h = xxh3_64(&bytes);
            }
        }
        #[allow(unreachable_patterns)]
        other => return Err(Error::user(format!("a column of type {other} cannot be a key"))),
    }
    if let Some(nulls) = array.nulls().filter(|n| n.null_count() > 0) {
        for (h, valid) in out.iter_mut().zip(nulls.iter()) {
            *h = if valid { *h } else { NULL_HASH };
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Int32Type, Int64Type};

    use super::*;

    fn hash(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = Vec::new();
        hash_columns(columns, columns.first().map_or(1, |c| c.len()), &mut out).unwrap();
        out
    }

    fn one(array: impl Array + 'static) -> u64 {
        hash(&[Arc::new(array)])[0]
    }

    #[test]
    fn the_short_path_is_xxh3() {
        for v in [0, 1, -1, 42, i64::MIN, i64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(hash_i64(v), xxh3_64(&v.to_le_bytes()), "{v}");
        }
    }

    /// The published vectors: these numbers never change under this [`KEY_HASH_NAME`].
    #[test]
    fn golden_vectors() {
        let abc = || StringArray::from(vec!["abc"]);
        let vectors = [
            ("no column", hash(&[])[0], 0x0000_0000_0000_0000_u64),
            ("null", one(Int64Array::from(vec![None])), 0x9e37_79b9_7f4a_7c15),
            ("int 0", one(Int64Array::from(vec![0])), 0xc77b_3abb_6f87_acd9),
            ("int 1", one(Int64Array::from(vec![1])), 0x2fbc_5935_64db_792e),
            ("int -1", one(Int64Array::from(vec![-1])), 0x5111_c7e4_7d78_4413),
            ("uint 2^64-1", one(UInt64Array::from(vec![u64::MAX])), 0x53a5_f4bc_2fc0_168c),
            ("true", one(BooleanArray::from(vec![true])), 0x2fbc_5935_64db_792e),
            ("float 1.5", one(Float64Array::from(vec![1.5])), 0x2561_a488_9ff6_3458),
            ("float nan", one(Float64Array::from(vec![f64::NAN])), 0x0aa6_1dcf_a381_c167),
            ("float -0.0", one(Float64Array::from(vec![-0.0])), 0xc77b_3abb_6f87_acd9),
            ("decimal 1.50", one(Decimal128Array::from(vec![150]).with_precision_and_scale(10, 2).unwrap()), 0x220a_5be6_ba3e_08c4),
            ("text ''", one(StringArray::from(vec![""])), 0x2d06_8005_38d3_94c2),
            ("text 'abc'", one(abc()), 0x78af_5f94_892f_3950),
            ("date 2013-01-01", one(Date32Array::from(vec![15_706])), 0x52e8_14e7_5ca3_ccd6),
            ("2013-01-01T00:00:00Z", one(TimestampSecondArray::from(vec![1_356_998_400])), 0x62df_3bad_ada6_909c),
            ("the year 300000", one(TimestampSecondArray::from(vec![9_404_880_883_200])), 0x7549_f519_00e5_d3ad),
            ("1 month", one(IntervalYearMonthArray::from(vec![1])), 0x26f2_a114_8cf5_2011),
            ("[1, null]", one(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])])), 0x2b02_a69c_cbcc_bad6),
            ("{'abc', 1}", one(structure(1, None)), 0x7930_569d_b115_4743),
            ("row 'abc', 1", hash(&[Arc::new(abc()), Arc::new(Int32Array::from(vec![1]))])[0], 0x873a_9259_f996_0e55),
            ("row 1, 'abc'", hash(&[Arc::new(Int32Array::from(vec![1])), Arc::new(abc())])[0], 0xd88a_5436_bcd9_9f98),
            ("row null, null", hash(&[Arc::new(Int32Array::from(vec![None])), Arc::new(Int32Array::from(vec![None]))])[0], 0x6cb1_ad2e_2811_24e4),
        ];
        let found: Vec<_> = vectors.iter().map(|(name, found, _)| format!("{found:016x} {name}")).collect();
        let expected: Vec<_> = vectors.iter().map(|(name, _, expected)| format!("{expected:016x} {name}")).collect();
        assert_eq!(found, expected);
    }

    fn structure(int: i32, nulls: Option<NullBuffer>) -> StructArray {
        let fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int32, true)];
        StructArray::new(fields.into(), vec![Arc::new(StringArray::from(vec!["abc"])), Arc::new(Int32Array::from(vec![int]))], nulls)
    }

    #[test]
    fn integers_of_any_width_hash_alike() {
        let expected = one(Int64Array::from(vec![7]));
        assert_eq!(one(Int8Array::from(vec![7])), expected);
        assert_eq!(one(Int32Array::from(vec![7])), expected);
        assert_eq!(one(UInt16Array::from(vec![7])), expected);
        assert_eq!(one(UInt64Array::from(vec![7])), expected);
    }

    #[test]
    fn text_hashes_alike_however_it_is_laid_out() {
        let expected = one(StringArray::from(vec!["a longer piece of text"]));
        assert_eq!(one(LargeStringArray::from(vec!["a longer piece of text"])), expected);
        assert_eq!(one(StringViewArray::from(vec!["a longer piece of text"])), expected);
        assert_eq!(one(BinaryArray::from(vec![b"a longer piece of text".as_slice()])), expected);
        let dictionary: DictionaryArray<Int32Type> = ["x", "a longer piece of text"].into_iter().collect();
        assert_eq!(one(dictionary.slice(1, 1)), expected);
        let runs: RunArray<Int32Type> = ["x", "x", "a longer piece of text"].into_iter().collect();
        assert_eq!(one(runs.slice(2, 1)), expected);
    }

    #[test]
    fn floats_of_one_value_hash_alike() {
        assert_eq!(one(Float32Array::from(vec![1.5])), one(Float64Array::from(vec![1.5])));
        assert_eq!(one(Float64Array::from(vec![-0.0])), one(Float64Array::from(vec![0.0])));
        let odd_nan = f64::from_bits(0xfff0_0000_0000_0001);
        assert_eq!(one(Float64Array::from(vec![odd_nan])), one(Float32Array::from(vec![f32::NAN])));
    }

    #[test]
    fn instants_and_dates_hash_alike_in_every_unit() {
        let expected = one(TimestampSecondArray::from(vec![-3]));
        assert_eq!(one(TimestampMillisecondArray::from(vec![-3_000]).with_timezone("UTC")), expected);
        assert_eq!(one(TimestampNanosecondArray::from(vec![-3_000_000_000])), expected);
        assert_eq!(one(Date64Array::from(vec![86_400_000 * 9])), one(Date32Array::from(vec![9])));
    }

    #[test]
    fn decimals_hash_alike_in_every_scale_and_width() {
        let narrow = one(Decimal128Array::from(vec![15]).with_precision_and_scale(10, 1).unwrap());
        assert_eq!(one(Decimal128Array::from(vec![1500]).with_precision_and_scale(10, 3).unwrap()), narrow);
        assert_eq!(one(Decimal256Array::from(vec![i256::from_i128(150)]).with_precision_and_scale(60, 2).unwrap()), narrow);
        let big = i256::from_i128(15).wrapping_mul(i256::from_i128(10).wrapping_pow(50));
        assert_eq!(one(Decimal256Array::from(vec![big]).with_precision_and_scale(76, 51).unwrap()), narrow);
        assert_eq!(
            one(Decimal128Array::from(vec![0]).with_precision_and_scale(10, 3).unwrap()),
            one(Decimal128Array::from(vec![0]).with_precision_and_scale(10, 1).unwrap())
        );
    }

    #[test]
    fn a_null_is_a_null_in_every_type_and_place() {
        let null = one(Int64Array::from(vec![None]));
        assert_eq!(one(StringArray::from(vec![None::<&str>])), null);
        assert_eq!(one(NullArray::new(1)), null);
        assert_eq!(one(structure(1, Some(NullBuffer::from(vec![false])))), null);
        let in_values = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0]), Arc::new(StringArray::from(vec![None::<&str>])));
        let in_keys = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![None]), Arc::new(StringArray::from(vec!["x"])));
        assert_eq!((one(in_values), one(in_keys)), (null, null));
        assert_ne!(one(StringArray::from(vec![""])), null);
    }

    #[test]
    fn slices_of_nested_arrays_hash_their_own_rows() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3)])]);
        let all = hash(&[Arc::new(lists.clone())]);
        assert_eq!(hash(&[Arc::new(lists.slice(1, 2))]), all[1..]);
        let large = LargeListArray::new(
            Arc::new(Field::new_list_field(DataType::Int32, true)),
            OffsetBuffer::from_lengths([1]),
            Arc::new(Int32Array::from(vec![3])),
            None,
        );
        assert_eq!(one(large), all[2]);
    }
}
