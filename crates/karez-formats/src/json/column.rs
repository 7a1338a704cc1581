//! The values of one column while its batch is being filled.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, LargeStringArray, StringArray, StringViewArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Field};
use arrow::error::ArrowError;
use arrow::util::bit_util;

use super::merge::Step;
use super::number::{self, Float};
use super::scan::{Seen, literal, string_stop, unescape};
use super::time::{self, TimestampReader};

/// Rows of one column, appended one by one and taken as an array.
#[derive(Debug)]
pub(super) struct Column {
    data_type: DataType,
    nullable: bool,
    values: Values,
    rows: usize,
    /// The rows that are null, ascending; their value is the default.
    nulls: Vec<usize>,
}

#[derive(Debug)]
enum Values {
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Boolean(Vec<bool>),
    Date32(Vec<i32>),
    Timestamp(Vec<i64>, TimestampReader),
    Decimal128(Vec<i128>, Decimal),
    Text(Text),
}

/// Precision and scale of a decimal column.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    precision: usize,
    scale: usize,
}

/// Strings end to end.
#[derive(Debug)]
struct Text {
    bytes: Vec<u8>,
    /// Where each row ends in `bytes`.
    ends: Vec<i32>,
}

/// `$body` with `$values` bound to the vector of a variant that has one value of fixed width a row.
macro_rules! each_fixed {
    ($self:expr, $values:ident => $body:expr, Text($text:pat) => $other:expr) => {
        match $self {
            Values::Int8($values) => $body,
            Values::Int16($values) => $body,
            Values::Int32($values) | Values::Date32($values) => $body,
            Values::Int64($values) | Values::Timestamp($values, _) => $body,
            Values::UInt8($values) => $body,
            Values::UInt16($values) => $body,
            Values::UInt32($values) => $body,
            Values::UInt64($values) => $body,
            Values::Float32($values) => $body,
            Values::Float64($values) => $body,
            Values::Boolean($values) => $body,
            Values::Decimal128($values, _) => $body,
            Values::Text($text) => $other,
        }
    };
}

// ===== impl Column =====

impl Column {
    /// An empty column; `None` if only arrow-json can decode its type.
    pub(super) fn try_new(field: &Field) -> Option<Self> {
        let values = match field.data_type() {
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::UInt8 => Values::UInt8(Vec::new()),
            DataType::UInt16 => Values::UInt16(Vec::new()),
            DataType::UInt32 => Values::UInt32(Vec::new()),
            DataType::UInt64 => Values::UInt64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Boolean => Values::Boolean(Vec::new()),
            DataType::Date32 => Values::Date32(Vec::new()),
            DataType::Timestamp(unit, zone) => Values::Timestamp(Vec::new(), TimestampReader::new(*unit, zone.as_deref())),
            DataType::Decimal128(precision, scale) => {
                let (precision, scale) = (usize::from(*precision), usize::try_from(*scale).ok()?);
                Values::Decimal128(Vec::new(), Decimal { precision, scale })
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Values::Text(Text { bytes: Vec::new(), ends: Vec::new() }),
            _ => return None,
        };
        Some(Self { data_type: field.data_type().clone(), nullable: field.is_nullable(), values, rows: 0, nulls: Vec::new() })
    }

    /// Rows held.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Bytes that the rows take.
    pub(super) fn bytes(&self) -> usize {
        fn size<T>(values: &[T]) -> usize {
            size_of_val(values)
        }
        size(&self.nulls) + each_fixed!(&self.values, values => size(values), Text(text) => size(&text.ends) + text.bytes.len())
    }

    /// Reads the value at `pos` of `data` as one more row, and returns the position behind it.
    ///
    /// `None` for a form that the general path has to judge; the column may hold a row more then, or not.
    ///
    /// When `seen` tells of bytes that are not ASCII, the caller has to check them for UTF-8 and take the row back if they
    /// are not.
    #[inline(always)]
    pub(super) fn read(&mut self, data: &[u8], pos: usize, seen: &mut Seen) -> Option<usize> {
        let end = match &mut self.values {
            Values::Int8(values) => read_integer(values, data, pos),
            Values::Int16(values) => read_integer(values, data, pos),
            Values::Int32(values) => read_integer(values, data, pos),
            Values::Int64(values) => read_integer(values, data, pos),
            Values::UInt8(values) => read_integer(values, data, pos),
            Values::UInt16(values) => read_integer(values, data, pos),
            Values::UInt32(values) => read_integer(values, data, pos),
            Values::UInt64(values) => read_integer(values, data, pos),
            Values::Float32(values) => read_float(values, data, pos),
            Values::Float64(values) => read_float(values, data, pos),
            Values::Boolean(values) => read_boolean(values, data, pos),
            Values::Date32(values) => match data.get(pos) {
                Some(b'"') => time::date(data, pos + 1).map(|(value, end)| push(values, value, end)),
                _ => read_integer(values, data, pos),
            },
            Values::Timestamp(values, reader) => match data.get(pos) {
                Some(b'"') => reader.read(data, pos + 1).map(|(value, end)| push(values, value, end)),
                _ => read_integer(values, data, pos),
            },
            Values::Decimal128(values, shape) => shape.read(data, pos).map(|(value, end)| push(values, value, end)),
            Values::Text(text) => text.read(data, pos, seen),
        };
        if end.is_none() {
            return self.read_null(data, pos);
        }
        self.rows += 1;
        end
    }

    #[cold]
    #[inline(never)]
    fn read_null(&mut self, data: &[u8], pos: usize) -> Option<usize> {
        let end = literal(data, pos, b"null")?;
        self.append_null().then_some(end)
    }

    /// One more row, null; false if the column does not take nulls.
    pub(super) fn append_null(&mut self) -> bool {
        if self.nullable {
            self.nulls.push(self.rows);
            self.rows += 1;
            each_fixed!(&mut self.values, values => values.push(Default::default()), Text(text) => text.end_row());
        }
        self.nullable
    }

    /// Drops the rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        each_fixed!(&mut self.values, values => values.truncate(rows), Text(text) => text.truncate(rows));
        self.rows = rows.min(self.rows);
        while self.nulls.last().is_some_and(|&null| null >= rows) {
            self.nulls.pop();
        }
    }

