//! How keys and aggregate states are written into a keyed table.
//!
//! **Keys** are the key columns in arrow's row format (arrow-row 59: order-preserving, null first, ascending), with −0.0 as 0.0 and
//! every NaN alike; without key columns the key is empty. **States** are the state columns of all aggregate calls, in order, in the
//! same format. Arrow does not promise that format over versions: every value begins with [`FORMAT`], and the manifest names the
//! library version that wrote it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use karez_core::config::ConfigError;
use karez_core::key_group::key_groups_of;
use karez_core::sql_type::to_sql;
use karez_core::{Error, KeyGroup, Result};

use crate::aggregates::Aggregates;

/// The first byte of every value.
pub(crate) const FORMAT: u8 = 1;

/// The bytes behind [`FORMAT`].
pub(crate) fn body(value: &[u8]) -> Result<&[u8]> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((format, _)) => {
            Err(Error::user(format!("state has format {format}, but this build reads format {FORMAT}: use the version that wrote it")))
        }
        None => Err(Error::internal("state without format")),
    }
}

/// Columns as rows of bytes and back.
pub(crate) struct RowCodec {
    /// `None` without columns.
    converter: Option<RowConverter>,
    types: Vec<DataType>,
}

impl RowCodec {
    /// For columns of these types.
    pub(crate) fn new(types: Vec<DataType>) -> Result<Self> {
        let fields: Vec<SortField> = types.iter().cloned().map(SortField::new).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { converter, types })
    }

    /// For the columns of a schema.
    pub(crate) fn of(schema: &Schema) -> Result<Self> {
        Self::new(schema.fields().iter().map(|f| f.data_type().clone()).collect())
    }

    /// For the states of aggregates.
    pub(crate) fn of_states(aggregates: &Aggregates) -> Result<Self> {
        Self::new(aggregates.calls().flat_map(|c| c.state_fields()).map(|f| f.data_type().clone()).collect())
    }

    /// The rows of columns.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<EncodedRows> {
        Ok(EncodedRows(match &self.converter {
            Some(converter) => Some(converter.convert_columns(columns)?),
            None => None,
        }))
    }

    /// The columns of rows.
    pub(crate) fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else {
            return Ok(Vec::new());
        };
        let parser = converter.parser();
        let columns = converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        // The format does not keep dictionaries.
        columns.into_iter().zip(&self.types).map(|(c, t)| if c.data_type() == t { Ok(c) } else { Ok(cast(&c, t)?) }).collect()
    }
}

/// Rows of bytes.
pub(crate) struct EncodedRows(Option<Rows>);

impl EncodedRows {
    /// The bytes of a row.
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        match &self.0 {
            Some(rows) => rows.row(row).data(),
            None => &[],
        }
    }
}

/// Keys as they are written into a keyed table.
pub(crate) struct KeyCodec {
    rows: RowCodec,
    key_groups: u16,
}

impl KeyCodec {
    /// For keys of these columns, in a job of so many key groups.
    pub(crate) fn new(keys: &Schema, key_groups: u16) -> Result<Self> {
        Ok(Self { rows: RowCodec::of(keys)?, key_groups })
    }

    /// Encodes keys, which have been [`normalised`].
    pub(crate) fn encode(&self, keys: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
        let mut groups = Vec::new();
        key_groups_of(keys, rows, self.key_groups, &mut groups)?;
        Ok(EncodedKeys { groups, rows: self.rows.encode(keys)? })
    }

    /// The key columns of encoded keys.
    pub(crate) fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.rows.decode(keys)
    }
}

/// Encoded keys with their key groups.
pub(crate) struct EncodedKeys {
    groups: Vec<KeyGroup>,
    rows: EncodedRows,
}

impl EncodedKeys {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Key group and bytes of a key.
    pub(crate) fn get(&self, row: usize) -> (KeyGroup, &[u8]) {
        (self.groups[row], self.rows.get(row))
    }
}

/// Refuses state columns that cannot be written.
pub(crate) fn check_types<'a>(path: &str, types: impl Iterator<Item = &'a DataType>) -> Result<(), ConfigError> {
    for data_type in types {
        if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
            return Err(ConfigError::new(path, format!("values of type {} cannot be kept in keyed state", to_sql(data_type))));
        }
    }
    Ok(())
}

/// Key columns in which equal keys have equal bits: −0.0 as 0.0, every NaN as one.
pub(crate) fn normalised(key: &ArrayRef) -> ArrayRef {
    fn of<T: ArrowPrimitiveType>(key: &ArrayRef, nan: T::Native, is_nan: impl Fn(T::Native) -> bool) -> ArrayRef {
        let zero = T::Native::default();
        let values: PrimitiveArray<T> = key.as_primitive::<T>().unary(|v| {
            if v == zero {
                zero
            } else if is_nan(v) {
                nan
            } else {
                v
            }
        });
        Arc::new(values)
    }
    match key.data_type() {
        DataType::Float16 => of::<Float16Type>(key, <Float16Type as ArrowPrimitiveType>::Native::NAN, |v| v.is_nan()),
        DataType::Float32 => of::<Float32Type>(key, f32::NAN, f32::is_nan),
        DataType::Float64 => of::<Float64Type>(key, f64::NAN, f64::is_nan),
        _ => Arc::clone(key),
    }
}
