//! Types both ways.
//!
//! | Arrow | declared in SQLite | stored as |
//! | --- | --- | --- |
//! | boolean | `BOOLEAN` | integer 0, 1 |
//! | integers | `TINYINT`, `SMALLINT`, `INT`, `INTEGER`, the last also for unsigned ones of 32 and 64 bits | integer |
//! | float, double | `REAL` | real |
//! | decimal(p, s) | `DECIMAL(p, s)` to 15 digits, above `DECIMAL_TEXT(p, s)` | number; text, exact |
//! | string; arrays, maps, rows as JSON | `TEXT` | text |
//! | binary | `BLOB` | blob |
//! | date, time(p) | `DATE`, `TIME(p)` | text `2013-01-31`, `05:00:00` |
//! | timestamp(p) | `TIMESTAMP(p)` | text `2013-01-31 05:00:00.000`, the digits of its precision: its order is the order of time |
//! | timestamp_ltz(p) | `TIMESTAMP_LTZ(p)` | text `2013-01-31T05:00:00.000Z` |
//!
//! SQLite keeps 15 digits of a number it takes for a fraction, hence the type of its own (whose name gives it text affinity) above that.

use arrow::datatypes::{DataType, TimeUnit};

/// The digits SQLite keeps of a fraction.
pub(super) const EXACT_DIGITS: u8 = 15;

/// How a column for values of this type is declared.
pub(super) fn declared(data_type: &DataType) -> String {
    let digits = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    match data_type {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 | DataType::UInt8 => "SMALLINT".into(),
        DataType::Int32 | DataType::UInt16 => "INT".into(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "INTEGER".into(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "REAL".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            if *p > EXACT_DIGITS {
                format!("DECIMAL_TEXT({p}, {s})")
            } else {
                format!("DECIMAL({p}, {s})")
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BLOB".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("TIME({})", digits(unit)),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(unit)),
        DataType::Dictionary(_, value) => declared(value),
        DataType::RunEndEncoded(_, values) => declared(values.data_type()),
        _ => "TEXT".into(),
    }
}

/// The type of a column by its declaration (upper case); `None` where that does not say, and the values must.
pub(super) fn inferred(declared: &str) -> Option<DataType> {
    let name = declared.split('(').next().unwrap_or_default().trim();
    let parameters: Vec<u8> = declared
        .split_once('(')
        .and_then(|(_, p)| p.split_once(')'))
        .map(|(p, _)| p.split(',').filter_map(|n| n.trim().parse().ok()).collect())
        .unwrap_or_default();
    let unit = |digits: Option<&u8>, default| match digits {
        None => default,
        Some(0) => TimeUnit::Second,
        Some(1..=3) => TimeUnit::Millisecond,
        Some(4..=6) => TimeUnit::Microsecond,
        Some(_) => TimeUnit::Nanosecond,
    };
    let has = |part: &str| name.contains(part);
    Some(match name {
        "" | "ANY" | "NUMERIC" | "DECIMAL" | "NUMBER" if parameters.is_empty() => return None,
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "DATE" => DataType::Date32,
        "DATETIME" => DataType::Timestamp(unit(parameters.first(), TimeUnit::Microsecond), None),
        "TIME" => match unit(parameters.first(), TimeUnit::Second) {
            u @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(u),
            u => DataType::Time64(u),
        },
        "TIMESTAMP" | "TIMESTAMP_LTZ" | "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" | "TIMESTAMP_NTZ" => {
            let zone =
                (name.contains("TZ") && name != "TIMESTAMP_NTZ") || declared.contains("WITH TIME ZONE") || declared.contains("WITH LOCAL TIME ZONE");
            DataType::Timestamp(unit(parameters.first(), TimeUnit::Microsecond), zone.then(|| "UTC".into()))
        }
        "DECIMAL" | "NUMERIC" | "NUMBER" | "DECIMAL_TEXT" => {
            let (p, s) = (parameters.first().copied().unwrap_or(38).clamp(1, 76), parameters.get(1).copied().unwrap_or(0));
            let s = i8::try_from(s.min(p)).unwrap_or(0);
            if p > 38 { DataType::Decimal256(p, s) } else { DataType::Decimal128(p, s) }
        }
        // From here on SQLite's own rules of affinity.
        _ if has("INT") => DataType::Int64,
        _ if has("CHAR") || has("CLOB") || has("TEXT") || has("STRING") || has("JSON") || has("UUID") => DataType::Utf8,
        _ if has("BLOB") || has("BINARY") || has("BYTES") => DataType::Binary,
        _ if has("REAL") || has("FLOA") || has("DOUB") => DataType::Float64,
        _ => return None,
    })
}

/// What SQLite makes of the values written to a column (<https://sqlite.org/datatype3.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Affinity {
    /// Numbers become texts.
    Text,
    /// Texts that are numbers become numbers.
    Numeric,
    /// Texts that are numbers and integers become fractions.
    Real,
    /// Values are kept as they are.
    None,
}

/// The affinity of a column by its declaration (upper case), in a table that is `strict` or not.
pub(super) fn affinity(declared: &str, strict: bool) -> Affinity {
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    if has(&["INT"]) {
        Affinity::Numeric
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) || declared.is_empty() || (strict && declared == "ANY") {
        Affinity::None
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// Whether SQLite, which keeps 15 digits of a fraction and integers of 64 bits, would change a decimal(p, s).
pub(super) fn rounds_decimals(precision: u8, scale: i8, affinity: Affinity) -> bool {
    let integers = affinity == Affinity::Numeric && scale <= 0 && u16::from(precision) + u16::from(scale.unsigned_abs()) <= 18;
    matches!(affinity, Affinity::Numeric | Affinity::Real) && precision > EXACT_DIGITS && !integers
}
