//! The measuring harness of Karez.

pub mod crash;
pub mod speed;
