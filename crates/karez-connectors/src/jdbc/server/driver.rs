//! What a database's folder implements: how to connect, and what a connection can do.

use std::fmt::Debug;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use tokio::sync::mpsc;

use super::super::dialect::Dialect;
use super::super::keyset::KeyValue;
use super::failure::Failure;
use super::settings::Settings;
use super::table::{Column, Table, TableName};

/// The rows of one [`Chunk`] at most.
pub(in super::super) const CHUNK_ROWS: usize = 8_192;
/// The bytes of one [`Chunk`], about, at most.
pub(in super::super) const CHUNK_BYTES: usize = 1 << 20;

/// A kind of database server, as the options of a node describe one. Cheap to share; opens nothing by itself.
#[async_trait]
pub(in super::super) trait Driver: Debug + Send + Sync + 'static {
    /// Its SQL.
    fn dialect(&self) -> &dyn Dialect;

    /// What it was made of.
    fn settings(&self) -> &Settings;

    /// Opens a connection. It is closed when the session is dropped.
    async fn connect(&self) -> Result<Box<dyn Session>, Failure>;

    /// SQL that gives a row where the connection of an [`Session::id`] is at work on a statement, or has been a short while ago.
    fn is_at_work(&self, id: u64, a_while: Duration) -> String;

    /// The number of the type of a column that this connector makes for its own use (64-bit and 16-bit integers).
    fn type_of(&self, data_type: &DataType) -> u32;

    /// What a column is read as where the user declares another type than [`Column::data_type`] and the driver can give it without a detour.
    fn reads_as(&self, column: &Column, wanted: &DataType) -> Option<DataType> {
        let _ = (column, wanted);
        None
    }

    /// Whether values of an Arrow type can be written to a column, else why not: what would be changed silently is refused.
    fn writes(&self, data_type: &DataType, column: &Column) -> Result<(), String>;

    /// How rows are kept from being missed: for the modes of a source that wait for new rows, where `visibilityDelay` is not set.
    /// `None`: the server tells by itself ([`Session::candidate`]).
    fn default_visibility_delay_ms(&self) -> Option<i64>;
}

/// Rows to be loaded: the columns of a table, in the order of the batch's.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Load<'a> {
    pub(in super::super) table: &'a TableName,
    pub(in super::super) columns: &'a [Column],
}

/// A statement whose rows are read, and what its columns are.
#[derive(Clone, Debug)]
pub(in super::super) struct Select {
    pub(in super::super) sql: String,
    /// The columns it gives, in order; each has a `data_type`.
    pub(in super::super) columns: Vec<Column>,
}

/// Rows as they come: all columns of a [`Select`], each of its column's `data_type`.
#[derive(Debug)]
pub(in super::super) struct Chunk {
    pub(in super::super) rows: usize,
    pub(in super::super) columns: Vec<ArrayRef>,
    /// Rows of which a value cannot be read, ascending, each once, and why: `column `c`: …`. Their unreadable values stand as null in `columns`.
    pub(in super::super) bad: Vec<(usize, String)>,
    /// About how many bytes they came in.
    pub(in super::super) bytes: usize,
}

/// A column that only grows, whose new values are looked for.
#[derive(Clone, Debug)]
pub(in super::super) struct Growth<'a> {
    /// The table, where it is one.
    pub(in super::super) table: Option<&'a TableName>,
    /// What stands behind FROM.
    pub(in super::super) from: &'a str,
    pub(in super::super) column: &'a Column,
    /// It holds instants at which rows were changed, not numbers given to rows.
    pub(in super::super) is_timestamp: bool,
    /// Rows of the bound itself may be read: those that come later at the same instant are told apart by their keys.
    pub(in super::super) inclusive: bool,
    /// The last value read; `None` at the start.
    pub(in super::super) after: Option<&'a KeyValue>,
    /// How many rows with the value `after` have been read, where rows of that value are looked for again.
    pub(in super::super) seen: Option<u64>,
    /// As the option says, else as the driver does, milliseconds.
    pub(in super::super) visibility_delay_ms: Option<i64>,
}

