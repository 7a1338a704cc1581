//! Choices read from bytes: whatever the bytes are, a valid choice; smaller bytes, simpler ones. So the bytes can be shrunk freely.

pub struct Dice<'a>(std::slice::Iter<'a, u8>);

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    /// One of `0..sides`; 0 when the bytes are used up.
    pub fn roll(&mut self, sides: usize) -> usize {
        if sides == 0 { 0 } else { usize::from(self.0.next().copied().unwrap_or(0)) % sides }
    }

    /// Once in so many times.
    pub fn chance(&mut self, one_in: usize) -> bool {
        self.roll(one_in) == one_in - 1
    }

    /// One of `0..up_to`.
    pub fn int(&mut self, up_to: i64) -> i64 {
        i64::try_from(self.roll(usize::try_from(up_to).unwrap())).unwrap()
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.roll(from.len());
        from.get(at).cloned()
    }
}
