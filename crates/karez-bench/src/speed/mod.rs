//! How fast Karez is, beside what others do with the same bytes.
//!
//! What is compared runs in turn in processes of its own ([`Work`]), so that each has its own peak memory and neither warms the other's caches
//! alone; a figure is the median of the ratios of these rounds. Time is CPU time of the work alone (start-up and planning are not in it), since the
//! wall time of a shared machine says little; only what is wall time by nature (two cores, latency, the first row) is measured as such.

mod clock;
mod data;
mod database;
mod duckdb;
mod engine;
mod feed;
mod figure;
mod first_row;
mod json;
mod kafka;
mod latency;
mod memory;
mod message;
mod query;
mod run;
mod state;
mod work;

pub use self::figure::Figure;
pub use self::kafka::Loop;
pub use self::run::{Against, Bench, Speed};
pub use self::work::{Measured, Work};
