//! What the URL's parameters mean to MySQL and MariaDB, and what the driver makes of all settings.

use std::path::PathBuf;
use std::time::Duration;

use karez_core::config::{ConfigError, ConfigErrors};
use mysql_async::{ClientIdentity, Opts, OptsBuilder, SslOpts};

use super::super::options::TlsMode;
use super::super::server::settings::{Settings, Taken};
use crate::key_pair;

/// What stands in for dates that are none (`0000-00-00`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroDates {
    /// The row is a bad record.
    Refused,
    /// Null.
    Null,
}

/// Parameters that have a meaning here, for suggestions.
const KNOWN: &[&str] =
    &["sslMode", "sslCa", "sslCert", "sslKey", "useSSL", "requireSSL", "verifyServerCertificate", "connectTimeout", "zeroDateTimeBehavior"];

/// Parameters of the Java drivers that ask for what is done here anyway (utf8mb4, UTC sessions, batches in few statements, prepared statements, the key
/// exchange of `caching_sha2_password`, `LOAD DATA LOCAL`), or that change nothing here.
const IMPLIED: &[&str] = &[
    "useUnicode",
    "characterSetResults",
    "connectionCollation",
    "serverTimezone",
    "connectionTimeZone",
    "forceConnectionTimeZoneToSession",
    "timezone",
    "useLegacyDatetimeCode",
    "useJDBCCompliantTimezoneShift",
    "rewriteBatchedStatements",
    "useServerPrepStmts",
    "cachePrepStmts",
    "prepStmtCacheSize",
    "prepStmtCacheSqlLimit",
    "allowPublicKeyRetrieval",
    "allowLoadLocalInfile",
    "allowLocalInfile",
    "autoReconnect",
    "failOverReadOnly",
    "tcpKeepAlive",
    "useBulkStmts",
    "nullCatalogMeansCurrent",
    "nullDatabaseMeansCurrent",
    "defaultFetchSize",
    "useCursorFetch",
    "socketTimeout",
];

/// Takes what MySQL's drivers know out of the parameters, and refuses the rest.
pub(super) fn read(settings: &mut Settings) -> Result<ZeroDates, ConfigErrors> {
    let mut errors = Vec::new();
    let zero_dates = tls(settings, &mut errors).and_then(|()| zero_dates(settings)).unwrap_or_else(|e| {
        errors.push(e);
        ZeroDates::Refused
    });
    match settings.take(&["connectTimeout"]).map(|t| t.number()).transpose() {
        // In milliseconds, 0 for none; the default is a limit.
        Ok(millis) => settings.connect_timeout = settings.connect_timeout.or(millis.filter(|ms| *ms > 0).map(Duration::from_millis)),
        Err(e) => errors.push(e),
    }
    if let (Some(cert), Some(key)) = (&settings.tls.cert, &settings.tls.key) {
        errors.extend(key_pair::check(("tls.cert", cert), ("tls.key", key)).err());
    }
    if settings.database.is_none() {
        errors.push(ConfigError::new("url", "names no database").hint("write it like `jdbc:mysql://localhost:3306/shop`"));
    }
    if let Some(taken) = settings.take(&["characterEncoding"])
        && !["utf8", "utf-8", "utf8mb4"].contains(&taken.value.to_ascii_lowercase().as_str())
    {
        errors.push(taken.wrong("the connection is always utf8mb4").hint("remove `characterEncoding`"));
    }
    if let Some(taken) = settings.take(&["tinyInt1isBit"])
        && taken.bool() != Ok(true)
    {
        errors.push(taken.wrong("TINYINT(1) is read as boolean").hint("for numbers read a `query` with `CAST(column AS SIGNED)`"));
    }
    settings.without_effect(IMPLIED);
    if let Err(rest) = settings.refuse_rest(KNOWN) {
        errors.extend(rest.0);
    }
    if errors.is_empty() { Ok(zero_dates) } else { Err(ConfigErrors(errors)) }
}

