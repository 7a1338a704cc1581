//! What a plain scalar means: the core schema of YAML 1.2 (§10.3.2).

use serde_json::Number;

use super::Value;

pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal).then(|| u64::from_str_radix(octal, 8).ok().map(Number::from))?;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return (!hex.starts_with('+')).then(|| u64::from_str_radix(hex, 16).ok().map(Number::from))?;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits(unsigned) {
        let positive = text.strip_prefix('+').unwrap_or(text);
        if let Ok(n) = positive.parse::<i64>() {
            return Some(n.into());
        }
        if let Ok(n) = positive.parse::<u64>() {
            return Some(n.into());
        }
        return positive.parse().ok().and_then(Number::from_f64);
    }
    // Only digits, a point and an exponent: Rust would also read `inf`, `nan` and `infinity`.
    let float = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if float { text.strip_prefix('+').unwrap_or(text).parse().ok().and_then(Number::from_f64) } else { None }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for text in ["yes", "no", "on", "off", "10s", "1.2.3", "0x", "-", ".", ".inf", "nan", "1e", "2013-01-01", "12:30", "1_000", "e5"] {
            assert!(matches!(resolve(text), Value::String(_)), "{text}");
        }
        for (text, expected) in
            [("7", "7"), ("-7", "-7"), ("+7", "7"), ("0o17", "15"), ("0xFF", "255"), ("1.5", "1.5"), ("1e3", "1000.0"), (".5", "0.5")]
        {
            assert!(matches!(resolve(text), Value::Number(n) if n.to_string() == expected), "{text}");
        }
        assert!(matches!(resolve("True"), Value::Bool(true)));
        assert!(matches!(resolve("~"), Value::Null));
    }
}
