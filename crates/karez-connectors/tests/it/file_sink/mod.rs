//! The file sink, driven by hand as the engine does.

mod crashes;
mod engine;
mod one_file;
mod options;
mod read_back;
mod rolling;
