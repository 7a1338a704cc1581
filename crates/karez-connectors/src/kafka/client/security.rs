//! TLS and SASL, from `security` or from Kafka's own properties.

use karez_core::config::{ConfigError, Secret};
use krafka::auth::{AuthConfig, TlsConfig};

use super::jaas;
use crate::kafka::options::{SaslOptions, SecurityOptions, SecurityProtocol, TlsOptions};
use crate::kafka::properties::PropertyReader;
use crate::key_pair;

const KERBEROS: &str = "Kerberos (GSSAPI) is not supported: the client library has none; use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or mutual TLS";

/// What the client is told; `Some(None)` is plain text, `None` is an error that has been noted.
pub(super) fn plan(
    given: Option<&SecurityOptions>,
    properties: &mut PropertyReader<'_>,
    errors: &mut Vec<ConfigError>,
) -> Option<Option<AuthConfig>> {
    let before = errors.len();
    let protocol = properties.or("security.protocol", given.and_then(|s| s.protocol), "security.protocol", |p| {
        let text = p.text("security.protocol")?;
        let all = [SecurityProtocol::Plaintext, SecurityProtocol::Ssl, SecurityProtocol::SaslPlaintext, SecurityProtocol::SaslSsl];
        let found = all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(text.trim()));
        if found.is_none() {
            p.error("security.protocol", "expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
        }
        found
    });
    let sasl = sasl(given.and_then(|s| s.sasl.as_ref()), properties);
    let tls = tls(given.and_then(|s| s.tls.as_ref()), properties);
    let protocol = protocol.unwrap_or(SecurityProtocol::of(sasl.is_some(), tls.is_some()));
    let path = "security.protocol";
    if protocol.sasl() && sasl.is_none() {
        errors.push(ConfigError::new(path, format!("{} needs a user", protocol.name())).hint("give `security.sasl`"));
    }
    if !protocol.sasl() && sasl.is_some() {
        errors.push(ConfigError::new(path, format!("{} has no users", protocol.name())).hint("use SASL_SSL, or remove `sasl`"));
    }
    if !protocol.tls() && tls.is_some() {
        errors.push(ConfigError::new(path, format!("{} has no encryption", protocol.name())).hint("use SSL or SASL_SSL, or remove `tls`"));
    }
    let tls = tls.or_else(|| protocol.tls().then(TlsOptions::default));
    let auth = match &sasl {
        None => AuthConfig::plaintext(),
        Some(sasl) => match sasl.mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => AuthConfig::sasl_plain(&sasl.username, sasl.password.expose()),
            "SCRAM-SHA-256" => AuthConfig::sasl_scram_sha256(&sasl.username, sasl.password.expose()),
            "SCRAM-SHA-512" => AuthConfig::sasl_scram_sha512(&sasl.username, sasl.password.expose()),
            "GSSAPI" => {
                errors.push(ConfigError::new("security.sasl.mechanism", KERBEROS));
                AuthConfig::plaintext()
            }
            other => {
                let message = format!("the SASL mechanism `{other}` is not supported");
                errors.push(ConfigError::new("security.sasl.mechanism", message).hint("use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"));
                AuthConfig::plaintext()
            }
        },
    };
    if sasl.as_ref().is_some_and(|s| s.username.is_empty()) {
        errors.push(ConfigError::new("security.sasl.username", "must not be empty"));
    }
    let config = tls.as_ref().map(|tls| tls_config(tls, errors));
    if errors.len() > before {
        return None;
    }
    Some(match (sasl.is_some(), config) {
        (false, None) => None,
        (_, None) => Some(auth),
        (_, Some(config)) => Some(auth.with_tls(config)),
    })
}

