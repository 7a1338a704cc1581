//! Dead letters: records that could not be decoded, processed or written, with what they were, whence they came and why.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, StringBuilder, TimestampMillisecondBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::exact::json::JsonGuard;
use crate::schema::{ORIGIN_COLUMN, StreamSchema};
use crate::sql_type::translated;
use crate::{Error, Result};

/// A record at fault.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BadRecord {
    /// Why, for a person: column, value, cause.
    pub reason: String,
    /// Where it came from (`file=… offset=…`; behind an aggregate node and key), where known.
    pub origin: Option<String>,
    /// The bytes as they were read, for decode errors.
    pub raw: Option<Bytes>,
    /// The row as a JSON object, for others.
    pub row: Option<String>,
}

/// A row of a dead-letter output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Names it: see [`stable_id`].
    pub id: String,
    /// When it was written, milliseconds since the epoch.
    pub time_ms: i64,
    /// The id of the job.
    pub job: String,
    /// The run it was written by.
    pub run: String,
    /// The node that refused the record.
    pub node: String,
    /// Why.
    pub reason: String,
    /// Where the record came from.
    pub origin: Option<String>,
    /// Its bytes as they were read.
    #[serde(with = "hex_option")]
    pub raw: Option<Bytes>,
    /// The row as a JSON object.
    pub row: Option<String>,
}

/// The id of a letter whose record has an origin: the same for the same record refused by the same node of the same run, also when a restart reads it
/// again. `ordinal` tells apart equal rows that a node made of one record.
#[must_use]
pub fn stable_id(run: &str, node: &str, bad: &BadRecord, ordinal: u64) -> String {
    let ordinal = ordinal.to_string();
    let (origin, row) = (bad.origin.as_deref().unwrap_or_default(), bad.row.as_deref().unwrap_or_default());
    hash(&[run.as_bytes(), node.as_bytes(), origin.as_bytes(), bad.raw.as_deref().unwrap_or_default(), row.as_bytes(), ordinal.as_bytes()])
}

/// The id of a letter whose record has no origin: never given twice.
#[must_use]
pub fn unique_id(run: &str, node: &str, generation: u64, subtask: usize, number: u64) -> String {
    hash(&[run.as_bytes(), node.as_bytes(), format!("{generation} {subtask} {number}").as_bytes()])
}

/// Why letters of a node in a changelog are not fed again.
#[must_use]
pub fn of_changes(node: &str) -> String {
    format!("`{node}` is in a changelog: a change that is fed later would undo newer ones of its key")
}

/// Sixteen hexadecimal digits.
fn hash(parts: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    format!("{:016x}", xxh3_64(&bytes))
}

/// The schema of every dead-letter output.
#[must_use]
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("job", DataType::Utf8, false),
        Field::new("node", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("origin", DataType::Utf8, true),
        Field::new("raw", DataType::Binary, true),
        Field::new("row", DataType::Utf8, true),
        Field::new("run", DataType::Utf8, false),
        Field::new("id", DataType::Utf8, false),
    ]))
}

/// The stream schema of every dead-letter output: append-only.
#[must_use]
pub fn stream_schema() -> StreamSchema {
    StreamSchema::append_only(schema())
}

/// Letters as a batch of [`schema`].
pub fn to_batch(letters: &[Letter]) -> Result<RecordBatch> {
    let mut time = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let (mut jobs, mut nodes, mut reasons) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut origins, mut raws, mut rows) = (StringBuilder::new(), BinaryBuilder::new(), StringBuilder::new());
    let (mut runs, mut ids) = (StringBuilder::new(), StringBuilder::new());
    for letter in letters {
        time.append_value(letter.time_ms);
        jobs.append_value(&letter.job);
        nodes.append_value(&letter.node);
        reasons.append_value(&letter.reason);
        origins.append_option(letter.origin.as_deref());
        raws.append_option(letter.raw.as_deref());
        rows.append_option(letter.row.as_deref());
        runs.append_value(&letter.run);
        ids.append_value(&letter.id);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(time.finish()),
        Arc::new(jobs.finish()),
        Arc::new(nodes.finish()),
        Arc::new(reasons.finish()),
        Arc::new(origins.finish()),
        Arc::new(raws.finish()),
        Arc::new(rows.finish()),
        Arc::new(runs.finish()),
        Arc::new(ids.finish()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|e| Error::internal("dead letters").caused_by(e))
}

