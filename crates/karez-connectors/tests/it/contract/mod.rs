//! What every connector promises, written once and run against each: the cases are in `sink`, `source` and `network`, an end for each system in `ends`.
//!
//! An [`End`] makes a fresh target (a folder, a table, a topic), writes rows to it and reads them back by a client that is not Karez. A case drives the
//! connector through its contracts as the engine does; a process that is killed is one whose objects are dropped, and what the next one knows is what
//! would stand in a manifest. Real kills of the whole binary are the crash rounds' (`karez-bench crash`, `crates/karez/tests/it/crash`).

mod ends;
mod layer;
mod network;
mod own_servers;
mod process;
mod reader;
mod sink;
mod source;
mod users;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_core::Connector;
use karez_testkit::Proxy;
use serde_json::Value;

/// A system behind a connector.
#[async_trait]
pub trait End: Send + Sync + Sized {
    /// A target that nobody else has, not there yet: the sink creates it.
    async fn fresh() -> Self;

    /// The connector.
    fn connector(&self) -> Box<dyn Connector>;

    /// Options of a sink that creates and writes the target, exactly once.
    fn sink(&self) -> Value;

    /// Options of a source that reads the target, and the schema to declare where the system knows none. It ends at what is there.
    fn source(&self) -> Value;

    /// Whether the source needs a declared schema.
    fn declares_schema(&self) -> bool {
        false
    }

    /// Creates the target for rows of [`rows_schema`], without Karez.
    async fn create(&self);

    /// Adds rows of [`rows_schema`] to what [`End::create`] made, without Karez, in one piece and visible at once.
    async fn insert(&self, rows: &[(i64, Option<&str>)]);

    /// The visible rows as `id|name`, null as `NULL`, by id, read without Karez. A target that is not there has none.
    async fn visible(&self) -> Vec<String>;

    /// Rows of every type that the system has, nulls in each, beside the column `id`.
    fn every_type(&self) -> RecordBatch;
}

/// An end behind a network.
#[async_trait]
pub trait Remote: End {
    /// A fresh target in the server of this address, in place of the shared one.
    async fn at(address: &str) -> Self;

    /// A network between, and `config` reaching the server through it.
    fn through(&self, config: Value) -> (Value, Arc<Proxy>);
}

/// An end with users and rights.
pub trait Guarded: End {
    /// `config` with a wrong password, which is [`WRONG_PASSWORD`].
    fn with_wrong_password(&self, config: Value) -> Value;

    /// `config` as a user who may connect and nothing else.
    fn without_rights(&self, config: Value) -> Value;
}

/// No error may show it.
pub const WRONG_PASSWORD: &str = "not-the-password-7391";

/// `id`, which identifies a row, and `name`, which may be null.
pub fn rows_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]))
}

pub fn rows(of: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(of.iter().map(|r| r.1)));
    RecordBatch::try_new(rows_schema(), vec![ids, names]).unwrap()
}

/// Rows `from..to`, named `n<id>`.
pub fn numbered(range: std::ops::Range<i64>) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(range.clone()));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(range.map(|id| format!("n{id}"))));
    RecordBatch::try_new(rows_schema(), vec![ids, names]).unwrap()
}

/// The lines of [`numbered`].
pub fn lines(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|id| format!("{id}|n{id}")).collect()
}

/// The rows of a batch as lines, columns joined by `|`, null as `NULL`, by the number in the first column.
pub fn as_lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    let mut lines: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            let columns: Vec<_> = batch.columns().iter().map(|c| arrow::util::display::ArrayFormatter::try_new(c, &options).unwrap()).collect();
            (0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|")).collect::<Vec<_>>()
        })
        .collect();
    by_id(&mut lines);
    lines
}

pub fn by_id(lines: &mut [String]) {
    lines.sort_by_key(|line| line.split('|').next().and_then(|id| id.parse::<i64>().ok()));
}

/// The cases of a module for an end.
macro_rules! cases {
    ($module:ident, $end:ty: $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case::<$end>().await;
            }
        )*
    };
}