/// An upper bound of a growing column that may be read up to once it is settled: no row at or below it can appear any more.
#[derive(Clone, Debug)]
pub(in super::super) struct Candidate {
    /// As SQL that can be compared with the column.
    pub(in super::super) bound: String,
    /// Whether rows of the bound itself are below it.
    pub(in super::super) inclusive: bool,
    /// The transactions that may still bring rows at or below the bound, in the driver's own words.
    pub(in super::super) waits_for: Vec<String>,
    /// When it was taken, by the clock of [`Session::candidate`]'s caller, milliseconds.
    pub(in super::super) taken_ms: i64,
}

/// One connection. Not shared; a failure of kind `Connection` leaves it unusable, others as it was but for the transaction under way.
#[async_trait]
pub(in super::super) trait Session: Send {
    /// The server's number for it; not 0.
    fn id(&self) -> u64;

    /// Whether it can be used again: open, and in no transaction.
    fn is_usable(&self) -> bool;

    /// Runs statements that give no rows; how many rows the last one touched.
    async fn execute(&mut self, sql: &str) -> Result<u64, Failure>;

    /// Runs one statement that gives a few rows, as text.
    async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure>;

    /// Begins a transaction in which each statement sees what has been committed before it (READ COMMITTED). Where it is not `durable`, its commit may
    /// return before it is on disk, if that is safe to ask of the server: a later durable commit then makes it so, too.
    async fn begin(&mut self, durable: bool) -> Result<(), Failure>;

    /// Commits. A failure of kind `Connection` leaves open whether it has.
    async fn commit(&mut self) -> Result<(), Failure>;

    /// Rolls back, also a transaction that has failed.
    async fn rollback(&mut self) -> Result<(), Failure>;

    /// Whether the user has the rights that a statement which adds or deletes rows needs, without running it: a failure of kind `User` says what is missing.
    async fn may_run(&mut self, sql: &str) -> Result<(), Failure>;

    /// Whether the user may create tables in a schema (`None`: the session's own), or tables of this connection alone.
    async fn may_create(&mut self, schema: Option<&str>, temporary: bool) -> Result<(), Failure>;

    /// Why the server can make no column for values of a type; `None` where it can.
    fn cannot_hold(&self, data_type: &DataType) -> Option<String> {
        let _ = data_type;
        None
    }

    /// Where rows are loaded in the form of their columns' types ([`Self::load`]), which the server takes for those of the types the columns have now: makes
    /// sure, in the transaction under way, that these are the types still, and stay so until it ends.
    async fn hold_types(&mut self, load: &Load<'_>) -> Result<(), Failure> {
        let _ = load;
        Ok(())
    }

    /// Describes a table or view; `None` where there is none of that name.
    async fn describe(&mut self, table: &TableName) -> Result<Option<Table>, Failure>;

    /// The columns a query gives, without running it.
    async fn describe_query(&mut self, query: &str) -> Result<Vec<Column>, Failure>;

    /// The names of tables and views of a schema (`None`: the session's own), without Karez' own: for suggestions.
    async fn table_names(&mut self, schema: Option<&str>) -> Result<Vec<String>, Failure>;

    /// The names of the tables of a schema that begin with a prefix of ours.
    async fn own_tables(&mut self, schema: Option<&str>, prefix: &str) -> Result<Vec<String>, Failure>;

    /// Adds rows by the bulk path of the database, all or none, in the transaction under way. A value that cannot be encoded is a failure of kind
    /// `Row(Some(row))`, after which the transaction goes on behind its last savepoint.
    async fn load(&mut self, load: &Load<'_>, rows: &RecordBatch) -> Result<(), Failure>;

    /// Reads rows as a stream, never more than a few chunks of them in memory; returns when all have been handed over, or when the receiver is gone.
    /// Dropping the future ends the statement.
    async fn read(&mut self, select: &Select, chunks: &mpsc::Sender<Chunk>) -> Result<(), Failure>;

    /// The newest bound of a growing column; `None` where there is nothing new.
    async fn candidate(&mut self, growth: &Growth<'_>, now_ms: i64) -> Result<Option<Candidate>, Failure>;

    /// Whether a candidate is settled; forgets what need not be waited for any more.
    async fn is_settled(&mut self, candidate: &mut Candidate, growth: &Growth<'_>, now_ms: i64) -> Result<bool, Failure>;
}
