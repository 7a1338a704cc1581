//! A JSON Schema of options as tables: name, type, default, whether it is required, what it does.

use serde_json::Value;

use super::kinds::{alternatives, is_mapping, kind, resolve, unwrap_optional, words, words_among};

/// Schemas that contain themselves are followed this far.
const MAX_DEPTH: usize = 5;

/// The options of one form of a mapping.
#[derive(Debug)]
pub(crate) struct OptionTable {
    /// Which form, where there are several (`window` with `type: tumbling`).
    pub(crate) title: Option<String>,
    /// What the form is.
    pub(crate) description: String,
    /// Required ones first, then by name.
    pub(crate) rows: Vec<OptionRow>,
}

/// One option.
#[derive(Debug)]
pub(crate) struct OptionRow {
    /// Dotted from the root; `[]` stands for each entry of a list, `<name>` for a name of the user's.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) default: Option<String>,
    pub(crate) required: bool,
    pub(crate) description: String,
    /// The words it may be, with their meaning where that is told.
    pub(crate) choices: Vec<(String, String)>,
}

/// The tables of a schema, the main one first.
pub(crate) fn option_tables(schema: &Value) -> Vec<OptionTable> {
    option_tables_in(schema, schema)
}

/// The tables of a part of a schema, whose references begin at `root`.
pub(crate) fn option_tables_in(root: &Value, schema: &Value) -> Vec<OptionTable> {
    let mut tables = Tables { root, tables: Vec::new() };
    tables.form(schema, "", None, 0);
    tables.tables.retain(|t| !t.rows.is_empty() || !t.description.is_empty());
    tables.tables
}

/// The words an option of the top level may be, such as the formats of a connector, over all forms.
pub(crate) fn choices_of(schema: &Value, option: &str) -> Vec<String> {
    let rows = option_tables(schema).into_iter().flat_map(|t| t.rows);
    let mut found: Vec<String> = rows.filter(|r| r.name == option).flat_map(|r| r.choices).map(|(word, _)| word).collect();
    found.dedup();
    found
}

struct Tables<'a> {
    root: &'a Value,
    tables: Vec<OptionTable>,
}

/// A mapping of several forms that gets tables of its own.
struct Deferred {
    schema: Value,
    name: String,
}

impl Tables<'_> {
    fn form(&mut self, schema: &Value, prefix: &str, title: Option<String>, depth: usize) {
        let mut deferred = Vec::new();
        let rows = self.rows(schema, prefix, depth, &mut deferred);
        self.tables.push(OptionTable { title, description: text(schema, "description"), rows });
        self.variants(schema, prefix, depth);
        for Deferred { schema, name } in deferred {
            self.variants(&schema, &name, depth + 1);
        }
    }

    fn variants(&mut self, schema: &Value, prefix: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for (i, variant) in alternatives(schema, self.root).iter().enumerate().filter(|(_, v)| is_mapping(v)) {
            let tag = tag(variant, self.root).unwrap_or_else(|| format!("form {}", i + 1));
            let owner = prefix.trim_end_matches("[]");
            let title = if owner.is_empty() { tag } else { format!("`{owner}` with {tag}") };
            self.form(variant, prefix, Some(title), depth + 1);
        }
    }

    fn rows(&self, schema: &Value, prefix: &str, depth: usize, deferred: &mut Vec<Deferred>) -> Vec<OptionRow> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut entries: Vec<_> = properties.into_iter().flatten().collect();
        // The order of a JSON map depends on cargo features of other crates: not fit for pages that are compared.
        entries.sort_by_key(|(name, _)| (!required.contains(&name.as_str()), (*name).clone()));
        let mut rows = Vec::new();
        for (key, property) in entries {
            let property = unwrap_optional(resolve(property, self.root), self.root);
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let (description, told) = split_default(&text(&property, "description"));
            let default = told.or_else(|| property.get("default").and_then(scalar));
            rows.push(OptionRow {
                kind: kind(&property, self.root),
                default,
                required: required.contains(&key.as_str()),
                description,
                choices: words_among(&property, self.root),
                name: name.clone(),
            });
            if depth >= MAX_DEPTH {
                continue;
            }
            let (inner, name) = self.element(property, name);
            if is_mapping(&inner) {
                rows.extend(self.rows(&inner, &name, depth + 1, deferred));
            }
            if alternatives(&inner, self.root).iter().any(is_mapping) {
                deferred.push(Deferred { schema: inner, name });
            }
        }
        rows
    }

    /// What stands inside a list or a mapping of free names.
    fn element(&self, schema: Value, name: String) -> (Value, String) {
        if let Some(items) = schema.get("items") {
            return self.element(unwrap_optional(resolve(items, self.root), self.root), format!("{name}[]"));
        }
        match schema.get("additionalProperties").filter(|s| s.is_object()) {
            Some(values) if !is_mapping(&schema) => self.element(unwrap_optional(resolve(values, self.root), self.root), format!("{name}.<name>")),
            _ => (schema, name),
        }
    }
}

