//! Numbers whose form is plain. Any other form is for the general path to judge.

use super::scan::{eight_digits, leading_digits, load8};

/// At most this many digits are read, so that neither the value nor what is made of it can overflow.
const DIGITS_LIMIT: usize = 18;

/// Powers of ten that a `u64` holds within [`DIGITS_LIMIT`].
const POWERS: [u64; DIGITS_LIMIT + 1] = {
    let mut powers = [1; DIGITS_LIMIT + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// The value of the digits at `pos`, appended to those of `value`, and the position behind them.
#[inline(always)]
fn digits(data: &[u8], mut pos: usize, mut value: u64) -> Option<(u64, usize)> {
    let begin = pos;
    loop {
        let word = load8(data, pos);
        let count = leading_digits(word);
        pos += count as usize;
        if pos - begin > DIGITS_LIMIT {
            return None;
        }
        if count == 8 {
            value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(word ^ 0x3030_3030_3030_3030));
            continue;
        }
        if count != 0 {
            let aligned = (word ^ 0x3030_3030_3030_3030) << (64 - 8 * count);
            value = value.wrapping_mul(POWERS[count as usize]).wrapping_add(eight_digits(aligned));
        }
        return Some((value, pos));
    }
}

/// A whole number at `pos`: whether it has a minus, its magnitude (below 10^18), and the position behind it.
///
/// No leading zero, no `-0`. What follows is not looked at: the next key's literal or brace does not fit anything that
/// goes on with the number.
#[inline(always)]
pub(super) fn integer(data: &[u8], pos: usize) -> Option<(bool, u64, usize)> {
    let first = *data.get(pos)?;
    let negative = first == b'-';
    let begin = pos + usize::from(negative);
    let (magnitude, end) = digits(data, begin, 0)?;
    let count = end - begin;
    if count == 0 || (data[begin] == b'0' && (count > 1 || negative)) {
        return None;
    }
    Some((negative, magnitude, end))
}

/// A number of the JSON grammar at `pos`, without an exponent.
pub(super) struct Decimal {
    pub(super) negative: bool,
    /// The digits before and behind the point as one number, below 10^18.
    pub(super) mantissa: u64,
    /// How many digits stand before the point, a lone zero not counted.
    pub(super) whole_digits: usize,
    /// How many digits stand behind the point.
    pub(super) scale: usize,
    pub(super) end: usize,
}

/// The number at `pos`, if it has no exponent, no leading zero and at most 18 digits. What follows is not looked at.
#[inline(always)]
pub(super) fn decimal(data: &[u8], pos: usize) -> Option<Decimal> {
    let negative = *data.get(pos)? == b'-';
    let begin = pos + usize::from(negative);
    let (whole, point) = digits(data, begin, 0)?;
    let whole_digits = point - begin;
    if whole_digits == 0 || (whole_digits > 1 && data[begin] == b'0') {
        return None;
    }
    let mut number = Decimal { negative, mantissa: whole, whole_digits: if whole == 0 { 0 } else { whole_digits }, scale: 0, end: point };
    if data.get(point) == Some(&b'.') {
        let (_, end) = digits(data, point + 1, 0)?;
        number.scale = end - point - 1;
        if number.scale == 0 || whole_digits + number.scale > DIGITS_LIMIT {
            return None;
        }
        number.mantissa = digits(data, point + 1, whole)?.0;
        number.end = end;
    }
    Some(number)
}

/// A floating point number, by the shortest way that rounds correctly.
pub(super) trait Float: Sized + Copy {
    /// The number at `pos` and the position behind it.
    fn read(data: &[u8], pos: usize) -> Option<(Self, usize)>;
}

macro_rules! float {
    ($type:ty, $mantissa_bits:expr, $exact_scale:expr) => {
        impl Float for $type {
            #[inline(always)]
            fn read(data: &[u8], pos: usize) -> Option<(Self, usize)> {
                let Some(number) = decimal(data, pos) else { return by_text(data, pos) };
                if matches!(data.get(number.end), Some(b'e' | b'E')) {
                    return by_text(data, pos);
                }
                // Both sides of the division are exact, so that it rounds once (W. Clinger, PLDI 1990).
                if number.mantissa >> $mantissa_bits != 0 || number.scale > $exact_scale {
                    return by_text(data, pos);
                }
                if number.mantissa == 0 && number.negative {
                    return None;
                }
                let magnitude = number.mantissa as $type / POWERS[number.scale] as $type;
                Some((if number.negative { -magnitude } else { magnitude }, number.end))
            }
        }
    };
}

float!(f32, 24, 10);
float!(f64, 53, 18);

/// Longest text of a number read here.
const TEXT_LIMIT: usize = 64;

/// The number at `pos` through the standard library, when it has the JSON grammar.
#[inline(never)]
fn by_text<T: std::str::FromStr + Into<f64> + Copy>(data: &[u8], pos: usize) -> Option<(T, usize)> {
    let end = super::scan::number_end(data, pos)?;
    let text = data.get(pos..end).filter(|text| text.len() <= TEXT_LIMIT)?;
    if !is_json_number(text) {
        return None;
    }
    let value: T = std::str::from_utf8(text).ok()?.parse().ok()?;
    // The sign of zero, and what is too large, are left to the general path.
    (value.into() != 0.0 && value.into().is_finite()).then_some((value, end))
}

/// Whether `text` is a number of RFC 8259.
fn is_json_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> (usize, &[u8]) {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count, &text[count..])
    }
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, mut rest) = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned[0] == b'0') {
        return false;
    }
    if let Some(behind) = rest.strip_prefix(b".") {
        let (count, behind) = digits(behind);
        if count == 0 {
            return false;
        }
        rest = behind;
    }
    if let [b'e' | b'E', behind @ ..] = rest {
        let behind = behind.strip_prefix(b"-").or(behind.strip_prefix(b"+")).unwrap_or(behind);
        let (count, behind) = digits(behind);
        if count == 0 {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// `mantissa` scaled up by `10^power`, within [`i128`] for the precisions that the caller lets through.
pub(super) fn scaled(number: &Decimal, power: usize) -> Option<i128> {
    let magnitude = i128::from(number.mantissa).checked_mul(10_i128.checked_pow(u32::try_from(power).ok()?)?)?;
    Some(if number.negative { -magnitude } else { magnitude })
}