/// The TLS options in the words of Connector/J, MariaDB's connector and the command line clients; what `tls` says comes first.
fn tls(settings: &mut Settings, errors: &mut Vec<ConfigError>) -> Result<(), ConfigError> {
    let file = |taken: Option<Taken>| taken.map(|t| t.value);
    let ca = file(settings.take(&["sslCa", "ssl-ca", "ssl_ca", "serverSslCert"]));
    let cert = file(settings.take(&["sslCert", "ssl-cert", "ssl_cert"]));
    let key = file(settings.take(&["sslKey", "ssl-key", "ssl_key"]));
    let mode = settings.take(&["sslMode", "ssl-mode", "ssl_mode"]).map(|t| mode(&t)).transpose()?;
    let flag = |taken: Option<Taken>| taken.map(|t| t.bool()).transpose();
    let use_ssl = flag(settings.take(&["useSSL"]))?;
    let require = flag(settings.take(&["requireSSL"]))?.unwrap_or(false);
    let verify = flag(settings.take(&["verifyServerCertificate"]))?.unwrap_or(false);
    let mode = mode.or(match (use_ssl, require, verify) {
        (Some(false), ..) => Some(TlsMode::Disable),
        (_, _, true) => Some(TlsMode::VerifyFull),
        (Some(true), ..) | (_, true, _) if ca.is_none() && settings.tls.ca.is_none() => Some(TlsMode::Require),
        _ => None,
    });
    settings.tls.mode = settings.tls.mode.or(mode);
    settings.tls.ca = settings.tls.ca.take().or(ca);
    settings.tls.cert = settings.tls.cert.take().or(cert);
    settings.tls.key = settings.tls.key.take().or(key);
    if settings.tls.cert.is_some() != settings.tls.key.is_some() {
        errors.push(ConfigError::new("url", "`sslCert` and `sslKey` belong together").hint("give both, as PEM files, or none"));
    }
    Ok(())
}

fn mode(taken: &Taken) -> Result<TlsMode, ConfigError> {
    Ok(match taken.value.replace(['-', '_'], "").to_ascii_lowercase().as_str() {
        "disabled" | "disable" => TlsMode::Disable,
        "preferred" | "prefer" => TlsMode::Prefer,
        "required" | "require" | "trust" => TlsMode::Require,
        "verifyca" => TlsMode::VerifyCa,
        "verifyidentity" | "verifyfull" => TlsMode::VerifyFull,
        _ => {
            let error = taken.wrong(format!("`sslMode={}` is not known", taken.value));
            return Err(error.hint("one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY"));
        }
    })
}

fn zero_dates(settings: &mut Settings) -> Result<ZeroDates, ConfigError> {
    let Some(taken) = settings.take(&["zeroDateTimeBehavior"]) else { return Ok(ZeroDates::Refused) };
    match taken.value.replace('_', "").to_ascii_lowercase().as_str() {
        "exception" => Ok(ZeroDates::Refused),
        "converttonull" => Ok(ZeroDates::Null),
        _ => Err(taken.wrong(format!("`zeroDateTimeBehavior={}` is not known", taken.value)).hint("one of EXCEPTION, CONVERT_TO_NULL")),
    }
}

/// What the driver needs to connect to one of the hosts.
pub(super) fn opts(settings: &Settings, host: &str, port: u16, encrypted: bool) -> Opts {
    let mode = settings.tls_mode();
    let tls = encrypted.then(|| {
        let roots = match &settings.tls.ca {
            Some(ca) => vec![PathBuf::from(ca).into()],
            None if matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) => {
                rustls_native_certs::load_native_certs().certs.into_iter().map(|c| c.to_vec().into()).collect()
            }
            None => Vec::new(),
        };
        let identity = settings.tls.cert.as_ref().zip(settings.tls.key.as_ref());
        SslOpts::default()
            .with_root_certs(roots)
            .with_disable_built_in_roots(settings.tls.ca.is_some())
            .with_client_identity(identity.map(|(cert, key)| ClientIdentity::new(PathBuf::from(cert).into(), PathBuf::from(key).into())))
            .with_danger_accept_invalid_certs(matches!(mode, TlsMode::Prefer | TlsMode::Require))
            .with_danger_skip_domain_validation(mode == TlsMode::VerifyCa)
    });
    OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port)
        .user(settings.username.clone())
        .pass(settings.password.as_ref().map(|p| p.expose().to_owned()))
        .db_name(settings.database.clone())
        .prefer_socket(false)
        .tcp_nodelay(true)
        // Each page of a scan is a statement of its own; none is used often enough to be kept.
        .stmt_cache_size(0)
        .ssl_opts(tls)
        .into()
}
