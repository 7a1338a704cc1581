//! What a record says beside its value, as columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, StructBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use indexmap_like::Pairs;
use karez_core::config::ConfigError;
use karez_core::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::batch::Records;
use super::start::TopicPartition;

/// Which columns there are.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of metadata, or an object of column names and metadata")]
pub enum MetadataOptions {
    /// Under their own names.
    Names(Vec<MetadataKey>),
    /// By the name of the column.
    Columns(#[schemars(with = "std::collections::BTreeMap<String, MetadataKey>")] Pairs),
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MetadataKey {
    /// The name of the topic: `string`.
    Topic,
    /// The number of the partition: `int`.
    Partition,
    /// The offset in the partition: `bigint`.
    Offset,
    /// The record's timestamp: `timestamp(3)` in UTC.
    Timestamp,
    /// Whether that is the producer's (`CreateTime`) or the broker's (`LogAppendTime`): `string`.
    TimestampType,
    /// The key as it is: `binary`, null where there is none.
    Key,
    /// The headers, in order: an array of rows of `key` (`string`) and `value` (`binary`).
    Headers,
}

/// Members of a map in the order they were written in.
mod indexmap_like {
    use super::MetadataKey;
    use serde::de::{MapAccess, Visitor};
    use serde::{Deserialize, Deserializer};

    /// Names and what they stand for.
    #[derive(Clone, Debug)]
    pub struct Pairs(pub(super) Vec<(String, MetadataKey)>);

    impl<'de> Deserialize<'de> for Pairs {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            struct Read;
            impl<'de> Visitor<'de> for Read {
                type Value = Pairs;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object of column names and metadata")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry()? {
                        pairs.push(pair);
                    }
                    Ok(Pairs(pairs))
                }
            }
            d.deserialize_map(Read)
        }
    }
}

impl MetadataKey {
    const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::TimestampType => "timestampType",
            Self::Key => "key",
            Self::Headers => "headers",
        }
    }

    fn field(self, name: &str) -> FieldRef {
        let (data_type, nullable) = match self {
            Self::Topic | Self::TimestampType => (DataType::Utf8, false),
            Self::Partition => (DataType::Int32, false),
            Self::Offset => (DataType::Int64, false),
            // A record may have none (-1).
            Self::Timestamp => (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            Self::Key => (DataType::Binary, true),
            Self::Headers => (DataType::List(header_item()), false),
        };
        Arc::new(Field::new(name, data_type, nullable))
    }
}

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into()
}

fn header_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), false))
}

/// The columns asked for, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct MetadataPlan {
    columns: Vec<(FieldRef, MetadataKey)>,
}

impl MetadataPlan {
    pub(super) fn new(options: Option<&MetadataOptions>, errors: &mut Vec<ConfigError>) -> Self {
        let named: Vec<(String, MetadataKey)> = match options {
            None => Vec::new(),
            Some(MetadataOptions::Names(keys)) => keys.iter().map(|k| (k.name().to_owned(), *k)).collect(),
            Some(MetadataOptions::Columns(Pairs(pairs))) => pairs.clone(),
        };
        let mut columns: Vec<(FieldRef, MetadataKey)> = Vec::new();
        for (name, key) in named {
            if columns.iter().any(|(field, _)| *field.name() == name) {
                errors.push(ConfigError::new("metadata", format!("the column `{name}` is named twice")));
            }
            columns.push((key.field(&name), key));
        }
        Self { columns }
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &FieldRef> {
        self.columns.iter().map(|(field, _)| field)
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The same of some of its columns.
    pub(super) fn project(&self, columns: &[usize]) -> Self {
        Self { columns: columns.iter().filter_map(|&c| self.columns.get(c).cloned()).collect() }
    }

    /// A column that cannot be told from a letter, which has the value and the origin of a message.
    pub(super) fn not_in_letters(&self) -> Option<&str> {
        let known = |key: &MetadataKey| matches!(key, MetadataKey::Topic | MetadataKey::Partition | MetadataKey::Offset);
        self.columns.iter().find(|(_, key)| !known(key)).map(|(field, _)| field.name().as_str())
    }

    /// The columns for rows of a letter, as far as its origin tells them ([`Self::not_in_letters`]).
    pub(super) fn of_letter(&self, origin: Option<(TopicPartition, i64)>, rows: usize) -> Result<Vec<ArrayRef>> {
        let known = || origin.as_ref().ok_or_else(|| Error::record("the letter does not say from which topic, partition and offset it came"));
        let columns = self.columns.iter().map(|(field, key)| {
            Ok::<ArrayRef, Error>(match key {
                MetadataKey::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&known()?.0.topic, rows))),
                MetadataKey::Partition => Arc::new(Int32Array::from_value(known()?.0.partition, rows)),
                MetadataKey::Offset => Arc::new(Int64Array::from_value(known()?.1, rows)),
                MetadataKey::Timestamp | MetadataKey::TimestampType | MetadataKey::Key | MetadataKey::Headers => {
                    return Err(Error::record(format!("a letter does not hold the column `{}`", field.name())));
                }
            })
        });
        columns.collect()
    }

    pub(super) fn gather(&self) -> Gathered {
        let builders = self.columns.iter().map(|(_, key)| Builder::new(*key)).collect();
        Gathered { builders, messages: 0 }
    }
}

