//! Arrow columns as text: the fields of `LOAD DATA`, or the literals of an `INSERT`.
//!
//! `LOAD DATA LOCAL` makes warnings of errors, and some changes bring no warning at all (a fraction of a second is rounded, an `ENUM` takes `'2'` for its
//! second member, `BINARY` pads). So each value is held against its column here, before anything is sent.

use std::fmt::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int64Array, LargeBinaryArray,
    LargeStringArray, StringArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int64Type, UInt64Type, i256};
use karez_core::Result;
use karez_core::exact::{is_of_day, per_second};

use super::super::rows;
use super::super::server::table::Column;
use super::super::temporal;
use super::types::{Kind, plain};

/// How a value is written.
pub(super) trait Form {
    fn null(out: &mut Vec<u8>);
    /// Digits and the like, without anything to escape.
    fn bare(out: &mut Vec<u8>, text: &[u8]);
    /// Dates and times, without anything to escape.
    fn quoted(out: &mut Vec<u8>, text: &[u8]);
    /// Any text.
    fn text(out: &mut Vec<u8>, text: &str);
    /// Any bytes.
    fn bytes(out: &mut Vec<u8>, bytes: &[u8]);
}

/// Fields between tabs, escaped by `\`; bytes as hexadecimal digits, since the file is UTF-8.
pub(super) struct Field;

impl Form for Field {
    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\\N");
    }

    fn bare(out: &mut Vec<u8>, text: &[u8]) {
        out.extend_from_slice(text);
    }

    fn quoted(out: &mut Vec<u8>, text: &[u8]) {
        out.extend_from_slice(text);
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        let mut rest = text.as_bytes();
        // Zeros are rare, and three bytes are as many as can be looked for at once.
        let special: fn(&[u8]) -> Option<usize> = if memchr::memchr(0, rest).is_none() {
            |rest| memchr::memchr3(b'\t', b'\n', b'\\', rest)
        } else {
            |rest| rest.iter().position(|b| matches!(b, b'\t' | b'\n' | b'\\' | 0))
        };
        while let Some(at) = special(rest) {
            out.extend_from_slice(&rest[..at]);
            out.push(b'\\');
            out.push(match rest[at] {
                b'\t' => b't',
                b'\n' => b'n',
                0 => b'0',
                other => other,
            });
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }

    fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(rows::hex(bytes).as_bytes());
    }
}

/// Literals of SQL.
pub(super) struct Literal;

impl Form for Literal {
    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"NULL");
    }

    fn bare(out: &mut Vec<u8>, text: &[u8]) {
        out.extend_from_slice(text);
    }

    fn quoted(out: &mut Vec<u8>, text: &[u8]) {
        out.push(b'\'');
        out.extend_from_slice(text);
        out.push(b'\'');
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'\'');
        for &b in text.as_bytes() {
            match b {
                b'\'' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                0 => out.extend_from_slice(b"\\0"),
                _ => out.push(b),
            }
        }
        out.push(b'\'');
    }

    fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend_from_slice(b"X'");
        out.extend_from_slice(rows::hex(bytes).as_bytes());
        out.push(b'\'');
    }
}

/// A column of a batch on its way into a column of a table.
pub(super) struct Encoder {
    name: String,
    kind: Kind,
    not_null: bool,
    values: Values,
    scratch: String,
}

