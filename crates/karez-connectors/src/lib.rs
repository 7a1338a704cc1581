//! Connectors: one module and one cargo feature per external system.

#[cfg(feature = "kafka")]
mod causes;
#[cfg(feature = "kafka")]
mod certificate;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "generator")]
pub mod generator;
#[cfg(feature = "jdbc")]
pub mod jdbc;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "tls")]
mod key_pair;
#[cfg(any(feature = "jdbc", feature = "kafka"))]
mod point;
#[cfg(feature = "kafka")]
pub mod schema_registry;
#[cfg(feature = "stdout")]
pub mod stdout;

use karez_core::Registry;

/// Adds every connector of this build.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    #[cfg(feature = "file")]
    let registry = registry.with_connector(file::FileConnector);
    #[cfg(feature = "generator")]
    let registry = registry.with_connector(generator::GeneratorConnector);
    #[cfg(feature = "jdbc")]
    let registry = registry.with_connector(jdbc::JdbcConnector);
    #[cfg(feature = "kafka")]
    let registry = registry.with_connector(kafka::KafkaConnector);
    #[cfg(feature = "stdout")]
    let registry = registry.with_connector(stdout::StdoutConnector).with_connector(stdout::BlackholeConnector);
    registry
}
