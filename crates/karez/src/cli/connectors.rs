//! `karez connectors`: what this build has, and the options of one of it.

use std::process::ExitCode;

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use karez_core::error::did_you_mean;
use karez_core::{Connector, Registry};

use super::reference::{OptionTable, option_tables};
use super::{Failure, Outcome, output};

#[derive(Args)]
pub(crate) struct ConnectorsArgs {
    /// A connector or an operator type.
    name: Option<String>,
}

pub(crate) fn connectors(args: &ConnectorsArgs) -> Outcome {
    let registry = karez::registry();
    match &args.name {
        None => list(&registry)?,
        Some(name) => show(&registry, name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The first line of a description.
pub(crate) fn summary(description: &str) -> &str {
    description.lines().next().unwrap_or_default()
}

/// What a connector can be, and the options of each.
pub(crate) fn roles(connector: &dyn Connector) -> [(&'static str, Option<schemars::Schema>); 3] {
    [("the source", connector.source_options()), ("the sink", connector.sink_options()), ("look-ups", connector.lookup_options())]
}

fn list(registry: &Registry) -> Result<(), Failure> {
    let mut connectors = table(["connector", "source", "sink", "look-ups", ""]);
    for c in registry.connectors() {
        let yes = |is: bool| if is { "yes" } else { "" };
        let [source, sink, lookups] = roles(c.as_ref()).map(|(_, options)| yes(options.is_some()));
        connectors.add_row([c.name(), source, sink, lookups, summary(c.description())]);
    }
    let mut operators = table(["operator", ""]);
    for o in registry.operators() {
        operators.add_row([o.name(), summary(o.description())]);
    }
    output::line(format_args!("{connectors}\n\n{operators}\n\nOptions: karez connectors NAME"))
}

fn show(registry: &Registry, name: &str) -> Result<(), Failure> {
    let connector = registry.connectors().find(|c| c.name() == name);
    let operator = registry.operators().find(|o| o.name() == name);
    if connector.is_none() && operator.is_none() {
        let known = || registry.connectors().map(|c| c.name()).chain(registry.operators().map(|o| o.name()));
        let hint = match did_you_mean(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see `karez connectors`".into(),
        };
        return Err(Failure::usage(format!("error: there is no connector or operator `{name}`; {hint}")));
    }
    if let Some(connector) = connector {
        output::line(format_args!("connector {name}\n\n{}", connector.description()))?;
        for (role, schema) in roles(connector.as_ref()) {
            if let Some(schema) = schema {
                options(&format!("Options of {role}"), schema.as_value())?;
            }
        }
    }
    if let Some(operator) = operator {
        output::line(format_args!("operator {name}\n\n{}", operator.description()))?;
        options("Options", operator.options().as_value())?;
    }
    Ok(())
}

fn options(title: &str, schema: &serde_json::Value) -> Result<(), Failure> {
    let tables = option_tables(schema);
    if tables.iter().all(|t| t.rows.is_empty()) {
        output::line(format_args!("\n{title}: none"))?;
    }
    for OptionTable { title: form, description, rows } in tables {
        match form {
            Some(form) => output::line(format_args!("\n{title}, {form}: {description}"))?,
            None if rows.is_empty() => {}
            None => output::line(format_args!("\n{title}:"))?,
        }
        if rows.is_empty() {
            continue;
        }
        let mut shown = table(["option", "type", "default", ""]);
        for row in rows {
            let default = if row.required { "required".into() } else { row.default.unwrap_or_default() };
            let mut text = row.description;
            for (word, meaning) in row.choices.iter().filter(|(_, m)| !m.is_empty() && row.choices.len() > 1) {
                text.push_str(&format!("\n{word}: {meaning}"));
            }
            shown.add_row([row.name, row.kind.replace('`', ""), default, text]);
        }
        output::line(shown)?;
    }
    Ok(())
}

/// The width of tables where there is no terminal, in columns.
const WIDTH: u16 = 120;

/// A table as wide as the terminal.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table
}
