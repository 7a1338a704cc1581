//! Kafka's own names for settings (`properties:`): each is taken by the code that honours it, or is an error that says why. None is ignored.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use karez_core::config::ConfigError;
use karez_core::error::did_you_mean;

use super::options::Properties;

/// Hands out properties and notes which there are, so that what nobody has asked for can be refused.
pub(super) struct PropertyReader<'a> {
    properties: &'a Properties,
    asked: BTreeSet<&'static str>,
    errors: Vec<ConfigError>,
}

impl<'a> PropertyReader<'a> {
    pub(super) const fn new(properties: &'a Properties) -> Self {
        Self { properties, asked: BTreeSet::new(), errors: Vec::new() }
    }

    /// The text of a property.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.asked.insert(name);
        self.properties.get(name)
    }

    /// The value of a property; one of another form is an error that says what was `expected`.
    pub(super) fn parse<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.error(name, format!("expected {expected}"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.parse(name, "true or false")
    }

    /// A number from `min` on.
    pub(super) fn number(&mut self, name: &'static str, min: i32) -> Option<i32> {
        let n = self.parse(name, "a whole number")?;
        if n < min {
            self.error(name, format!("must be at least {min}"));
            return None;
        }
        Some(n)
    }

    /// Milliseconds.
    pub(super) fn millis(&mut self, name: &'static str) -> Option<Duration> {
        self.parse(name, "milliseconds, as a whole number").map(Duration::from_millis)
    }

    /// A setting that an `option` of the connector stands for as well: given twice, it is an error.
    pub(super) fn or<T>(&mut self, option: &str, given: Option<T>, name: &'static str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if given.is_some() && self.text(name).is_some() {
            self.error(name, format!("`{option}` sets this already; give one of them"));
            return given;
        }
        given.or_else(|| read(self))
    }

    /// A property that works with these values only.
    pub(super) fn only(&mut self, name: &'static str, accepted: &[&str], why: &str) {
        if let Some(text) = self.text(name)
            && !accepted.iter().any(|a| a.eq_ignore_ascii_case(text.trim()))
        {
            self.error(name, format!("cannot be honoured: {why}"));
        }
    }

    /// A property that cannot be honoured at all.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str) {
        self.only(name, &[], why);
    }

    /// Notes what is wrong with a property.
    pub(super) fn error(&mut self, name: &str, message: impl std::fmt::Display) {
        self.errors.push(ConfigError::new("properties", format!("`{name}`: {message}")));
    }

    /// Everything that is wrong, properties that nobody asked for included.
    pub(super) fn finish(mut self) -> Vec<ConfigError> {
        for &(name, why) in REFUSED {
            if !self.asked.contains(name) {
                self.refuse(name, why);
            }
        }
        for name in self.properties.names().filter(|n| !self.asked.contains(n)) {
            let e = ConfigError::new("properties", format!("`{name}` is no property that this connector can honour"));
            self.errors.push(match did_you_mean(name, self.asked.iter().copied()) {
                Some(near) => e.hint(format!("did you mean `{near}`?")),
                None => e.hint("remove it"),
            });
        }
        self.errors
    }
}

const JAVA: &str = "it names a Java class, and there is no Java here";
const KERBEROS: &str = "Kerberos (GSSAPI) is not supported; use SASL PLAIN, SCRAM or mutual TLS";
const OAUTH: &str = "OAUTHBEARER is not supported; use SASL PLAIN, SCRAM or mutual TLS";
const PEM: &str =
    "keys and certificates are read as PEM files, which have no password; convert the store: `openssl pkcs12 -in STORE -out FILE.pem -nodes`";
const TLS: &str = "TLS 1.2 and 1.3 with the client's own ciphers are used";
const BACKOFF: &str = "the client connects again when there is something to ask; `retry.backoff.ms` and `retry.backoff.max.ms` set its pauses";
const REPORT: &str = "Karez has metrics of its own (`/metrics`)";
const END: &str = "is for the other end of a topic";

/// What neither end can honour, and why. An end that takes one of these itself has asked for it before.
const REFUSED: &[(&str, &str)] = &[
    ("key.serializer", JAVA),
    ("value.serializer", JAVA),
    ("key.deserializer", JAVA),
    ("value.deserializer", JAVA),
    ("interceptor.classes", JAVA),
    ("security.providers", JAVA),
    ("ssl.engine.factory.class", JAVA),
    ("ssl.provider", JAVA),
    ("ssl.keymanager.algorithm", JAVA),
    ("ssl.trustmanager.algorithm", JAVA),
    ("ssl.secure.random.implementation", JAVA),
    ("sasl.client.callback.handler.class", JAVA),
    ("sasl.login.callback.handler.class", JAVA),
    ("sasl.login.class", JAVA),
    ("partition.assignment.strategy", JAVA),
    ("sasl.kerberos.service.name", KERBEROS),
    ("sasl.kerberos.kinit.cmd", KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", KERBEROS),
    ("sasl.kerberos.ticket.renew.jitter", KERBEROS),
    ("sasl.kerberos.ticket.renew.window.factor", KERBEROS),
    ("sasl.kerberos.keytab", KERBEROS),
    ("sasl.kerberos.principal", KERBEROS),
    ("sasl.oauthbearer.token.endpoint.url", OAUTH),
    ("sasl.oauthbearer.config", OAUTH),
    ("ssl.truststore.password", PEM),
    ("ssl.keystore.password", PEM),
    ("ssl.key.password", PEM),
    ("ssl.protocol", TLS),
    ("ssl.enabled.protocols", TLS),
    ("ssl.cipher.suites", TLS),
    ("reconnect.backoff.ms", BACKOFF),
    ("reconnect.backoff.max.ms", BACKOFF),
    ("socket.connection.setup.timeout.max.ms", BACKOFF),
    ("metric.reporters", REPORT),
    ("metrics.num.samples", REPORT),
    ("metrics.recording.level", REPORT),
    ("metrics.sample.window.ms", REPORT),
    ("auto.include.jmx.reporter", REPORT),
    ("enable.metrics.push", REPORT),
    ("auto.offset.reset", END),
    ("fetch.min.bytes", END),
    ("max.poll.records", END),
    ("acks", END),
    ("linger.ms", END),
    ("batch.size", END),
    ("compression.type", END),
    ("buffer.memory", END),
    ("enable.idempotence", END),
    ("transactional.id", END),
];
