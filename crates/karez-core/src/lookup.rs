//! The contract of look-ups: rows of an outside table by key, for the `lookup` operator.
//!
//! ```text
//!  Connector::lookup(config, keys) ─► Lookup (planned: columns, types) ──open()──► LookupReader ──get(keys)──► rows
//! ```
//! The operator in front does the rest, once for all connectors: distinct keys, the cache, joining, retries and limits.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde_json::Value;

use crate::Result;
use crate::metrics::NodeMetrics;

/// The most rows that one question may be answered with: of keys that are not unique there could be any number.
pub const MAX_MATCHES: usize = 100_000;

/// What a look-up is made of.
#[derive(Clone, Copy, Debug)]
pub struct LookupContext<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The connector's options, `${ENV}` references unresolved.
    pub config: &'a Value,
    /// The columns of the table that make the key, in order. An error about one of them has the path `on`; other errors have those of `config`'s keys.
    pub key: &'a [String],
    /// The columns to give; `None`: all but the key. An error about one of them has the path `columns`.
    pub columns: Option<&'a [String]>,
}

/// A look-up as planned: its options have been validated, nothing is open.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// The key columns, in the order of [`LookupContext::key`], with the types in which keys are asked for and given back; then the columns asked for.
    fn schema(&self) -> SchemaRef;

    /// What is asked, for messages: `table customers in postgres://db/shop`. No secrets.
    fn describe(&self) -> String;

    /// The most keys in one question; the operator asks several where a batch has more.
    fn max_keys(&self) -> usize {
        1000
    }

    /// The most questions that can be asked at the same time, where it has a limit of its own (a pool of connections).
    fn max_concurrency(&self) -> Option<usize> {
        None
    }

    /// Tries to reach the table, without side effects.
    async fn check(&self) -> Result<()>;

    /// Opens it. Called again when that failed; a connection that is lost later is the reader's to open anew, at the next `get`.
    async fn open(&self, context: LookupReaderContext) -> Result<Arc<dyn LookupReader>>;
}

/// What a reader may use.
#[derive(Clone, Debug)]
pub struct LookupReaderContext {
    /// Counters of the operator.
    pub metrics: Arc<NodeMetrics>,
    /// How many questions may be asked at the same time: as many connections are useful at most.
    pub max_concurrency: usize,
}

/// Answers questions. Shared: several are asked at the same time.
#[async_trait]
pub trait LookupReader: Send + Sync + 'static {
    /// The rows whose key is one of `keys`: distinct, none null, in the columns and types of the key columns of [`Lookup::schema`]. In any order, none
    /// for a key that is not there, several where the key is not unique. Rows of other keys (a collation for which `A` is `a`) are left out by the
    /// caller. Batches of [`Lookup::schema`].
    ///
    /// # Errors
    /// That there are more than [`MAX_MATCHES`] rows, a [`crate::Error::user`]. [`crate::Error::connection`] for what may pass, which is tried again: a lost connection, a deadlock, a server that starts.
    async fn get(&self, keys: &RecordBatch) -> Result<Vec<RecordBatch>>;
}
