//! Secrets that stand in a file, covered wherever its lines are shown: logs are read by many.

use karez_core::url_password;

/// The keys whose values are secrets, as they end: `password`, `sslPassword`, `client_secret`; and as they are misspelt.
const KEYS: [&str; 9] = ["password", "secret", "token", "passphrase", "passwd", "pwd", "pass", "pasword", "passwort"];

/// The text with stars in the place of passwords in URLs, and of what follows such a key. Of the same length, so that places stay what they are.
pub(crate) fn covered(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for password in url_password::passwords(text) {
        cover(&mut bytes, text, password.start, password.end);
    }
    let lower = text.to_ascii_lowercase();
    for key in KEYS {
        for (at, _) in lower.match_indices(key) {
            let behind = at + key.len();
            let rest = &text[behind..];
            // `password=…` in a URL ends with the parameter, `password: …` in YAML with the value.
            let value = if let Some(value) = rest.strip_prefix('=') {
                &value[..value.find(|c: char| c.is_whitespace() || "&\"';,}".contains(c)).unwrap_or(value.len())]
            } else if let Some(value) = rest.trim_start_matches(['"', '\'']).strip_prefix(':') {
                let value = value.trim_start_matches([' ', '"', '\'']);
                &value[..value.find(|c: char| "\n\"',}".contains(c)).unwrap_or(value.len())]
            } else {
                continue;
            };
            let begin = value.as_ptr() as usize - text.as_ptr() as usize;
            cover(&mut bytes, text, begin, begin + value.trim_end().len());
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Covers these bytes, unless they are the name of a variable and nothing else.
fn cover(bytes: &mut [u8], text: &str, begin: usize, end: usize) {
    let name = text[begin..end].strip_prefix("${").map(|name| name.strip_suffix('}').unwrap_or(name));
    if !name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        bytes[begin..end].fill(b'*');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_covered_and_nothing_moves() {
        for (text, shown) in [
            ("url: \"postgres://karez:S3cret@db/x\"", "url: \"postgres://karez:******@db/x\""),
            ("url: jdbc:mysql://db/x?user=a&password=pä@ss&b=1", "url: jdbc:mysql://db/x?user=a&password=******&b=1"),
            ("{ url: mysql://a:p@ss@db/x, password: hush, n: 1 }", "{ url: mysql://a:****@db/x, password: ****, n: 1 }"),
            ("url: 'postgres://karez:S3c@ret/P,w#x@db/x'", "url: 'postgres://karez:*************@db/x'"),
            ("sasl: { user: a, pass: hush }, pasword: hush", "sasl: { user: a, pass: **** }, pasword: ****"),
            ("  \"trustStorePassword\": \"two words\"\n", "  \"trustStorePassword\": \"*********\"\n"),
            ("password: ${DB_PASSWORD}\nurl: postgres://a:${P}@db", "password: ${DB_PASSWORD}\nurl: postgres://a:${P}@db"),
            ("url: postgres://a:${P}x@db, password: ${P:-hush}", "url: postgres://a:*****@db, password: *********}"),
            ("url: postgres://a:pa/ss@word@db/x", "url: postgres://a:**********@db/x"),
            ("bootstrapServers: kafka://one:9092,two:9092", "bootstrapServers: kafka://one:9092,two:9092"),
            ("say: the password is asked for", "say: the password is asked for"),
        ] {
            assert_eq!(covered(text), shown);
            assert_eq!(covered(text).len(), text.len());
        }
    }
}
