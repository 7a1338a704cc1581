//! The options of the generator.

use karez_core::config::{ConfigError, ConfigErrors, Span};
use schemars::JsonSchema;
use serde::Deserialize;

/// The options of the generator: `kind` says which.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum GeneratorOptions {
    /// The Nexmark benchmark.
    Nexmark(NexmarkOptions),
    /// Columns of one's own.
    Fields(FieldsOptions),
}

/// The events of the Nexmark benchmark (Tucker et al., 2002), as Apache Beam and the crate `nexmark` define them: 1 person, 3 auctions and 46 bids
/// in 50 events.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NexmarkOptions {
    /// `nexmark`.
    pub kind: NexmarkKind,
    /// Which events. Default: bid.
    #[serde(default)]
    pub event: NexmarkEvent,
    /// How many rows; without it, without end.
    pub rows: Option<u64>,
    /// The rows are dealt out to so many splits, which can be read in parallel. Default: 1.
    #[serde(default = "one")]
    pub splits: u32,
    /// The time of the first event, RFC 3339. Default: 2015-07-15T00:00:00Z.
    #[serde(default = "default_start")]
    pub start_time: String,
    /// How many events, of all types, lie in one second of event time. How fast they come is the source's `rateLimit`. Default: 10000.
    #[serde(default = "ten_thousand")]
    pub events_per_second: u64,
    /// The size of a bid in bytes that the length of its column `extra` is chosen for, on average. Default: 100.
    #[serde(default = "hundred")]
    pub bid_bytes: usize,
}

/// `nexmark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NexmarkKind {
    /// The Nexmark benchmark.
    Nexmark,
}

/// Which events of the Nexmark benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NexmarkEvent {
    /// People: `id, name, email_address, credit_card, city, state, date_time, extra`.
    Person,
    /// Auctions: `id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra`.
    Auction,
    /// Bids: `auction, bidder, price, channel, url, date_time, extra`.
    #[default]
    Bid,
    /// All in one stream: `event` (person, auction, bid), `date_time`, and a struct column for each type, of which one is not null.
    All,
}

/// Columns of one's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldsOptions {
    /// `fields`.
    pub kind: FieldsKind,
    /// The columns, in order.
    pub fields: Vec<FieldOptions>,
    /// How many rows; without it, without end.
    pub rows: Option<u64>,
    /// The rows are dealt out to so many splits, which can be read in parallel. Default: 1.
    #[serde(default = "one")]
    pub splits: u32,
    /// Another seed gives other random values. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

/// `fields`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FieldsKind {
    /// Columns of one's own.
    Fields,
}

/// One column.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FieldOptions {
    /// `start + step × row`, a bigint.
    Sequence {
        /// The column's name.
        name: String,
        /// The value of row 0. Default: 0.
        #[serde(default)]
        start: i64,
        /// What each row adds. Default: 1.
        #[serde(default = "one_i64")]
        step: i64,
    },
    /// A random bigint.
    Int {
        /// The column's name.
        name: String,
        /// The least value. Default: 0.
        #[serde(default)]
        min: i64,
        /// The greatest value. Default: 2^63 − 1.
        #[serde(default = "max_i64")]
        max: i64,
        /// The share of nulls, 0 to 1. Default: 0.
        #[serde(default)]
        nulls: f64,
    },
    /// A random double.
    Double {
        /// The column's name.
        name: String,
        /// The least value. Default: 0.
        #[serde(default)]
        min: f64,
        /// The bound that no value reaches. Default: 1.
        #[serde(default = "one_f64")]
        max: f64,
        /// The share of nulls, 0 to 1. Default: 0.
        #[serde(default)]
        nulls: f64,
    },
    /// A random text of letters a to z.
    String {
        /// The column's name.
        name: String,
        /// Its length. Default: 16.
        #[serde(default = "sixteen")]
        length: u32,
        /// The share of nulls, 0 to 1. Default: 0.
        #[serde(default)]
        nulls: f64,
    },
    /// True or false.
    Boolean {
        /// The column's name.
        name: String,
        /// The share of true, 0 to 1. Default: 0.5.
        #[serde(default = "half")]
        probability: f64,
        /// The share of nulls, 0 to 1. Default: 0.
        #[serde(default)]
        nulls: f64,
    },
    /// One of some texts, each as likely as the other.
    Choice {
        /// The column's name.
        name: String,
        /// The texts.
        values: Vec<String>,
        /// The share of nulls, 0 to 1. Default: 0.
        #[serde(default)]
        nulls: f64,
    },
    /// `start + step × row`, a timestamp(3).
    Timestamp {
        /// The column's name.
        name: String,
        /// The value of row 0, RFC 3339. Default: 2015-07-15T00:00:00Z.
        #[serde(default = "default_start")]
        start: String,
        /// What each row adds. Default: 1ms.
        #[serde(default = "one_millisecond")]
        step: Span,
    },
}

