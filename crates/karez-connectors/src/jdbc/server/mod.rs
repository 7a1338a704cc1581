//! What is the same for every database behind a network.
//!
//! ```text
//!  settings ─► Driver::connect ─► Session ◄── Pool ◄── sink: writer ─► flush ─► stage ─► committer   (a staging table per lot, a marker, a fence)
//!                                                 ◄── source: partition ─► reader ─► scan            (pages in the order of a key, below a bound)
//!                                                 ◄── look-up                                     (a statement per question)
//! ```
//! A database's folder implements [`driver::Driver`] and [`driver::Session`]: connect, describe tables, types both ways, a bulk load, a stream of rows,
//! which rows can still appear, and what kind of failure an error is. The protocols around them are here.

mod apply;
mod committer;
pub(super) mod driver;
pub(super) mod failure;
mod fit;
mod flush;
pub(super) mod lookup;
mod partition;
mod pool;
mod reader;
mod relation;
mod rights;
pub(super) mod scan;
pub(super) mod settings;
pub(super) mod sink;
pub(super) mod source;
pub(super) mod stage;
pub(super) mod table;
mod writer;
