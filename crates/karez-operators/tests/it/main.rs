//! The specification of the operators, by example and against reference interpreters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, unreachable_pub)]

mod decimal_sums;
mod deduplicate;
mod harness;
mod lookup;
mod reference;
mod row_wise;
mod running_aggregate;
mod sessions_and_counts;
mod sliced_windows;
