//! A job file, read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use karez_core::Registry;
use karez_graph::{JobGraph, PlanError, PlanErrors, StreamGraph};

use crate::connect::{self, Parts};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::nodes::{DEAD_LETTER, Nodes, Role};
use crate::place;
use crate::profiles::Profiles;
use crate::read::{self, Reader};
use crate::schedule::{self, Schedule};
use crate::settings;
use crate::yaml::{self, Node, Value};

/// The largest job file that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// A job file: the graph, and where in the text its parts stand.
#[derive(Clone, Debug)]
pub struct JobFile {
    /// The graph, its shape validated.
    pub graph: StreamGraph,
    /// When the job is to run. `karez run` does not look at it.
    pub schedule: Option<Schedule>,
    /// What the user may want to know although the job can run.
    pub warnings: Diagnostics,
    places: Places,
}

/// Where nodes and settings stand.
#[derive(Clone, Debug)]
struct Places {
    file: String,
    text: Arc<str>,
    job: Node,
    nodes: HashMap<String, Node>,
}

/// A file as far as it could be read.
struct Reading {
    graph: StreamGraph,
    schedule: Option<Schedule>,
    places: Places,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// A node could not be read at all: what the graph lacks is no further error.
    incomplete: bool,
}

impl JobFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it and can be said without connectors and operators.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Diagnostics> {
        let (name, text) = text_of(path.as_ref())?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a file; `name` is what its errors call it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut reading = read(name, text)?;
        if let Err(errors) = reading.graph.validate() {
            reading.add(&errors);
        }
        reading.finish()
    }

    /// Reads a file and plans its job: all errors of both at once.
    ///
    /// # Errors
    /// Everything that is wrong with the file and with the job.
    pub fn load_and_plan(path: impl AsRef<Path>, registry: &Registry) -> Result<(Self, JobGraph), Diagnostics> {
        let (name, text) = text_of(path.as_ref())?;
        Self::parse_and_plan(&name, &text, registry)
    }

    /// The same for the text of a file.
    ///
    /// # Errors
    /// As [`Self::load_and_plan`].
    pub fn parse_and_plan(name: &str, text: &str, registry: &Registry) -> Result<(Self, JobGraph), Diagnostics> {
        let mut reading = read(name, text)?;
        match karez_graph::plan(&reading.graph, registry) {
            Ok(job) => Ok((reading.finish()?, job)),
            Err(errors) => {
                reading.add(&errors);
                if reading.problems.is_empty() {
                    // Only errors that follow from another one were left out; with none before them they are the errors.
                    return Err(reading.places.locate(&errors));
                }
                Err(Diagnostics::new(name, &reading.places.text, reading.problems))
            }
        }
    }

    /// The errors of a plan at their places in the file.
    #[must_use]
    pub fn locate(&self, errors: &PlanErrors) -> Diagnostics {
        self.places.locate(errors)
    }

    /// What its errors call the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.places.file
    }
}

fn text_of(path: &Path) -> Result<(String, String), Diagnostics> {
    let name = path.display().to_string();
    let failed = |message: String, help: &str| Diagnostics::new(&name, &Arc::from(""), vec![Diagnostic::without_place(message).help(help)]);
    match std::fs::read(path) {
        Ok(bytes) if bytes.len() > MAX_BYTES => {
            Err(failed(format!("{name}: a job file is at most {} MiB long", MAX_BYTES >> 20), "is this the right file?"))
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok((name, text)),
            Err(e) => Err(failed(format!("{name}: not UTF-8 at byte {}", e.utf8_error().valid_up_to()), "save the file as UTF-8")),
        },
        Err(e) => Err(failed(format!("{name}: {e}"), "give the path of a job file")),
    }
}

impl Reading {
    fn add(&mut self, errors: &PlanErrors) {
        let follows = |e: &&PlanError| {
            let shape = e.path.is_empty() || e.path == "onError" || e.path.starts_with("inputs");
            !(self.incomplete && shape)
        };
        let located: Vec<Diagnostic> = errors.0.iter().filter(follows).map(|e| self.places.locate_one(e)).collect();
        self.problems.extend(located);
    }

    fn finish(self) -> Result<JobFile, Diagnostics> {
        if !self.problems.is_empty() {
            return Err(Diagnostics::new(&self.places.file, &self.places.text, self.problems));
        }
        let warnings = Diagnostics::new(&self.places.file, &self.places.text, self.warnings);
        Ok(JobFile { graph: self.graph, schedule: self.schedule, warnings, places: self.places })
    }
}

impl Places {
    fn locate(&self, errors: &PlanErrors) -> Diagnostics {
        Diagnostics::new(&self.file, &self.text, errors.0.iter().map(|e| self.locate_one(e)).collect())
    }

