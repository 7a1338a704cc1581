//! What the connectors promise, tested from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod contract;
mod file_sink;
mod file_source;
mod generator;
mod jdbc;
mod kafka_sink;
mod kafka_source;
mod lookup_servers;
mod mysql;
mod postgres;
mod schema_registry;
mod stdout;
