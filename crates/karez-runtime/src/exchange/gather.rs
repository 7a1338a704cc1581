//! Puts the rows of a batch in the order of their targets.
//!
//! Columns without nulls are read in sequence and written to as many places as there are targets, which caches like better than the random reads of
//! `take`; all others go through `take`.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, PrimitiveArray, UInt32Array, downcast_primitive_array};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{ArrowPrimitiveType, BinaryType, ByteArrayType, DataType, Utf8Type};
use karez_core::Result;

/// Where each row goes.
pub(super) struct Gather<'a> {
    position_of_row: &'a [u32],
    /// The inverse, where a column needs it.
    row_at: OnceCell<UInt32Array>,
}

impl<'a> Gather<'a> {
    /// Row `i` goes to `position_of_row[i]`.
    ///
    /// # Safety
    /// The positions are a permutation of `0..n`, and every column has `n` rows.
    pub(super) const unsafe fn new(position_of_row: &'a [u32]) -> Self {
        Self { position_of_row, row_at: OnceCell::new() }
    }

    /// The column in the new order.
    pub(super) fn column(&self, column: &ArrayRef) -> Result<ArrayRef> {
        if column.null_count() > 0 {
            return self.any(column);
        }
        let array: &dyn Array = column;
        downcast_primitive_array!(
            array => Ok(self.primitive(array)),
            DataType::Utf8 => Ok(self.bytes::<Utf8Type>(array.as_bytes())),
            DataType::Binary => Ok(self.bytes::<BinaryType>(array.as_bytes())),
            _ => self.any(column),
        )
    }

    fn primitive<T: ArrowPrimitiveType>(&self, array: &PrimitiveArray<T>) -> ArrayRef {
        let mut out: Vec<T::Native> = Vec::with_capacity(array.len());
        let room = &mut out.spare_capacity_mut()[..array.len()];
        for (value, &at) in array.values().iter().zip(self.position_of_row) {
            room[at as usize].write(*value);
        }
        // SAFETY: a permutation of all positions, so each has been written.
        unsafe { out.set_len(array.len()) };
        Arc::new(PrimitiveArray::<T>::new(out.into(), None).with_data_type(array.data_type().clone()))
    }

    fn bytes<T: ByteArrayType<Offset = i32>>(&self, array: &GenericByteArray<T>) -> ArrayRef {
        let offsets = array.value_offsets();
        let mut starts = vec![0_i32; array.len() + 1];
        for (bounds, &at) in offsets.windows(2).zip(self.position_of_row) {
            starts[at as usize] = bounds[1] - bounds[0];
        }
        // The sum is that of the source, which fits.
        let mut end = 0;
        for start in &mut starts {
            (*start, end) = (end, end + *start);
        }
        let values = array.value_data();
        let mut out = vec![0_u8; end as usize];
        for (bounds, &at) in offsets.windows(2).zip(self.position_of_row) {
            let value = &values[bounds[0] as usize..bounds[1] as usize];
            let start = starts[at as usize] as usize;
            out[start..start + value.len()].copy_from_slice(value);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(starts));
        // SAFETY: the values are those of a valid array, whole and in another order; the offsets are their lengths' running sum.
        Arc::new(unsafe { GenericByteArray::<T>::new_unchecked(offsets, out.into(), None) })
    }

    fn any(&self, column: &ArrayRef) -> Result<ArrayRef> {
        let row_at = self.row_at.get_or_init(|| {
            let mut row_at = vec![0_u32; self.position_of_row.len()];
            // Rows are counted in u32 already.
            (0_u32..).zip(self.position_of_row).for_each(|(row, &at)| row_at[at as usize] = row);
            row_at.into()
        });
        Ok(take(column, row_at, None)?)
    }
}