    fn locate_one(&self, error: &PlanError) -> Diagnostic {
        let root = error.node.as_ref().and_then(|n| self.nodes.get(n)).unwrap_or(&self.job);
        let mut place = place::find(root, &error.path);
        let (serde, key) = read::explain(&error.message);
        let of_serde =
            ["unknown field", "unknown variant", "missing field", "invalid type", "invalid value"].iter().any(|m| error.message.starts_with(m));
        let (mut message, help) =
            if of_serde { (serde.message, error.hint.clone().or(serde.help)) } else { (error.message.clone(), error.hint.clone()) };
        let key = key.filter(|_| of_serde);
        let unknown = message == "unknown key" || key.is_some();
        if let Some(child) = key.as_ref().and_then(|k| place.node.get(k)) {
            place.key_span = Some(child.key_span.clone());
        }
        let span = match (unknown, error.path.is_empty()) {
            (true, _) => place.key(),
            (false, true) => place::head(root),
            (false, false) => place.value(),
        };
        if message == "unknown key" {
            message = format!("unknown key `{}`", error.path.rsplit('.').next().unwrap_or_default());
        }
        let plain = unknown || error.path.is_empty() || ["inputs", "type", "connector", "name"].iter().any(|k| error.path.starts_with(k));
        let message = match &error.node {
            Some(node) if unknown => format!("{message} in `{node}`"),
            Some(node) if message.contains(&format!("`{node}`")) => message,
            Some(node) if plain => format!("`{node}`: {message}"),
            Some(node) => format!("`{node}`, `{}`: {message}", error.path),
            None if error.path.is_empty() => message,
            None => format!("`{}`: {message}", error.path),
        };
        Diagnostic { help, ..Diagnostic::error(message, span) }
    }
}

fn read(file: &str, text: &str) -> Result<Reading, Diagnostics> {
    let text: Arc<str> = Arc::from(text);
    let mut reader = Reader::default();
    let root = yaml::parse(&text, &mut reader.problems);
    let fail = |problems| Err(Diagnostics::new(file, &text, problems));
    let Some(root) = root else {
        if reader.problems.is_empty() {
            reader.error(Diagnostic::error("the file is empty", 0..0).help("a job file begins with `job:`"));
        }
        return fail(reader.problems);
    };
    let Some(job) = job_of(&mut reader, &root) else { return fail(reader.problems) };

    let settings = settings::read(&mut reader, &job);
    let schedule = job.get("schedule").and_then(|e| schedule::read(&mut reader, e));
    let profiles = Profiles::read(&mut reader, &root);
    let mut nodes = Nodes { reader: &mut reader, profiles, incomplete: false };
    let mut parts = Parts {
        sources: nodes.section(&job, Role::Source),
        operators: nodes.section(&job, Role::Operator),
        sinks: nodes.section(&job, Role::Sink),
        dead_letter: job.get("deadLetter").and_then(|e| nodes.dead_letter(e)),
    };
    let Nodes { profiles, mut incomplete, .. } = nodes;
    profiles.warn_of_unused(&mut reader);
    let readable = !incomplete;
    for (role, missing) in [("source", parts.sources.is_empty()), ("sink", parts.sinks.is_empty())] {
        if missing && readable {
            incomplete = true;
            reader.error(
                Diagnostic::error(format!("the job has no {role}"), place::head(&job))
                    .help(format!("add `{role}: {{ connector: …, config: {{ … }} }}`")),
            );
        }
    }
    let before = reader.problems.len();
    let edges = if incomplete && parts.all().all(|d| d.inputs.is_none()) { Vec::new() } else { connect::edges(&mut reader, &mut parts) };
    incomplete |= reader.problems.len() > before;

    let mut places = Places { file: file.to_owned(), text: Arc::clone(&text), job, nodes: HashMap::new() };
    let mut graph = StreamGraph { settings, nodes: Vec::new(), edges };
    for declared in parts.sources.into_iter().chain(parts.operators).chain(parts.sinks).chain(parts.dead_letter) {
        places.nodes.insert(declared.node.name.clone(), named(declared.tree, &declared.node.name, &declared.at));
        graph.nodes.push(declared.node);
    }
    Ok(Reading { graph, schedule, places, problems: reader.problems, warnings: reader.warnings, incomplete })
}

/// A node without `name:` in its mapping gets one where its name stands, so that what concerns all of it points there.
fn named(mut tree: Node, name: &str, at: &std::ops::Range<usize>) -> Node {
    if let Value::Map(entries) = &mut tree.value
        && !entries.iter().any(|e| e.key == "name")
        && (name == DEAD_LETTER || !entries.is_empty())
    {
        let value = Node { value: Value::String(name.to_owned()), span: at.clone() };
        entries.insert(0, yaml::Entry { key: "name".into(), key_span: at.clone(), value });
    }
    tree
}

/// What stands under `job:`.
fn job_of(reader: &mut Reader, root: &Node) -> Option<Node> {
    if !matches!(root.value, Value::Map(_)) {
        reader.error(Diagnostic::error(format!("a job file is a mapping, not {}", root.kind()), root.span.clone()).help("it begins with `job:`"));
        return None;
    }
    let known: Vec<&str> =
        settings::KEYS.iter().copied().chain(["schedule", "source", "sources", "operators", "sink", "sinks", "deadLetter"]).collect();
    let Some(entry) = root.get("job") else {
        let looks_like_one = root.entries().iter().find(|e| known.contains(&e.key.as_str()));
        reader.error(match looks_like_one {
            Some(e) => Diagnostic::error(format!("`{}` stands outside of `job:`", e.key), e.key_span.clone()).help("put the job's keys under `job:`"),
            None => Diagnostic::error("there is no `job:` in this file", place::head(root)).help("a job file begins with `job:`"),
        });
        return None;
    };
    for e in root.entries().iter().filter(|e| !["job", "connectors"].contains(&e.key.as_str())) {
        let problem = Diagnostic::error(format!("unknown key `{}` beside `job`", e.key), e.key_span.clone());
        reader.error(if known.contains(&e.key.as_str()) {
            problem.help(format!("`{}` belongs under `job:`", e.key))
        } else {
            match karez_core::error::did_you_mean(&e.key, ["job", "connectors"]) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help("known keys: job, connectors"),
            }
        });
    }
    let job = reader.mapping(entry)?.clone();
    reader.known_keys(&job, &known, "a job");
    Some(job)
}
