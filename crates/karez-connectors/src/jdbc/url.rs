//! The URL of a database, as users write it, and which database it names.

use std::path::PathBuf;

use karez_core::config::ConfigError;

/// A database that this build can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A SQLite file.
    SqliteFile(PathBuf),
    /// A SQLite database that lives in the memory of one connection.
    SqliteMemory,
}

/// Databases with a JDBC URL that are known by name but not part of this build.
const OTHERS: &[(&str, &str)] = &[
    ("postgresql", "PostgreSQL"),
    ("postgres", "PostgreSQL"),
    ("mysql", "MySQL"),
    ("mariadb", "MariaDB"),
    ("oracle", "Oracle"),
    ("sqlserver", "SQL Server"),
    ("db2", "Db2"),
    ("h2", "H2"),
    ("clickhouse", "ClickHouse"),
    ("duckdb", "DuckDB"),
];

/// Reads `jdbc:sqlite:PATH`, `sqlite:PATH`, `sqlite://PATH`; other databases are refused by name. The text itself is not repeated: it may hold a password.
pub(super) fn parse(url: &str) -> Result<Target, ConfigError> {
    let url = url.trim();
    let rest = url.strip_prefix("jdbc:").unwrap_or(url);
    let Some((scheme, path)) = rest.split_once(':') else {
        return Err(ConfigError::new("url", "is no database URL").hint("write it like `jdbc:sqlite:data/shop.db`"));
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "sqlite" {
        return Err(match OTHERS.iter().find(|(s, _)| *s == scheme) {
            Some((_, name)) => {
                ConfigError::new("url", format!("{name} is not in this build yet")).hint("this build reads and writes SQLite: `jdbc:sqlite:PATH`")
            }
            None => ConfigError::new("url", format!("unknown database `{scheme}`")).hint("this build reads and writes SQLite: `jdbc:sqlite:PATH`"),
        });
    }
    if path == ":memory:" || path.is_empty() {
        return Ok(Target::SqliteMemory);
    }
    let path = path.strip_prefix("//").unwrap_or(path);
    if let Some((_, parameters)) = path.split_once('?') {
        return Err(ConfigError::new("url", format!("parameters behind the path are not known: `?{parameters}`")).hint("give the path alone"));
    }
    Ok(Target::SqliteFile(PathBuf::from(path)))
}

/// `driver` is a Java class name: taken where it says what the URL says, refused where it says something else.
pub(super) fn check_driver(driver: &str) -> Result<(), ConfigError> {
    if driver.eq_ignore_ascii_case("org.sqlite.JDBC") || driver.eq_ignore_ascii_case("sqlite") {
        return Ok(());
    }
    Err(ConfigError::new("driver", format!("`{driver}` is not the driver that the URL names (`org.sqlite.JDBC`)"))
        .hint("remove `driver`: the URL says which database it is, and no Java driver is loaded"))
}
