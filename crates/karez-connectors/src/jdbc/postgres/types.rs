//! Types both ways.
//!
//! | PostgreSQL | read as | written from | declared for |
//! | --- | --- | --- | --- |
//! | `boolean` | boolean | boolean | boolean |
//! | `smallint`, `integer`, `bigint` | integers of 16, 32, 64 bits | any integer that fits | integers (of 8 bits too; unsigned ones the next larger) |
//! | `real`, `double precision` | float, double | float, double, integers that fit exactly | float, double |
//! | `numeric(p, s)` | decimal(p, s) to 76 digits | decimals, integers, strings; double where there is no scale | decimal(p, s); unsigned 64 bits as `numeric(20)` |
//! | `numeric` | decimal(38, 18), or what `schema` declares (a decimal, string) | the same | |
//! | `text`, `varchar`, `char`, `name`, `citext`, `xml`, enums, `"char"` | string | string | string (`text`) |
//! | `json`, `jsonb` | string | string; arrays, maps, rows | arrays of rows, maps, rows (`jsonb`) |
//! | `uuid` | string | string, 16 bytes | |
//! | `bytea` | binary | binary | binary |
//! | `date` | date | date | date |
//! | `time` | time(6) | time | time |
//! | `timestamp`, `timestamptz` | timestamp(6), timestamp_ltz(6) | timestamp, timestamp_ltz without nanoseconds | timestamp, timestamp_ltz |
//! | `oid` | 64 bits | integers | |
//! | `inet`, `cidr`, `macaddr`, `macaddr8`, `interval` (ISO 8601), `timetz`, `bit`, `varbit` | string | string | |
//! | arrays of these, of one dimension | array | array | arrays of simple values |
//! | anything else | no: cast it in a `query` | string, in the words of the database | |
//!
//! What PostgreSQL has and Arrow has not (`NaN` in a numeric, `infinity` in a date or timestamp, years beyond 262,000) makes its row a bad record.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::super::server::table::Column;

pub(super) const BOOL: u32 = 16;
pub(super) const BYTEA: u32 = 17;
pub(super) const CHAR: u32 = 18;
pub(super) const NAME: u32 = 19;
pub(super) const INT8: u32 = 20;
pub(super) const INT2: u32 = 21;
pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;
pub(super) const OID: u32 = 26;
pub(super) const JSON: u32 = 114;
pub(super) const XML: u32 = 142;
pub(super) const CIDR: u32 = 650;
pub(super) const FLOAT4: u32 = 700;
pub(super) const FLOAT8: u32 = 701;
pub(super) const MACADDR8: u32 = 774;
pub(super) const MACADDR: u32 = 829;
pub(super) const INET: u32 = 869;
pub(super) const BPCHAR: u32 = 1042;
pub(super) const VARCHAR: u32 = 1043;
pub(super) const DATE: u32 = 1082;
pub(super) const TIME: u32 = 1083;
pub(super) const TIMESTAMP: u32 = 1114;
pub(super) const TIMESTAMPTZ: u32 = 1184;
pub(super) const INTERVAL: u32 = 1186;
pub(super) const TIMETZ: u32 = 1266;
pub(super) const BIT: u32 = 1560;
pub(super) const VARBIT: u32 = 1562;
pub(super) const NUMERIC: u32 = 1700;
pub(super) const UUID: u32 = 2950;
pub(super) const JSONB: u32 = 3802;

/// The first number of a type that is not built in (`FirstNormalObjectId`).
const FIRST_OWN: u32 = 16_384;

/// Digits of an unconstrained numeric, and how many of them stand behind the point.
const FREE_NUMERIC: (u8, i8) = (38, 18);

/// A type as the catalogue has it.
#[derive(Clone, Debug)]
pub(super) struct PgType {
    /// Its number; of a domain that of its base.
    pub(super) oid: u32,
    pub(super) name: String,
    /// `e`: an enum; `b`: a base type, …
    pub(super) kind: char,
}

/// Whether values of a type travel as their text, in the binary form too.
pub(super) fn is_text(t: &PgType) -> bool {
    matches!(t.oid, TEXT | VARCHAR | BPCHAR | NAME | XML | JSON | CHAR) || t.kind == 'e' || t.name == "citext"
}

