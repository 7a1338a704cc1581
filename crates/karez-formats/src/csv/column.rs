//! The values of one column while its batch is being filled.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{
    Date32Type, Date64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, GenericStringArray, OffsetSizeTrait, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;

use karez_core::exact::{Misfit, decimal, text};
use karez_core::sql_type::to_sql;

/// Rows of one column, appended one by one and taken as an array.
pub(super) trait Column: Send {
    /// Whether quoted null markers and white space are text.
    fn is_text(&self) -> bool {
        false
    }

    /// Adds a value, or says why the column cannot hold it.
    fn append(&mut self, value: &str) -> Result<(), Misfit>;

    /// Adds a null.
    fn append_null(&mut self);

    /// Drops the rows behind the first `rows`.
    fn truncate(&mut self, rows: usize);

    /// Takes the rows.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError>;

    /// Bytes held, about.
    fn bytes(&self) -> usize;
}

/// An empty column.
pub(super) fn of(field: &Field) -> Result<Box<dyn Column>, ArrowError> {
    let data_type = field.data_type();
    Ok(match data_type {
        DataType::Boolean => Box::new(Booleans::default()),
        DataType::Int8 => parsed::<Int8Type>(data_type),
        DataType::Int16 => parsed::<Int16Type>(data_type),
        DataType::Int32 => parsed::<Int32Type>(data_type),
        DataType::Int64 => parsed::<Int64Type>(data_type),
        DataType::UInt8 => parsed::<UInt8Type>(data_type),
        DataType::UInt16 => parsed::<UInt16Type>(data_type),
        DataType::UInt32 => parsed::<UInt32Type>(data_type),
        DataType::UInt64 => parsed::<UInt64Type>(data_type),
        DataType::Float16 => Primitive::<Float16Type, _>::boxed(data_type, text::float::<Float16Type>),
        DataType::Float32 => Primitive::<Float32Type, _>::boxed(data_type, text::float::<Float32Type>),
        DataType::Float64 => Primitive::<Float64Type, _>::boxed(data_type, text::float::<Float64Type>),
        DataType::Date32 => Primitive::<Date32Type, _>::boxed(data_type, text::date),
        DataType::Date64 => parsed::<Date64Type>(data_type),
        DataType::Time32(unit) => {
            let unit = *unit;
            let parse = move |s: &str| text::time(s, unit).and_then(|time| i32::try_from(time).map_err(|_| Misfit::Size));
            match unit {
                TimeUnit::Second => Primitive::<Time32SecondType, _>::boxed(data_type, parse),
                _ => Primitive::<Time32MillisecondType, _>::boxed(data_type, parse),
            }
        }
        DataType::Time64(unit) => {
            let unit = *unit;
            let parse = move |s: &str| text::time(s, unit);
            match unit {
                TimeUnit::Microsecond => Primitive::<Time64MicrosecondType, _>::boxed(data_type, parse),
                _ => Primitive::<Time64NanosecondType, _>::boxed(data_type, parse),
            }
        }
        DataType::Timestamp(unit, zone) => {
            let (zone, unit): (Tz, _) = (zone.as_deref().unwrap_or("+00:00").parse()?, *unit);
            let parse = move |s: &str| text::timestamp(s, &zone, unit);
            match unit {
                TimeUnit::Second => Primitive::<TimestampSecondType, _>::boxed(data_type, parse),
                TimeUnit::Millisecond => Primitive::<TimestampMillisecondType, _>::boxed(data_type, parse),
                TimeUnit::Microsecond => Primitive::<TimestampMicrosecondType, _>::boxed(data_type, parse),
                TimeUnit::Nanosecond => Primitive::<TimestampNanosecondType, _>::boxed(data_type, parse),
            }
        }
        &DataType::Decimal128(precision, scale) => {
            Primitive::<Decimal128Type, _>::boxed(data_type, move |s| decimal::parse::<Decimal128Type>(s, precision, scale))
        }
        &DataType::Decimal256(precision, scale) => {
            Primitive::<Decimal256Type, _>::boxed(data_type, move |s| decimal::parse::<Decimal256Type>(s, precision, scale))
        }
        DataType::Utf8 => Box::new(Text::<i32>::new(data_type)),
        DataType::LargeUtf8 => Box::new(Text::<i64>::new(data_type)),
        DataType::Utf8View => Box::new(Text::<i32>::new(data_type)),
        DataType::Dictionary(_, values) if values.as_ref() == &DataType::Utf8 => Box::new(Text::<i32>::new(data_type)),
        other => {
            return Err(ArrowError::SchemaError(format!(
                "column `{}`: the type {} has no form in CSV; read it as a string",
                field.name(),
                to_sql(other)
            )));
        }
    })
}

