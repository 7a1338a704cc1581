//! Types of PostgreSQL that are text here: out of their binary form, and values in the text form of COPY.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::temporal;

/// Appends `xxxxxxxx-xxxx-…`.
pub(super) fn uuid(out: &mut String, v: &[u8; 16]) {
    for (i, byte) in v.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// Reads a UUID: hexadecimal digits, with hyphens anywhere and braces around, as PostgreSQL does.
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let mut out = [0; 16];
    let mut digits = 0;
    for c in text.chars().filter(|c| *c != '-') {
        let digit = u8::try_from(c.to_digit(16)?).ok()?;
        let byte = out.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    (digits == 32).then_some(out)
}

/// Appends `10.1.2.3`, `10.0.0.0/8`: family, bits, whether it is a network, length, address.
pub(super) fn network(out: &mut String, v: &[u8]) -> Result<(), String> {
    let [family, bits, is_network, length, address @ ..] = v else { return Err("a damaged address".to_owned()) };
    if usize::from(*length) != address.len() {
        return Err("a damaged address".to_owned());
    }
    let whole = match (*family, <[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (2, Ok(four), _) => {
            let _ = write!(out, "{}", Ipv4Addr::from(four));
            32
        }
        (3, _, Ok(sixteen)) => {
            let _ = write!(out, "{}", Ipv6Addr::from(sixteen));
            128
        }
        _ => return Err("an address of an unknown family".to_owned()),
    };
    if *bits != whole || *is_network == 1 {
        let _ = write!(out, "/{bits}");
    }
    Ok(())
}

/// Appends `08:00:2b:01:02:03`.
pub(super) fn mac(out: &mut String, v: &[u8]) {
    for (i, byte) in v.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if i > 0 { ":" } else { "" });
    }
}

/// Appends an interval as ISO 8601 has it: microseconds, days, months.
pub(super) fn interval(out: &mut String, v: &[u8; 16]) {
    let micros = i64::from_be_bytes([v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]]);
    let days = i32::from_be_bytes([v[8], v[9], v[10], v[11]]);
    let months = i32::from_be_bytes([v[12], v[13], v[14], v[15]]);
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return out.push_str("infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => return out.push_str("-infinity"),
        (0, 0, 0) => return out.push_str("PT0S"),
        _ => {}
    }
    out.push('P');
    for (value, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    }
    if micros == 0 {
        return;
    }
    out.push('T');
    let (seconds, rest) = (micros / 1_000_000, (micros % 1_000_000).unsigned_abs());
    for (value, unit) in [(seconds / 3_600, 'H'), (seconds / 60 % 60, 'M')] {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    }
    let seconds = seconds % 60;
    if seconds != 0 || rest != 0 {
        let sign = if micros < 0 { "-" } else { "" };
        let _ = write!(out, "{sign}{}", seconds.unsigned_abs());
        if rest != 0 {
            let fraction = format!("{rest:06}");
            let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
        }
        out.push('S');
    }
}

/// Appends `05:06:07.000001+01`: microseconds of the day, seconds west of Greenwich.
pub(super) fn time_with_zone(out: &mut String, v: &[u8; 12]) {
    let micros = i64::from_be_bytes([v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]]);
    let east = -i32::from_be_bytes([v[8], v[9], v[10], v[11]]);
    if micros % 1_000_000 == 0 {
        temporal::time(out, micros / 1_000_000, 1);
    } else {
        temporal::time(out, micros, 1_000_000);
    }
    let _ = write!(out, "{}{:02}", if east < 0 { '-' } else { '+' }, east.abs() / 3_600);
    let (minutes, seconds) = (east.abs() / 60 % 60, east.abs() % 60);
    if minutes != 0 || seconds != 0 {
        let _ = write!(out, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(out, ":{seconds:02}");
    }
}

/// Appends `10110`.
pub(super) fn bits(out: &mut String, v: &[u8]) -> Result<(), String> {
    let (count, bytes) = v.split_first_chunk::<4>().ok_or("a damaged bit string")?;
    let count = usize::try_from(i32::from_be_bytes(*count)).unwrap_or(0);
    if bytes.len() * 8 < count {
        return Err("a damaged bit string".to_owned());
    }
    out.extend((0..count).map(|i| if bytes[i / 8] & (0x80 >> (i % 8)) == 0 { '0' } else { '1' }));
    Ok(())
}

/// Appends a value in the text form of COPY, where tab, newline and backslash are escaped.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend(b"\\\\"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn interval_of(micros: i64, days: i32, months: i32) -> String {
        let bytes: Vec<u8> = micros.to_be_bytes().into_iter().chain(days.to_be_bytes()).chain(months.to_be_bytes()).collect();
        let mut out = String::new();
        interval(&mut out, &bytes.try_into().unwrap());
        out
    }

    #[test]
    fn intervals_are_iso_8601() {
        assert_eq!(interval_of(0, 0, 0), "PT0S");
        assert_eq!(interval_of(3_723_004_005, 3, 14), "P1Y2M3DT1H2M3.004005S");
        assert_eq!(interval_of(-1_500_000, 0, -1), "P-1MT-1.5S");
        assert_eq!(interval_of(-500_000, 0, 0), "PT-0.5S");
    }

    #[test]
    fn uuids_are_read_as_postgresql_does() {
        let text = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let mut out = String::new();
        uuid(&mut out, &parse_uuid(text).unwrap());
        assert_eq!(out, text);
        assert_eq!(parse_uuid("{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"), parse_uuid(text));
        assert_eq!(parse_uuid("a0eebc99"), None);
    }
}
