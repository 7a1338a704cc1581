//! What tests and the measuring harness need of real servers: the addresses of those that run ([`service`]), a server of one's own that may be
//! killed ([`OwnServer`]), a network between that fails on request ([`Proxy`]), and clients that are not Karez: of databases ([`Database`], [`Scratch`]) and topics
//! ([`Topic`]).
//!
//! The servers are those of `cargo xtask services`, which prints the addresses as `NAME=value` lines; the test command passes them on.
#![allow(clippy::panic, clippy::expect_used, clippy::disallowed_methods)] // Tests fail by panicking; no job runs on these threads.

mod database;
mod own_server;
mod proxy;
mod scratch;
mod topic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use database::{Database, TextRows};
pub use own_server::{OwnServer, Server};
pub use proxy::Proxy;
pub use scratch::Scratch;
pub use topic::{Message, Topic, create_topic, open_transactions};

/// What the service's script printed under this name, such as `KAFKA_BOOTSTRAP` or `POSTGRES_URL`.
///
/// # Panics
/// Where it is not in the environment: a test without its server fails, and says how to start it.
#[must_use]
#[track_caller]
pub fn service(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => value,
        _ => {
            let service = service_of(variable);
            panic!(
                "{variable} is not set, and this test needs the server. Start it and pass its address on: export $(cargo xtask services up {service})"
            )
        }
    }
}

/// The name by which `cargo xtask services` starts what has this variable.
fn service_of(variable: &str) -> String {
    match variable {
        "KAFKA_BOOTSTRAP" => "kafka".into(),
        "KAFKA_CLUSTER" => "kafka-cluster".into(),
        v if v.starts_with("KAFKA_") => "kafka-secure".into(),
        v => v.rsplit_once('_').map_or(v, |(service, _)| service).to_lowercase().replace('_', "-"),
    }
}

/// A name that nobody else uses on the shared servers, for a topic, table, group or database: lower case letters, digits and `_`.
#[must_use]
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    // Micro-seconds and process tell runs apart, the number the callers of one process.
    format!("{what}_{}_{}_{}", since % 1_000_000_000_000, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_names_its_service() {
        for (variable, service) in [
            ("KAFKA_BOOTSTRAP", "kafka"),
            ("KAFKA_SASL_SSL", "kafka-secure"),
            ("KAFKA_CLUSTER", "kafka-cluster"),
            ("SCHEMA_REGISTRY_URL", "schema-registry"),
            ("MARIADB_CA", "mariadb"),
        ] {
            assert_eq!(service_of(variable), service);
        }
    }

    #[test]
    fn names_differ() {
        assert_ne!(unique("t"), unique("t"));
    }
}
