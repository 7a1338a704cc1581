#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod behaviour;
mod checkpoint;
mod scatter;
mod state;