    /// Takes the rows from `rows` on as a column of their own.
    pub(super) fn split_off(&mut self, rows: usize) -> Self {
        let mut tail = self.empty();
        tail.append_column(self, rows..self.len());
        self.truncate(rows);
        tail
    }

    fn empty(&self) -> Self {
        let values = match &self.values {
            Values::Int8(_) => Values::Int8(Vec::new()),
            Values::Int16(_) => Values::Int16(Vec::new()),
            Values::Int32(_) => Values::Int32(Vec::new()),
            Values::Int64(_) => Values::Int64(Vec::new()),
            Values::UInt8(_) => Values::UInt8(Vec::new()),
            Values::UInt16(_) => Values::UInt16(Vec::new()),
            Values::UInt32(_) => Values::UInt32(Vec::new()),
            Values::UInt64(_) => Values::UInt64(Vec::new()),
            Values::Float32(_) => Values::Float32(Vec::new()),
            Values::Float64(_) => Values::Float64(Vec::new()),
            Values::Boolean(_) => Values::Boolean(Vec::new()),
            Values::Date32(_) => Values::Date32(Vec::new()),
            Values::Timestamp(_, reader) => Values::Timestamp(Vec::new(), reader.clone()),
            Values::Decimal128(_, shape) => Values::Decimal128(Vec::new(), *shape),
            Values::Text(_) => Values::Text(Text { bytes: Vec::new(), ends: Vec::new() }),
        };
        Self { data_type: self.data_type.clone(), nullable: self.nullable, values, rows: 0, nulls: Vec::new() }
    }

    /// Appends `rows` of `other`, a column of the same type.
    pub(super) fn append_column(&mut self, other: &Self, rows: Range<usize>) {
        let base = self.rows;
        let first = other.nulls.partition_point(|&null| null < rows.start);
        let last = other.nulls.partition_point(|&null| null < rows.end);
        self.nulls.extend(other.nulls[first..last].iter().map(|null| base + null - rows.start));
        self.rows += rows.len();
        macro_rules! extend {
            ($($variant:ident),*) => {
                match (&mut self.values, &other.values) {
                    $((Values::$variant(to), Values::$variant(from)) => to.extend_from_slice(&from[rows]),)*
                    (Values::Timestamp(to, _), Values::Timestamp(from, _)) => to.extend_from_slice(&from[rows]),
                    (Values::Decimal128(to, _), Values::Decimal128(from, _)) => to.extend_from_slice(&from[rows]),
                    (Values::Text(to), Values::Text(from)) => to.append(&from.bytes, |row| from.range(row), rows),
                    _ => debug_assert!(false, "columns of two types"),
                }
            };
        }
        extend!(Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64, Boolean, Date32);
    }

