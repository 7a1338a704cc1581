//! The settings of a job: what holds for all its nodes. The doc comments are the job reference.

use karez_core::config::{ByteSize, Span};
use karez_core::key_group::DEFAULT_KEY_GROUPS;
use karez_external::ClientOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobType {
    /// Results as the rows come; sources may be unbounded.
    #[default]
    Streaming,
    /// Bounded sources, final rows only: no watermark before the end, no changelog.
    Batch,
}

/// What must hold over crashes. A chain that cannot hold it is refused when the job is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// No row is lost; rows since the last checkpoint may appear twice in sinks that are not transactional.
    #[default]
    AtLeastOnce,
    /// Every row counts once in every sink.
    ExactlyOnce,
}

/// The settings of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobSettings {
    /// Identifies the job over restarts: its state lives under this name. Letters, digits, `-`, `_`, `.`. Default: made from `name`.
    pub id: String,
    /// The name people see.
    pub name: String,
    /// Whether the job ends.
    #[serde(rename = "type")]
    pub job_type: JobType,
    /// How many subtasks a node has unless it says otherwise. Default: 1.
    pub parallelism: usize,
    /// The number of key groups: the highest parallelism the state can ever be spread over. Cannot change while there is state. Default: 128.
    pub max_parallelism: u16,
    /// What must hold over crashes.
    pub delivery: Delivery,
    /// When and how the job's state is saved.
    pub checkpoint: CheckpointSettings,
    /// What happens when the job fails.
    pub restart: RestartStrategy,
    /// Where keyed state lives while the job runs.
    pub state: StateSettings,
    /// Limits of the whole job.
    pub resources: ResourceSettings,
    /// The longest time rows wait in a small batch in front of an exchange. Default: 5ms.
    pub buffer_timeout: Span,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            job_type: JobType::Streaming,
            parallelism: 1,
            max_parallelism: DEFAULT_KEY_GROUPS,
            delivery: Delivery::AtLeastOnce,
            checkpoint: CheckpointSettings::default(),
            restart: RestartStrategy::default(),
            state: StateSettings::default(),
            resources: ResourceSettings::default(),
            buffer_timeout: Span::millis(5),
        }
    }
}

/// Checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// Time between the starts of two checkpoints. Default: 10s.
    pub interval: Span,
    /// A checkpoint that takes longer has failed. Default: 10m.
    pub timeout: Span,
    /// The least time between the end of one and the start of the next. Default: 0.
    pub min_pause: Span,
    /// How many checkpoints in a row may fail before the job does. Default: 3.
    pub tolerable_failures: u32,
    /// How many completed checkpoints are kept. Default: 2.
    pub retained: usize,
    /// Where checkpoints are written: a folder or an object store's URL. Default: `checkpoints` in the run's state directory.
    pub storage: Option<String>,
    /// How the object store is called, if checkpoints or savepoints are kept in one: how long a request may take, and how it is sent again. Default: what its
    /// client does by itself (30s, 11 attempts within 3m).
    pub external: Option<ClientOptions>,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            interval: Span::millis(10_000),
            timeout: Span::millis(600_000),
            min_pause: Span::millis(0),
            tolerable_failures: 3,
            retained: 2,
            storage: None,
            external: None,
        }
    }
}

/// What happens when a job fails (Flink's restart strategies).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "strategy", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RestartStrategy {
    /// It stays failed.
    None {},
    /// It is restarted after a fixed delay.
    FixedDelay {
        /// How often at most.
        attempts: u32,
        /// The time between failure and restart.
        delay: Span,
    },
    /// It is restarted after a delay that grows, and is reset after an hour without failure.
    ExponentialBackoff {
        /// The first delay.
        #[serde(default = "one_second")]
        initial_delay: Span,
        /// The longest delay.
        #[serde(default = "five_minutes")]
        max_delay: Span,
        /// What the delay is multiplied by each time.
        #[serde(default = "two")]
        multiplier: f64,
        /// How often at most; without it, without end.
        #[serde(default)]
        attempts: Option<u32>,
    },
    /// It is restarted unless it fails too often.
    FailureRate {
        /// More failures than this in the interval and it stays failed.
        max_failures_per_interval: u32,
        /// The interval.
        failure_rate_interval: Span,
        /// The time between failure and restart.
        delay: Span,
    },
}

const fn one_second() -> Span {
    Span::millis(1_000)
}
const fn five_minutes() -> Span {
    Span::millis(300_000)
}
const fn two() -> f64 {
    2.0
}

impl Default for RestartStrategy {
    fn default() -> Self {
        Self::FixedDelay { attempts: 3, delay: Span::millis(10_000) }
    }
}

/// Where keyed state lives.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StateSettings {
    /// The backend.
    pub backend: StateBackendKind,
}

/// A state backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateBackendKind {
    /// In memory, within `resources.memory`.
    #[default]
    Memory,
    /// On local disk (fjall, an LSM tree): state larger than memory.
    Disk,
}

/// Limits.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceSettings {
    /// How many subtasks a node has unless it says otherwise; the same as the job's `parallelism`, as §6.2 of the design document writes it.
    pub parallelism: Option<usize>,
    /// The most memory that state and queues of the job may hold; over it the job fails with an error that names the operator. Default: no limit.
    pub memory: Option<ByteSize>,
    /// Sizes of queues.
    pub buffer: BufferSettings,
    /// Threads of the job.
    pub thread_pool: ThreadPoolSettings,
}

/// Threads of a job (§10.4 of the design document).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ThreadPoolSettings {
    /// Threads that run tasks.
    pub compute: ComputeThreads,
    /// Threads that wait for blocking drivers and files.
    pub io: IoThreads,
}

/// Threads that run tasks.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ComputeThreads {
    /// How many. Default: one for each core.
    pub core_size: Option<usize>,
}

/// Threads that wait for blocking drivers and files.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IoThreads {
    /// The most of them at a time; they are started when needed. Default: 512.
    pub max_size: Option<usize>,
}

/// Sizes of queues between tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BufferSettings {
    /// Batches a queue behind a source holds at most. Default: 16.
    pub source_buffer: usize,
    /// Batches a queue in front of a sink (and any other queue) holds at most. Default: 16.
    pub sink_buffer: usize,
    /// Bytes any queue holds at most; one larger batch is let through alone. Default: 16m.
    pub bytes: ByteSize,
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self { source_buffer: 16, sink_buffer: 16, bytes: ByteSize(16 << 20) }
    }
}
