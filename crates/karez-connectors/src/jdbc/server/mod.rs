//! What is the same for every database behind a network.
//!
//! ```text
//!  settings ─► Driver::connect ─► Session ◄── Pool ◄── sink: writer ─► stage ─► committer      (one staging table per lot, a marker, a fence)
//!                                                 ◄── source: enumerator ─► reader ─► scan     (pages in the order of a key, below a bound)
//! ```
//! A database's folder implements [`driver::Driver`] and [`driver::Session`]: connect, describe tables, types both ways, a bulk load, a stream of rows,
//! which rows can still appear, and what kind of failure an error is. The protocols around them are here.

#![allow(dead_code)] // The protocols that use it come next.

pub(super) mod driver;
pub(super) mod failure;
pub(super) mod settings;
pub(super) mod table;
