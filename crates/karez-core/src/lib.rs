//! The vocabulary of Karez, on Arrow alone.
//!
//! What moves through a job ([`Element`]), what it looks like ([`StreamSchema`]), when it happened ([`time`]), where it
//! belongs ([`key_group`]), what can go wrong ([`Error`]), and the contracts that sources, operators and sinks keep
//! ([`source`], [`operator`], [`sink`], [`state`]). This crate knows no DataFusion, no tokio task, no file and no SQL.

pub mod async_operator;
pub mod clock;
pub mod config;
pub mod connector;
pub mod dead_letter;
pub mod element;
pub mod error;
pub mod exact;
pub mod key_group;
pub mod lookup;
pub mod metrics;
pub mod operator;
pub mod registry;
pub mod result_letter;
pub mod row_json;
pub mod run;
pub mod schema;
pub mod sink;
pub mod source;
pub mod sql_type;
pub mod state;
pub mod time;
pub mod url_password;

pub use async_operator::{AsyncOperator, AsyncSpec};
pub use clock::{Clock, ManualClock, SystemClock};
pub use connector::{Connector, ReadBack, SinkContext, SourceContext};
pub use dead_letter::{BadRecord, Letter};
pub use element::{Barrier, BarrierKind, CheckpointId, Element};
pub use error::{Error, Reach, Result, Whose};
pub use key_group::{KeyGroup, KeyGroupRange};
pub use lookup::{Lookup, LookupContext, LookupReader};
pub use operator::{Distribution, Operator, OperatorContext, OperatorSpec, Output, Progress};
pub use registry::{OperatorFactory, PlanContext, Registry};
pub use run::{Epoch, Generation, RunId};
pub use schema::{ChangeKind, ChangeMode, StreamSchema};
pub use sink::{CommitOutcome, Committable, Committer, Sink, SinkWriter};
pub use source::{Boundedness, LetterDecoder, Read, Source, Split, SplitEnumerator, SplitReader};
pub use time::Watermark;
