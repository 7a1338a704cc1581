//! MySQL and MariaDB, through `mysql_async`.
//!
//! Sessions are strict, speak utf8mb4 and live in UTC, so that no value is changed in silence; see [`session`]. Rows go in by `LOAD DATA LOCAL` where the
//! server allows it ([`load`]) and come out by the binary protocol, one after the other, never as a whole result ([`decode`]).

mod decode;
mod describe;
mod dialect;
mod encode;
mod failures;
mod load;
mod read;
mod session;
mod settings;
mod types;
mod visibility;

use std::time::Duration;

use arrow::datatypes::DataType;
use async_trait::async_trait;
use karez_core::config::ConfigErrors;

use super::dialect::Dialect;
use super::server::driver::{Driver, Session};
use super::server::failure::Failure;
use super::server::settings::Settings;
use super::server::table::Column;
use dialect::MySql;
use settings::ZeroDates;
use types::Kind;

/// How long rows are left for later, because a transaction that began earlier may commit later, unless the options say otherwise.
const VISIBILITY_DELAY_MS: i64 = 5_000;

/// MySQL or MariaDB, as the options of a node describe one.
#[derive(Debug)]
pub(super) struct MySqlDriver {
    settings: Settings,
    zero_dates: ZeroDates,
}

impl MySqlDriver {
    pub(super) fn new(mut settings: Settings) -> Result<Self, ConfigErrors> {
        let zero_dates = settings::read(&mut settings)?;
        Ok(Self { settings, zero_dates })
    }
}

#[async_trait]
impl Driver for MySqlDriver {
    fn dialect(&self) -> &dyn Dialect {
        &MySql
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(session::MySqlSession::open(&self.settings, self.zero_dates).await?))
    }

    fn is_at_work(&self, id: u64, a_while: Duration) -> String {
        format!("SELECT 1 FROM information_schema.processlist WHERE id = {id} AND (command <> 'Sleep' OR time < {})", a_while.as_secs_f64())
    }

    /// A `TINYINT(1)` may hold more than a boolean.
    fn reads_as(&self, column: &Column, wanted: &DataType) -> Option<DataType> {
        (wanted.is_integer() && Kind::parse(&column.declared) == Kind::Bool).then_some(DataType::Int8)
    }

    fn writes(&self, data_type: &DataType, column: &Column) -> Result<(), String> {
        match Kind::parse(&column.declared).refuses(data_type) {
            None => Ok(()),
            Some(why) => Err(why.to_owned()),
        }
    }

    /// Where it is not set, more than the delay is waited for: see [`visibility`].
    fn default_visibility_delay_ms(&self) -> Option<i64> {
        None
    }

    fn type_of(&self, _: &DataType) -> u32 {
        0
    }
}