fn sasl(given: Option<&SaslOptions>, properties: &mut PropertyReader<'_>) -> Option<SaslOptions> {
    let mechanism =
        properties.or("security.sasl", given.map(|s| s.mechanism.clone()), "sasl.mechanism", |p| p.text("sasl.mechanism").map(str::to_owned));
    let mechanism = properties.or("sasl.mechanism", mechanism, "sasl.mechanisms", |p| p.text("sasl.mechanisms").map(str::to_owned));
    let jaas = properties.text("sasl.jaas.config");
    let username = properties.or("security.sasl", given.map(|s| s.username.clone()), "sasl.username", |p| p.text("sasl.username").map(str::to_owned));
    let password = properties.or("security.sasl", given.map(|s| s.password.clone()), "sasl.password", |p| p.text("sasl.password").map(Secret::new));
    let Some(line) = jaas else {
        let mechanism = mechanism?;
        if mechanism.eq_ignore_ascii_case("GSSAPI") {
            return Some(SaslOptions { mechanism, username: "-".to_owned(), password: Secret::new("") });
        }
        if username.is_none() || password.is_none() {
            properties.error("sasl.mechanism", "needs `sasl.jaas.config`, or `sasl.username` and `sasl.password`");
        }
        return Some(SaslOptions { mechanism, username: username?, password: password? });
    };
    if username.is_some() || password.is_some() {
        properties.error("sasl.jaas.config", "the user is given elsewhere already; give one of them");
        return None;
    }
    let Some(login) = jaas::parse(line) else {
        properties.error("sasl.jaas.config", "expected `CLASS required username=\"…\" password=\"…\";`");
        return None;
    };
    let mechanism = match (login.module.as_str(), mechanism) {
        ("Krb5LoginModule", _) => {
            properties.error("sasl.jaas.config", KERBEROS);
            return None;
        }
        (_, Some(mechanism)) => mechanism,
        ("PlainLoginModule", None) => "PLAIN".to_owned(),
        (module, None) => {
            properties.error("sasl.jaas.config", format!("`{module}` needs `sasl.mechanism`"));
            return None;
        }
    };
    let (Some(username), Some(password)) = (login.username, login.password) else {
        properties.error("sasl.jaas.config", "names no user and password");
        return None;
    };
    Some(SaslOptions { mechanism, username, password })
}

fn tls(given: Option<&TlsOptions>, properties: &mut PropertyReader<'_>) -> Option<TlsOptions> {
    // Java's name, then librdkafka's.
    let mut file = |option: &str, given: Option<&String>, java: &'static str, other: &'static str| {
        let java = properties.or(option, given.cloned(), java, |p| p.text(java).map(str::to_owned));
        properties.or(option, java, other, |p| p.text(other).map(str::to_owned))
    };
    let ca = file("security.tls.ca", given.and_then(|t| t.ca.as_ref()), "ssl.truststore.location", "ssl.ca.location");
    let certificate =
        file("security.tls.certificate", given.and_then(|t| t.certificate.as_ref()), "ssl.keystore.location", "ssl.certificate.location");
    let key =
        properties.or("security.tls.key", given.and_then(|t| t.key.clone()), "ssl.key.location", |p| p.text("ssl.key.location").map(str::to_owned));
    for store in ["ssl.truststore.type", "ssl.keystore.type"] {
        properties.only(store, &["PEM"], "certificates are read as PEM files; convert it: `openssl pkcs12 -in STORE -out FILE.pem -nodes`");
    }
    for inline in ["ssl.truststore.certificates", "ssl.keystore.certificate.chain", "ssl.keystore.key"] {
        properties.refuse(inline, "certificates are read from files; use `security.tls`");
    }
    properties.only("ssl.endpoint.identification.algorithm", &["https"], "the name in the broker's certificate is always checked");
    // A PEM key store holds the key as well.
    let key = key.or_else(|| properties.text("ssl.keystore.location").map(str::to_owned));
    (given.is_some() || ca.is_some() || certificate.is_some() || key.is_some()).then_some(TlsOptions { ca, certificate, key })
}

fn tls_config(tls: &TlsOptions, errors: &mut Vec<ConfigError>) -> TlsConfig {
    let mut config = TlsConfig::new();
    for (option, file) in [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)] {
        if let Some(Err(e)) = file.as_ref().map(std::fs::File::open) {
            errors.push(ConfigError::new(format!("security.tls.{option}"), format!("cannot read `{}`: {e}", file.as_deref().unwrap_or_default())));
        }
    }
    config = match &tls.ca {
        Some(ca) => config.with_ca_cert(ca),
        None => config.with_native_roots(),
    };
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            errors.extend(key_pair::check(("security.tls.certificate", certificate), ("security.tls.key", key)).err());
            config = config.with_client_cert(certificate, key);
        }
        (None, None) => {}
        (Some(_), None) => errors.push(ConfigError::new("security.tls.key", "missing").hint("mutual TLS needs `certificate` and `key`")),
        (None, Some(_)) => errors.push(ConfigError::new("security.tls.certificate", "missing").hint("mutual TLS needs `certificate` and `key`")),
    }
    config
}
