//! How a whole job behaves: stepped sources, gated sinks, injected time, through the public API alone.

mod alignment;
mod bench;
mod exactly_once;
mod flow;
mod operators;
mod outside;
mod replay;
mod rescale;
mod sink;
mod source;
mod steering;
