//! The subcommands.

pub(crate) mod crash;
