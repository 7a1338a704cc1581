//! The keys of `job:` that hold for all nodes.

use karez_graph::JobSettings;
use serde_json::Value as Json;

use crate::diagnostics::Diagnostic;
use crate::read::{Reader, word};
use crate::yaml::{Entry, Node, Value};

/// The keys that make a [`JobSettings`].
pub(crate) const KEYS: &[&str] =
    &["id", "name", "type", "parallelism", "maxParallelism", "delivery", "checkpoint", "restart", "state", "resources", "bufferTimeout"];

/// Keys of §10.4 that Karez has no use for: path, what is wrong, what to do.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "resources.jvm",
        "Karez has no JVM: there is no heap to size and no garbage collector to choose",
        "limit state and queues with `resources.memory`",
    ),
    (
        "resources.threadPool.compute.maxSize",
        "the number of threads that run tasks does not change while a job runs",
        "set it with `resources.threadPool.compute.coreSize`",
    ),
    (
        "resources.threadPool.io.coreSize",
        "threads for blocking work are started when they are needed and none is kept waiting",
        "limit them with `resources.threadPool.io.maxSize`",
    ),
    (
        "resources.threadPool.compute.queueCapacity",
        "tasks do not wait in a queue of a thread pool",
        "size the queues of rows with `resources.buffer`",
    ),
    ("resources.threadPool.io.queueCapacity", "tasks do not wait in a queue of a thread pool", "size the queues of rows with `resources.buffer`"),
];

/// Words of a fixed list, written in any case.
const WORDS: &[&str] = &["/type", "/delivery", "/restart/strategy", "/state/backend"];

pub(crate) fn read(reader: &mut Reader, job: &Node) -> JobSettings {
    let mut kept =
        Node { value: Value::Map(job.entries().iter().filter(|e| KEYS.contains(&e.key.as_str())).cloned().collect()), span: job.span.clone() };
    for (path, message, help) in REFUSED {
        if let Some(entry) = take(&mut kept, path) {
            reader.error(Diagnostic::error(format!("`{path}`: {message}"), entry.key_span).help(*help));
        }
    }
    // An empty section (`checkpoint:` with its keys commented out) is one that is not there.
    if let Value::Map(entries) = &mut kept.value {
        entries.retain(|e| !matches!(e.value.value, Value::Null));
    }
    let mut json = kept.json();
    for pointer in WORDS {
        if let Some(Json::String(text)) = json.pointer_mut(pointer)
            && !text.contains("${")
        {
            *text = word(text);
        }
    }
    if json.pointer("/state/backend").and_then(Json::as_str) == Some("rocksdb") {
        let place = crate::place::find(job, "state.backend").value();
        reader.error(
            Diagnostic::error("this build has no RocksDB backend", place)
                .help("use `backend: disk`, which also keeps state larger than memory on local disk"),
        );
        if let Some(state) = json.get_mut("state").and_then(Json::as_object_mut) {
            state.remove("backend");
        }
    }
    let mut settings: JobSettings = reader.typed(json, job, "").unwrap_or_default();
    identity(reader, job, &mut settings);
    settings
}

/// Takes the entry at a dotted path out of a tree.
fn take(node: &mut Node, path: &str) -> Option<Entry> {
    let Value::Map(entries) = &mut node.value else { return None };
    match path.split_once('.') {
        None => entries.iter().position(|e| e.key == path).map(|at| entries.remove(at)),
        Some((key, rest)) => take(&mut entries.iter_mut().find(|e| e.key == key)?.value, rest),
    }
}

/// A job has a name; its id is made from it unless it has one.
fn identity(reader: &mut Reader, job: &Node, settings: &mut JobSettings) {
    if settings.name.is_empty() && settings.id.is_empty() {
        let said = job.get("name").is_some() || job.get("id").is_some();
        if !said {
            reader.error(Diagnostic::error("the job has no name", crate::place::head(job)).help("give it a `name`"));
        }
        settings.name = "job".into();
    }
    if settings.name.is_empty() {
        settings.name.clone_from(&settings.id);
    }
    if settings.id.is_empty() {
        settings.id = id_of(&settings.name);
    }
}

/// Lower case, `-` for what an id cannot hold.
fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_alphanumeric() || matches!(c, '_' | '.') {
            id.push(c);
        } else if !id.ends_with('-') {
            id.push('-');
        }
    }
    let id = id.trim_matches(['-', '.']);
    if id.is_empty() { "job".into() } else { id.to_owned() }
}
