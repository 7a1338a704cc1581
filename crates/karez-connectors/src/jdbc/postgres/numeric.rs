//! PostgreSQL's numeric on the wire: digits of base 10,000, a weight, a sign and a display scale (`numeric_send`, `numeric_recv`).

use arrow::array::ArrowNativeTypeOp;
use arrow::datatypes::ArrowNativeType;
use bytes::BufMut;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;

/// A numeric as it comes.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    /// Digits of base 10,000, big endian, two bytes each.
    digits: &'a [u8],
    /// The power of 10,000 of the first digit.
    weight: i32,
    negative: bool,
    scale: u16,
}

/// Reads the head; the error says what kind of number it is instead.
pub(super) fn parse(bytes: &[u8]) -> Result<Wire<'_>, &'static str> {
    let at = |i: usize| bytes.get(i..i + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (Some(count), Some(weight), Some(sign), Some(scale)) = (at(0), at(2), at(4), at(6)) else { return Err("a damaged numeric") };
    match sign {
        NAN => return Err("NaN"),
        INFINITY => return Err("Infinity"),
        MINUS_INFINITY => return Err("-Infinity"),
        _ => {}
    }
    let digits = bytes.get(8..8 + 2 * usize::from(count)).ok_or("a damaged numeric")?;
    Ok(Wire { digits, weight: i32::from(weight.cast_signed()), negative: sign == NEGATIVE, scale })
}

impl Wire<'_> {
    fn groups(&self) -> impl Iterator<Item = u16> + '_ {
        self.digits.chunks_exact(2).map(|d| u16::from_be_bytes([d[0], d[1]]))
    }

    /// The number times ten to the `scale`, exactly; `None` where it does not fit.
    pub(super) fn value<N: ArrowNativeTypeOp + ArrowNativeType>(&self, scale: i32) -> Option<N> {
        let groups: Vec<u16> = self.groups().collect();
        let exponent = self.exponent() + scale;
        // What stands behind the last place must be zeros, whole groups of them and some in the last group but these.
        let behind = usize::try_from(-exponent).unwrap_or(0);
        let (kept, cut) = groups.split_at(groups.len().saturating_sub(behind / 4));
        let Some((last, before)) = kept.split_last() else {
            return groups.iter().all(|group| *group == 0).then_some(N::ZERO);
        };
        let places = u32::try_from(behind % 4).ok()?;
        let step = 10_u16.pow(places);
        if last % step != 0 || cut.iter().any(|group| *group != 0) {
            return None;
        }
        let number = |n: u16| N::usize_as(usize::from(n));
        let add = |value: N, places: u32, group: u16| value.mul_checked(number(10_u16.pow(places))).ok()?.add_checked(number(group)).ok();
        let value = before.iter().try_fold(N::ZERO, |value, group| add(value, 4, *group))?;
        let value = add(value, 4 - places, last / step)?;
        let value =
            if value == N::ZERO { value } else { value.mul_checked(number(10).pow_checked(u32::try_from(exponent).unwrap_or(0)).ok()?).ok()? };
        if self.negative { value.neg_checked().ok() } else { Some(value) }
    }

    /// The power of ten of the last group's ones.
    fn exponent(&self) -> i32 {
        let count = i32::try_from(self.digits.len() / 2).unwrap_or(i32::MAX);
        (self.weight - count + 1) * 4
    }

    /// Appends the number as text, as PostgreSQL writes it.
    pub(super) fn write(&self, out: &mut String) {
        let groups: Vec<u16> = self.groups().collect();
        let group = |power: i32| usize::try_from(self.weight - power).ok().and_then(|i| groups.get(i)).copied().unwrap_or(0);
        if self.negative {
            out.push('-');
        }
        let mut whole = String::new();
        for power in (0..=self.weight.max(0)).rev() {
            whole.push_str(&format!("{:04}", group(power)));
        }
        let whole = whole.trim_start_matches('0');
        out.push_str(if whole.is_empty() { "0" } else { whole });
        if self.scale > 0 {
            let mut fraction = String::new();
            let mut power = -1;
            while fraction.len() < usize::from(self.scale) {
                fraction.push_str(&format!("{:04}", group(power)));
                power -= 1;
            }
            out.push('.');
            out.push_str(&fraction[..usize::from(self.scale)]);
        }
    }
}

