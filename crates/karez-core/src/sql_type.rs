//! SQL type names, as a job file declares columns (`amount: decimal(10, 2)`), and the Arrow types they stand for.
//!
//! | SQL | Arrow |
//! | --- | --- |
//! | `boolean` | `Boolean` |
//! | `tinyint`, `smallint`, `int`, `bigint` (each also `unsigned`) | `Int8` … `Int64`, `UInt8` … `UInt64` |
//! | `float` (`real`), `double` | `Float32`, `Float64` |
//! | `decimal(p, s)` (default `(10, 0)`, p ≤ 76) | `Decimal128`, above 38 digits `Decimal256` |
//! | `string` (`varchar(n)`, `char(n)`, `text`; lengths are not enforced) | `Utf8` |
//! | `binary` (`varbinary(n)`, `bytes`) | `Binary` |
//! | `date`, `time(p)` (default 0) | `Date32`, `Time32`, `Time64` |
//! | `timestamp(p)` (default 6; seconds, ms, µs, ns at p = 0, 3, 6, 9; others are rounded up) | `Timestamp` without zone |
//! | `timestamp_ltz(p)`, `timestamp(p) with time zone` | `Timestamp` in UTC |
//! | `array<t>`, `map<k, v>`, `row<a t, b t>` (`struct<a: t>`) | `List`, `Map`, `Struct` |
//!
//! Types are nullable unless `not null` follows, in columns ([`parse_column`]) and in the fields of a row.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use crate::error::did_you_mean;

/// Why a text is no SQL type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", hint.as_ref().map_or(String::new(), |h| format!("; {h}")))]
pub struct SqlTypeError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl SqlTypeError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Parses a type.
pub fn parse(text: &str) -> Result<DataType, SqlTypeError> {
    let (data_type, nullable) = parse_column(text)?;
    if nullable { Ok(data_type) } else { Err(SqlTypeError::new(format!("`{text}`: `not null` belongs to a column, not to a type"))) }
}

/// Parses the type of a column: the type, and whether it is nullable.
pub fn parse_column(text: &str) -> Result<(DataType, bool), SqlTypeError> {
    if text.trim().is_empty() {
        return Err(SqlTypeError::new("the type is missing").hint("write one such as `bigint`, `string`, `timestamp(3)`"));
    }
    let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
    let column = parser.column()?;
    match parser.next() {
        None => Ok(column),
        Some(rest) => Err(SqlTypeError::new(format!("`{text}`: `{rest}` does not belong behind a type"))),
    }
}

/// How deep types may nest.
const MAX_DEPTH: usize = 32;

const KNOWN: &[&str] = &[
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "integer",
    "bigint",
    "float",
    "real",
    "double",
    "decimal",
    "numeric",
    "varchar",
    "char",
    "string",
    "text",
    "binary",
    "varbinary",
    "bytes",
    "date",
    "time",
    "timestamp",
    "timestamp_ltz",
    "array",
    "map",
    "row",
    "struct",
];

/// Names of other systems and what they are here.
const FOREIGN: &[(&str, &str)] = &[
    ("int8", "tinyint"),
    ("int16", "smallint"),
    ("int32", "int"),
    ("int64", "bigint"),
    ("long", "bigint"),
    ("short", "smallint"),
    ("byte", "tinyint"),
    ("uint8", "tinyint unsigned"),
    ("uint16", "smallint unsigned"),
    ("uint32", "int unsigned"),
    ("uint64", "bigint unsigned"),
    ("float32", "float"),
    ("float64", "double"),
    ("number", "decimal(p, s)` or `double"),
    ("utf8", "string"),
    ("str", "string"),
    ("uuid", "string"),
    ("json", "string"),
    ("blob", "binary"),
    ("datetime", "timestamp"),
    ("list", "array<…>"),
    ("object", "row<…>"),
];

