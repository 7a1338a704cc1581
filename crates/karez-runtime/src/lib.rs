//! How a job graph runs: tasks, queues, exchange, watermarks, state backends and the checkpoint protocol.
//!
//! Knows nothing of which operators and connectors exist, nor of YAML, SQL or HTTP.

pub mod checkpoint;
pub mod exchange;
pub mod handle;
pub mod job;
pub mod replay;
pub mod report;
pub mod restart;
pub mod state;
pub mod task;
pub mod watermark;

pub use handle::{JobHandle, JobOutcome, JobStatus};
pub use job::replays::ReplayAnswer;
pub use job::{Durability, JobOptions, start};
pub use report::{JobReport, NodeReport};
