//! [`Named`]: names and what SQL expressions they stand for, in the order in which they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A map of names to SQL expressions, in its written order: that of the output columns and of the routes tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to SQL expressions, such as `{ total: \"sum(amount)\" }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }
        d.deserialize_map(Entries)
    }
}

impl JsonSchema for Named {
    fn schema_name() -> Cow<'static, str> {
        "NamedExpressions".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "additionalProperties": { "type": "string" },
            "description": "Names and the SQL expressions they stand for, in this order."
        })
    }

    fn inline_schema() -> bool {
        true
    }
}