    /// Appends by turns rows of `tail`, which may be missing when the steps have none of it, and of `array`. All are of
    /// this column's type.
    pub(super) fn interleave(&mut self, tail: Option<&Self>, array: &ArrayRef, steps: &[Step]) {
        if let [Step { tail: Range { start, end }, .. }] = steps
            && start == end
        {
            return self.append_array(array);
        }
        let mut column = self.empty();
        column.append_array(array);
        for step in steps {
            if let Some(tail) = tail.filter(|_| !step.tail.is_empty()) {
                self.append_column(tail, step.tail.clone());
            }
            self.append_column(&column, step.batch.clone());
        }
    }

    /// Appends the rows of `array`, which has this column's type.
    fn append_array(&mut self, array: &ArrayRef) {
        fn fixed<T: ArrowNativeType>(to: &mut Vec<T>, from: &ArrayData) {
            to.extend_from_slice(&ScalarBuffer::<T>::new(from.buffers()[0].clone(), from.offset(), from.len()));
        }
        if let Some(nulls) = array.nulls() {
            self.nulls.extend((0..array.len()).filter(|&row| nulls.is_null(row)).map(|row| self.rows + row));
        }
        self.rows += array.len();
        match &mut self.values {
            Values::Int8(to) => fixed(to, &array.to_data()),
            Values::Int16(to) => fixed(to, &array.to_data()),
            Values::Int32(to) | Values::Date32(to) => fixed(to, &array.to_data()),
            Values::Int64(to) | Values::Timestamp(to, _) => fixed(to, &array.to_data()),
            Values::UInt8(to) => fixed(to, &array.to_data()),
            Values::UInt16(to) => fixed(to, &array.to_data()),
            Values::UInt32(to) => fixed(to, &array.to_data()),
            Values::UInt64(to) => fixed(to, &array.to_data()),
            Values::Float32(to) => fixed(to, &array.to_data()),
            Values::Float64(to) => fixed(to, &array.to_data()),
            Values::Decimal128(to, _) => fixed(to, &array.to_data()),
            Values::Boolean(to) => to.extend(array.as_boolean().values()),
            Values::Text(to) => match array.data_type() {
                DataType::Utf8 => {
                    let array = array.as_string::<i32>();
                    let ends = array.value_offsets();
                    to.append(array.value_data(), |row| ends[row] as usize..ends[row + 1] as usize, 0..array.len());
                }
                DataType::LargeUtf8 => to.extend(array.as_string::<i64>().iter()),
                _ => to.extend(array.as_string_view().iter()),
            },
        }
    }

    /// Takes all rows as an array.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let empty = self.empty();
        let column = std::mem::replace(self, empty);
        let rows = column.rows;
        let nulls = (!column.nulls.is_empty()).then(|| null_buffer(&column.nulls, rows));
        // The next batch will be much like this one.
        self.reserve_like(&column);
        each_fixed!(column.values, values => fixed_array(column.data_type, values, nulls), Text(text) => {
            text.array(&column.data_type, nulls)
        })
    }

    fn reserve_like(&mut self, other: &Self) {
        let rows = other.rows;
        each_fixed!(&mut self.values, values => values.reserve(rows), Text(text) => text.ends.reserve(rows));
        if let (Values::Text(to), Values::Text(from)) = (&mut self.values, &other.values) {
            to.bytes.reserve(from.bytes.len() + from.bytes.len() / 16);
        }
    }
}

/// Appends `value`, and returns `end`.
#[inline(always)]
fn push<T>(values: &mut Vec<T>, value: T, end: usize) -> usize {
    values.push(value);
    end
}

#[inline(always)]
fn read_integer<T: TryFrom<i64>>(values: &mut Vec<T>, data: &[u8], pos: usize) -> Option<usize> {
    let (negative, magnitude, end) = number::integer(data, pos)?;
    let magnitude = magnitude as i64; // below 10^18
    values.push(T::try_from(if negative { -magnitude } else { magnitude }).ok()?);
    Some(end)
}

#[inline(always)]
fn read_float<T: Float>(values: &mut Vec<T>, data: &[u8], pos: usize) -> Option<usize> {
    T::read(data, pos).map(|(value, end)| push(values, value, end))
}

#[inline(always)]
fn read_boolean(values: &mut Vec<bool>, data: &[u8], pos: usize) -> Option<usize> {
    let (value, end) = match data.get(pos)? {
        b't' => (true, literal(data, pos, b"true")?),
        _ => (false, literal(data, pos, b"false")?),
    };
    Some(push(values, value, end))
}