/// What the values of a type that is no array are read as; `typmod` is the catalogue's number for `(p, s)`.
pub(super) fn scalar(t: &PgType, typmod: i32) -> Option<DataType> {
    if is_text(t) {
        return Some(DataType::Utf8);
    }
    Some(match t.oid {
        BOOL => DataType::Boolean,
        BYTEA => DataType::Binary,
        INT2 => DataType::Int16,
        INT4 => DataType::Int32,
        INT8 | OID => DataType::Int64,
        FLOAT4 => DataType::Float32,
        FLOAT8 => DataType::Float64,
        NUMERIC => {
            let (p, s) = match precision(typmod) {
                None => FREE_NUMERIC,
                Some((p, s)) => (u8::try_from(p).ok().filter(|p| *p <= 76)?, i8::try_from(s).ok()?),
            };
            // Arrow wants the scale within the precision; PostgreSQL 15 does not.
            let p = if s > 0 { p.max(s.unsigned_abs()) } else { p };
            if p <= 38 { DataType::Decimal128(p, s) } else { DataType::Decimal256(p.min(76), s) }
        }
        DATE => DataType::Date32,
        TIME => DataType::Time64(TimeUnit::Microsecond),
        TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        UUID | JSONB | INET | CIDR | MACADDR | MACADDR8 | INTERVAL | TIMETZ | BIT | VARBIT => DataType::Utf8,
        _ => return None,
    })
}

/// What an array of such values is read as.
pub(super) fn array_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element, true)))
}

/// Precision and scale of a numeric.
fn precision(typmod: i32) -> Option<(i32, i32)> {
    let packed = typmod.checked_sub(4).filter(|p| *p >= 0)?;
    // Eleven bits with a sign.
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

/// What the driver can give besides what a column is read as, for a column that is declared as `wanted`.
pub(super) fn reads_as(oid: u32, wanted: &DataType) -> Option<DataType> {
    match wanted {
        DataType::Utf8 | DataType::Decimal128(..) | DataType::Decimal256(..) if oid == NUMERIC => Some(wanted.clone()),
        // By its text, since it may be larger or finer than any decimal.
        DataType::Float32 | DataType::Float64 if oid == NUMERIC => Some(DataType::Utf8),
        _ => None,
    }
}

/// How a column for values of an Arrow type is declared.
pub(super) fn declared(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "SMALLINT".into(),
        DataType::Int32 | DataType::UInt16 => "INTEGER".into(),
        DataType::Int64 | DataType::UInt32 => "BIGINT".into(),
        DataType::UInt64 => "NUMERIC(20, 0)".into(),
        DataType::Float16 | DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE PRECISION".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("NUMERIC({p}, {s})")
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BYTEA".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ".into(),
        DataType::Dictionary(_, value) => declared(value),
        DataType::RunEndEncoded(_, values) => declared(values.data_type()),
        DataType::List(element) | DataType::LargeList(element) if !element.data_type().is_nested() => format!("{}[]", declared(element.data_type())),
        t if t.is_nested() => "JSONB".into(),
        _ => "TEXT".into(),
    }
}