enum Values {
    Null,
    Boolean(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Float(Float32Array),
    Double(Float64Array),
    Decimal128(Decimal128Array, i8),
    Decimal256(Decimal256Array, i8),
    Text(StringArray),
    LargeText(LargeStringArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    Date(Int64Array),
    /// Units since midnight, and how many make a second.
    Time(Int64Array, i64),
    /// Units since 1970-01-01T00:00:00.
    Timestamp(Int64Array, i64),
}

impl Values {
    fn of(array: &ArrayRef) -> Result<Self> {
        let to = |t: &DataType| Ok::<_, karez_core::Error>(cast(array, t)?);
        let int = |a: &ArrayRef| Ok::<_, karez_core::Error>(cast(a, &DataType::Int64)?.as_primitive::<Int64Type>().clone());
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::UInt64 => Self::UInt(array.as_primitive::<UInt64Type>().clone()),
            t if t.is_integer() => Self::Int(int(array)?),
            DataType::Float16 | DataType::Float32 => Self::Float(to(&DataType::Float32)?.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => {
                Self::Decimal128(to(&DataType::Decimal128(*p, *s))?.as_primitive::<Decimal128Type>().clone(), *s)
            }
            DataType::Decimal128(_, s) => Self::Decimal128(array.as_primitive::<Decimal128Type>().clone(), *s),
            DataType::Decimal256(_, s) => Self::Decimal256(array.as_primitive::<Decimal256Type>().clone(), *s),
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string().clone()),
            DataType::Utf8View => Self::Text(to(&DataType::Utf8)?.as_string().clone()),
            DataType::Binary => Self::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView | DataType::FixedSizeBinary(_) => Self::Binary(to(&DataType::Binary)?.as_binary().clone()),
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) => Self::of(&to(plain(array.data_type()))?)?,
            DataType::Date32 | DataType::Date64 => Self::Date(int(&cast(&to(&DataType::Date32)?, &DataType::Int32)?)?),
            DataType::Time32(unit) => Self::Time(int(&to(&DataType::Int32)?)?, per_second(*unit)),
            DataType::Time64(unit) => Self::Time(int(array)?, per_second(*unit)),
            DataType::Timestamp(unit, _) => Self::Timestamp(int(array)?, per_second(*unit)),
            t if t.is_nested() => Self::Text(rows::json(array)?),
            _ => Self::Text(to(&DataType::Utf8)?.as_string().clone()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(a) => a.is_null(row),
            Self::Int(a) | Self::Date(a) | Self::Time(a, _) | Self::Timestamp(a, _) => a.is_null(row),
            Self::UInt(a) => a.is_null(row),
            Self::Float(a) => a.is_null(row),
            Self::Double(a) => a.is_null(row),
            Self::Decimal128(a, _) => a.is_null(row),
            Self::Decimal256(a, _) => a.is_null(row),
            Self::Text(a) => a.is_null(row),
            Self::LargeText(a) => a.is_null(row),
            Self::Binary(a) => a.is_null(row),
            Self::LargeBinary(a) => a.is_null(row),
        }
    }
}

impl Encoder {
    /// `fills_null`: the database gives a number where the value is null (`AUTO_INCREMENT`).
    pub(super) fn new(column: &Column, fills_null: bool, array: &ArrayRef) -> Result<Self> {
        Ok(Self {
            name: column.name.clone(),
            kind: Kind::parse(&column.declared),
            not_null: column.not_null && !fills_null,
            values: Values::of(array)?,
            scratch: String::new(),
        })
    }

    /// How `LOAD DATA` makes the value of a field: an expression over it, where the field is not the value itself.
    pub(super) fn conversion(&self, field: &str) -> Option<String> {
        match self.kind {
            Kind::Binary { .. } => Some(format!("UNHEX({field})")),
            // A field is taken for the bytes of a BIT.
            Kind::Bit(_) => Some(format!("CAST({field} AS UNSIGNED)")),
            _ => None,
        }
    }

    /// Writes the value of a row; `Err` is why the column cannot hold it as it is.
    /// `key_alone`: of a row that is to be deleted the key is known alone.
    pub(super) fn write<F: Form>(&mut self, row: usize, key_alone: bool, out: &mut Vec<u8>) -> Result<(), String> {
        if self.values.is_null(row) {
            if self.not_null && !key_alone {
                return Err(format!("column `{}` cannot be null", self.name));
            }
            F::null(out);
            return Ok(());
        }
        self.value::<F>(row, out).map_err(|why| format!("column `{}`: {why}", self.name))
    }

