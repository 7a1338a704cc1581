//! Types both ways.
//!
//! | in MySQL and MariaDB | Arrow | written from |
//! | --- | --- | --- |
//! | `TINYINT(1)`, `BOOL`, `BIT(1)` | boolean | boolean, integers |
//! | `TINYINT` … `BIGINT`, each also `UNSIGNED`; `YEAR` | int8 … int64, uint8 … uint64; int16 | integers, boolean |
//! | `FLOAT`, `DOUBLE` | float, double | floats no wider than the column, where it does not round (`DOUBLE(10, 2)`); integers into `DOUBLE` |
//! | `DECIMAL(p, s)` | decimal(p, s) | decimals, integers |
//! | `BIT(n)` | uint64 | integers |
//! | `CHAR`, `VARCHAR`, `TEXT` …, `ENUM`, `SET`, `JSON`, MariaDB's `UUID`, `INET4`, `INET6` | string | string; into `JSON` and texts also arrays, maps, rows (MySQL's `JSON`: without long decimals) |
//! | `BINARY`, `VARBINARY`, `BLOB` … | binary | binary |
//! | `DATE`, `TIME(p)` | date, time(p) | the same |
//! | `DATETIME(p)` | timestamp(p) | timestamp |
//! | `TIMESTAMP(p)` | timestamp_ltz(p) | timestamp_ltz |
//!
//! Sessions run in UTC, so that a `TIMESTAMP` is the instant it stands for. A column of another type (geometry) cannot be read or written: a `query`
//! may convert it.

use arrow::datatypes::{DataType, TimeUnit};

/// What a column of the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `TINYINT(1)`.
    Bool,
    /// An integer of so many bytes.
    Int {
        bytes: u8,
        unsigned: bool,
    },
    /// One with a count of digits behind the point rounds to it: `FLOAT(7,2)`.
    Float {
        rounds: bool,
    },
    Double {
        rounds: bool,
    },
    Decimal {
        precision: u8,
        scale: u8,
        unsigned: bool,
    },
    Bit(u8),
    Year,
    /// `CHAR`, `VARCHAR` and texts: the most characters (of texts: bytes).
    Text {
        limit: u64,
        in_bytes: bool,
    },
    /// `BINARY`, `VARBINARY` and blobs: the most bytes; all values of a fixed one have so many.
    Binary {
        limit: u64,
        fixed: bool,
    },
    Enum(Vec<String>),
    Set(Vec<String>),
    Json,
    /// A type that is written as text and checked by the server alone: `UUID`, `INET6`, …
    Checked,
    Date,
    /// With so many digits behind the second.
    Time(u8),
    DateTime(u8),
    Timestamp(u8),
    /// No mapping: its name.
    Unsupported(String),
}

