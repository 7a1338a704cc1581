//! Options as Markdown.

use std::fmt::Write as _;

use super::{OptionTable, option_tables_in};

/// The notice at the head of every page.
pub(crate) const GENERATED: &str = "<!-- Made by `cargo xtask docs` from the code: change it there. -->\n\n";

/// The options of a schema as tables under headings of `level`.
pub(crate) fn options(schema: &serde_json::Value, level: usize) -> String {
    options_in(schema, schema, level)
}

/// The same for a part of a schema, whose references begin at `root`.
pub(crate) fn options_in(root: &serde_json::Value, schema: &serde_json::Value, level: usize) -> String {
    let tables = option_tables_in(root, schema);
    if tables.iter().all(|t| t.rows.is_empty()) {
        return "It has no options.\n".into();
    }
    tables.iter().map(|t| table(t, level)).collect::<Vec<_>>().join("\n")
}

fn table(table: &OptionTable, level: usize) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    if let Some(title) = &table.title {
        let _ = writeln!(out, "{} {title}\n", "#".repeat(level));
        if !table.description.is_empty() {
            let _ = writeln!(out, "{}\n", table.description);
        }
    }
    if table.rows.is_empty() {
        return out;
    }
    out.push_str("| option | type | default | |\n| --- | --- | --- | --- |\n");
    for row in &table.rows {
        let default = match (&row.default, row.required) {
            (_, true) => "**required**".into(),
            (Some(d), false) if is_value(d) => format!("`{}`", cell(d)),
            (Some(d), false) => cell(d),
            (None, false) => String::new(),
        };
        let mut text = cell(&row.description);
        for (word, meaning) in row.choices.iter().filter(|(_, m)| !m.is_empty() && row.choices.len() > 1) {
            let _ = write!(text, "<br>`{}`: {}", cell(word), cell(meaning));
        }
        let _ = writeln!(out, "| `{}` | {} | {default} | {text} |", cell(&row.name), cell(&row.kind));
    }
    out
}

/// Whether a default is a value, not words about it.
fn is_value(default: &str) -> bool {
    !default.contains('`') && (default.starts_with(['{', '[']) || !default.contains(' '))
}

/// Text inside a table cell.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", "<br>").replace('\n', " ")
}