    fn value<F: Form>(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        let text = &mut self.scratch;
        text.clear();
        let nothing = |_| "cannot be written".to_owned();
        match &self.values {
            Values::Null => F::null(out),
            Values::Boolean(a) => F::bare(out, if a.value(row) { b"1" } else { b"0" }),
            Values::Int(a) => {
                integer(&self.kind, i128::from(a.value(row)))?;
                write!(text, "{}", a.value(row)).map_err(nothing)?;
                F::bare(out, text.as_bytes());
            }
            Values::UInt(a) => {
                integer(&self.kind, i128::from(a.value(row)))?;
                write!(text, "{}", a.value(row)).map_err(nothing)?;
                F::bare(out, text.as_bytes());
            }
            Values::Float(a) => float::<F>(f64::from(a.value(row)), text, out)?,
            Values::Double(a) => float::<F>(a.value(row), text, out)?,
            Values::Decimal128(a, scale) => decimal::<F>(&self.kind, &a.value(row).to_string(), *scale, text, out)?,
            Values::Decimal256(a, scale) => {
                let value: i256 = a.value(row);
                decimal::<F>(&self.kind, &value.to_string(), *scale, text, out)?;
            }
            Values::Text(a) => string::<F>(&self.kind, a.value(row), out)?,
            Values::LargeText(a) => string::<F>(&self.kind, a.value(row), out)?,
            Values::Binary(a) => bytes::<F>(&self.kind, a.value(row), out)?,
            Values::LargeBinary(a) => bytes::<F>(&self.kind, a.value(row), out)?,
            Values::Date(a) => {
                temporal::date(text, a.value(row));
                F::quoted(out, text.as_bytes());
            }
            Values::Time(a, units) if !is_of_day(a.value(row), *units) => {
                return Err(format!("{} is no time of a day", a.value(row)));
            }
            Values::Time(a, units) => {
                temporal::time(text, a.value(row), *units);
                fraction(&self.kind, a.value(row), *units, text)?;
                F::quoted(out, text.as_bytes());
            }
            Values::Timestamp(a, units) => {
                temporal::timestamp(text, a.value(row), *units, false);
                fraction(&self.kind, a.value(row), *units, text)?;
                F::quoted(out, text.as_bytes());
            }
        }
        Ok(())
    }
}

/// Whether a whole number is in the range of its column.
fn integer(kind: &Kind, value: i128) -> Result<(), String> {
    let (min, max) = match kind {
        Kind::Bool => (-128, 127),
        Kind::Int { bytes, unsigned: true } => (0, (1 << (8 * u32::from(*bytes))) - 1),
        Kind::Int { bytes, unsigned: false } => (-(1 << (8 * u32::from(*bytes) - 1)), (1 << (8 * u32::from(*bytes) - 1)) - 1),
        Kind::Bit(n) => (0, (1 << u32::from((*n).min(64))) - 1),
        // A year of one or two digits would be moved into this or the last century.
        Kind::Year => (1901, 2155),
        Kind::Decimal { precision, scale, unsigned } => {
            let max = 10_i128.checked_pow(u32::from(precision.saturating_sub(*scale))).map_or(i128::MAX, |m| m - 1);
            (if *unsigned { 0 } else { -max }, max)
        }
        // A double keeps each whole number up to here.
        Kind::Double { .. } => (-(1 << 53), 1 << 53),
        _ => return Ok(()),
    };
    if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{value} is out of range: {min} to {max}")) }
}

fn float<F: Form>(value: f64, text: &mut String, out: &mut Vec<u8>) -> Result<(), String> {
    if !value.is_finite() {
        return Err(format!("{value} is no number to MySQL"));
    }
    // Digits that give back the same bits, and an exponent, so that they are not taken for a decimal.
    write!(text, "{value:e}").map_err(|_| "cannot be written".to_owned())?;
    F::bare(out, text.as_bytes());
    Ok(())
}

/// Digits of a decimal with the point in its place; what the column has no room for must be zeros.
fn decimal<F: Form>(kind: &Kind, unscaled: &str, scale: i8, text: &mut String, out: &mut Vec<u8>) -> Result<(), String> {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |d| ("-", d));
    let behind = usize::try_from(scale).unwrap_or(0);
    text.push_str(sign);
    if digits.len() <= behind {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', behind - digits.len()));
        text.push_str(digits);
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - behind);
        text.push_str(whole);
        if scale < 0 && whole != "0" {
            text.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        if behind > 0 {
            text.push('.');
            text.push_str(fraction);
        }
    }
    if let Kind::Decimal { precision, scale, unsigned } = kind {
        let (whole, fraction) = text[sign.len()..].split_once('.').unwrap_or((&text[sign.len()..], ""));
        if fraction.trim_end_matches('0').len() > usize::from(*scale) {
            return Err(format!("{text} has more than {scale} digits behind the point"));
        }
        if whole.trim_start_matches('0').len() > usize::from(precision.saturating_sub(*scale)) || (*unsigned && sign == "-") {
            return Err(format!("{text} is out of range"));
        }
    }
    F::bare(out, text.as_bytes());
    Ok(())
}

fn string<F: Form>(kind: &Kind, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let shown = || {
        let cut: String = value.chars().take(32).collect();
        if cut.len() < value.len() { format!("'{cut}…'") } else { format!("'{cut}'") }
    };
    match kind {
        Kind::Text { limit, in_bytes } => {
            // More bytes than characters: the exact count is needed only where the bytes are too many.
            let too_long = value.len() as u64 > *limit && (*in_bytes || value.chars().count() as u64 > *limit);
            if too_long {
                return Err(format!("{} is longer than {limit} {}", shown(), if *in_bytes { "bytes" } else { "characters" }));
            }
        }
        Kind::Enum(members) if !members.iter().any(|m| m == value) => {
            return Err(format!("{} is none of {}", shown(), members.join(", ")));
        }
        Kind::Set(members) if !value.is_empty() && !value.split(',').all(|v| members.iter().any(|m| m == v)) => {
            return Err(format!("{} is no set of {}", shown(), members.join(", ")));
        }
        _ => {}
    }
    F::text(out, value);
    Ok(())
}

fn bytes<F: Form>(kind: &Kind, value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if let Kind::Binary { limit, fixed } = kind {
        let len = value.len() as u64;
        if len > *limit || (*fixed && len < *limit) {
            return Err(format!("has {len} bytes, the column {}{limit}", if *fixed { "" } else { "at most " }));
        }
    }
    F::bytes(out, value);
    Ok(())
}

