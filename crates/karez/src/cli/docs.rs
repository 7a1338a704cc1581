//! `karez docs`: the pages of docs/src/reference that are made from the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use karez_core::metrics::NodeMetrics;
use karez_core::sink::SinkGuarantee;
use karez_core::{Connector, Registry};

use super::connectors::{roles, summary};
use super::reference::choices_of;
use super::reference::markdown::{GENERATED, cell, options, options_in};
use super::{Cli, Failure, Outcome};

/// Folders that hold nothing but generated pages.
const FOLDERS: [&str; 2] = ["connectors", "operators"];

#[derive(Args)]
pub(crate) struct DocsArgs {
    /// Writes nothing; fails if a page is not what the code says.
    #[arg(long)]
    check: bool,
    /// Where the pages are.
    #[arg(long, default_value = "docs/src/reference")]
    folder: PathBuf,
}

pub(crate) fn docs(args: &DocsArgs) -> Outcome {
    let pages = pages(&karez::registry());
    let leftovers = leftovers(&args.folder, &pages);
    if args.check {
        let differs = |(name, text): (&String, &String)| {
            let current = std::fs::read_to_string(args.folder.join(name)).ok();
            (current.as_ref() != Some(text)).then(|| format!("stale: {}", args.folder.join(name).display()))
        };
        let mut stale: Vec<String> = pages.iter().filter_map(differs).collect();
        stale.extend(leftovers.iter().map(|p| format!("of nothing in the code: {}", p.display())));
        if stale.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        return Err(Failure::failed(format!("{}\nrun `cargo xtask docs`", stale.join("\n"))));
    }
    for (name, text) in &pages {
        write(&args.folder.join(name), text)?;
    }
    for leftover in leftovers {
        std::fs::remove_file(&leftover).map_err(|e| Failure::failed(format!("error: cannot remove {}: {e}", leftover.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|e| Failure::failed(format!("error: cannot write {}: {e}", path.display())))
}

/// Pages of connectors and operators that are no more.
fn leftovers(folder: &Path, pages: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let files = |sub: &str| std::fs::read_dir(folder.join(sub)).into_iter().flatten().flatten().map(|e| e.file_name()).collect::<Vec<_>>();
    let names = FOLDERS.iter().flat_map(|sub| files(sub).into_iter().map(move |f| format!("{sub}/{}", f.to_string_lossy())));
    names.filter(|n| n.ends_with(".md") && !pages.contains_key(n)).map(|n| folder.join(n)).collect()
}

/// All pages: path below the folder, text.
fn pages(registry: &Registry) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    for connector in registry.connectors() {
        pages.insert(format!("connectors/{}.md", connector.name()), connector_page(connector.as_ref()));
    }
    for operator in registry.operators() {
        let text = format!(
            "{GENERATED}# `{}`\n\n{}\n\n## Options\n\n{}",
            operator.name(),
            operator.description(),
            options(operator.options().as_value(), 3)
        );
        pages.insert(format!("operators/{}.md", operator.name()), text);
    }
    pages.insert("connectors.md".into(), connector_index(registry));
    pages.insert("operators.md".into(), operator_index(registry));
    pages.insert("job.md".into(), job_page(registry));
    pages.insert("metrics.md".into(), metrics_page());
    pages.insert("cli.md".into(), command_page());
    pages
}

fn connector_page(connector: &dyn Connector) -> String {
    let mut out = format!("{GENERATED}# `{}`\n\n{}\n", connector.name(), connector.description());
    for (role, schema) in roles(connector) {
        if let Some(schema) = schema {
            let _ = write!(out, "\n## Options of {role}\n\n{}", options(schema.as_value(), 3));
        }
    }
    out
}

fn connector_index(registry: &Registry) -> String {
    let mut out = format!(
        "{GENERATED}# Connectors\n\n\
         What a sink promises over crashes: *transactional*: rows become visible when their checkpoint has completed, once; *idempotent*: the same rows \
         written again leave the same result; *at least once*: rows since the last checkpoint are written again. Where several stand, the options decide.\n\n\
         *Look-ups*: whether a [`lookup`](operators/lookup.md) can ask it.\n\n\
         *Tested against*: the versions that the project's own tests use, real servers started by `cargo xtask services`.\n\n\
         | connector | source | sink | look-ups | guarantee of the sink | formats | tested against | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for c in registry.connectors() {
        let (source, sink) = (c.source_options(), c.sink_options());
        let yes = |is: bool| if is { "yes" } else { "" };
        let mut formats: Vec<String> = [&source, &sink].into_iter().flatten().flat_map(|s| choices_of(s.as_value(), "format")).collect();
        formats.sort_unstable();
        formats.dedup();
        let guarantee: Vec<&str> = c.sink_guarantees().iter().map(|g| guarantee(*g)).collect();
        let _ = writeln!(
            out,
            "| [`{0}`](connectors/{0}.md) | {1} | {2} | {3} | {4} | {5} | {6} | {7} |",
            c.name(),
            yes(source.is_some()),
            yes(sink.is_some()),
            yes(c.lookup_options().is_some()),
            guarantee.join(", "),
            formats.join(", "),
            c.tested_against().join(", "),
            cell(summary(c.description())),
        );
    }
    out
}

const fn guarantee(guarantee: SinkGuarantee) -> &'static str {
    match guarantee {
        SinkGuarantee::AtLeastOnce => "at least once",
        SinkGuarantee::Idempotent => "idempotent",
        SinkGuarantee::Transactional => "transactional",
    }
}

fn operator_index(registry: &Registry) -> String {
    let mut out = format!("{GENERATED}# Operators\n\n| operator | |\n| --- | --- |\n");
    for o in registry.operators() {
        let _ = writeln!(out, "| [`{0}`](operators/{0}.md) | {1} |", o.name(), cell(summary(o.description())));
    }
    out
}

/// The parts of a job file, each with what it is and where its schema stands.
const JOB_PARTS: [(&str, &str, &str); 4] = [
    ("job", "What holds for the whole job. `source` and `sink` make a line, `sources` and `sinks` a graph.", "/properties/job"),
    ("A source", "An entry of `sources`, or `source`.", "/$defs/source"),
    ("An operator", "An entry of `operators`. The other keys are those of its `type`.", "/$defs/operator"),
    ("A sink", "An entry of `sinks`, or `sink`, or `deadLetter`.", "/$defs/sink"),
];

fn job_page(registry: &Registry) -> String {
    let schema = karez_job::job_schema(registry);
    let mut out = format!(
        "{GENERATED}# The keys of a job file\n\n\
         The options under `config` are those of the [connector](connectors.md), the keys beside an operator's `type` those of the \
         [operator](operators.md). `karez schema job` prints the JSON Schema for editors.\n"
    );
    for (title, about, place) in JOB_PARTS {
        let part = schema.pointer(place).map(|part| without_parts(part.clone())).unwrap_or_default();
        let _ = write!(out, "\n## {title}\n\n{about}\n\n{}", options_in(&schema, &part, 3));
    }
    out
}

/// A part of a job file's schema without the parts that have a section of their own.
fn without_parts(mut part: serde_json::Value) -> serde_json::Value {
    if let Some(properties) = part.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        for (key, about) in [
            ("source", "The source of a line."),
            ("sources", "The sources of a graph: a list, each with a `name`, or a mapping from names."),
            ("operators", "The operators: a list, in order for a line, or a mapping from names."),
            ("sink", "The sink of a line."),
            ("sinks", "The sinks of a graph: a list, each with a `name`, or a mapping from names."),
            ("deadLetter", "The sink of the bad records of every node with `onError: dead-letter`."),
        ] {
            if let Some(schema) = properties.get_mut(key) {
                *schema = serde_json::json!({ "type": "object", "description": about });
            }
        }
    }
    part
}

