//! Sinks that keep nothing: the terminal, and nowhere.

mod blackhole;
mod terminal;

pub use blackhole::{BlackholeConnector, BlackholeOptions};
pub use terminal::{StdoutConnector, StdoutFormat, StdoutOptions, to_writer};