/// Sink and source of an end.
macro_rules! both_ends {
    ($name:ident, $end:ty) => {
        mod $name {
            cases! { sink, $end:
                rows_are_visible_after_their_commit_and_not_before
                a_kill_before_the_manifest_leaves_nothing
                a_kill_between_manifest_and_commit_is_made_good_at_another_parallelism
                a_commit_that_is_repeated_changes_nothing
                what_a_failed_checkpoint_prepared_belongs_to_the_next
                an_empty_batch_and_an_empty_epoch_write_nothing
                a_huge_batch_arrives_whole
                nulls_and_unicode_arrive_as_they_are
            }
            cases! { source, $end:
                rows_are_read_as_they_were_written
                an_empty_target_gives_nothing
                reading_goes_on_behind_any_position
                many_rows_come_in_batches_within_the_limit
                what_the_sink_wrote_the_source_reads_whatever_its_type
            }
        }
    };
}

/// What holds of an end whose target is missing until it is made.
macro_rules! a_target_may_be_missing {
    ($name:ident, $end:ty) => {
        mod $name {
            cases! { sink, $end: the_check_creates_nothing }
            cases! { source, $end: a_missing_target_is_named }
        }
    };
}

/// What holds of an end with users and rights.
macro_rules! users_and_rights {
    ($name:ident, $end:ty) => {
        mod $name {
            cases! { users, $end:
                a_wrong_password_is_said_and_not_shown
                a_missing_right_is_said
            }
        }
    };
}

/// What holds of an end behind a network besides.
macro_rules! over_the_network {
    ($name:ident, $end:ty) => {
        mod $name {
            cases! { network, $end:
                rows_written_through_an_outage_arrive_once
                rows_read_through_an_outage_come_once
                a_commit_whose_answer_is_lost_is_made_once
                a_slow_server_holds_the_writer_back
            }
        }
    };
}

/// What holds of a database server besides.
macro_rules! through_the_layer {
    ($name:ident, $end:ident) => {
        mod $name {
            cases! { layer, super::ends::$end:
                a_stalled_server_is_given_up_in_time_and_written_to_once
                a_stalled_server_is_given_up_though_the_reader_is_interrupted
                rows_that_wait_to_be_taken_are_no_silence_of_the_server
                writers_keep_to_the_limits_together
                a_server_that_stays_away_fails_the_job_after_the_attempts_it_was_given
                what_cannot_be_honoured_is_refused
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_statement_that_takes_long_is_no_silence_of_the_server() {
                let database = karez_testkit::Database::$end;
                super::layer::a_statement_that_takes_long_is_no_silence_of_the_server::<super::ends::$end>(database).await;
            }
        }
    };
}

both_ends!(ndjson_files, super::ends::NdjsonFiles);
a_target_may_be_missing!(ndjson_files_missing, super::ends::NdjsonFiles);
both_ends!(parquet_files, super::ends::ParquetFiles);
both_ends!(sqlite, super::ends::Sqlite);
a_target_may_be_missing!(sqlite_missing, super::ends::Sqlite);
both_ends!(kafka, super::ends::Kafka);
users_and_rights!(kafka_users, super::ends::SecureKafka);
both_ends!(postgres, super::ends::Postgres);
a_target_may_be_missing!(postgres_missing, super::ends::Postgres);
over_the_network!(postgres_network, super::ends::Postgres);
through_the_layer!(postgres_layer, Postgres);
users_and_rights!(postgres_users, super::ends::Postgres);
both_ends!(mysql, super::ends::Mysql);
a_target_may_be_missing!(mysql_missing, super::ends::Mysql);
over_the_network!(mysql_network, super::ends::Mysql);
through_the_layer!(mysql_layer, Mysql);
users_and_rights!(mysql_users, super::ends::Mysql);
both_ends!(mariadb, super::ends::Mariadb);
a_target_may_be_missing!(mariadb_missing, super::ends::Mariadb);
over_the_network!(mariadb_network, super::ends::Mariadb);
through_the_layer!(mariadb_layer, Mariadb);
users_and_rights!(mariadb_users, super::ends::Mariadb);
