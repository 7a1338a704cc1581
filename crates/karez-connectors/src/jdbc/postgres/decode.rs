//! Rows in the binary form of COPY as Arrow columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBufferBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Decimal256Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Decimal256Type, DecimalType, Field};
use karez_core::{Error, Result};

use super::super::server::driver::Chunk;
use super::super::server::table::Column;
use super::numeric;
use super::text;
use super::types::{self, BIT, CHAR, CIDR, INET, INTERVAL, JSONB, MACADDR, MACADDR8, OID, TIMETZ, UUID, VARBIT};

/// Days from 1970-01-01 to 2000-01-01, from which PostgreSQL counts.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

const DAY_MICROS: i64 = 86_400_000_000;

const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Collects rows.
pub(super) struct Decoder {
    cells: Vec<Cell>,
    names: Vec<String>,
    rows: usize,
    bad: Vec<(usize, String)>,
    bytes: usize,
    head_seen: bool,
}

impl Decoder {
    /// For columns that each have a `data_type`.
    pub(super) fn new(columns: &[Column]) -> Result<Self> {
        let cells = columns.iter().map(Cell::of).collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("a column without a mapping is read"))?;
        Ok(Self { cells, names: columns.iter().map(|c| c.name.clone()).collect(), rows: 0, bad: Vec::new(), bytes: 0, head_seen: false })
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a piece of the stream, which ends with a row.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<()> {
        let damaged = || Error::external("the server sends rows that are no COPY data");
        self.bytes += piece.len();
        if !self.head_seen {
            let rest = piece.strip_prefix(HEAD).ok_or_else(damaged)?;
            let length = rest.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes).ok_or_else(damaged)?;
            piece = rest.get(8 + length as usize..).ok_or_else(damaged)?;
            self.head_seen = true;
        }
        while let Some((count, rest)) = piece.split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                return Ok(());
            }
            if usize::try_from(count) != Ok(self.cells.len()) {
                return Err(damaged());
            }
            piece = rest;
            let mut wrong = None;
            for (i, cell) in self.cells.iter_mut().enumerate() {
                let (length, rest) = piece.split_first_chunk::<4>().ok_or_else(damaged)?;
                let length = i32::from_be_bytes(*length);
                if length < 0 {
                    piece = rest;
                    cell.push_null();
                    continue;
                }
                let (value, rest) = rest.split_at_checked(length as usize).ok_or_else(damaged)?;
                piece = rest;
                if let Err(why) = cell.push(value) {
                    cell.push_null();
                    wrong.get_or_insert_with(|| format!("column `{}`: {why}", self.names[i]));
                }
            }
            if let Some(wrong) = wrong {
                self.bad.push((self.rows, wrong));
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// The rows so far.
    pub(super) fn take(&mut self) -> Result<Chunk> {
        let columns = self.cells.iter_mut().map(Cell::finish).collect::<Result<Vec<_>>>()?;
        Ok(Chunk { rows: std::mem::take(&mut self.rows), columns, bad: std::mem::take(&mut self.bad), bytes: std::mem::take(&mut self.bytes) })
    }
}

/// How the text of a value is made.
#[derive(Clone, Copy, Debug)]
enum Words {
    Plain,
    Char,
    Jsonb,
    Uuid,
    Network,
    Mac,
    Interval,
    TimeTz,
    Bits,
    Numeric,
}