/// Whether a column keeps all of the digits behind the second; drops what it need not be sent.
fn fraction(kind: &Kind, value: i64, units: i64, text: &mut String) -> Result<(), String> {
    let (Kind::Time(digits) | Kind::DateTime(digits) | Kind::Timestamp(digits)) = kind else { return Ok(()) };
    let kept = 10_i64.pow(u32::from((*digits).min(9)));
    if units > kept {
        if value.rem_euclid(units / kept) != 0 {
            return Err(format!("{text} has more than {digits} digits behind the second"));
        }
        let surplus = text.len() - (units / kept).ilog10() as usize;
        text.truncate(surplus);
        if text.ends_with('.') {
            text.pop();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeBinaryArray, TimestampMicrosecondArray};

    use super::*;

    fn encode<F: Form>(declared: &str, array: ArrayRef) -> Vec<Result<String, String>> {
        let column = Column {
            name: "c".into(),
            declared: declared.into(),
            base: declared.into(),
            type_id: 0,
            element_id: 0,
            data_type: None,
            not_null: false,
            has_default: false,
            generated: false,
        };
        let mut encoder = Encoder::new(&column, false, &array).unwrap();
        (0..array.len())
            .map(|row| {
                let mut out = Vec::new();
                encoder.write::<F>(row, false, &mut out).map(|()| String::from_utf8(out).unwrap())
            })
            .collect()
    }

    fn ok(texts: &[&str]) -> Vec<Result<String, String>> {
        texts.iter().map(|t| Ok((*t).to_owned())).collect()
    }

    #[test]
    fn what_separates_fields_is_escaped() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\tb\nc\\d\0'🦀"), None, Some("\\N")]));
        assert_eq!(encode::<Field>("longtext", Arc::clone(&texts)), ok(&["a\\tb\\nc\\\\d\\0'🦀", "\\N", "\\\\N"]));
        assert_eq!(encode::<Literal>("longtext", texts), ok(&["'a\tb\nc\\\\d\\0\\'🦀'", "NULL", "'\\\\N'"]));
    }

    #[test]
    fn decimals_lose_no_digit_in_silence() {
        let values: ArrayRef = Arc::new(Decimal128Array::from(vec![-5, 12_340, 12_345, 99_999_990]).with_precision_and_scale(10, 3).unwrap());
        let texts = encode::<Field>("decimal(6,2)", values);
        assert_eq!(texts[1], Ok("12.340".to_owned()));
        assert!(texts[0].is_err() && texts[2].is_err() && texts[3].is_err(), "{texts:?}");
        let small: ArrayRef = Arc::new(Decimal128Array::from(vec![12]).with_precision_and_scale(5, -2).unwrap());
        assert_eq!(encode::<Field>("decimal(9,0)", small), ok(&["1200"]));
    }

    #[test]
    fn a_fraction_of_a_second_is_not_rounded() {
        let values: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000, 1_500_000, -1]));
        assert_eq!(encode::<Field>("datetime(3)", Arc::clone(&values))[..2], ok(&["1970-01-01 00:00:01.000", "1970-01-01 00:00:01.500"])[..]);
        let whole = encode::<Field>("datetime", values);
        assert_eq!(whole[0], Ok("1970-01-01 00:00:01".to_owned()));
        assert!(whole[1].is_err() && whole[2].is_err());
    }

    #[test]
    fn an_enum_takes_its_members_and_not_their_numbers() {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["a", "2", "A"]));
        let texts = encode::<Literal>("enum('a','b')", values);
        assert_eq!(texts[0], Ok("'a'".to_owned()));
        assert!(texts[1].is_err() && texts[2].is_err());
    }

    #[test]
    fn bytes_are_neither_cut_nor_padded() {
        let values: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[0_u8, 255]].iter()).unwrap());
        assert_eq!(encode::<Field>("binary(2)", Arc::clone(&values)), ok(&["00ff"]));
        assert_eq!(encode::<Literal>("varbinary(9)", Arc::clone(&values)), ok(&["X'00ff'"]));
        assert!(encode::<Field>("binary(3)", Arc::clone(&values))[0].is_err() && encode::<Field>("varbinary(1)", values)[0].is_err());
    }

    #[test]
    fn numbers_stay_in_the_range_of_their_column() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![-1, 255, 256]));
        let texts = encode::<Field>("tinyint unsigned", values);
        assert!(texts[0].is_err() && texts[1].is_ok() && texts[2].is_err());
        let values: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert_eq!(encode::<Field>("bigint unsigned", Arc::clone(&values)), ok(&["18446744073709551615"]));
        assert!(encode::<Field>("bigint", values)[0].is_err());
        assert!(encode::<Field>("double", Arc::new(Float64Array::from(vec![f64::NAN])))[0].is_err());
    }
}
