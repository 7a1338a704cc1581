//! What the formats promise, tested from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod csv;
mod json;
mod message;
mod parquet;
mod text;
