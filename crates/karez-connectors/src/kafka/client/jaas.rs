//! `sasl.jaas.config`, the one line by which Java clients are told a user and a password.

use karez_core::config::Secret;

/// What such a line says.
pub(super) struct Login {
    /// The last part of the class, such as `ScramLoginModule`.
    pub(super) module: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Reads `CLASS required username="…" password="…";`. `None`: not of that form.
pub(super) fn parse(line: &str) -> Option<Login> {
    let line = line.trim();
    let line = line.strip_suffix(';').unwrap_or(line).trim_end();
    let (class, rest) = line.split_once(char::is_whitespace)?;
    let module = class.rsplit('.').next()?.to_owned();
    let (flag, mut rest) = match rest.trim_start().split_once(char::is_whitespace) {
        Some((flag, rest)) => (flag, rest.trim_start()),
        None => (rest.trim(), ""),
    };
    if !matches!(flag.to_ascii_lowercase().as_str(), "required" | "requisite" | "sufficient" | "optional") {
        return None;
    }
    let mut login = Login { module, username: None, password: None };
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        let (value, behind) = quoted(value.trim_start())?;
        match key.trim() {
            "username" => login.username = Some(value),
            "password" => login.password = Some(Secret::new(value)),
            _ => {}
        }
        rest = behind.trim_start();
    }
    Some(login)
}

/// A value and what follows it: in double quotes with `\` before a quote or itself, or up to the next space.
fn quoted(text: &str) -> Option<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::parse;

    #[test]
    fn user_and_password_are_read_with_their_escapes() {
        let login = parse(r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="a\"b;= c";"#).unwrap();
        assert_eq!(login.module, "ScramLoginModule");
        assert_eq!(login.username.as_deref(), Some("alice"));
        assert_eq!(login.password.unwrap().expose(), "a\"b;= c");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "alice:secret", "X required username=\"a", "X perhaps username=a"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