/// The schema by which a dead-letter output is read back. Where it holds `raw` as text (`raw_as_hex`), that is hexadecimal. A format without null may
/// give an empty text for it.
#[must_use]
pub fn read_schema(raw_as_hex: bool) -> SchemaRef {
    let written = schema();
    let fields = written.fields().iter().map(|f| match f.name().as_str() {
        "raw" if raw_as_hex => Field::new("raw", DataType::Utf8, true),
        _ => f.as_ref().clone().with_nullable(true),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Letters read back from a batch of [`read_schema`], as far as it has the columns: `id` and `run` were not always there. In the place of a row that is no
/// letter stands why, and its origin where the rows carry one.
pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Result<Letter, BadRecord>>> {
    let text = |name: &str| batch.column_by_name(name).map(|c| cast(c, &DataType::Utf8)).transpose();
    let (jobs, nodes, reasons, origins) = (text("job")?, text("node")?, text("reason")?, text("origin")?);
    let (rows, runs, ids) = (text("row")?, text("run")?, text("id")?);
    let times = batch.column_by_name("time").map(|c| cast(c, &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))).transpose()?;
    let raw = batch.column_by_name("raw");
    let get = |column: &Option<ArrayRef>, row: usize| {
        let column = column.as_ref()?.as_string::<i32>();
        // Formats without null have empty texts.
        (column.is_valid(row) && !column.value(row).is_empty()).then(|| column.value(row).to_owned())
    };
    let needed = |name: &str, column: &Option<ArrayRef>, row: usize| get(column, row).ok_or_else(|| lacks(name));
    let letter = |row: usize| {
        let time = times.as_ref().map(|t| t.as_primitive::<TimestampMillisecondType>()).filter(|t| t.is_valid(row));
        let mut letter = Letter {
            id: get(&ids, row).unwrap_or_default(),
            time_ms: time.ok_or_else(|| lacks("time"))?.value(row),
            job: needed("job", &jobs, row)?,
            run: get(&runs, row).unwrap_or_default(),
            node: needed("node", &nodes, row)?,
            reason: get(&reasons, row).unwrap_or_default(),
            origin: get(&origins, row),
            raw: raw.map(|column| bytes_at(column, row)).transpose().map_err(|e| format!("its `raw`: {e}"))?.flatten(),
            row: get(&rows, row),
        };
        if letter.id.is_empty() {
            // Runs have been named for as long as letters have had ids.
            if !letter.run.is_empty() {
                return Err(lacks("id"));
            }
            let bad = BadRecord { reason: String::new(), origin: letter.origin.clone(), raw: letter.raw.clone(), row: letter.row.clone() };
            letter.id = stable_id(&letter.run, &letter.node, &bad, 0);
        }
        let whole = letter.id.len() == 16 && letter.id.bytes().all(|b| b.is_ascii_hexdigit());
        if whole { Ok(letter) } else { Err(format!("its `id` is `{}`, and not sixteen hexadecimal digits", letter.id)) }
    };
    let places = text(ORIGIN_COLUMN)?;
    let no_letter = |row: usize, reason: String| BadRecord { reason, origin: get(&places, row), ..BadRecord::default() };
    Ok((0..batch.num_rows()).map(|row| letter(row).map_err(|reason| no_letter(row, reason))).collect())
}

fn lacks(column: &str) -> String {
    format!("it has no `{column}`")
}

fn bytes_at(column: &ArrayRef, row: usize) -> Result<Option<Bytes>> {
    if column.is_null(row) {
        return Ok(None);
    }
    if let Some(text) = column.as_string_opt::<i32>() {
        let text = text.value(row);
        return if text.is_empty() { Ok(None) } else { from_hex(text).map(Some) };
    }
    let binary = cast(&column.slice(row, 1), &DataType::Binary)?;
    Ok(Some(Bytes::copy_from_slice(binary.as_binary::<i32>().value(0))))
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of hexadecimal digits.
pub fn from_hex(text: &str) -> Result<Bytes> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.map(Bytes::from).ok_or_else(|| Error::user(format!("`{text}` are no bytes in hexadecimal")))
}

mod hex_option {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(super::to_hex).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| super::from_hex(&t).map_err(serde::de::Error::custom)).transpose()
    }
}

/// A row of a batch as a bad record: its visible columns as JSON, its origin where it carries one.
pub fn row_record(batch: &RecordBatch, row: usize, reason: impl Into<String>) -> Result<BadRecord> {
    let origin =
        batch.column_by_name(ORIGIN_COLUMN).and_then(|c| c.as_string_opt::<i32>()).filter(|c| c.is_valid(row)).map(|c| c.value(row).to_owned());
    let visible = crate::schema::visible_batch(&batch.slice(row, 1))?;
    Ok(BadRecord { reason: reason.into(), origin, raw: None, row: Some(crate::row_json::rows(&visible, false)?) })
}

