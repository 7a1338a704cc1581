//! Functions that read the clock: `now()` and its kin.
//!
//! DataFusion's own fold to a constant when a query is planned, which in a stream would be the moment when the job was built.
//! Ours are volatile: each call in an expression reads the clock once per batch.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

const MS_PER_DAY: i64 = 86_400_000;

/// Says what time it is: milliseconds since 1970-01-01 UTC. Tests give their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that answers what `now_ms` returns.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// The system's clock.
    pub fn system() -> Self {
        Self::new(|| match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        })
    }

    fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// `now`, `localtimestamp`, `current_date` and `current_time`, with their other names, in UTC.
pub(crate) fn clock_functions(clock: &Clock) -> Vec<Arc<ScalarUDF>> {
    [
        (Reading::Instant, "now", &["current_timestamp", "proctime"][..]),
        (Reading::LocalTimestamp, "localtimestamp", &[]),
        (Reading::Date, "current_date", &["today"]),
        (Reading::Time, "current_time", &["localtime"]),
    ]
    .into_iter()
    .map(|(reading, name, aliases)| {
        Arc::new(ScalarUDF::from(ClockFunction {
            reading,
            name,
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            signature: Signature::nullary(Volatility::Volatile),
            clock: clock.clone(),
        }))
    })
    .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reading {
    /// `TIMESTAMP_LTZ(3)`: milliseconds with zone UTC.
    Instant,
    /// `TIMESTAMP(3)`: milliseconds without zone.
    LocalTimestamp,
    Date,
    Time,
}

#[derive(Debug)]
struct ClockFunction {
    reading: Reading,
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    clock: Clock,
}

impl PartialEq for ClockFunction {
    fn eq(&self, other: &Self) -> bool {
        self.reading == other.reading
    }
}

impl Eq for ClockFunction {}

impl Hash for ClockFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reading.hash(state);
    }
}

impl ScalarUDFImpl for ClockFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Instant => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Reading::LocalTimestamp => DataType::Timestamp(TimeUnit::Millisecond, None),
            Reading::Date => DataType::Date32,
            Reading::Time => DataType::Time32(TimeUnit::Millisecond),
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now_ms = self.clock.now_ms();
        Ok(ColumnarValue::Scalar(match self.reading {
            Reading::Instant => ScalarValue::TimestampMillisecond(Some(now_ms), Some("UTC".into())),
            Reading::LocalTimestamp => ScalarValue::TimestampMillisecond(Some(now_ms), None),
            Reading::Date => ScalarValue::Date32(i32::try_from(now_ms.div_euclid(MS_PER_DAY)).ok()),
            Reading::Time => ScalarValue::Time32Millisecond(i32::try_from(now_ms.rem_euclid(MS_PER_DAY)).ok()),
        }))
    }
}
