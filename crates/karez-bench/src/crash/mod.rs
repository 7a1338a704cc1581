//! Crash rounds: `karez run` as a child process that is killed and started again until it ends, and whose rows must then be those of a run nobody
//! disturbed, bit for bit.
//!
//! `karez-bench crash` runs them by the thousand; the tests of the crate `karez` include this folder and run fifty.

mod input;
mod job;
mod letters;
mod process;
mod random;
mod round;
mod rows;
mod servers;

pub use job::Job;
pub use random::Random;
pub use round::{Ground, Kill, Outcome, Round};
pub use rows::{Difference, Rows};
pub use servers::{Servers, System};