/// Appends a decimal, with its length in front: `magnitude` are its digits without sign and leading zeros, `scale` how many stand behind the point.
pub(super) fn write(out: &mut Vec<u8>, negative: bool, magnitude: &[u8], scale: i32) {
    // Digits are cut into groups of four on both sides of the point: zeros are added to reach the borders.
    let point = i32::try_from(magnitude.len()).unwrap_or(i32::MAX).saturating_sub(scale);
    let lead = point.rem_euclid(4);
    let lead = if lead == 0 { 0 } else { 4 - lead };
    let first_power = (point + lead) / 4 - 1;
    let mut groups: Vec<u16> = Vec::with_capacity(magnitude.len() / 4 + 2);
    let mut group = 0;
    let mut filled = lead;
    for digit in magnitude {
        group = group * 10 + u16::from(digit - b'0');
        filled += 1;
        if filled == 4 {
            groups.push(group);
            (group, filled) = (0, 0);
        }
    }
    if filled > 0 && !magnitude.is_empty() {
        for _ in filled..4 {
            group *= 10;
        }
        groups.push(group);
    }
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let weight = first_power - i32::try_from(leading).unwrap_or(0);
    groups.drain(..leading);
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
    out.put_u32(8 + 2 * u32::from(count));
    out.put_u16(count);
    out.put_i16(if count == 0 { 0 } else { i16::try_from(weight).unwrap_or(0) });
    out.put_u16(if negative && count > 0 { NEGATIVE } else { 0 });
    out.put_u16(u16::try_from(scale.max(0)).unwrap_or(0));
    for group in groups {
        out.put_u16(group);
    }
}

/// Whether a text stands for one that has no digits: `NaN` or an infinity.
pub(super) fn is_word(text: &str) -> bool {
    special(text).is_some()
}

fn special(text: &str) -> Option<u16> {
    match text.to_ascii_lowercase().as_str() {
        "nan" => Some(NAN),
        "inf" | "infinity" | "+inf" | "+infinity" => Some(INFINITY),
        "-inf" | "-infinity" => Some(MINUS_INFINITY),
        _ => None,
    }
}

/// Appends a number given as text; false where it is none.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) -> bool {
    let text = text.trim();
    if let Some(sign) = special(text) {
        out.put_u32(8);
        out.put_u32(0);
        out.put_u16(sign);
        out.put_u16(0);
        return true;
    }
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((m, e)) => match e.parse::<i32>() {
            Ok(e) if e.abs() <= 10_000 => (m, e),
            _ => return false,
        },
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || digits.len() > 100_000 || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    digits.drain(..zeros);
    let mut scale = i32::try_from(fraction.len()).unwrap_or(0) - exponent;
    while scale < 0 {
        if !digits.is_empty() {
            digits.push(b'0');
        }
        scale += 1;
    }
    write(out, negative, &digits, scale);
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::i256;

    use super::*;

    fn through(text: &str) -> String {
        let mut bytes = Vec::new();
        assert!(write_text(&mut bytes, text), "{text}");
        let mut out = String::new();
        parse(&bytes[4..]).unwrap().write(&mut out);
        out
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        for text in [
            "0",
            "1",
            "-1",
            "9999",
            "10000",
            "10001",
            "123456789.987654321",
            "0.0001",
            "0.00001",
            "-0.1",
            "1.500",
            "100000000",
            "0.00",
            "12345678901234567890.12345",
        ] {
            assert_eq!(through(text), text);
        }
        assert_eq!(through("1e3"), "1000");
        assert_eq!(through("1.5e-3"), "0.0015");
        assert_eq!(through("007.50"), "7.50");
        for wrong in ["", "x", "1.2.3", "1e", "--1", "1e99999"] {
            assert!(!write_text(&mut Vec::new(), wrong), "{wrong}");
        }
    }

    #[test]
    fn the_largest_decimals_of_every_scale_are_read() {
        for (precision, scale) in (1..=76).flat_map(|p| (-3..=p).map(move |s| (p, s))) {
            let nines = "9".repeat(usize::try_from(precision).unwrap());
            let mut bytes = Vec::new();
            write(&mut bytes, true, nines.as_bytes(), scale);
            let wire = parse(&bytes[4..]).unwrap();
            assert_eq!(wire.value(scale), i256::from_string(&format!("-{nines}")), "decimal({precision}, {scale})");
            assert_eq!(wire.value::<i256>(scale - 1), None);
            if precision <= 38 {
                assert_eq!(wire.value(scale), format!("-{nines}").parse::<i128>().ok());
            }
            assert_eq!(wire.value::<i128>(scale).is_some(), precision <= 38);
        }
        let mut bytes = Vec::new();
        write(&mut bytes, false, b"", 0);
        assert_eq!((parse(&bytes[4..]).unwrap().value(2), parse(&bytes[4..]).unwrap().value(-9)), (Some(0_i128), Some(0_i128)));
        bytes.clear();
        write(&mut bytes, false, b"1", 12);
        assert_eq!((parse(&bytes[4..]).unwrap().value(12), parse(&bytes[4..]).unwrap().value::<i128>(-40)), (Some(1_i128), None));
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, true, b"1234567", 3);
        let wire = parse(&bytes[4..]).unwrap();
        assert_eq!((wire.value(3), wire.value(5), wire.value::<i128>(2)), (Some(-1_234_567_i128), Some(-123_456_700), None));
        assert_eq!(wire.value(4), Some(i256::from_i128(-12_345_670)));
        bytes.clear();
        write(&mut bytes, false, b"5", -2);
        assert_eq!(parse(&bytes[4..]).unwrap().value(0), Some(500_i128));
    }
}
