//! Columns of one type as those of another, where nothing is lost by it: between the types of a schema language and those that a job declares.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use karez_core::exact::cast;

/// Which column of a batch each column of a schema is made of.
pub(super) struct Conform {
    to: SchemaRef,
    /// `None`: a column of nulls.
    sources: Vec<Option<usize>>,
}

impl Conform {
    /// Columns of `to`, found in `from` by name. One that is missing there is null.
    ///
    /// # Errors
    ///
    /// A missing column that must not be null, or one whose type does not become the other.
    pub(super) fn by_name(from: &Fields, to: &SchemaRef) -> Result<Self, String> {
        let sources = to.fields().iter().map(|field| match from.find(field.name()) {
            Some((place, found)) => check(found, field).map(|()| Some(place)).map_err(|e| format!("column `{}`: {e}", field.name())),
            None if field.is_nullable() => Ok(None),
            None => Err(format!("there is no `{}`, and the column must not be null", field.name())),
        });
        Ok(Self { sources: sources.collect::<Result<_, _>>()?, to: Arc::clone(to) })
    }

    /// The rows in the other schema. An error may be of one row alone.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let columns = self.sources.iter().zip(self.to.fields()).map(|(source, field)| match source {
            Some(place) => cast(batch.column(*place), field).map_err(|e| format!("column `{}`: {e}", field.name())),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.to), columns, &options).map_err(|e| match e {
            ArrowError::InvalidArgumentError(why) => why,
            other => other.to_string(),
        })
    }
}

/// Whether a schema language's values of one type are those of another. Whether each fits, the cast finds.
fn check(from: &Field, to: &Field) -> Result<(), String> {
    use DataType as T;
    let fits = match (from.data_type(), to.data_type()) {
        (a, b) if a == b => true,
        (T::Null, _) => true,
        (T::Dictionary(_, values), _) => return check(&Field::new("", values.as_ref().clone(), true), to),
        (a, T::Dictionary(_, _)) => a.is_string(),
        (T::Struct(a), T::Struct(b)) => {
            return b.iter().try_for_each(|field| match a.find(field.name()) {
                Some((_, found)) => check(found, field).map_err(|e| format!("`{}`: {e}", field.name())),
                None if field.is_nullable() => Ok(()),
                None => Err(format!("there is no `{}`, which must not be null", field.name())),
            });
        }
        (T::List(a), T::List(b)) => return check(a, b),
        (T::Map(a, _), T::Map(b, _)) => {
            let (Some((ka, va)), Some((kb, vb))) = (entries(a), entries(b)) else { return Err("a map of no keys and values".to_owned()) };
            return check(ka, kb).and_then(|()| check(va, vb));
        }
        (T::FixedSizeBinary(16), T::Utf8) | (T::Utf8, T::FixedSizeBinary(16)) => true,
        (a, b) if a.is_integer() => b.is_integer() || b.is_decimal() || b.is_string() || *b == T::Float64,
        (a, b) if a.is_decimal() => b.is_string() || (b.is_decimal() && scale(a) <= scale(b)),
        (T::Float16, T::Float32 | T::Float64) | (T::Float32, T::Float64) => true,
        (a, b) if a.is_floating() || *a == T::Boolean => b.is_string(),
        (T::Timestamp(..), T::Timestamp(..)) | (T::Time32(_) | T::Time64(_), T::Time32(_) | T::Time64(_)) => true,
        (T::Date32, T::Date64) | (T::Date64, T::Date32) => true,
        (a, b) if a.is_temporal() => b.is_string(),
        (a, b) if a.is_string() && (b.is_decimal() || b.is_temporal()) => true,
        (a, b) if a.is_string() || is_binary(a) => b.is_string() || is_binary(b),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{} does not become {}", name(from.data_type()), name(to.data_type()))) }
}

fn name(data_type: &DataType) -> String {
    karez_core::sql_type::to_sql(data_type)
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) | DataType::Decimal256(_, s) => *s,
        _ => 0,
    }
}

/// Key and value of a map's entries.
fn entries(field: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match field.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}
