//! How job files are read, and what is said about those that cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod diagnostics;
mod forms;
mod keys;
mod kit;
mod planned;
mod profiles;
mod robust;
mod schema;