enum Cell {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Oid(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder, u8, i8),
    Decimal256(Decimal256Builder, u8, i8),
    Text(StringBuilder, Words, String),
    Blob(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    List(Box<List>),
}

struct List {
    element: Cell,
    field: Arc<Field>,
    offsets: Vec<i32>,
    valid: BooleanBufferBuilder,
}

type Why = String;

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Why> {
    value.try_into().map_err(|_| format!("{} bytes where {N} were expected", value.len()))
}

impl Cell {
    fn of(column: &Column) -> Option<Self> {
        let data_type = column.data_type.as_ref()?;
        Some(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 if column.type_id == OID => Self::Oid(Int64Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(p, s) => Self::Decimal128(Decimal128Builder::new().with_data_type(data_type.clone()), *p, *s),
            DataType::Decimal256(p, s) => Self::Decimal256(Decimal256Builder::new().with_data_type(data_type.clone()), *p, *s),
            DataType::Utf8 => {
                let words = match column.type_id {
                    CHAR => Words::Char,
                    JSONB => Words::Jsonb,
                    UUID => Words::Uuid,
                    INET | CIDR => Words::Network,
                    MACADDR | MACADDR8 => Words::Mac,
                    INTERVAL => Words::Interval,
                    TIMETZ => Words::TimeTz,
                    BIT | VARBIT => Words::Bits,
                    types::NUMERIC => Words::Numeric,
                    _ => Words::Plain,
                };
                Self::Text(StringBuilder::new(), words, String::new())
            }
            DataType::Binary => Self::Blob(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(_) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(_, zone) => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone_opt(zone.clone())),
            DataType::List(field) => {
                let inside = Column {
                    data_type: Some(field.data_type().clone()),
                    type_id: column.element_id,
                    element_id: 0,
                    declared: String::new(),
                    ..column.clone()
                };
                Self::List(Box::new(List {
                    element: Self::of(&inside)?,
                    field: Arc::clone(field),
                    offsets: vec![0],
                    valid: BooleanBufferBuilder::new(0),
                }))
            }
            _ => return None,
        })
    }

    /// Appends a value; on an error nothing has been appended.
    fn push(&mut self, v: &[u8]) -> Result<(), Why> {
        match self {
            Self::Boolean(b) => b.append_value(fixed::<1>(v)? != [0]),
            Self::Int16(b) => b.append_value(i16::from_be_bytes(fixed(v)?)),
            Self::Int32(b) => b.append_value(i32::from_be_bytes(fixed(v)?)),
            Self::Int64(b) => b.append_value(i64::from_be_bytes(fixed(v)?)),
            Self::Oid(b) => b.append_value(u32::from_be_bytes(fixed(v)?).into()),
            Self::Float32(b) => b.append_value(f32::from_be_bytes(fixed(v)?)),
            Self::Float64(b) => b.append_value(f64::from_be_bytes(fixed(v)?)),
            Self::Decimal128(b, p, s) => {
                let wire = numeric::parse(v).map_err(|what| format!("{what} is no decimal({p}, {s})"))?;
                let limit = 10_i128.checked_pow(u32::from(*p)).unwrap_or(i128::MAX);
                match wire.value(i32::from(*s)).filter(|v: &i128| v.abs() < limit) {
                    Some(value) => b.append_value(value),
                    None => return Err(unfit(&wire, *p, *s)),
                }
            }
            Self::Decimal256(b, p, s) => {
                let wire = numeric::parse(v).map_err(|what| format!("{what} is no decimal({p}, {s})"))?;
                match wire.value(i32::from(*s)).filter(|v| Decimal256Type::validate_decimal_precision(*v, *p, *s).is_ok()) {
                    Some(value) => b.append_value(value),
                    None => return Err(unfit(&wire, *p, *s)),
                }
            }
            Self::Text(b, Words::Plain, _) => b.append_value(utf8(v)?),
            Self::Text(b, words, out) => {
                out.clear();
                match words {
                    Words::Plain => {}
                    Words::Char => out.push(char::from(fixed::<1>(v)?[0])),
                    Words::Jsonb => match v.split_first() {
                        Some((1, json)) => out.push_str(utf8(json)?),
                        _ => return Err("a jsonb of an unknown version".to_owned()),
                    },
                    Words::Uuid => text::uuid(out, &fixed(v)?),
                    Words::Network => text::network(out, v)?,
                    Words::Mac => text::mac(out, v),
                    Words::Interval => text::interval(out, &fixed(v)?),
                    Words::TimeTz => text::time_with_zone(out, &fixed(v)?),
                    Words::Bits => text::bits(out, v)?,
                    Words::Numeric => match numeric::parse(v) {
                        Ok(wire) => wire.write(out),
                        Err(what) => out.push_str(what),
                    },
                }
                b.append_value(&*out);
            }
            Self::Blob(b) => b.append_value(v),
            Self::Date(b) => match i32::from_be_bytes(fixed(v)?) {
                i32::MAX => return Err("infinity is no date".to_owned()),
                i32::MIN => return Err("-infinity is no date".to_owned()),
                days => b.append_value(days.checked_add(EPOCH_DAYS).ok_or("a date beyond reach")?),
            },
            Self::Time(b) => match i64::from_be_bytes(fixed(v)?) {
                DAY_MICROS => return Err("24:00:00 is no time of day; read such a column by a `query` with `CAST(… AS text)`".to_owned()),
                micros => b.append_value(micros),
            },
            Self::Timestamp(b) => match i64::from_be_bytes(fixed(v)?) {
                i64::MAX => return Err("infinity is no timestamp".to_owned()),
                i64::MIN => return Err("-infinity is no timestamp".to_owned()),
                micros => b.append_value(micros.checked_add(EPOCH_MICROS).ok_or("a timestamp beyond reach")?),
            },
            Self::List(list) => return list.push(v),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Boolean(b) => b.append_null(),
            Self::Int16(b) => b.append_null(),
            Self::Int32(b) => b.append_null(),
            Self::Int64(b) | Self::Oid(b) => b.append_null(),
            Self::Float32(b) => b.append_null(),
            Self::Float64(b) => b.append_null(),
            Self::Decimal128(b, ..) => b.append_null(),
            Self::Decimal256(b, ..) => b.append_null(),
            Self::Text(b, ..) => b.append_null(),
            Self::Blob(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Timestamp(b) => b.append_null(),
            Self::List(list) => list.end(false),
        }
    }

    fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match self {
            Self::Boolean(b) => b.len(),
            Self::Int16(b) => b.len(),
            Self::Int32(b) => b.len(),
            Self::Int64(b) | Self::Oid(b) => b.len(),
            Self::Float32(b) => b.len(),
            Self::Float64(b) => b.len(),
            Self::Decimal128(b, ..) => b.len(),
            Self::Decimal256(b, ..) => b.len(),
            Self::Text(b, ..) => b.len(),
            Self::Blob(b) => b.len(),
            Self::Date(b) => b.len(),
            Self::Time(b) => b.len(),
            Self::Timestamp(b) => b.len(),
            Self::List(list) => list.valid.len(),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) | Self::Oid(b) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            Self::Decimal128(b, ..) => Arc::new(b.finish()),
            Self::Decimal256(b, ..) => Arc::new(b.finish()),
            Self::Text(b, ..) => Arc::new(b.finish()),
            Self::Blob(b) => Arc::new(b.finish()),
            Self::Date(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Timestamp(b) => Arc::new(b.finish()),
            Self::List(list) => {
                let values = list.element.finish()?;
                let offsets = OffsetBuffer::new(std::mem::replace(&mut list.offsets, vec![0]).into());
                let valid = NullBuffer::new(list.valid.finish());
                Arc::new(ListArray::try_new(Arc::clone(&list.field), offsets, values, Some(valid))?) as ArrayRef
            }
        })
    }
}

