//! What of a row is not its value: key, topic, partition, timestamp and headers, read from the columns that hold them.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use karez_core::Result;

use super::plan::{SinkPlan, TopicPlan};
use super::record_batch::{HeaderBytes, NO_HEADERS};

/// The columns of one batch that say where rows go.
pub(super) struct Rows {
    topic: Option<StringArray>,
    partition: Option<Int64Array>,
    timestamp: Option<Int64Array>,
    headers: Vec<(String, Header)>,
    more: Option<Pairs>,
}

enum Header {
    Text(StringArray),
    Binary(BinaryArray),
}

/// A list of pairs a row.
struct Pairs {
    list: ListArray,
    names: StringArray,
    values: Header,
}

impl Rows {
    /// Of a batch of visible columns.
    pub(super) fn new(plan: &SinkPlan, batch: &RecordBatch) -> Result<Self> {
        let numbers = |column: usize| Ok::<_, karez_core::Error>(cast(batch.column(column), &DataType::Int64)?.as_primitive::<Int64Type>().clone());
        let topic = match &plan.topic {
            TopicPlan::Fixed(_) => None,
            TopicPlan::Column { column, .. } => Some(cast(batch.column(*column), &DataType::Utf8)?.as_string::<i32>().clone()),
        };
        let timestamp = plan.timestamp.map(|column| millis(batch.column(column))).transpose()?;
        let headers = plan.headers.iter().map(|(name, column)| Ok((name.clone(), Header::new(batch.column(*column))?))).collect::<Result<_>>()?;
        let more = plan.more_headers.map(|column| Pairs::new(batch.column(column))).transpose()?;
        Ok(Self { topic, partition: plan.partition.map(numbers).transpose()?, timestamp, headers, more })
    }

    /// The topic as the row names it; `None`: it names none.
    pub(super) fn topic(&self, row: usize) -> Option<&str> {
        self.topic.as_ref().filter(|t| t.is_valid(row)).map(|t| t.value(row))
    }

    pub(super) fn partition(&self, row: usize) -> Option<i64> {
        self.partition.as_ref().filter(|p| p.is_valid(row)).map(|p| p.value(row))
    }

    pub(super) fn timestamp_ms(&self, row: usize) -> Option<i64> {
        self.timestamp.as_ref().filter(|t| t.is_valid(row)).map(|t| t.value(row))
    }

    /// The bytes of a row's headers, in `buffer` if it has some.
    pub(super) fn headers<'a>(&self, row: usize, scratch: &mut HeaderBytes, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.headers.is_empty() && self.more.is_none() {
            return NO_HEADERS;
        }
        scratch.clear();
        for (name, values) in &self.headers {
            scratch.push(name.as_bytes(), values.get(row));
        }
        if let Some(pairs) = &self.more {
            pairs.of(row).for_each(|(name, value)| scratch.push(name, value));
        }
        buffer.clear();
        scratch.write(buffer);
        buffer
    }
}

/// Milliseconds since 1970, of a timestamp of any unit or of a number.
fn millis(column: &ArrayRef) -> Result<Int64Array> {
    let column = match column.data_type() {
        DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?,
        _ => std::sync::Arc::clone(column),
    };
    Ok(cast(&column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

impl Header {
    fn new(column: &ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Binary(cast(column, &DataType::Binary)?.as_binary::<i32>().clone())
            }
            _ => Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(text) => text.is_valid(row).then(|| text.value(row).as_bytes()),
            Self::Binary(bytes) => bytes.is_valid(row).then(|| bytes.value(row)),
        }
    }
}

impl Pairs {
    fn new(column: &ArrayRef) -> Result<Self> {
        let list = match column.as_map_opt() {
            Some(map) => ListArray::from(map.clone()),
            None => column.as_list::<i32>().clone(),
        };
        let entries = list.values().as_struct();
        let (names, values) = (entries.column(0).as_string::<i32>().clone(), Header::new(entries.column(1))?);
        Ok(Self { list, names, values })
    }

    fn of(&self, row: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let offsets = self.list.value_offsets();
        let range = if self.list.is_valid(row) { offsets[row]..offsets[row + 1] } else { 0..0 };
        range.map(|at| usize::try_from(at).unwrap_or(0)).map(|at| (self.names.value(at).as_bytes(), self.values.get(at)))
    }
}
