//! The `file` source.

mod bounded;
mod follow;
mod job;
mod plan;
mod splits;
