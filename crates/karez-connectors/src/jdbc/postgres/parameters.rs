//! What the URL and `properties` may say about PostgreSQL, in the words of the Java driver and of libpq.

use std::time::Duration;

use karez_core::config::{ConfigError, ConfigErrors};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};

use super::super::dialect::Dialect;
use super::super::options::TlsMode;
use super::super::server::settings::{Settings, Taken};
use super::PostgresDialect;

/// What the parameters say.
pub(super) struct Read {
    pub(super) config: Config,
    /// Statements for each new connection.
    pub(super) greeting: String,
}

const KNOWN: &[&str] = &[
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "currentSchema",
    "search_path",
    "ApplicationName",
    "connectTimeout",
    "loginTimeout",
    "options",
    "targetServerType",
    "loadBalanceHosts",
    "channelBinding",
    "statement_timeout",
    "TimeZone",
];

/// Switches of the Java driver for what happens here anyway: rows go and come in bulk, in binary form, over kept-alive connections.
const WITHOUT_EFFECT: &[&str] = &[
    "reWriteBatchedInserts",
    "prepareThreshold",
    "preparedStatementCacheQueries",
    "preparedStatementCacheSizeMiB",
    "binaryTransfer",
    "tcpKeepAlive",
    "tcpNoDelay",
    "stringtype",
    "adaptiveFetch",
    "assumeMinServerVersion",
    "logUnclosedConnections",
    "autosave",
    "cleanupSavepoints",
    "escapeSyntaxCallMode",
    "gssEncMode",
];

/// Takes what is known out of the settings, and refuses the rest.
pub(super) fn read(settings: &mut Settings) -> Result<Read, ConfigErrors> {
    let mut errors = Vec::new();
    let mut config = Config::new();
    config.application_name("karez");
    let mut greeting = vec![
        // The text of values is read back: as literals, as letters. Rows that are sealed must outlast a crash of the server.
        // One that was stopped in the middle of a transaction must not keep others out.
        "SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = 'warning'; SET DateStyle = 'ISO'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 3; SET standard_conforming_strings = on".to_owned(),
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'".to_owned(),
    ];
    let mut read = || -> Result<(), ConfigError> {
        tls(settings)?;
        if let Some(schema) = settings.take(&["currentSchema", "search_path"]) {
            let names: Vec<String> = schema.value.split(',').map(|s| PostgresDialect.quote(s.trim().trim_matches('"'))).collect();
            greeting.push(format!("SET search_path = {}", names.join(", ")));
        }
        if let Some(zone) = settings.take(&["TimeZone", "timezone"]) {
            greeting.push(format!("SET TimeZone = {}", PostgresDialect.literal(&zone.value)));
        }
        if let Some(name) = settings.take(&["ApplicationName", "application_name"]) {
            config.application_name(name.value);
        }
        if let Some(seconds) = settings.take(&["connectTimeout", "connect_timeout", "loginTimeout"]) {
            settings.connect_timeout = settings.connect_timeout.or(Some(Duration::from_secs(seconds.number()?.max(1))));
        }
        if let Some(millis) = settings.take(&["statement_timeout"]) {
            settings.statement_timeout = settings.statement_timeout.or(Some(Duration::from_millis(millis.number()?))).filter(|d| !d.is_zero());
        }
        if let Some(options) = settings.take(&["options"]) {
            config.options(options.value);
        }
        if let Some(wanted) = settings.take(&["targetServerType", "target_session_attrs"]) {
            config.target_session_attrs(match wanted.value.as_str() {
                "any" => TargetSessionAttrs::Any,
                "primary" | "master" | "read-write" => TargetSessionAttrs::ReadWrite,
                "secondary" | "slave" | "standby" | "read-only" => TargetSessionAttrs::ReadOnly,
                _ => return Err(wanted.wrong("must be any, primary or secondary")),
            });
        }
        if let Some(yes) = settings.take(&["loadBalanceHosts", "load_balance_hosts"]) {
            let random = yes.value == "random" || yes.bool()?;
            config.load_balance_hosts(if random { LoadBalanceHosts::Random } else { LoadBalanceHosts::Disable });
        }
        if let Some(binding) = settings.take(&["channelBinding", "channel_binding"]) {
            config.channel_binding(match binding.value.as_str() {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                _ => return Err(binding.wrong("must be disable, prefer or require")),
            });
        }
        for (name, instead) in [
            ("socketTimeout", "`statementTimeout` limits a statement, and dead connections are found out by keep-alives"),
            ("defaultRowFetchSize", "set `fetchSize`"),
            ("readOnly", "give the user the rights it needs"),
            ("currentDatabase", "name the database in the URL"),
        ] {
            if let Some(taken) = settings.take(&[name]) {
                return Err(taken.wrong(format!("the parameter `{name}` has no meaning here")).hint(instead));
            }
        }
        Ok(())
    };
    if let Err(e) = read() {
        errors.push(e);
    }
    if let Some(limit) = settings.statement_timeout {
        greeting.push(format!("SET statement_timeout = {}", limit.as_millis()));
    }
    settings.without_effect(WITHOUT_EFFECT);
    if let Err(ConfigErrors(rest)) = settings.refuse_rest(KNOWN) {
        errors.extend(rest);
    }
    if errors.is_empty() { Ok(Read { config, greeting: greeting.join("; ") }) } else { Err(ConfigErrors(errors)) }
}

/// `sslmode` and its kin say what `tls` does not.
fn tls(settings: &mut Settings) -> Result<(), ConfigError> {
    let file = |t: Option<Taken>, have: &mut Option<String>| {
        if let Some(t) = t {
            have.get_or_insert(t.value);
        }
    };
    file(settings.take(&["sslrootcert"]), &mut settings.tls.ca);
    file(settings.take(&["sslcert"]), &mut settings.tls.cert);
    file(settings.take(&["sslkey"]), &mut settings.tls.key);
    let ssl = settings.take(&["ssl"]).map(|t| t.bool()).transpose()?;
    if let Some(mode) = settings.take(&["sslmode"]) {
        let mode = match mode.value.as_str() {
            "disable" => TlsMode::Disable,
            "allow" | "prefer" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => return Err(mode.wrong("`sslmode` must be disable, prefer, require, verify-ca or verify-full")),
        };
        settings.tls.mode.get_or_insert(mode);
    } else if let Some(yes) = ssl {
        // As the Java driver has it: `ssl=true` verifies.
        settings.tls.mode.get_or_insert(if yes { TlsMode::VerifyFull } else { TlsMode::Disable });
    }
    Ok(())
}