/// Whether each row holds a value. Nothing is kept before the first null.
#[derive(Debug, Default)]
struct Validity(Option<Vec<bool>>);

impl Validity {
    #[inline]
    fn append_valid(&mut self) {
        if let Some(valid) = &mut self.0 {
            valid.push(true);
        }
    }

    fn append_null(&mut self, rows_before: usize) {
        self.0.get_or_insert_with(|| vec![true; rows_before]).push(false);
    }

    fn truncate(&mut self, rows: usize) {
        if let Some(valid) = &mut self.0 {
            valid.truncate(rows);
        }
    }

    fn finish(&mut self) -> Option<arrow::buffer::NullBuffer> {
        self.0.take().map(|valid| valid.into_iter().collect::<BooleanBuffer>().into())
    }
}

struct Primitive<T: ArrowPrimitiveType, P> {
    data_type: DataType,
    values: Vec<T::Native>,
    validity: Validity,
    parse: P,
}

fn parsed<T: Parser>(data_type: &DataType) -> Box<dyn Column> {
    Primitive::<T, _>::boxed(data_type, |text| T::parse(text).ok_or(Misfit::Form))
}

impl<T: ArrowPrimitiveType, P: Fn(&str) -> Result<T::Native, Misfit> + Send + 'static> Primitive<T, P> {
    fn boxed(data_type: &DataType, parse: P) -> Box<dyn Column> {
        Box::new(Self { data_type: data_type.clone(), values: Vec::new(), validity: Validity::default(), parse })
    }
}

impl<T: ArrowPrimitiveType, P: Fn(&str) -> Result<T::Native, Misfit> + Send> Column for Primitive<T, P> {
    fn append(&mut self, value: &str) -> Result<(), Misfit> {
        self.values.push((self.parse)(value)?);
        self.validity.append_valid();
        Ok(())
    }

    fn append_null(&mut self) {
        self.validity.append_null(self.values.len());
        self.values.push(T::default_value());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), self.validity.finish())?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn bytes(&self) -> usize {
        self.values.len() * size_of::<T::Native>()
    }
}

#[derive(Default)]
struct Booleans {
    values: Vec<bool>,
    validity: Validity,
}

impl Column for Booleans {
    fn append(&mut self, value: &str) -> Result<(), Misfit> {
        self.values.push(match value {
            "true" | "TRUE" | "True" | "t" | "T" | "1" => true,
            "false" | "FALSE" | "False" | "f" | "F" | "0" => false,
            _ => return Err(Misfit::Form),
        });
        self.validity.append_valid();
        Ok(())
    }

    fn append_null(&mut self) {
        self.validity.append_null(self.values.len());
        self.values.push(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.validity.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let values: BooleanBuffer = std::mem::take(&mut self.values).into_iter().collect();
        Ok(Arc::new(BooleanArray::new(values, self.validity.finish())))
    }

    fn bytes(&self) -> usize {
        self.values.len()
    }
}

struct Text<O: OffsetSizeTrait> {
    data_type: DataType,
    bytes: Vec<u8>,
    /// Where each row begins in `bytes`, and the end.
    offsets: Vec<O>,
    validity: Validity,
}

impl<O: OffsetSizeTrait> Text<O> {
    fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), bytes: Vec::new(), offsets: vec![O::default()], validity: Validity::default() }
    }
}

impl<O: OffsetSizeTrait> Column for Text<O> {
    fn is_text(&self) -> bool {
        true
    }

    fn append(&mut self, value: &str) -> Result<(), Misfit> {
        let end = O::from_usize(self.bytes.len() + value.len()).ok_or(Misfit::Size)?;
        self.bytes.extend_from_slice(value.as_bytes());
        self.offsets.push(end);
        self.validity.append_valid();
        Ok(())
    }

    fn append_null(&mut self) {
        self.validity.append_null(self.offsets.len() - 1);
        self.offsets.extend_from_within(self.offsets.len() - 1..);
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets.last().map_or(0, |o| o.as_usize()));
        self.validity.truncate(rows);
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let (bytes, rows) = (self.bytes.len(), self.offsets.len());
        let mut fresh = Vec::with_capacity(rows);
        fresh.push(O::default());
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, fresh).into());
        let values = Buffer::from_vec(std::mem::replace(&mut self.bytes, Vec::with_capacity(bytes)));
        let array = GenericStringArray::<O>::try_new(offsets, values, self.validity.finish())?;
        if array.data_type() == &self.data_type { Ok(Arc::new(array)) } else { cast(&array, &self.data_type) }
    }

    fn bytes(&self) -> usize {
        self.bytes.len() + self.offsets.len() * size_of::<O>()
    }
}