impl FieldOptions {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sequence { name, .. }
            | Self::Int { name, .. }
            | Self::Double { name, .. }
            | Self::String { name, .. }
            | Self::Boolean { name, .. }
            | Self::Choice { name, .. }
            | Self::Timestamp { name, .. } => name,
        }
    }

    pub(super) const fn nulls(&self) -> f64 {
        match self {
            Self::Sequence { .. } | Self::Timestamp { .. } => 0.0,
            Self::Int { nulls, .. }
            | Self::Double { nulls, .. }
            | Self::String { nulls, .. }
            | Self::Boolean { nulls, .. }
            | Self::Choice { nulls, .. } => *nulls,
        }
    }

    /// What is wrong with it; `path` names it.
    pub(super) fn check(&self, path: &str) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key: &str, message: String| errors.push(ConfigError::new(format!("{path}.{key}"), message));
        if self.name().is_empty() || self.name().starts_with(karez_core::schema::HIDDEN_PREFIX) {
            wrong("name", format!("`{}` is no name for a column", self.name()));
        }
        if !(0.0..=1.0).contains(&self.nulls()) {
            wrong("nulls", "must lie between 0 and 1".to_owned());
        }
        match self {
            Self::Int { min, max, .. } if min > max => wrong("min", format!("{min} is greater than `max` ({max})")),
            Self::Double { min, max, .. } if !(min.is_finite() && max.is_finite() && min < max) => {
                wrong("min", format!("must be less than `max` ({max})"))
            }
            Self::Boolean { probability, .. } if !(0.0..=1.0).contains(probability) => wrong("probability", "must lie between 0 and 1".to_owned()),
            Self::Choice { values, .. } if values.is_empty() => wrong("values", "needs at least one text".to_owned()),
            Self::Timestamp { start, .. } => {
                if let Err(e) = instant_ms(start) {
                    wrong("start", e);
                }
            }
            _ => {}
        }
        errors
    }
}

/// Parses the options of the kind that they name.
pub(super) fn parse(config: &serde_json::Value) -> Result<GeneratorOptions, ConfigErrors> {
    match config.get("kind").and_then(serde_json::Value::as_str) {
        Some("nexmark") => karez_core::config::parse(config).map(GeneratorOptions::Nexmark),
        Some("fields") => karez_core::config::parse(config).map(GeneratorOptions::Fields),
        Some(other) => {
            let e = ConfigError::new("kind", format!("unknown kind `{other}`"));
            Err(match karez_core::error::did_you_mean(other, ["nexmark", "fields"]) {
                Some(near) => e.hint(format!("did you mean `{near}`?")),
                None => e.hint("known: nexmark, fields"),
            }
            .into())
        }
        None => Err(ConfigError::new("kind", "is missing").hint("give `kind: nexmark` or `kind: fields`").into()),
    }
}

/// Milliseconds since the epoch of an RFC 3339 text.
pub(super) fn instant_ms(text: &str) -> Result<i64, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|t| t.timestamp_millis())
        .map_err(|e| format!("`{text}` is no instant ({e}); write it like `2015-07-15T00:00:00Z`"))
}

const fn one() -> u32 {
    1
}
const fn one_i64() -> i64 {
    1
}
const fn one_f64() -> f64 {
    1.0
}
const fn half() -> f64 {
    0.5
}
const fn max_i64() -> i64 {
    i64::MAX
}
const fn sixteen() -> u32 {
    16
}
const fn hundred() -> usize {
    100
}
const fn ten_thousand() -> u64 {
    10_000
}
const fn one_millisecond() -> Span {
    Span::millis(1)
}
fn default_start() -> String {
    "2015-07-15T00:00:00Z".to_owned()
}