impl Kind {
    /// The kind of a column by its declaration, as `SHOW CREATE TABLE` writes it: `int unsigned`, `varchar(20) CHARACTER SET latin1`, `enum('a','b')`.
    pub(super) fn parse(declared: &str) -> Self {
        let lower = declared.to_ascii_lowercase();
        let name = lower.split(['(', ' ']).next().unwrap_or_default();
        let unsigned = lower.contains(" unsigned");
        let numbers: Vec<u64> = lower
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(inside, _)| inside.split(',').filter_map(|n| n.trim().parse().ok()).collect())
            .unwrap_or_default();
        let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
        let small = |at: usize, default| u8::try_from(number(at, default)).unwrap_or(u8::MAX);
        let int = |bytes| Self::Int { bytes, unsigned };
        let text = |limit, in_bytes| Self::Text { limit, in_bytes };
        let binary = |limit, fixed| Self::Binary { limit, fixed };
        match name {
            "tinyint" if number(0, 4) == 1 && !unsigned => Self::Bool,
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" => int(4),
            "bigint" => int(8),
            "float" => Self::Float { rounds: numbers.len() == 2 },
            "double" => Self::Double { rounds: numbers.len() == 2 },
            "decimal" => Self::Decimal { precision: small(0, 10), scale: small(1, 0), unsigned },
            "bit" => Self::Bit(small(0, 1)),
            "year" => Self::Year,
            "char" | "varchar" => text(number(0, 1), false),
            "tinytext" => text(0xff, true),
            "text" => text(0xffff, true),
            "mediumtext" => text(0xff_ffff, true),
            "longtext" => text(0xffff_ffff, true),
            "binary" => binary(number(0, 1), true),
            "varbinary" => binary(number(0, 1), false),
            "tinyblob" => binary(0xff, false),
            "blob" => binary(0xffff, false),
            "mediumblob" => binary(0xff_ffff, false),
            "longblob" => binary(0xffff_ffff, false),
            "enum" => Self::Enum(members(declared)),
            "set" => Self::Set(members(declared)),
            "json" => Self::Json,
            "uuid" | "inet4" | "inet6" => Self::Checked,
            "date" => Self::Date,
            "time" => Self::Time(small(0, 0)),
            "datetime" => Self::DateTime(small(0, 0)),
            "timestamp" => Self::Timestamp(small(0, 0)),
            other => Self::Unsupported(other.to_owned()),
        }
    }

    /// The Arrow type in which its values are read unless the job declares another; `None` where there is none.
    pub(super) fn arrow(&self) -> Option<DataType> {
        Some(match self {
            Self::Bool | Self::Bit(1) => DataType::Boolean,
            Self::Int { bytes: 1, unsigned: false } => DataType::Int8,
            Self::Int { bytes: 1, unsigned: true } => DataType::UInt8,
            Self::Int { bytes: 2, unsigned: false } | Self::Year => DataType::Int16,
            Self::Int { bytes: 2, unsigned: true } => DataType::UInt16,
            Self::Int { bytes: 3 | 4, unsigned: false } => DataType::Int32,
            Self::Int { bytes: 3 | 4, unsigned: true } => DataType::UInt32,
            Self::Int { unsigned: false, .. } => DataType::Int64,
            Self::Int { unsigned: true, .. } | Self::Bit(_) => DataType::UInt64,
            Self::Float { .. } => DataType::Float32,
            Self::Double { .. } => DataType::Float64,
            Self::Decimal { precision, scale, .. } => {
                let scale = i8::try_from(*scale).unwrap_or(0);
                if *precision > 38 { DataType::Decimal256(*precision, scale) } else { DataType::Decimal128((*precision).max(1), scale) }
            }
            Self::Text { .. } | Self::Enum(_) | Self::Set(_) | Self::Json | Self::Checked => DataType::Utf8,
            Self::Binary { .. } => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time(digits) => match unit(*digits) {
                u @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(u),
                u => DataType::Time64(u),
            },
            Self::DateTime(digits) => DataType::Timestamp(unit(*digits), None),
            Self::Timestamp(digits) => DataType::Timestamp(unit(*digits), Some("UTC".into())),
            Self::Unsupported(_) => return None,
        })
    }

    /// Why values of an Arrow type cannot go into a column of this kind without being changed; `None` where they can.
    pub(super) fn refuses(&self, data_type: &DataType) -> Option<&'static str> {
        let data_type = plain(data_type);
        let int = data_type.is_integer() || *data_type == DataType::Boolean;
        let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let takes = match self {
            _ if *data_type == DataType::Null => true,
            Self::Bool | Self::Int { .. } | Self::Bit(_) | Self::Year => int,
            Self::Float { rounds } => !rounds && matches!(data_type, DataType::Float16 | DataType::Float32),
            Self::Double { rounds } => int || !rounds && data_type.is_floating(),
            Self::Decimal { .. } => int || data_type.is_decimal(),
            Self::Json => text || data_type.is_nested() && !json_rounds(data_type),
            Self::Text { .. } => text || data_type.is_nested(),
            Self::Enum(_) | Self::Set(_) | Self::Checked => text,
            Self::Binary { .. } => is_binary(data_type),
            Self::Date => matches!(data_type, DataType::Date32 | DataType::Date64),
            Self::Time(_) => matches!(data_type, DataType::Time32(_) | DataType::Time64(_)),
            Self::DateTime(_) => matches!(data_type, DataType::Timestamp(_, None)),
            Self::Timestamp(_) => matches!(data_type, DataType::Timestamp(_, Some(_))),
            Self::Unsupported(_) => false,
        };
        if takes {
            return None;
        }
        Some(match (self, data_type) {
            (Self::Float { rounds: true } | Self::Double { rounds: true }, t) if t.is_floating() => {
                "it would be rounded: declare the column without its count of digits behind the point, or DECIMAL and cast the values in a `map`"
            }
            (Self::Json, t) if t.is_nested() => JSON_ROUNDS,
            (Self::Float { .. }, DataType::Float64) => {
                "a double loses digits in it: declare the column DOUBLE, or cast the values to `float` in a `map`"
            }
            (Self::DateTime(_), DataType::Timestamp(..)) => {
                "an instant (timestamp_ltz) needs a TIMESTAMP column, or a cast to `timestamp` in a `map`"
            }
            (Self::Timestamp(_), DataType::Timestamp(..)) => {
                "a timestamp without zone needs a DATETIME column, or a cast to `timestamp_ltz` in a `map`"
            }
            (Self::Unsupported(_), _) => "this connector has no mapping for the column's type; leave it out with a `map`",
            _ => "the values would be converted; cast them in a `map`, or change the column",
        })
    }
}

/// The type below dictionaries and runs.
pub(super) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => plain(value),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other,
    }
}

const JSON_ROUNDS: &str =
    "in JSON MySQL keeps 15 digits of a decimal: declare the column LONGTEXT, or cast the decimals within to `string` in a `map`";

/// Whether a nested type has decimals that MySQL, which makes doubles of fractions in `JSON` and integers of 64 bits of the others, would change.
fn json_rounds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|f| json_rounds(f.data_type())),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::ListView(f) | DataType::LargeListView(f) => {
            json_rounds(f.data_type())
        }
        DataType::Map(f, _) => json_rounds(f.data_type()),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            digits_of_decimal(*p, *s) > if *s > 0 { 15 } else { 18 }
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => json_rounds(plain(data_type)),
        _ => false,
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

