//! [`Named`]: names and expressions, as a map or, where their order matters, as a list of maps of one entry each.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Names and the SQL expressions they stand for: in the order of the list, or by name (a map of a configuration has no order).
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

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Named, A::Error> {
                let mut entries = Vec::new();
                while let Some(item) = list.next_element::<BTreeMap<String, String>>()? {
                    if item.len() != 1 {
                        return Err(A::Error::custom(
                            "an item of the list is a map of one name and its SQL expression, such as `- total: \"sum(amount)\"`",
                        ));
                    }
                    entries.extend(item);
                }
                Ok(Named(entries))
            }
        }
        d.deserialize_any(Entries)
    }
}

impl JsonSchema for Named {
    fn schema_name() -> Cow<'static, str> {
        "NamedExpressions".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [
                { "type": "object", "additionalProperties": { "type": "string" } },
                { "type": "array", "items": { "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1, "maxProperties": 1 } }
            ],
            "description": "Names and the SQL expressions they stand for."
        })
    }

    fn inline_schema() -> bool {
        true
    }
}