/// The Arrow type a value must have to be written to a type in binary form, where values of `from` can be brought into it without being changed (those
/// that do not fit are refused one by one).
pub(super) fn canonical(from: &DataType, column: &Column) -> Option<DataType> {
    let plain = plain(from);
    if column.element_id != 0 {
        let (DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _)) = plain else {
            return (*plain == DataType::Null).then(|| array_of(DataType::Null));
        };
        return canonical(element.data_type(), &of_elements(column)).filter(|t| !t.is_nested()).map(array_of);
    }
    let is_integer = plain.is_integer();
    let is_string = is_string(plain);
    let bits = plain.primitive_width().unwrap_or(8) * 8;
    match column.type_id {
        _ if *plain == DataType::Null => Some(DataType::Null),
        BOOL => (*plain == DataType::Boolean).then_some(DataType::Boolean),
        INT2 => is_integer.then_some(DataType::Int16),
        INT4 => is_integer.then_some(DataType::Int32),
        INT8 | OID => is_integer.then_some(DataType::Int64),
        FLOAT4 => (matches!(plain, DataType::Float16 | DataType::Float32) || (is_integer && bits <= 16)).then_some(DataType::Float32),
        FLOAT8 => (plain.is_floating() || (is_integer && bits <= 32)).then_some(DataType::Float64),
        NUMERIC => match plain {
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => Some(DataType::Decimal128(*p, *s)),
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(plain.clone()),
            t if t.is_integer() => Some(DataType::Decimal128(20, 0)),
            t if is_string || t.is_floating() => Some(DataType::Utf8),
            _ => None,
        },
        BYTEA => matches!(plain, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
            .then_some(DataType::Binary),
        UUID => match plain {
            DataType::FixedSizeBinary(16) => Some(plain.clone()),
            _ => is_string.then_some(DataType::Utf8),
        },
        DATE => matches!(plain, DataType::Date32 | DataType::Date64).then_some(DataType::Date32),
        TIME => matches!(plain, DataType::Time32(_) | DataType::Time64(_)).then_some(DataType::Time64(TimeUnit::Microsecond)),
        TIMESTAMP => matches!(plain, DataType::Timestamp(_, None)).then_some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        TIMESTAMPTZ => matches!(plain, DataType::Timestamp(_, Some(_))).then(|| DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        JSON | JSONB => (is_string || plain.is_nested()).then_some(DataType::Utf8),
        // Enums and the like have been given this number when they were described.
        TEXT | VARCHAR | BPCHAR | NAME | XML | CHAR => is_string.then_some(DataType::Utf8),
        _ => None,
    }
}

/// How many digits behind the second a column keeps, as its type is written: `timestamp(3) without time zone`; `None`: as many as there are.
pub(super) fn second_digits(column: &Column) -> Option<u32> {
    parameters(column)?.parse().ok().filter(|digits| *digits < 6)
}

/// How many digits behind the point a numeric keeps, as its type is written: `numeric(10,2)`; `None`: as many as there are.
pub(super) fn scale(column: &Column) -> Option<i32> {
    parameters(column)?.split_once(',').map_or(Some(0), |(_, scale)| scale.parse().ok())
}

fn parameters(column: &Column) -> Option<&str> {
    let (_, rest) = column.base.split_once('(')?;
    Some(rest.split_once(')')?.0)
}

/// An array's column as one for its elements.
pub(super) fn of_elements(column: &Column) -> Column {
    // Of the types that are made in a database only those that are text have a mapping: enums, citext.
    let type_id = if column.element_id >= FIRST_OWN && column.data_type.is_some() { TEXT } else { column.element_id };
    Column { type_id, element_id: 0, ..column.clone() }
}

/// The type below a dictionary or runs.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value,
        DataType::RunEndEncoded(_, values) => values.data_type(),
        other => other,
    }
}

const fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether values of an Arrow type can be written to a column.
pub(super) fn writes(from: &DataType, column: &Column) -> Result<(), String> {
    let no = |advice: &str| Err(format!("cannot take {}; {advice}", karez_core::sql_type::to_sql(from)));
    if canonical(from, column).is_none() {
        return match (column.type_id, from) {
            (BOOL | INT2 | INT4 | INT8 | OID | FLOAT4 | FLOAT8 | BYTEA | DATE | TIME | TIMESTAMP | TIMESTAMPTZ, t) if is_string(t) => {
                no("CAST it in a `map`")
            }
            // In words of its own a type takes any text it can read.
            (_, t) if is_string(t) => Ok(()),
            (_, DataType::List(e) | DataType::LargeList(e)) if column.element_id != 0 && is_string(e.data_type()) => Ok(()),
            (TIMESTAMP, DataType::Timestamp(..)) => no("CAST it to timestamp in a `map`, which says in which zone"),
            (TIMESTAMPTZ, DataType::Timestamp(..)) => no("CAST it to timestamp_ltz in a `map`, which says of which zone it is"),
            _ => no("CAST it in a `map`, or change the column's type"),
        };
    }
    let (from, type_id) = match plain(from) {
        DataType::List(e) | DataType::LargeList(e) | DataType::FixedSizeList(e, _) => (plain(e.data_type()), column.element_id),
        from => (from, column.type_id),
    };
    let Some(scale) = scale(column).filter(|_| type_id == NUMERIC) else { return Ok(()) };
    let ours = match from {
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => i32::from(*s),
        t if t.is_floating() => return no("its digits behind the point would be rounded: CAST it to a decimal in a `map`"),
        t if t.is_integer() => 0,
        // Of texts each is looked at.
        _ => return Ok(()),
    };
    if ours > scale {
        return no("its digits behind the point would be rounded: CAST it in a `map`, or widen the column");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_scale_come_out_of_a_typmod_negative_ones_too() {
        assert_eq!(precision(((10 << 16) | 2) + 4), Some((10, 2)));
        assert_eq!(precision(((3 << 16) | (-2_i32 & 0x7ff)) + 4), Some((3, -2)));
        assert_eq!(precision(-1), None);
    }
}