fn metrics_page() -> String {
    let mut out = format!(
        "{GENERATED}# Metrics\n\nThe figures of every node, all its subtasks together: in `karez status`, in the table at the end of `karez run`, and in a \
         `JobReport`. A connector or operator may add others of its own; its page names them.\n\n| figure | kind | |\n| --- | --- | --- |\n"
    );
    for info in NodeMetrics::INFO {
        let _ = writeln!(out, "| `{}` | {} | {} |", info.name, info.kind, cell(info.help.trim()));
    }
    out
}

fn command_page() -> String {
    let mut command = Cli::command().term_width(100);
    let mut out = format!("{GENERATED}# The command line\n\n```text\n{}\n```\n", command.render_long_help().to_string().trim_end());
    let visible: Vec<String> = command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name().to_owned()).collect();
    // Subcommands learn of global options and of their full name when the whole is built.
    command.build();
    for name in visible {
        let Some(sub) = command.find_subcommand_mut(&name) else { continue };
        let _ = write!(out, "\n## `karez {name}`\n\n```text\n{}\n```\n", sub.render_long_help().to_string().trim_end());
        for below in sub.get_subcommands_mut().filter(|s| s.get_name() != "help") {
            let _ = write!(
                out,
                "\n### `karez {name} {}`\n\n```text\n{}\n```\n",
                below.get_name().to_owned(),
                below.render_long_help().to_string().trim_end()
            );
        }
    }
    out
}
