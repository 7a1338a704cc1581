//! Random numbers that are a function of (seed, column, row): SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
//! Written out here since a library's generator may change with its version, and a replay must not.

/// A short sequence of random numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of one cell.
    pub(super) const fn of(seed: u64, column: usize, row: u64) -> Self {
        Self(mix(mix(seed ^ 0x6a09_e667_f3bc_c908).wrapping_add(mix(column as u64 + 1))) ^ mix(row))
    }

    /// All 64 bits.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to below 1, multiples of 2^-53.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `n` (Lemire's multiplication, its bias of at most n / 2^64 left in).
    pub(super) const fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