fn tokens(text: &str) -> Result<Vec<String>, SqlTypeError> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
        } else if "()<>,:".contains(c) {
            out.push(c.to_string());
            chars.next();
        } else if c == '`' || c == '"' {
            chars.next();
            let name: String = chars.by_ref().take_while(|&x| x != c).collect();
            out.push(format!("\u{0}{name}"));
        } else if c.is_alphanumeric() || c == '_' {
            let mut word = String::new();
            while let Some(&x) = chars.peek().filter(|x| x.is_alphanumeric() || **x == '_') {
                word.push(x);
                chars.next();
            }
            out.push(word);
        } else {
            return Err(SqlTypeError::new(format!("`{text}`: `{c}` has no place in a type")));
        }
    }
    Ok(out)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<String> {
        self.tokens.get(self.at).map(|t| t.to_lowercase())
    }

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn eat(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(i, w)| self.tokens.get(self.at + i).is_some_and(|t| t.eq_ignore_ascii_case(w)));
        if found {
            self.at += words.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), SqlTypeError> {
        if self.eat(&[token]) {
            return Ok(());
        }
        let found = self.peek().map_or_else(|| "the end".to_owned(), |t| format!("`{t}`"));
        Err(SqlTypeError::new(format!("`{}`: expected `{token}`, found {found}", self.text)))
    }

    fn column(&mut self) -> Result<(DataType, bool), SqlTypeError> {
        let data_type = self.data_type()?;
        let nullable = !self.eat(&["not", "null"]);
        if nullable {
            self.eat(&["null"]);
        }
        Ok((data_type, nullable))
    }

    fn data_type(&mut self) -> Result<DataType, SqlTypeError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SqlTypeError::new(format!("the type nests more than {MAX_DEPTH} levels deep")));
        }
        let name = self.next().unwrap_or_default().to_lowercase();
        let data_type = match name.as_str() {
            "boolean" | "bool" => DataType::Boolean,
            "tinyint" => self.integer(DataType::Int8, DataType::UInt8),
            "smallint" => self.integer(DataType::Int16, DataType::UInt16),
            "int" | "integer" => self.integer(DataType::Int32, DataType::UInt32),
            "bigint" => self.integer(DataType::Int64, DataType::UInt64),
            "float" | "real" => DataType::Float32,
            "double" => {
                self.eat(&["precision"]);
                DataType::Float64
            }
            "decimal" | "numeric" | "dec" => self.decimal()?,
            "varchar" | "char" | "string" | "text" | "character" => {
                self.eat(&["varying"]);
                self.numbers(1)?;
                DataType::Utf8
            }
            "binary" | "varbinary" | "bytes" | "bytea" => {
                self.numbers(1)?;
                DataType::Binary
            }
            "date" => DataType::Date32,
            "time" => match self.precision(0)? {
                TimeUnit::Second => DataType::Time32(TimeUnit::Second),
                TimeUnit::Millisecond => DataType::Time32(TimeUnit::Millisecond),
                finer => DataType::Time64(finer),
            },
            "timestamp" => {
                let unit = self.precision(6)?;
                let zone = self.eat(&["with", "time", "zone"]) || self.eat(&["with", "local", "time", "zone"]);
                if !zone {
                    self.eat(&["without", "time", "zone"]);
                }
                DataType::Timestamp(unit, zone.then(|| "UTC".into()))
            }
            "timestamp_ltz" | "timestamptz" => DataType::Timestamp(self.precision(6)?, Some("UTC".into())),
            "array" => {
                self.expect("<")?;
                let (item, nullable) = self.column()?;
                self.expect(">")?;
                DataType::List(Arc::new(Field::new_list_field(item, nullable)))
            }
            "map" => self.map()?,
            "row" | "struct" => self.row()?,
            _ => return Err(unknown(self.text, &name)),
        };
        self.depth -= 1;
        Ok(data_type)
    }

    fn integer(&mut self, signed: DataType, unsigned: DataType) -> DataType {
        if self.eat(&["unsigned"]) { unsigned } else { signed }
    }

    /// Up to `max` numbers in parentheses; none at all is allowed.
    fn numbers(&mut self, max: usize) -> Result<Vec<u32>, SqlTypeError> {
        let mut out = Vec::new();
        if !self.eat(&["("]) {
            return Ok(out);
        }
        loop {
            let token = self.next().unwrap_or_default();
            let number =
                token.parse().map_err(|_| SqlTypeError::new(format!("`{}`: expected a number in the parentheses, found `{token}`", self.text)))?;
            out.push(number);
            if out.len() > max {
                return Err(SqlTypeError::new(format!("`{}`: at most {max} in the parentheses", self.text)));
            }
            if !self.eat(&[","]) {
                break;
            }
        }
        self.expect(")")?;
        Ok(out)
    }

    fn precision(&mut self, default: u32) -> Result<TimeUnit, SqlTypeError> {
        match self.numbers(1)?.first().copied().unwrap_or(default) {
            0 => Ok(TimeUnit::Second),
            1..=3 => Ok(TimeUnit::Millisecond),
            4..=6 => Ok(TimeUnit::Microsecond),
            7..=9 => Ok(TimeUnit::Nanosecond),
            p => Err(SqlTypeError::new(format!("`{}`: a precision of {p} digits is finer than nanoseconds", self.text)).hint("write 0 to 9")),
        }
    }

    fn decimal(&mut self) -> Result<DataType, SqlTypeError> {
        let numbers = self.numbers(2)?;
        let precision = numbers.first().copied().unwrap_or(10);
        let scale = numbers.get(1).copied().unwrap_or(0);
        if precision == 0 || precision > 76 {
            return Err(SqlTypeError::new(format!("`{}`: a decimal has 1 to 76 digits", self.text)));
        }
        if scale > precision {
            return Err(SqlTypeError::new(format!("`{}`: more digits behind the point ({scale}) than digits ({precision})", self.text)));
        }
        // Both are at most 76.
        let (p, s) = (precision as u8, scale as i8);
        Ok(if p <= 38 { DataType::Decimal128(p, s) } else { DataType::Decimal256(p, s) })
    }

    fn map(&mut self) -> Result<DataType, SqlTypeError> {
        self.expect("<")?;
        let key = self.data_type()?;
        self.expect(",")?;
        let (value, nullable) = self.column()?;
        self.expect(">")?;
        let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, nullable)]);
        Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false))
    }

    fn row(&mut self) -> Result<DataType, SqlTypeError> {
        let close = if self.eat(&["("]) {
            ")"
        } else {
            self.expect("<")?;
            ">"
        };
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = self.next().unwrap_or_default();
            let name = name.trim_start_matches('\u{0}').to_owned();
            if name.is_empty() || "()<>,:".contains(&name) {
                return Err(SqlTypeError::new(format!("`{}`: expected a field's name", self.text)).hint("write `row<name type, …>`"));
            }
            if fields.iter().any(|f| *f.name() == name) {
                return Err(SqlTypeError::new(format!("`{}`: two fields are named `{name}`", self.text)));
            }
            self.eat(&[":"]);
            let (data_type, nullable) = self.column()?;
            fields.push(Field::new(name, data_type, nullable));
            if !self.eat(&[","]) {
                break;
            }
        }
        self.expect(close)?;
        Ok(DataType::Struct(fields.into()))
    }
}

