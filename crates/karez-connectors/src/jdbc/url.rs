//! The URL of a database, as users write it, and which database it names.

use std::path::PathBuf;

use karez_core::config::{ConfigError, Secret};

/// A database that this connector can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A SQLite file.
    SqliteFile(PathBuf),
    /// A SQLite database that lives in the memory of one connection.
    SqliteMemory,
    /// A database on a server.
    Server(ServerUrl),
}

/// A kind of database server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    PostgreSql,
    MySql,
    MariaDb,
}

impl Server {
    /// Its name, for a person.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        }
    }

    /// The scheme of its URLs.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::PostgreSql => 5432,
            Self::MySql | Self::MariaDb => 3306,
        }
    }

    /// The classes of Java drivers that name it.
    const fn drivers(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["org.postgresql.Driver", "postgresql", "postgres"],
            Self::MySql => &["com.mysql.cj.jdbc.Driver", "com.mysql.jdbc.Driver", "mysql"],
            Self::MariaDb => &["org.mariadb.jdbc.Driver", "mariadb"],
        }
    }
}

/// A server's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) server: Server,
    /// Servers to try in order. Never empty.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// `?name=value&…`, in order, decoded; `user` and `password` are taken out.
    pub(super) parameters: Vec<(String, String)>,
}

/// Databases with a JDBC URL that are known by name but not supported.
const OTHERS: &[(&str, &str)] =
    &[("oracle", "Oracle"), ("sqlserver", "SQL Server"), ("db2", "Db2"), ("h2", "H2"), ("clickhouse", "ClickHouse"), ("duckdb", "DuckDB")];

const EXAMPLES: &str = "write it like `jdbc:postgresql://host:5432/shop`, `mysql://host/shop`, `mariadb://host/shop` or `jdbc:sqlite:data/shop.db`";

/// Reads a URL: `jdbc:postgresql://…`, `postgres://…`, `jdbc:mysql://…`, `mysql://…`, `jdbc:mariadb://…`, `jdbc:sqlite:PATH` and so on; other databases
/// are refused by name. The text itself is not repeated: it may hold a password.
pub(super) fn parse(url: &str) -> Result<Target, ConfigError> {
    let url = url.trim();
    let rest = url.strip_prefix("jdbc:").unwrap_or(url);
    let Some((scheme, path)) = rest.split_once(':') else {
        return Err(ConfigError::new("url", "is no database URL").hint(EXAMPLES));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "sqlite" => sqlite(path),
        "postgresql" | "postgres" => server(Server::PostgreSql, path),
        "mysql" => server(Server::MySql, path),
        "mariadb" => server(Server::MariaDb, path),
        other => Err(match OTHERS.iter().find(|(s, _)| *s == other) {
            Some((_, name)) => ConfigError::new("url", format!("{name} is not supported")).hint(EXAMPLES),
            None => ConfigError::new("url", format!("unknown database `{other}`")).hint(EXAMPLES),
        }),
    }
}

fn sqlite(path: &str) -> Result<Target, ConfigError> {
    if path == ":memory:" || path.is_empty() {
        return Ok(Target::SqliteMemory);
    }
    let path = path.strip_prefix("//").unwrap_or(path);
    if let Some((_, parameters)) = path.split_once('?') {
        return Err(ConfigError::new("url", format!("parameters behind the path are not known: `?{parameters}`")).hint("give the path alone"));
    }
    Ok(Target::SqliteFile(PathBuf::from(path)))
}

fn server(server: Server, text: &str) -> Result<Target, ConfigError> {
    let wrong = |what: &str| ConfigError::new("url", what.to_owned()).hint(EXAMPLES);
    let Some(text) = text.strip_prefix("//") else {
        return Err(if let Some((what, _)) = text.split_once("://") {
            wrong(&format!("`{}:{what}:` is not supported", server.scheme()))
        } else {
            wrong("no `//` and host behind the name of the database")
        });
    };
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    if database.contains('@') {
        return Err(wrong("a `/` or `?` in the user's name or password must be escaped, as `%2F` or `%3F`"));
    }
    let (login, hosts) = authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
    let mut url = ServerUrl {
        server,
        hosts: hosts.split(',').map(|h| host(server, h)).collect::<Result<_, _>>()?,
        database: Some(decode(database)?).filter(|d| !d.is_empty()),
        username: None,
        password: None,
        parameters: Vec::new(),
    };
    if let Some(login) = login {
        let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
        url.username = Some(decode(user)?).filter(|u| !u.is_empty());
        url.password = password.map(decode).transpose()?.map(Secret::new);
    }
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        match name.as_str() {
            "user" => url.username = Some(value),
            "password" => url.password = Some(Secret::new(value)),
            _ => url.parameters.push((name, value)),
        }
    }
    Ok(Target::Server(url))
}

