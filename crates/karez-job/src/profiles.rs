//! Named connections (§3.9.4 of the design document): `connectors:` beside `job:`, referred to by name, their options merged under the node's own.

use std::collections::BTreeMap;

use crate::diagnostics::Diagnostic;
use crate::read::Reader;
use crate::yaml::{Entry, Node, Value};

/// A profile: the connector type and the options.
pub(crate) struct Profile<'n> {
    pub(crate) connector: &'n str,
    options: Vec<&'n Entry>,
    entry: &'n Entry,
    used: bool,
}

#[derive(Default)]
pub(crate) struct Profiles<'n>(BTreeMap<&'n str, Profile<'n>>);

impl<'n> Profiles<'n> {
    pub(crate) fn read(reader: &mut Reader, root: &'n Node) -> Self {
        let mut profiles = Self::default();
        let Some(entries) = root.get("connectors").and_then(|e| reader.mapping(e)) else { return profiles };
        for entry in entries.entries() {
            let Some(profile) = reader.mapping(entry) else { continue };
            let named = profile.get("type").or_else(|| profile.get("connector"));
            let Some(named) = named else {
                reader.error(
                    Diagnostic::error(format!("the connection `{}` does not say what it connects to", entry.key), entry.key_span.clone())
                        .help("add `type: <connector>`, such as `type: jdbc`"),
                );
                continue;
            };
            let Some(connector) = reader.text(named) else { continue };
            let options = profile.entries().iter().filter(|e| e.key != named.key).collect();
            profiles.0.insert(&entry.key, Profile { connector, options, entry, used: false });
        }
        profiles
    }

    /// The profile of a name. From now on it counts as used.
    pub(crate) fn find(&mut self, name: &str) -> Option<&Profile<'n>> {
        let profile = self.0.get_mut(name)?;
        profile.used = true;
        Some(profile)
    }

    pub(crate) fn warn_of_unused(&self, reader: &mut Reader) {
        for (name, profile) in self.0.iter().filter(|(_, p)| !p.used) {
            reader.warnings.push(
                Diagnostic::warning(format!("no node uses the connection `{name}`"), profile.entry.key_span.clone())
                    .help(format!("refer to it by `connector: {name}`, or remove it")),
            );
        }
    }
}

impl Profile<'_> {
    /// The options of a node over those of the profile: mappings are merged key by key, anything else is the node's where it has it.
    pub(crate) fn under(&self, own: &Node) -> Node {
        let base = Node { value: Value::Map(self.options.iter().map(|&e| e.clone()).collect()), span: own.span.clone() };
        over(&base, own)
    }
}

fn over(base: &Node, own: &Node) -> Node {
    let (Value::Map(base), Value::Map(mine)) = (&base.value, &own.value) else { return own.clone() };
    let mut entries = mine.clone();
    for entry in base {
        match entries.iter_mut().find(|e| e.key == entry.key) {
            Some(e) => e.value = over(&entry.value, &e.value),
            None => entries.push(entry.clone()),
        }
    }
    Node { value: Value::Map(entries), span: own.span.clone() }
}
