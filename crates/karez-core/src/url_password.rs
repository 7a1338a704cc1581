//! Passwords in URLs, for those who show texts that may hold some.

use std::ops::Range;

/// Schemes of URLs with paths that may well hold an `@`.
const WITH_PATHS: [&str; 10] = ["abfs", "abfss", "az", "azure", "file", "gs", "http", "https", "s3", "s3a"];

/// Where passwords stand in the URLs of a text, in order: `scheme://user:password@host`. URLs end with white space or a quote.
///
/// A password may hold, unescaped, what ends the host, so it goes up to the last `@` of the URL: more than the password is found rather than less. Where a
/// path may hold an `@`, that is only where the URL cannot be read otherwise: what stands between the first `:` and a `/`, `?` or `#` is no port.
#[must_use]
pub fn passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://") {
        let (scheme, begin) = (scheme(&text[..from + at]), from + at + 3);
        let url = &text[begin..];
        let url = &url[..url.find(|c: char| c.is_whitespace() || "\"'".contains(c)).unwrap_or(url.len())];
        from = begin;
        if let Some(password) = password(scheme, url) {
            from += password.end;
            found.push(begin + password.start..begin + password.end);
        }
    }
    found
}

/// Where the password stands in a text that is one URL to its end, whatever that holds.
#[must_use]
pub fn password_of(url: &str) -> Option<Range<usize>> {
    let at = url.find("://")?;
    let password = password(scheme(&url[..at]), &url[at + 3..])?;
    Some(at + 3 + password.start..at + 3 + password.end)
}

/// The scheme that a text ends with.
fn scheme(text: &str) -> &str {
    let before = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    before.map_or(text, |at| text[at..].trim_start_matches(|c: char| !c.is_ascii_alphanumeric()))
}

fn password(scheme: &str, url: &str) -> Option<Range<usize>> {
    let host_end = url.find(['/', '?', '#']).unwrap_or(url.len());
    let may_end_there = WITH_PATHS.iter().any(|s| s.eq_ignore_ascii_case(scheme)) && is_host(&url[..host_end]);
    let login = url[..if may_end_there { host_end } else { url.len() }].rsplit_once('@')?.0;
    Some(login.find(':')? + 1..login.len())
}

/// Whether a URL may have this in front of its path.
fn is_host(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    host.starts_with('[') || host.split_once(':').is_none_or(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(text: &str) -> String {
        let mut shown = text.to_owned();
        for password in passwords(text).into_iter().rev() {
            shown.replace_range(password, "*");
        }
        shown
    }

    #[test]
    fn in_a_text_that_is_one_url_a_password_may_hold_space_and_quotes() {
        for (url, password) in
            [("postgres://karez:S3C'R \"T@127.0.0.1:15432/karez", Some("S3C'R \"T")), ("https://host/a b:c@d", None), ("no url", None)]
        {
            assert_eq!(password_of(url).map(|range| &url[range]), password, "{url}");
        }
    }

    #[test]
    fn a_password_is_found_whatever_it_holds_and_paths_are_left() {
        for (text, shown) in [
            ("postgresql://user:pa/ss@word@host/db", "postgresql://user:*@host/db"),
            ("postgresql://user:12/ss@word@host/db", "postgresql://user:*@host/db"),
            ("jdbc:mysql://user:p@ss?w#rd@host/db", "jdbc:mysql://user:*@host/db"),
            ("mysql://us/er:pass@host/db", "mysql://us/er:*@host/db"),
            ("mysql://host:3306/db", "mysql://host:3306/db"),
            ("mysql://user@host/db", "mysql://user@host/db"),
            ("mongodb://user:p/w@one:1,two:2", "mongodb://user:*@one:1,two:2"),
            ("http://host/a:b@c", "http://host/a:b@c"),
            ("http://host:8080/a:b@c", "http://host:8080/a:b@c"),
            ("http://[::1]:8080/a:b@c", "http://[::1]:8080/a:b@c"),
            ("http://user:p@ss@host/a:b@c", "http://user:*@host/a:b@c"),
            ("HTTP://user:pa/ss@word@host/a", "HTTP://user:*@host/a"),
            ("abfss://files@account/a:b@c", "abfss://files@account/a:b@c"),
            ("-://a:b@c, 'db://a:b@c' and db://a:ü@c x:y@z", "-://a:*@c, 'db://a:*@c' and db://a:*@c x:y@z"),
        ] {
            assert_eq!(covered(text), shown);
        }
    }
}