const fn unit(digits: u8) -> TimeUnit {
    match digits {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        _ => TimeUnit::Microsecond,
    }
}

/// The members of `enum('a','b''c')` or `set(…)`.
fn members(column_type: &str) -> Vec<String> {
    let Some((_, list)) = column_type.split_once('(') else { return Vec::new() };
    let mut members = Vec::new();
    let mut member: Option<String> = None;
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match (&mut member, c) {
            (None, '\'') => member = Some(String::new()),
            (Some(m), '\'') if chars.peek() == Some(&'\'') => {
                chars.next();
                m.push('\'');
            }
            (Some(_), '\'') => members.extend(member.take()),
            (Some(m), c) => m.push(c),
            (None, _) => {}
        }
    }
    members
}

/// How a column for values of an Arrow type is declared; those of a key in a form that an index takes. Texts are utf8mb4, whatever the database's
/// default is.
pub(super) fn declared(data_type: &DataType, in_key: bool) -> String {
    // MySQL keeps microseconds.
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 6,
    };
    match plain(data_type) {
        DataType::Boolean => "TINYINT(1)".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 | DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("DECIMAL({}, {})", digits_of_decimal(*p, *s), (*s).max(0))
        }
        t if is_binary(t) => if in_key { "VARBINARY(255)" } else { "LONGBLOB" }.into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("DATETIME({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP({})", digits(unit)),
        t if t.is_nested() => "JSON".into(),
        // Keys are compared byte by byte, as the job compares them.
        _ => if in_key { "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" } else { "LONGTEXT CHARACTER SET utf8mb4" }.into(),
    }
}

/// Why no column can be declared for values of an Arrow type; `None` where one can.
pub(super) fn cannot_hold(data_type: &DataType, is_mariadb: bool) -> Option<String> {
    if plain(data_type).is_nested() {
        return (!is_mariadb && json_rounds(data_type)).then(|| JSON_ROUNDS.to_owned());
    }
    let (DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s)) = plain(data_type) else {
        return None;
    };
    let (server, behind_the_point) = if is_mariadb { ("MariaDB", 38) } else { ("MySQL", 30) };
    let too_long = digits_of_decimal(*p, *s) > 65 || *s > behind_the_point;
    too_long.then(|| format!("a DECIMAL of {server} has at most 65 digits, {behind_the_point} of them behind the point"))
}

/// The digits of the greatest number, those included that a negative scale leaves out.
const fn digits_of_decimal(precision: u8, scale: i8) -> u16 {
    precision as u16 + if scale < 0 { scale.unsigned_abs() as u16 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_an_enum_may_hold_quotes_and_commas() {
        assert_eq!(members("enum('a','b''c','d,e','')"), ["a", "b'c", "d,e", ""]);
    }

    #[test]
    fn a_declaration_says_what_a_column_holds() {
        for (declared, kind) in [
            ("int(10) unsigned", Kind::Int { bytes: 4, unsigned: true }),
            ("tinyint(1)", Kind::Bool),
            ("tinyint(3) unsigned zerofill", Kind::Int { bytes: 1, unsigned: true }),
            ("varchar(20) CHARACTER SET latin1 COLLATE latin1_bin", Kind::Text { limit: 20, in_bytes: false }),
            ("decimal(10,2)", Kind::Decimal { precision: 10, scale: 2, unsigned: false }),
            ("set('x','unsigned')", Kind::Set(vec!["x".into(), "unsigned".into()])),
            ("year(4)", Kind::Year),
            ("point", Kind::Unsupported("point".into())),
        ] {
            assert_eq!(Kind::parse(declared), kind, "{declared}");
        }
    }

    #[test]
    fn a_decimal_that_a_server_cannot_hold_is_refused_by_that_server_alone() {
        for (t, mysql, mariadb) in [
            (DataType::Decimal128(38, 30), true, true),
            (DataType::Decimal128(38, 38), false, true),
            (DataType::Decimal256(65, 30), true, true),
            (DataType::Decimal256(66, 0), false, false),
            (DataType::Decimal256(60, 39), false, false),
            (DataType::Decimal256(60, -6), false, false),
            (DataType::Utf8, true, true),
        ] {
            assert_eq!([false, true].map(|is_mariadb| cannot_hold(&t, is_mariadb).is_none()), [mysql, mariadb], "{t}");
        }
        assert_eq!(declared(&DataType::Decimal128(38, 38), false), "DECIMAL(38, 38)");
        assert_eq!(declared(&DataType::Decimal128(5, -2), false), "DECIMAL(7, 0)");
    }

    #[test]
    fn a_column_created_for_a_type_is_read_as_that_type() {
        let utc = Some("UTC".into());
        for t in [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt16,
            DataType::Int32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(20, 4),
            DataType::Decimal256(60, 10),
            DataType::Date32,
            DataType::Time32(TimeUnit::Second),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, utc),
            DataType::Utf8,
            DataType::Binary,
        ] {
            assert_eq!(Kind::parse(&declared(&t, false)).arrow(), Some(t.clone()), "{t}");
            assert_eq!(Kind::parse(&declared(&t, false)).refuses(&t), None, "{t}");
        }
    }
}
