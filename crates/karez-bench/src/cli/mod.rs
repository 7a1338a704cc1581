//! The subcommands.

pub(crate) mod crash;
pub(crate) mod speed;
