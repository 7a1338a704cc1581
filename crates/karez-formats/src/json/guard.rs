//! Keeps from arrow-json the decimals whose digits it cannot count: see [`crate::decimal`].

use std::sync::Arc;

use arrow::array::{ArrayData, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;

use super::general::reason;
use crate::decimal::is_countable;

/// Bytes of a number below which only its exponent can be beyond the limits.
const NUMBER_BYTES_SAFE: usize = 100;

/// Digits of an exponent below which it is within the limits.
const EXPONENT_DIGITS_SAFE: usize = 4;

/// Looks at the decimals of records before arrow-json does.
pub(super) struct DecimalGuard {
    /// The columns that hold decimals.
    columns: Vec<FieldRef>,
    /// The same, with text in the place of decimals.
    texts: SchemaRef,
}

// ===== impl DecimalGuard =====

impl DecimalGuard {
    /// `None` if there are no decimals in `schema`.
    pub(super) fn of(schema: &Schema) -> Option<Self> {
        let (columns, texts): (Vec<_>, Vec<_>) = read(schema.fields()).filter_map(|field| Some((Arc::clone(field), as_text(field)?))).unzip();
        (!columns.is_empty()).then(|| Self { columns, texts: Arc::new(Schema::new(texts)) })
    }

    /// Why `record` is not for arrow-json.
    pub(super) fn check(&self, record: &[u8]) -> Result<(), String> {
        if !is_suspicious(record) {
            return Ok(());
        }
        // What is refused for text is refused for decimals.
        let texts = self.texts(record).map_err(|error| reason(error).replace("expected string", "expected decimal"))?;
        let Some(texts) = texts else { return Ok(()) };
        let too_long = self.columns.iter().zip(texts.columns()).find(|(field, texts)| !are_countable(field.data_type(), &texts.to_data()));
        too_long.map_or(Ok(()), |(field, _)| Err(format!("whilst decoding field '{}': a number has too many digits for a decimal", field.name())))
    }

    /// The texts of the decimals as arrow-json would parse them: of a key's last value, with escapes undone. `None` if it can read no record at all.
    fn texts(&self, record: &[u8]) -> Result<Option<RecordBatch>, ArrowError> {
        let texts = ReaderBuilder::new(Arc::clone(&self.texts)).with_batch_size(2).with_coerce_primitive(true);
        let mut texts = texts.build_decoder()?;
        texts.decode(record)?;
        texts.flush()
    }
}

/// The fields that arrow-json fills: of those with one name, the first.
fn read(fields: &Fields) -> impl Iterator<Item = &FieldRef> {
    fields.iter().enumerate().filter(|(at, field)| fields[..*at].iter().all(|before| before.name() != field.name())).map(|(_, field)| field)
}

/// `field` with text in the place of its decimals, and without what holds none; `None` if that is all of it.
fn as_text(field: &FieldRef) -> Option<FieldRef> {
    let data_type = match field.data_type() {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => DataType::Utf8,
        DataType::Struct(fields) => {
            let fields: Vec<_> = read(fields).filter_map(as_text).collect();
            (!fields.is_empty()).then(|| DataType::Struct(fields.into()))?
        }
        DataType::List(item) => DataType::List(as_text(item)?),
        DataType::LargeList(item) => DataType::LargeList(as_text(item)?),
        DataType::ListView(item) => DataType::ListView(as_text(item)?),
        DataType::LargeListView(item) => DataType::LargeListView(as_text(item)?),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(as_text(item)?, *length),
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(Arc::clone(ends), as_text(values)?),
        DataType::Map(entries, ordered) => {
            let DataType::Struct(pair) = entries.data_type() else { return None };
            let texts: Vec<_> = pair.iter().map(as_text).collect();
            texts.iter().any(Option::is_some).then_some(())?;
            // Both are needed for a map.
            let pair: Vec<_> = texts.into_iter().zip(pair).map(|(text, field)| text.unwrap_or_else(|| Arc::clone(field))).collect();
            DataType::Map(Arc::new(Field::clone(entries).with_data_type(DataType::Struct(pair.into()))), *ordered)
        }
        _ => return None,
    };
    Some(Arc::new(Field::clone(field).with_data_type(data_type)))
}

/// Whether the decimals of `data_type`, as texts in `data`, are within the limits.
fn are_countable(data_type: &DataType, data: &ArrayData) -> bool {
    let children = data.child_data();
    let within = |field: &FieldRef, data: &ArrayData| are_countable(field.data_type(), data);
    match data_type {
        &DataType::Decimal32(_, scale) | &DataType::Decimal64(_, scale) | &DataType::Decimal128(_, scale) | &DataType::Decimal256(_, scale) => {
            StringArray::from(data.clone()).iter().flatten().all(|text| is_countable(text, scale))
        }
        DataType::Struct(fields) => read(fields).filter(|field| as_text(field).is_some()).zip(children).all(|(field, data)| within(field, data)),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => children.iter().all(|data| within(item, data)),
        DataType::RunEndEncoded(_, values) => children.iter().skip(1).all(|data| within(values, data)),
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return true };
            children.iter().flat_map(ArrayData::child_data).zip(pair).all(|(data, field)| within(field, data))
        }
        _ => true,
    }
}

/// Whether a number beyond the limits may stand in `record`: tells quickly that none does.
fn is_suspicious(record: &[u8]) -> bool {
    let (mut number, mut exponent) = (0, None);
    for byte in record {
        match byte {
            b'0'..=b'9' | b'-' | b'+' | b'.' => {
                number += 1;
                exponent = exponent.map(|digits| digits + 1);
            }
            b'e' | b'E' => {
                number += 1;
                exponent = Some(0);
            }
            // It may stand for a digit.
            b'\\' => return true,
            _ => (number, exponent) = (0, None),
        }
        if number > NUMBER_BYTES_SAFE || exponent > Some(EXPONENT_DIGITS_SAFE) {
            return true;
        }
    }
    false
}