/// The row that [`row_record`] has written, perhaps mended by somebody since, as a batch of `schema` (visible columns). A column that is left out is null.
///
/// # Errors
/// It does not fit, or has another column: an error of the record.
pub fn row_batch(schema: &SchemaRef, row: &str) -> Result<RecordBatch> {
    let misfit = |e: arrow::error::ArrowError| Error::record(format!("the row does not fit the node's columns: {}", translated(&e.to_string())));
    let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(schema)).with_strict_mode(true).build_decoder().map_err(misfit)?;
    decoder.decode(row.as_bytes()).map_err(misfit)?;
    if decoder.len() == 1
        && !decoder.has_partial_record()
        && let Some(mut guard) = JsonGuard::of(schema, 1).map_err(misfit)?
    {
        guard.hold(row.as_bytes()).map_err(misfit)?;
        guard.judge().map_err(misfit)?;
    }
    match decoder.flush().map_err(misfit)? {
        Some(batch) if batch.num_rows() == 1 => Ok(batch),
        _ => Err(Error::record("not one row as a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, StringArray, Time32SecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    fn letter() -> Letter {
        Letter {
            id: "0123456789abcdef".into(),
            time_ms: 1_700_000_000_123,
            job: "j".into(),
            run: "r".into(),
            node: "n".into(),
            reason: "why".into(),
            origin: Some("file=a offset=3".into()),
            raw: Some(Bytes::from_static(b"\x00\xffabc")),
            row: None,
        }
    }

    fn read(batch: &RecordBatch) -> Vec<Letter> {
        from_batch(batch).unwrap().into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn letters_are_read_back_as_they_were_written() {
        let letters = vec![letter(), Letter { raw: None, row: Some("{}".into()), ..letter() }];
        assert_eq!(read(&to_batch(&letters).unwrap()), letters);
    }

    #[test]
    fn bytes_are_read_back_from_hexadecimal_text_too() {
        let batch = to_batch(&[letter()]).unwrap();
        let mut columns = batch.columns().to_vec();
        columns[5] = Arc::new(StringArray::from(vec!["00ff616263"]));
        let batch = RecordBatch::try_new(read_schema(true), columns).unwrap();
        assert_eq!(read(&batch), [letter()]);
    }

    #[test]
    fn a_letter_of_an_output_without_ids_gets_the_same_one_each_time() {
        let batch = to_batch(&[letter()]).unwrap().project(&[0, 1, 2, 3, 4, 5, 6]).unwrap();
        let (one, two) = (read(&batch), read(&batch));
        assert_eq!(one, two);
        assert_eq!(one[0].id.len(), 16);
    }

    #[test]
    fn a_row_that_is_no_letter_is_answered_in_its_place_with_its_origin_and_the_others_are_letters() {
        let batch = to_batch(&[letter(), letter(), letter(), letter(), letter(), letter()]).unwrap();
        let mut columns = batch.columns().to_vec();
        columns[0] = Arc::new(TimestampMillisecondArray::from(vec![Some(5), Some(5), Some(5), None, Some(5), Some(5)]).with_timezone("UTC"));
        columns[2] = Arc::new(StringArray::from(vec![Some("n"), None, Some("n"), Some("n"), Some("n"), Some("n")]));
        columns[5] = Arc::new(StringArray::from(vec!["00", "00", "0g", "00", "00", "00"]));
        columns[8] = Arc::new(StringArray::from(vec![Some("0123456789abcdef"), None, None, None, Some("0123456"), None]));
        let fields = read_schema(true).fields().iter().cloned().chain([Arc::new(crate::schema::origin_field())]).collect::<Vec<_>>();
        columns.push(Arc::new(StringArray::from_iter_values((0..6).map(|n| format!("offset={n}")))));
        let schema = Arc::new(Schema::new(fields.into_iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>()));
        let rows = from_batch(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
        assert!(rows[0].is_ok());
        let told: Vec<_> = rows.into_iter().filter_map(Result::err).map(|b| format!("{}: {}", b.origin.unwrap(), b.reason)).collect();
        assert_eq!(
            told,
            [
                "offset=1: it has no `node`",
                "offset=2: its `raw`: `0g` are no bytes in hexadecimal",
                "offset=3: it has no `time`",
                "offset=4: its `id` is `0123456`, and not sixteen hexadecimal digits",
                "offset=5: it has no `id`",
            ]
        );
    }

    #[test]
    fn the_same_record_has_the_same_id_and_its_parts_do_not_run_into_each_other() {
        let bad = |origin: &str, row: &str| BadRecord { origin: Some(origin.into()), row: Some(row.into()), ..BadRecord::default() };
        assert_eq!(stable_id("r", "n", &bad("a", "b"), 0), stable_id("r", "n", &bad("a", "b"), 0));
        assert_ne!(stable_id("r", "n", &bad("a", "b"), 0), stable_id("r", "n", &bad("ab", ""), 0));
        assert_ne!(stable_id("r", "n", &bad("a", "b"), 0), stable_id("r", "n", &bad("a", "b"), 1));
    }

    #[test]
    fn a_row_goes_to_json_and_back() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", Arc::new(StringArray::from(vec!["ä \"x\""]))),
            ("number", Arc::new(Int64Array::from(vec![i64::MAX]))),
            ("float", Arc::new(Float64Array::from(vec![0.1]))),
            ("decimal", Arc::new(Decimal128Array::from(vec![12_345]).with_precision_and_scale(20, 2).unwrap())),
            ("date", Arc::new(Date32Array::from(vec![19_000]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456]).with_timezone("UTC"))),
            ("bytes", Arc::new(BinaryArray::from_vec(vec![b"\x01\xfe"]))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]))),
            ("null", Arc::new(StringArray::from(vec![None::<&str>]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let record = row_record(&batch, 0, "").unwrap();
        assert_eq!(row_batch(&batch.schema(), &record.row.unwrap()).unwrap(), batch);
    }

    #[test]
    fn a_date_or_an_instant_that_has_no_text_goes_to_json_as_its_number_and_back() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("date", Arc::new(Date32Array::from(vec![i32::MAX]))),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![i64::MAX]).with_timezone("UTC"))),
            ("list", Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Date32Type, _, _>([Some([Some(i32::MIN), Some(0)])]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let row = row_record(&batch, 0, "").unwrap().row.unwrap();
        assert_eq!(row, r#"{"date":2147483647,"at":9223372036854775807,"list":[-2147483648,"1970-01-01"]}"#);
        assert_eq!(row_batch(&batch.schema(), &row).unwrap(), batch);
    }

    #[test]
    fn a_time_that_is_none_of_a_day_is_shown_and_not_taken_back() {
        let time: ArrayRef = Arc::new(Time32SecondArray::from(vec![-1]));
        let batch = RecordBatch::try_from_iter([("time", time)]).unwrap();
        let row = row_record(&batch, 0, "").unwrap().row.unwrap();
        assert_eq!(row, r#"{"time":-1}"#);
        assert_eq!(row_batch(&batch.schema(), &row).unwrap_err().reach(), crate::Reach::Record);
    }

    #[test]
    fn numbers_that_are_none_in_json_go_there_as_text_and_back() {
        let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300, 0.1, 5.0];
        let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 3.4e38, 0.1, 5.0];
        let columns: Vec<(&str, ArrayRef)> =
            vec![("double", Arc::new(Float64Array::from(doubles.to_vec()))), ("float", Arc::new(Float32Array::from(floats.to_vec())))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let rows = (0..batch.num_rows()).map(|row| row_record(&batch, row, "").unwrap().row.unwrap());
        let rows: Vec<_> = rows.inspect(|row| assert!(!row.contains("null"), "{row}")).collect();
        assert_eq!(rows[2], r#"{"double":"-Infinity","float":"-Infinity"}"#);
        let back: Vec<_> = rows.iter().map(|row| row_batch(&batch.schema(), row).unwrap()).collect();
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &back).unwrap(), batch);
    }

    #[test]
    fn a_row_that_does_not_fit_is_an_error_of_the_record() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        for row in ["", "{}", "{\"n\":\"x\"}", "{\"n\":1}{\"n\":2}", "[]", "{\"n\":1,\"m\":2}"] {
            assert_eq!(row_batch(&schema, row).unwrap_err().reach(), crate::Reach::Record, "{row}");
        }
        assert!(row_batch(&schema, "{\"n\":1}").is_ok());
    }

    #[test]
    fn a_row_with_a_number_that_its_column_would_change_is_an_error_of_the_record() {
        let schema =
            [("n", DataType::Int64), ("d", DataType::Decimal128(12, 2)), ("f", DataType::Float64)].map(|(name, kind)| Field::new(name, kind, true));
        let schema: SchemaRef = Arc::new(Schema::new(schema.to_vec()));
        for row in ["{\"n\":8.5}", "{\"d\":1.239}", "{\"d\":\"1.239\"}", "{\"n\":9007199254740993.0}", "{\"f\":1e400}"] {
            assert_eq!(row_batch(&schema, row).unwrap_err().reach(), crate::Reach::Record, "{row}");
        }
        for row in ["{\"n\":8.0}", "{\"d\":1.230}", "{\"d\":\"1.2\"}"] {
            assert!(row_batch(&schema, row).is_ok(), "{row}");
        }
    }
}
