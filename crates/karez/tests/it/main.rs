//! The binary from outside, and jobs from end to end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, missing_docs, unreachable_pub)]

mod cancelled;
mod cli;
mod crash;
mod dead_letters;
mod flights;
mod full_disk;
mod golden;
mod karez;
mod look_ups;
mod many_panes;
mod random_graphs;
mod scenarios;
mod slow_tables;
