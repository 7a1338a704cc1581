//! The one layer around every call to the outside: a request to a registry, a look-up in a database, a call of a service.
//!
//! ```text
//!  ExternalCalls::call ─► retry ┬─► concurrency limit ─► rate limit ─► circuit breaker ─► timeout ─► the call
//!                               └──────────────◄── back-off with jitter ◄── the server is away ◄──────┘
//! ```
//!
//! One [`ExternalOptions`] says how, in every connector and operator that calls out; what happens is counted in
//! [`karez_core::metrics::NodeMetrics`] (`calls`, `retried`, `throttled`, `timed_out`,
//! `breaker_opened`, `breaker_open`, `in_flight`, `calls_waiting`).
//!
//! A connector makes one [`ExternalCalls`] per node and outside system and clones it into its readers and writers, so that the limits hold for all
//! subtasks together. A client that retries by itself (Kafka, object stores) is not wrapped a second time: it takes its settings from
//! [`ClientOptions`], and [`ClientMeter`] counts what it reports.
//!
//! What is retried is said by the error alone: [`karez_core::Error::is_retryable`], and never where the user is at fault. So a call says
//! [`karez_core::Error::connection`] for what may pass (connection refused, 503, a failed-over server), a retryable
//! [`karez_core::Error::external`] where the server is there and others were in the way (a deadlock), which does not open the breaker, and
//! [`karez_core::Error::external`] or [`karez_core::Error::user`] for what will not pass.

mod breaker;
mod calls;
mod client;
mod counted;
mod options;
mod rate;
mod retry;
mod time;

pub use breaker::{Admission, CircuitBreaker, Refused};
pub use calls::ExternalCalls;
pub use client::{ClientCall, ClientFigures, ClientMeter};
pub use options::{CircuitBreakerOptions, ClientOptions, ExternalOptions, RateLimitOptions, RetryOptions};
pub use retry::Retry;
pub use time::{MachineTime, Time};
