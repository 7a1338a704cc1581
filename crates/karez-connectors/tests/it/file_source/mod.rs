//! The `file` source.

mod bounded;
mod follow;
mod follow_any;
mod job;
mod plan;
mod splits;