/// What tells a variant from the others: `type: tumbling`.
fn tag(variant: &Value, root: &Value) -> Option<String> {
    let properties = variant.get("properties")?.as_object()?;
    let mut tags = properties.iter().filter_map(|(key, schema)| match words(&resolve(schema, root), root).as_slice() {
        [(word, _)] => Some(format!("`{key}: {word}`")),
        _ => None,
    });
    tags.next()
}

fn text(schema: &Value, key: &str) -> String {
    // A line break inside a paragraph is one of the source code.
    let paragraphs = schema.get(key).and_then(Value::as_str).unwrap_or_default().split("\n\n");
    paragraphs.map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// Doc comments end in `Default: 10s.` by convention: that is better to read than the schema's value.
fn split_default(description: &str) -> (String, Option<String>) {
    let Some(at) = description.find("Default: ") else {
        return (description.to_owned(), None);
    };
    let rest = &description[at + "Default: ".len()..];
    let end = rest.find(". ").or_else(|| rest.strip_suffix('.').map(str::len)).unwrap_or(rest.len());
    let after = rest[end..].trim_start_matches('.').trim_start();
    let left = format!("{} {after}", description[..at].trim_end());
    (left.trim().to_owned(), Some(rest[..end].to_owned()))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) if !s.is_empty() => Some(s.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_default_told_in_words_moves_into_its_column() {
        assert_eq!(split_default("How often. Default: 10s."), ("How often.".into(), Some("10s".into())));
        assert_eq!(split_default("How often. Default: 1.5. At most."), ("How often. At most.".into(), Some("1.5".into())));
        assert_eq!(split_default("How often."), ("How often.".into(), None));
    }

    #[test]
    fn each_form_of_a_tagged_option_has_a_table_of_its_own() {
        let schema = json!({
            "type": "object", "required": ["window"],
            "properties": { "window": { "$ref": "#/$defs/Window" }, "extra": { "type": ["integer", "null"], "default": null } },
            "$defs": { "Window": { "oneOf": [
                { "type": "object", "required": ["type", "size"], "properties": { "type": { "type": "string", "const": "tumbling" }, "size": { "type": "integer" } } },
                { "type": "object", "required": ["type", "gap"], "properties": { "type": { "type": "string", "const": "session" }, "gap": { "type": "integer" } } },
            ] } },
        });
        let tables = option_tables(&schema);
        let titles: Vec<_> = tables.iter().map(|t| t.title.clone().unwrap_or_default()).collect();
        assert_eq!(titles, ["", "`window` with `type: tumbling`", "`window` with `type: session`"]);
        let names: Vec<_> = tables[0].rows.iter().map(|r| (r.name.as_str(), r.kind.as_str(), r.required)).collect();
        assert_eq!(names, [("window", "mapping", true), ("extra", "integer", false)]);
        assert_eq!(tables[2].rows[0].name, "window.gap");
    }

    #[test]
    fn an_option_that_is_a_name_or_a_mapping_has_the_names_as_choices() {
        let schema = json!({ "type": "object", "properties": { "format": { "oneOf": [
            { "type": "string", "enum": ["json", "csv"] },
            { "type": "object", "properties": { "type": { "type": "string", "const": "json" } } },
        ] } } });
        assert_eq!(choices_of(&schema, "format"), ["json", "csv"]);
    }

    #[test]
    fn entries_of_a_list_of_mappings_are_told_under_the_list() {
        let schema = json!({ "type": "object", "properties": { "fields": { "type": "array", "items": {
            "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } } } } });
        let rows = &option_tables(&schema)[0].rows;
        assert_eq!(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["fields", "fields[].name"]);
    }
}
