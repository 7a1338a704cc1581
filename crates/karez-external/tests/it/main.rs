//! The layer around external calls, on stepped time: no test waits for the machine's clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod breaker;
mod calls;
mod client;
mod limits;
mod options;
mod stepped_time;