fn unknown(text: &str, name: &str) -> SqlTypeError {
    if name.is_empty() || "()<>,:".contains(name) {
        return SqlTypeError::new(format!("`{text}`: a type is missing"));
    }
    let error = SqlTypeError::new(format!("unknown type `{}`", name.trim_start_matches('\u{0}')));
    if let Some((_, ours)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        return error.hint(format!("write `{ours}`"));
    }
    match did_you_mean(name, KNOWN.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("known types: {}", KNOWN.join(", "))),
    }
}

/// The SQL name of an Arrow type; [`parse`] reads it back, but for types that have no name here (intervals, unions), given as Arrow names them.
#[must_use]
pub fn to_sql(data_type: &DataType) -> String {
    let column = |f: &Field| format!("{}{}", to_sql(f.data_type()), if f.is_nullable() { "" } else { " not null" });
    match data_type {
        DataType::Null => "null".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::UInt8 => "tinyint unsigned".into(),
        DataType::UInt16 => "smallint unsigned".into(),
        DataType::UInt32 => "int unsigned".into(),
        DataType::UInt64 => "bigint unsigned".into(),
        DataType::Float16 | DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => {
            format!("decimal({p}, {s})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(unit) | DataType::Time64(unit) => format!("time({})", digits(*unit)),
        DataType::Timestamp(unit, None) => format!("timestamp({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("timestamp_ltz({})", digits(*unit)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            format!("array<{}>", column(item))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{} {}", identifier(f.name()), column(f))).collect();
            format!("row<{}>", fields.join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => format!("map<{}, {}>", to_sql(kv[0].data_type()), column(&kv[1])),
            other => to_sql(other),
        },
        DataType::Dictionary(_, value) => to_sql(value),
        DataType::RunEndEncoded(_, values) => to_sql(values.data_type()),
        other => other.to_string(),
    }
}

/// A message of a library, with the Arrow types that it names as SQL names them. What stands in quotes is the user's, and stays.
#[must_use]
pub fn translated(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let (mut rest, mut quote) = (message, None);
    while let Some(c) = rest.chars().next() {
        let in_word = out.ends_with(char::is_alphanumeric);
        let type_here = (quote.is_none() && !in_word && c.is_ascii_uppercase()).then(|| leading_type(rest)).flatten();
        if let Some((sql, length)) = type_here {
            out.push_str(&sql);
            rest = &rest[length..];
            continue;
        }
        match quote {
            // An apostrophe (`can't`) is no quote.
            None if matches!(c, '"' | '`') || c == '\'' && !in_word => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The SQL name of the Arrow type that a text begins with, as Arrow writes it, and the length of what Arrow writes.
fn leading_type(text: &str) -> Option<(String, usize)> {
    let name = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let length = if text[name..].starts_with('(') { name + parenthesised(&text[name..])? } else { name };
    let whole = &text[..length];
    // `Decimal128 of precision 5`: parsed it would get digits that nobody has said.
    let sql = if ["Decimal32", "Decimal64", "Decimal128", "Decimal256"].contains(&whole) { "decimal".into() } else { to_sql(&whole.parse().ok()?) };
    Some((sql, length))
}

/// The length of the parentheses that a text begins with.
fn parenthesised(text: &str) -> Option<usize> {
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    end.map(|end| end + 1)
}

fn identifier(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.is_empty();
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

const fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_types_as_sql_does_and_keeps_what_is_quoted() {
        for (message, shown) in [
            ("Cannot cast string 'Int8' to value of Int32 type", "Cannot cast string 'Int8' to value of int type"),
            ("Can't cast value 300 to type Int8", "Can't cast value 300 to type tinyint"),
            ("the 38 digits of Decimal128(38, 2)", "the 38 digits of decimal(38, 2)"),
            ("too large to store in a Decimal128 of precision 5", "too large to store in a decimal of precision 5"),
            ("Int64 = Timestamp(ms, \"UTC\")", "bigint = timestamp_ltz(3)"),
            ("(Utf8), `Utf8`, MyInt8, Int8s", "(string), `Utf8`, MyInt8, Int8s"),
            ("List(Int32), Decimal128(38, é", "array<int>, Decimal128(38, é"),
        ] {
            assert_eq!(translated(message), shown);
        }
    }

    #[test]
    fn every_type_is_read_back_as_it_is_written() {
        for sql in [
            "boolean",
            "tinyint",
            "smallint unsigned",
            "int",
            "bigint",
            "float",
            "double",
            "decimal(10, 2)",
            "decimal(50, 0)",
            "string",
            "binary",
            "date",
            "time(0)",
            "time(6)",
            "timestamp(0)",
            "timestamp(3)",
            "timestamp_ltz(9)",
            "array<array<int not null>>",
            "map<string, double>",
            "row<a int, \"b c\" row<d date not null>>",
        ] {
            assert_eq!(to_sql(&parse(sql).unwrap()), sql);
        }
    }

    #[test]
    fn synonyms_mean_the_same() {
        for (a, b) in [
            ("VARCHAR(255)", "string"),
            ("character varying(3)", "string"),
            ("Double Precision", "double"),
            ("NUMERIC", "decimal(10, 0)"),
            ("timestamp", "timestamp(6)"),
            ("timestamp(3) with time zone", "timestamp_ltz(3)"),
            ("struct<a: int, b: text>", "row<a int, b string>"),
            ("row(a int)", "row<a int>"),
        ] {
            assert_eq!(parse(a).unwrap(), parse(b).unwrap(), "{a}");
        }
        assert_eq!(parse_column("bigint NOT NULL").unwrap(), (DataType::Int64, false));
    }

    #[test]
    fn a_wrong_type_says_what_to_write() {
        for (text, expected) in [
            ("bigit", "unknown type `bigit`; did you mean `bigint`?"),
            ("int64", "unknown type `int64`; write `bigint`"),
            ("", "the type is missing; write one such as `bigint`, `string`, `timestamp(3)`"),
            ("decimal(2, 5)", "`decimal(2, 5)`: more digits behind the point (5) than digits (2)"),
            ("timestamp(12)", "`timestamp(12)`: a precision of 12 digits is finer than nanoseconds; write 0 to 9"),
            ("decimal(10", "`decimal(10`: expected `)`, found the end"),
            ("array<>", "`array<>`: a type is missing"),
            ("int int", "`int int`: `int` does not belong behind a type"),
            ("row<a int, a int>", "`row<a int, a int>`: two fields are named `a`"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        assert!(parse(&format!("{}int", "array<".repeat(10_000))).unwrap_err().message.contains("32 levels"));
    }
}