/// The metadata of the messages that a decoder has been fed since its last flush.
pub(super) struct Gathered {
    builders: Vec<Builder>,
    messages: usize,
}

enum Builder {
    Topic,
    Partition,
    Offset(Vec<i64>),
    Timestamp(Vec<Option<i64>>),
    TimestampType(Vec<&'static str>),
    Key(BinaryBuilder),
    Headers(ListBuilder<StructBuilder>),
}

impl Builder {
    fn new(key: MetadataKey) -> Self {
        match key {
            MetadataKey::Topic => Self::Topic,
            MetadataKey::Partition => Self::Partition,
            MetadataKey::Offset => Self::Offset(Vec::new()),
            MetadataKey::Timestamp => Self::Timestamp(Vec::new()),
            MetadataKey::TimestampType => Self::TimestampType(Vec::new()),
            MetadataKey::Key => Self::Key(BinaryBuilder::new()),
            MetadataKey::Headers => Self::Headers(ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)).with_field(header_item())),
        }
    }

    fn append(&mut self, records: &Records, rows: std::ops::Range<usize>) -> Result<()> {
        match self {
            Self::Topic | Self::Partition => {}
            Self::Offset(offsets) => offsets.extend(rows.map(|r| records.offset(r))),
            Self::Timestamp(times) => times.extend(rows.map(|r| Some(records.timestamp(r)).filter(|t| *t >= 0))),
            Self::TimestampType(kinds) => kinds.extend(rows.map(|_| records.timestamp_type())),
            Self::Key(keys) => rows.for_each(|r| keys.append_option(records.key(r))),
            Self::Headers(list) => {
                for row in rows {
                    let item = list.values();
                    records.headers(row, |key, value| {
                        if let Some(builder) = item.field_builder::<StringBuilder>(0) {
                            builder.append_value(String::from_utf8_lossy(key));
                        }
                        if let Some(builder) = item.field_builder::<BinaryBuilder>(1) {
                            builder.append_option(value);
                        }
                        item.append(true);
                    })?;
                    list.append(true);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, at: &TopicPartition, messages: usize) -> ArrayRef {
        match self {
            Self::Topic => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&at.topic, messages))),
            Self::Partition => Arc::new(Int32Array::from_value(at.partition, messages)),
            Self::Offset(offsets) => Arc::new(Int64Array::from(std::mem::take(offsets))),
            Self::Timestamp(times) => Arc::new(TimestampMillisecondArray::from(std::mem::take(times)).with_timezone("UTC")),
            Self::TimestampType(kinds) => Arc::new(StringArray::from(std::mem::take(kinds))),
            Self::Key(keys) => Arc::new(keys.finish()),
            Self::Headers(list) => Arc::new(list.finish()),
        }
    }
}

impl Gathered {
    /// How many have been noted.
    pub(super) const fn messages(&self) -> usize {
        self.messages
    }

    /// Notes the records that have been fed.
    pub(super) fn append(&mut self, records: &Records, rows: std::ops::Range<usize>) -> Result<()> {
        self.messages += rows.len();
        self.builders.iter_mut().try_for_each(|b| b.append(records, rows.clone()))
    }

    /// The columns of the rows that `messages` gave, and begins anew.
    pub(super) fn take(&mut self, at: &TopicPartition, messages: &[u32]) -> Result<Vec<ArrayRef>> {
        let all = std::mem::take(&mut self.messages);
        // Ascending, so as many as there are and the last one in its place: each message gave one row.
        let each = messages.len() == all && messages.windows(2).all(|w| w[0] < w[1]);
        let rows = (!each).then(|| UInt32Array::from(messages.to_vec()));
        let columns = self.builders.iter_mut().map(|b| {
            let column = b.finish(at, all);
            match &rows {
                None => Ok(column),
                Some(rows) => Ok(take(&column, rows, None)?),
            }
        });
        columns.collect()
    }

    /// Forgets what has been noted.
    pub(super) fn clear(&mut self, at: &TopicPartition) {
        let all = std::mem::take(&mut self.messages);
        for builder in &mut self.builders {
            let _ = builder.finish(at, all);
        }
    }
}