fn null_buffer(nulls: &[usize], rows: usize) -> NullBuffer {
    let mut bits = vec![0xff; rows.div_ceil(8)];
    for &null in nulls {
        bit_util::unset_bit(&mut bits, null);
    }
    NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
}

/// A vector of fixed-width values as an array.
trait Fixed: Sized {
    fn array(data_type: DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError>;
}

macro_rules! fixed {
    ($($type:ty),*) => {
        $(impl Fixed for $type {
            fn array(data_type: DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
                let rows = values.len();
                let data = ArrayData::builder(data_type).len(rows).nulls(nulls).add_buffer(Buffer::from_vec(values));
                Ok(make_array(data.build()?))
            }
        })*
    };
}

fixed!(i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, i128);

impl Fixed for bool {
    fn array(_: DataType, values: Vec<Self>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)))
    }
}

fn fixed_array<T: Fixed>(data_type: DataType, values: Vec<T>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    T::array(data_type, values, nulls)
}

// ===== impl Decimal =====

impl Decimal {
    /// The number at `pos`, quoted or not, scaled to this type, and the position behind it.
    fn read(self, data: &[u8], pos: usize) -> Option<(i128, usize)> {
        let quoted = data.get(pos) == Some(&b'"');
        let number = number::decimal(data, pos + usize::from(quoted))?;
        if number.scale > self.scale || number.whole_digits + self.scale > self.precision {
            return None;
        }
        let value = number::scaled(&number, self.scale - number.scale)?;
        match data.get(number.end) {
            Some(b'"') if quoted => Some((value, number.end + 1)),
            Some(b'"') | None => None,
            _ if quoted => None,
            _ => Some((value, number.end)),
        }
    }
}

// ===== impl Text =====

impl Text {
    /// Reads the string at `pos`. Adds no row on `None`, but maybe bytes.
    #[inline(always)]
    fn read(&mut self, data: &[u8], pos: usize, seen: &mut Seen) -> Option<usize> {
        if *data.get(pos)? != b'"' {
            return None;
        }
        let begin = pos + 1;
        let stop = string_stop(data, begin, seen)?;
        self.bytes.extend_from_slice(&data[begin..stop]);
        let end = if data[stop] == b'"' { stop + 1 } else { self.read_escaped(data, stop, seen)? };
        self.ends.push(i32::try_from(self.bytes.len()).ok()?);
        Some(end)
    }

    /// Goes on with a string whose scan stopped at `stop`, at something else than its closing quote.
    #[inline(never)]
    fn read_escaped(&mut self, data: &[u8], mut stop: usize, seen: &mut Seen) -> Option<usize> {
        loop {
            match data.get(stop)? {
                b'"' => return Some(stop + 1),
                b'\\' => {
                    let (character, behind) = unescape(data, stop)?;
                    self.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    stop = string_stop(data, behind, seen)?;
                    self.bytes.extend_from_slice(&data[behind..stop]);
                }
                _ => return None,
            }
        }
    }

    /// Ends a row at the last byte.
    fn end_row(&mut self) {
        self.ends.push(self.bytes.len() as i32);
    }

    fn range(&self, row: usize) -> Range<usize> {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin as usize..self.ends[row] as usize
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    fn extend<'a>(&mut self, strings: impl Iterator<Item = Option<&'a str>>) {
        for string in strings {
            self.bytes.extend_from_slice(string.unwrap_or_default().as_bytes());
            self.end_row();
        }
    }

    /// Appends `rows` of strings that lie end to end in `bytes`, each in its `range`.
    fn append(&mut self, bytes: &[u8], range: impl Fn(usize) -> Range<usize>, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        let begin = range(rows.start).start;
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&bytes[begin..range(rows.end - 1).end]);
        self.ends.extend(rows.map(|row| (base + range(row).end - begin) as i32));
    }

    fn array(self, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let values = Buffer::from_vec(self.bytes);
        // These check the strings for UTF-8 again, which takes 4 % of the decoder's time and saves `unsafe`.
        if *data_type == DataType::LargeUtf8 {
            let offsets = std::iter::once(0).chain(self.ends.into_iter().map(i64::from)).collect();
            return Ok(Arc::new(LargeStringArray::try_new(OffsetBuffer::new(offsets), values, nulls)?));
        }
        let offsets = std::iter::once(0).chain(self.ends).collect();
        let array = StringArray::try_new(OffsetBuffer::new(offsets), values, nulls)?;
        Ok(if *data_type == DataType::Utf8View { Arc::new(StringViewArray::from(&array)) } else { Arc::new(array) })
    }
}
