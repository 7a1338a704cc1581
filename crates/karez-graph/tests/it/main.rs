//! How graphs are validated, bound, optimised and chained.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod bench;
mod chains;
mod changelogs;
mod explained;
mod guarantees;
mod push_down;
mod shape;