fn host(server: Server, text: &str) -> Result<(String, u16), ConfigError> {
    let (name, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(n, p)| (n, Some(p))),
    };
    let port = match port {
        None => server.default_port(),
        // Not repeated: it is part of the password, where that holds a `/`, `?` or `@` as it is.
        Some(p) => p.parse().ok().filter(|p| *p > 0).ok_or_else(|| {
            ConfigError::new("url", format!("what stands behind `{name}:` is no port"))
                .hint("a port is a number from 1 to 65535; in a user or password write `/` as `%2F`, `?` as `%3F`, `@` as `%40`, `:` as `%3A`")
        })?,
    };
    let name = decode(name)?;
    Ok((if name.is_empty() { "localhost".to_owned() } else { name }, port))
}

/// Undoes `%41`.
fn decode(text: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError::new("url", "holds a `%` that is not followed by two hexadecimal digits of UTF-8").hint("write a `%` as `%25`");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16)).ok_or_else(wrong);
        out.push(u8::try_from(digit()? * 16 + digit()?).map_err(|_| wrong())?);
    }
    String::from_utf8(out).map_err(|_| wrong())
}

/// `driver` is a Java class name: taken where it says what the URL says, refused where it says something else.
pub(super) fn check_driver(target: &Target, driver: &str) -> Result<(), ConfigError> {
    let known: &[&str] = match target {
        Target::SqliteFile(_) | Target::SqliteMemory => &["org.sqlite.JDBC", "sqlite"],
        Target::Server(url) => url.server.drivers(),
    };
    if known.iter().any(|k| k.eq_ignore_ascii_case(driver)) {
        return Ok(());
    }
    Err(ConfigError::new("driver", format!("`{driver}` is not the driver that the URL names (`{}`)", known[0]))
        .hint("remove `driver`: the URL says which database it is, and no Java driver is loaded"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn server_of(url: &str) -> ServerUrl {
        match parse(url).unwrap() {
            Target::Server(url) => url,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_is_named_as_users_name_it() {
        for (url, server, port) in [
            ("jdbc:postgresql://db/shop", Server::PostgreSql, 5432),
            ("postgres://db/shop", Server::PostgreSql, 5432),
            ("postgresql://db:6000/shop", Server::PostgreSql, 6000),
            ("jdbc:mysql://db/shop", Server::MySql, 3306),
            ("mysql://db/shop", Server::MySql, 3306),
            ("jdbc:mariadb://db/shop", Server::MariaDb, 3306),
            ("mariadb://db/shop", Server::MariaDb, 3306),
        ] {
            let found = server_of(url);
            assert_eq!((found.server, found.hosts, found.database.as_deref()), (server, vec![("db".to_owned(), port)], Some("shop")), "{url}");
        }
    }

    #[test]
    fn user_password_and_parameters_are_decoded_and_the_password_is_hidden() {
        let url = server_of("postgres://ann%40x:p%3Aw@h1,h2:7/a%2Fb?sslmode=require&x=1%2C2");
        assert_eq!((url.username.as_deref(), url.password.as_ref().map(Secret::expose)), (Some("ann@x"), Some("p:w")));
        assert_eq!(url.hosts, [("h1".to_owned(), 5432), ("h2".to_owned(), 7)]);
        assert_eq!(url.database.as_deref(), Some("a/b"));
        assert_eq!(url.parameters, [("sslmode".to_owned(), "require".to_owned()), ("x".to_owned(), "1,2".to_owned())]);
        assert!(!format!("{url:?}").contains("p:w"));
        let url = server_of("jdbc:mysql://h/d?user=u&password=p&useSSL=false");
        assert_eq!((url.username.as_deref(), url.password.as_ref().map(Secret::expose), url.parameters.len()), (Some("u"), Some("p"), 1));
        assert_eq!(server_of("postgres://[::1]:99/d").hosts, [("::1".to_owned(), 99)]);
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for url in [
            "secret",
            "oracle:thin:secret",
            "postgres://h:secret0000/d",
            "jdbc:mysql:loadbalance://secret/d",
            "postgres:secret",
            "mysql://u:%zz@h/d",
            "postgres://u:secret/x@h/d",
            "postgres://u:secret?x@h/d",
            "postgres://u:s@secret/x#y@h/d",
        ] {
            let text = parse(url).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