impl List {
    /// An array as `array_send` writes it: dimensions, a flag, the element's type, for each dimension length and lower bound, the elements.
    fn push(&mut self, v: &[u8]) -> Result<(), Why> {
        let damaged = || "a damaged array".to_owned();
        let int = |v: &[u8], at: usize| v.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes).ok_or_else(damaged);
        let dimensions = int(v, 0)?;
        if dimensions == 0 {
            self.end(true);
            return Ok(());
        }
        if dimensions != 1 {
            return Err(format!("an array of {dimensions} dimensions"));
        }
        let count = int(v, 12)?;
        let mut at = 20;
        let mut wrong = None;
        for _ in 0..count {
            let length = int(v, at)?;
            at += 4;
            match usize::try_from(length) {
                Err(_) => self.element.push_null(),
                Ok(length) => {
                    let value = v.get(at..at + length).ok_or_else(damaged)?;
                    at += length;
                    if let Err(why) = self.element.push(value) {
                        self.element.push_null();
                        wrong.get_or_insert(why);
                    }
                }
            }
        }
        match wrong {
            // The elements stay, in front of the null that is appended for the whole.
            Some(why) => Err(why),
            None => {
                self.end(true);
                Ok(())
            }
        }
    }

    fn end(&mut self, valid: bool) {
        self.valid.append(valid);
        // Elements of an array stay below two billion: a chunk holds about a megabyte.
        self.offsets.push(i32::try_from(self.element.len()).unwrap_or(i32::MAX));
    }
}

fn utf8(v: &[u8]) -> Result<&str, Why> {
    std::str::from_utf8(v).map_err(|e| format!("text that is not UTF-8: {e}"))
}

fn unfit(wire: &numeric::Wire<'_>, p: u8, s: i8) -> Why {
    let mut text = String::new();
    wire.write(&mut text);
    format!("{text} is no decimal({p}, {s})")
}
