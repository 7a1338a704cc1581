//! The schema of files as their first records show it.

use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use karez_core::{Error, Result};
use karez_formats::csv::{CsvOptions, Inference, first_record};
use karez_formats::parquet::ParquetMeta;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::format::{BYTE_ORDER_MARK, SAMPLE_BYTES};
use super::input::{Compression, cannot_read, open, size, stream};
use super::options::CompressionOption;

/// Records looked at.
const SAMPLE_RECORDS: usize = 1_000;

/// The first file that holds anything, and its first bytes; whether these are all.
fn sample(files: &[String], option: CompressionOption) -> Result<Option<(&String, Vec<u8>, bool)>> {
    for path in files {
        let file = open(path)?;
        let compression = Compression::of(path, &file, option).map_err(|e| cannot_read(path, e))?;
        let input = stream(file, compression, 0).map_err(|e| cannot_read(path, e))?;
        let mut bytes = Vec::new();
        input.take(SAMPLE_BYTES as u64).read_to_end(&mut bytes).map_err(|e| cannot_read(path, e))?;
        if !bytes.is_empty() {
            let all = bytes.len() < SAMPLE_BYTES;
            if bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            return Ok(Some((path, bytes, all)));
        }
    }
    Ok(None)
}

fn nothing() -> Error {
    Error::user("there is no record to infer a schema from; declare one with `schema:`")
}

/// Of CSV files: names from the header, or `column_1`, `column_2`, …
pub(super) fn csv(files: &[String], option: CompressionOption, options: &CsvOptions, header: bool, follow: bool) -> Result<SchemaRef> {
    let (path, bytes, all) = sample(files, option)?.ok_or_else(nothing)?;
    // A last line without its line feed may grow still.
    let all = all && !follow;
    let bad = |e: String| Error::user(format!("the file `{path}`: its first record cannot be read: {e}"));
    let (first, end) = first_record(&bytes, all, options).map_err(bad)?.ok_or_else(nothing)?;
    let (names, records) = if header {
        (first.iter().map(|n| n.trim_ascii().to_owned()).collect::<Vec<_>>(), &bytes[end..])
    } else {
        ((1..=first.len()).map(|i| format!("column_{i}")).collect(), &bytes[..])
    };
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(Error::user(format!(
                "the file `{path}`: field {} of its header is empty; declare a `schema:` of the columns you need",
                i + 1
            )));
        }
        if names[..i].contains(name) {
            return Err(Error::user(format!("the file `{path}`: its header names the column `{name}` twice")));
        }
    }
    let mut inference = Inference::new(names.len());
    inference.look(records, all, SAMPLE_RECORDS, options);
    Ok(Arc::new(inference.schema(&names)))
}

/// Of NDJSON files.
pub(super) fn json(files: &[String], option: CompressionOption) -> Result<SchemaRef> {
    let (path, bytes, all) = sample(files, option)?.ok_or_else(nothing)?;
    let end = if all { bytes.len() } else { memchr::memrchr(b'\n', &bytes).unwrap_or(bytes.len()) };
    // Bad records are for the error policy: they do not hinder inference.
    let (mut good, mut names, mut first_bad) = (Vec::new(), Vec::<String>::new(), None);
    for line in BufReader::new(Cursor::new(&bytes[..end])).split(b'\n').take(SAMPLE_RECORDS) {
        let line = line.map_err(|e| cannot_read(path, e))?;
        match serde_json::from_slice(&line) {
            Ok(value @ Value::Object(_)) => {
                good.push(value);
                // In the order in which records have them, which is the order a person expects.
                let Keys(keys) = serde_json::from_slice(&line).unwrap_or_default();
                names.extend(keys.into_iter().filter(|k| !names.contains(k)).collect::<Vec<_>>());
            }
            _ if line.trim_ascii().is_empty() => {}
            Ok(_) => _ = first_bad.get_or_insert_with(|| "it is no object".to_owned()),
            Err(e) => _ = first_bad.get_or_insert_with(|| e.to_string()),
        }
    }
    if good.is_empty() {
        return Err(first_bad.map_or_else(nothing, |why| {
            Error::user(format!(
                "none of the first records of the file `{path}` can be read, the first because {why}; declare a schema with `schema:`"
            ))
        }));
    }
    let schema = arrow::json::reader::infer_json_schema_from_iterator(good.iter().map(Ok))
        .map_err(|e| Error::user(format!("the file `{path}`: no schema fits its records; declare one with `schema:`")).caused_by(e))?;
    let fields = names.iter().filter_map(|n| schema.field_with_name(n).ok());
    let fields: Fields = fields.map(|f| known_types(f, &good.iter().filter_map(|record| record.get(f.name())).collect::<Vec<_>>())).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The keys of a JSON object, in their order.
#[derive(Default)]
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Keys(keys))
    }
}

/// The field with strings where nothing but nulls was seen, and with decimals where whole numbers need more than 64 bits: a double would change them.
fn known_types(field: &Field, seen: &[&Value]) -> Field {
    let within = |name: &str| seen.iter().filter_map(|value| value.get(name)).collect::<Vec<_>>();
    let data_type = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::Float64 if seen.iter().all(|value| value.is_null() || is_whole(value)) => DataType::Decimal128(38, 0),
        DataType::List(item) => {
            let items: Vec<_> = seen.iter().filter_map(|value| value.as_array()).flatten().collect();
            DataType::List(Arc::new(known_types(item, &items)))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| known_types(f, &within(f.name()))).collect()),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

/// Whether a number is a whole one of at most 38 digits. From 2^64 on, `serde_json` gives a double for the digits as well.
fn is_whole(value: &Value) -> bool {
    let is_large = |double: f64| double.abs() >= (1_u128 << 64) as f64 && double.abs() < 1e38;
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(is_large)
}

/// Of Parquet files.
pub(super) fn parquet(files: &[String]) -> Result<SchemaRef> {
    for path in files {
        if size(path)? > 0 {
            let meta = ParquetMeta::read(&open(path)?).map_err(|e| Error::user(format!("the file `{path}` is not Parquet")).caused_by(e))?;
            return Ok(meta.schema());
        }
    }
    Err(nothing())
}
