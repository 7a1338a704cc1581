//! [`Totals`]: exact totals of many groups.

use std::collections::BTreeMap;

use arrow::array::ArrowNativeTypeOp;
use arrow::compute::DecimalCast;
use arrow::datatypes::i256;
use datafusion::logical_expr::EmitTo;

/// Stands for a total that the bits of its type do not hold. No decimal is: it has more digits than any has.
pub(super) fn beyond<N: ArrowNativeTypeOp>() -> N {
    N::MIN_TOTAL_ORDER
}

/// Numbers that say whether they wrap around.
pub(super) trait Overflowing: ArrowNativeTypeOp {
    fn add_overflowing(self, value: Self) -> (Self, bool);
}

macro_rules! overflowing {
    ($($native:ty),*) => {
        $(impl Overflowing for $native {
            #[inline]
            fn add_overflowing(self, value: Self) -> (Self, bool) {
                self.overflowing_add(value)
            }
        })*
    };
}

overflowing!(i32, i64, i128, i256);

/// Numbers whose totals are of type `S`: a total is their sum in their own bits, with wrap-around, and what was carried out of these.
pub(super) trait Addend<S>: Overflowing {
    /// `self` and `carry` times 2 to the number of its bits. [`beyond`] if the bits of `S` do not hold it.
    fn join(self, carry: i64) -> S;

    /// What `total` is [joined](Self::join) of; `None` if it is [`beyond`].
    fn split(total: S) -> Option<(Self, i64)>;
}

macro_rules! of_the_same_bits {
    ($($native:ty),*) => {
        $(impl Addend<$native> for $native {
            fn join(self, carry: i64) -> $native {
                if carry == 0 { self } else { beyond() }
            }

            fn split(total: $native) -> Option<(Self, i64)> {
                (total != beyond::<Self>()).then_some((total, 0))
            }
        })*
    };
}

macro_rules! of_half_the_bits_or_less {
    ($($native:ty => $total:ty),*) => {
        $(impl Addend<$total> for $native {
            fn join(self, carry: i64) -> $total {
                let carried = <$total>::from(carry).checked_mul(1 << Self::BITS);
                carried.and_then(|carried| carried.checked_add(<$total>::from(self))).unwrap_or_else(beyond)
            }

            fn split(total: $total) -> Option<(Self, i64)> {
                let addend = total as Self;
                let carry = total.checked_sub(<$total>::from(addend))? >> Self::BITS;
                carry.to_i64().filter(|_| total != beyond::<$total>()).map(|carry| (addend, carry))
            }
        })*
    };
}

of_the_same_bits!(i64, i128, i256);
of_half_the_bits_or_less!(i32 => i64, i32 => i128, i64 => i128);

impl Addend<i256> for i128 {
    fn join(self, carry: i64) -> i256 {
        let sign = self >> (Self::BITS - 1);
        i256::from_parts(self as u128, sign + Self::from(carry))
    }

    fn split(total: i256) -> Option<(Self, i64)> {
        let (low, high) = total.to_parts();
        let addend = low as Self;
        let sign = addend >> (Self::BITS - 1);
        Some((addend, high.checked_sub(sign)?.to_i64()?))
    }
}

/// A total for each group.
#[derive(Debug)]
pub(super) struct Totals<A> {
    /// The totals without what was carried.
    addends: Vec<A>,
    carries: Carries,
}

/// What was carried, where it is not 0; `None` where the total is not known any more. Hardly any total has one.
type Carries = BTreeMap<usize, Option<i64>>;

impl<A: Overflowing> Totals<A> {
    pub(super) const fn new() -> Self {
        Self { addends: Vec::new(), carries: BTreeMap::new() }
    }

    /// Makes room for so many groups, those that are new with a total of 0.
    pub(super) fn resize(&mut self, groups: usize) {
        self.addends.resize(groups, A::ZERO);
    }

    /// Adds values to groups.
    pub(super) fn adder(&mut self) -> impl FnMut(usize, A) + Send {
        let Self { addends, carries } = self;
        let addends = addends.as_mut_slice();
        move |group, value| add(addends, carries, group, value)
    }

    /// Adds totals that [`take`](Self::take) gave to groups.
    pub(super) fn merger<S>(&mut self) -> impl FnMut(usize, S) + Send
    where
        A: Addend<S>,
    {
        let Self { addends, carries } = self;
        let addends = addends.as_mut_slice();
        move |group, total| match A::split(total) {
            Some((addend, carried)) => {
                add(addends, carries, group, addend);
                if carried != 0 {
                    carry(carries, group, carried);
                }
            }
            None => {
                carries.insert(group, None);
            }
        }
    }

    /// Takes totals out.
    pub(super) fn take<S: ArrowNativeTypeOp>(&mut self, emit_to: EmitTo) -> Vec<S>
    where
        A: Addend<S>,
    {
        let addends = emit_to.take_needed(&mut self.addends);
        let taken = addends.len();
        let kept = self.carries.split_off(&taken).into_iter().map(|(group, carried)| (group - taken, carried)).collect();
        let carried: Vec<(usize, S)> = std::mem::replace(&mut self.carries, kept)
            .into_iter()
            .map(|(group, carried)| (group, carried.map_or_else(beyond, |carried| addends[group].join(carried))))
            .collect();
        let mut totals: Vec<S> = addends.into_iter().map(|addend| addend.join(0)).collect();
        for (group, total) in carried {
            totals[group] = total;
        }
        totals
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.addends.capacity() * size_of::<A>() + self.carries.len() * size_of::<(usize, Option<i64>)>()
    }
}

#[inline]
fn add<A: Overflowing>(addends: &mut [A], carries: &mut Carries, group: usize, value: A) {
    let (total, overflowed) = addends[group].add_overflowing(value);
    addends[group] = total;
    if overflowed {
        carry(carries, group, if value < A::ZERO { -1 } else { 1 });
    }
}

#[cold]
fn carry(carries: &mut Carries, group: usize, by: i64) {
    let carried = carries.entry(group).or_insert(Some(0));
    *carried = carried.and_then(|carried| carried.checked_add(by));
    if *carried == Some(0) {
        carries.remove(&group);
    }
}
