//! [`Finish`]: what a result is of a total.

use arrow::array::ArrowNativeTypeOp;
use arrow::datatypes::ArrowNativeType;

use super::totals::beyond;

/// What a result is of a total.
#[derive(Clone, Copy, Debug)]
pub(super) enum Finish<N> {
    /// The total.
    Sum,
    /// The total by the number of values, with more places behind the point, cut off behind the last.
    Average {
        /// 10 to the number of places more.
        shift: N,
    },
}

impl<N: ArrowNativeTypeOp + ArrowNativeType> Finish<N> {
    /// The average with so many places more than the values.
    pub(super) fn average(places: u32) -> Self {
        Self::Average { shift: N::usize_as(10).pow_wrapping(places) }
    }

    pub(super) const fn is_average(&self) -> bool {
        matches!(self, Self::Average { .. })
    }

    /// The result of one value at least; [`beyond`] if the total is, or if its bits do not hold the result.
    pub(super) fn of(self, total: N, count: u64) -> N {
        let Self::Average { shift } = self else { return total };
        let Some(count) = usize::try_from(count).ok().and_then(N::from_usize).filter(|_| total != beyond()) else { return beyond() };
        let average = match total.mul_checked(shift) {
            Ok(shifted) => shifted.div_checked(count),
            // The whole part and the rest apart: the average may have bits enough where the shifted total has not.
            Err(_) => total.div_checked(count).and_then(|whole| {
                let rest = total.mod_checked(count)?.mul_checked(shift)?.div_checked(count)?;
                whole.mul_checked(shift)?.add_checked(rest)
            }),
        };
        average.unwrap_or_else(|_| beyond())
    }
}
