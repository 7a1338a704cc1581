//! How rows get from one subtask to another.

mod gather;
pub mod input;
pub mod output;
pub mod queue;
pub mod scatter;

pub use input::{Event, Inputs};
pub use output::OutputGate;
pub use queue::{QueueLimit, Receiver, Sender, queue};
