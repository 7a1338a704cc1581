//! Topics of Apache Kafka, read and written.
//!
//! ```text
//!  options, properties ──► client ──► source: discovery, fetch, positions      (this job assigns partitions; no consumer group does)
//!                                └──► sink: partitioner, producer, transactions
//! ```

// Until both ends stand on it.
#![allow(dead_code, unused_imports)]

mod client;
mod options;
mod properties;

pub use options::{BootstrapServers, Properties, SaslOptions, SecurityOptions, SecurityProtocol, TlsOptions};
