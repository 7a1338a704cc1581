//! The options of `lookup`.

use std::borrow::Cow;
use std::fmt;

use karez_core::config::{ByteSize, ConfigError, Span};
use karez_external::ExternalOptions;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Options of `lookup`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LookupOptions {
    /// The connector that is asked, such as `jdbc`, or the name of a connection under `connectors`.
    pub(crate) connector: String,
    /// The options of its look-ups, such as `url` and `table`: see the connector's page.
    #[serde(default)]
    #[schemars(schema_with = "any_mapping")]
    #[allow(dead_code)] // Read as it was written, with references to the environment: see `plan`.
    pub(crate) config: Value,
    /// Which columns must be equal: `{ customer_id: id }`, the stream's to the table's. Several make one key together. A null is equal to nothing.
    pub(crate) on: Names,
    /// The columns of the table to add: a list of names, or a map `{ name_in_the_stream: name_in_the_table }`; `[]` adds none, to ask only whether there
    /// is a row. Default: all but those of the key.
    #[serde(default)]
    pub(crate) columns: Option<Names>,
    /// `left` keeps rows for which the table has none, with nulls; `inner` drops them. Default: left.
    #[serde(default)]
    pub(crate) join: Join,
    /// What is done with a row for which the table has several. Default: all.
    #[serde(default)]
    pub(crate) on_multiple: OnMultiple,
    /// Keep answers in memory, and do not ask again while they are young enough. Default: each batch asks for its keys, once each.
    #[serde(default)]
    pub(crate) cache: Option<CacheOptions>,
    /// The most batches that wait for answers at the same time, for each subtask; never more than 65,536 rows but for one batch. Default: 16.
    #[serde(default = "sixteen")]
    pub(crate) max_in_flight: usize,
    /// How the outside is called: timeout, retries, limits. While it is away the job waits, and takes no more rows.
    #[serde(default)]
    pub(crate) external: ExternalOptions,
}

/// What becomes of rows for which the table has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Join {
    /// They stay, with nulls in the columns of the table.
    #[default]
    Left,
    /// They are dropped.
    Inner,
}

/// What becomes of a row for which the table has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnMultiple {
    /// A row for each of them.
    #[default]
    All,
    /// It is a bad record, for the node's `onError`.
    Reject,
}

/// Answers that are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CacheOptions {
    /// The most keys, all subtasks together; those that were not asked for lately go first. Default: 10000.
    pub(crate) max_rows: usize,
    /// The most memory, all subtasks together. Default: 64m.
    pub(crate) max_bytes: ByteSize,
    /// How old an answer may be. Default: 1m.
    pub(crate) ttl: Span,
    /// How old the answer may be that there is no row; 0: such answers are not kept. Default: 10s, or `ttl` where that is shorter.
    pub(crate) negative_ttl: Option<Span>,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { max_rows: 10_000, max_bytes: ByteSize(64 << 20), ttl: Span::millis(60_000), negative_ttl: None }
    }
}

impl LookupOptions {
    /// What is wrong whatever the rows are.
    pub(crate) fn check(&self, errors: &mut Vec<ConfigError>) {
        if self.on.0.is_empty() {
            errors.push(
                ConfigError::new("on", "no column is named").hint("write it like `on: { customer_id: id }`, the stream's column to the table's"),
            );
        }
        if self.max_in_flight == 0 {
            errors.push(ConfigError::new("maxInFlight", "must be at least 1"));
        }
        if let Some(cache) = &self.cache {
            for (key, is_zero) in
                [("cache.maxRows", cache.max_rows == 0), ("cache.maxBytes", cache.max_bytes.0 == 0), ("cache.ttl", cache.ttl.0.is_zero())]
            {
                if is_zero {
                    errors.push(ConfigError::new(key, "must be more than 0").hint("leave `cache` out to keep no answers"));
                }
            }
        }
        if let Err(e) = self.external.check() {
            errors.push(e.under("external"));
        }
    }
}

/// Columns and what they are called on the other side, in their written order. A list names them the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of columns, or a map of the stream's columns to the table's")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Names(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    entries.push((name.clone(), name));
                }
                Ok(Names(entries))
            }
        }
        d.deserialize_any(Entries)
    }
}

impl JsonSchema for Names {
    fn schema_name() -> Cow<'static, str> {
        "ColumnNames".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["array", "object"],
            "items": { "type": "string" },
            "additionalProperties": { "type": "string" },
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

fn any_mapping(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object" })
}

const fn sixteen() -> usize {
    16
}
