//! Reads trees: known keys with suggestions for the others, and serde types with every error placed.

use karez_core::config::resolve_env;
use karez_core::error::did_you_mean;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::diagnostics::Diagnostic;
use crate::place;
use crate::yaml::{Entry, Node, Value};

/// How many errors of one value are told apart.
const MAX_ERRORS: usize = 50;

/// Reads a file and gathers what is wrong with it.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl Reader {
    pub(crate) fn error(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    /// Complains about every key that is not known. `what` is the thing that has them (`a source`).
    pub(crate) fn known_keys(&mut self, node: &Node, known: &[&str], what: &str) {
        for entry in node.entries().iter().filter(|e| !known.contains(&e.key.as_str())) {
            let problem = Diagnostic::error(format!("unknown key `{}` in {what}", entry.key), entry.key_span.clone());
            self.error(match did_you_mean(&entry.key, known.iter().copied()) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help(format!("known keys: {}", known.join(", "))),
            });
        }
    }

    /// A mapping, or a complaint.
    pub(crate) fn mapping<'n>(&mut self, entry: &'n Entry) -> Option<&'n Node> {
        if matches!(entry.value.value, Value::Map(_)) {
            return Some(&entry.value);
        }
        self.error(
            Diagnostic::error(format!("`{}` is a mapping, not {}", entry.key, entry.value.kind()), place_of(entry))
                .help(format!("write `{}: {{ key: value }}`", entry.key)),
        );
        None
    }

    /// A text, or a complaint.
    pub(crate) fn text<'n>(&mut self, entry: &'n Entry) -> Option<&'n str> {
        let text = entry.value.text();
        if text.is_none() {
            let problem = Diagnostic::error(format!("`{}` is a text, not {}", entry.key, entry.value.kind()), place_of(entry));
            self.error(match &entry.value.value {
                Value::Number(_) | Value::Bool(_) => problem.help("put it in quotes"),
                _ => problem,
            });
        }
        text
    }

    /// A value of any type: `${ENV}` resolved, words of `lower` in lower case with `-` for `_`.
    pub(crate) fn value<T: DeserializeOwned>(&mut self, entry: &Entry) -> Option<T> {
        let wrapped = Node { value: Value::Map(vec![entry.clone()]), span: entry.value.span.clone() };
        self.typed(entry.value.json(), &wrapped, &entry.key)
    }

    /// The same for a word of a fixed list: `BUFFER`, `dead_letter` and `dead-letter` are as good as each other.
    pub(crate) fn word<T: DeserializeOwned>(&mut self, entry: &Entry) -> Option<T> {
        let mut entry = entry.clone();
        if let Value::String(text) = &mut entry.value.value
            && !text.contains("${")
        {
            *text = word(text);
        }
        self.value(&entry)
    }

    /// Reads `json`, which stands at `prefix` in `root`. What is wrong is complained about and left out, so that the rest can be looked at too:
    /// a value does not mean that there was no complaint.
    pub(crate) fn typed<T: DeserializeOwned>(&mut self, json: Json, root: &Node, prefix: &str) -> Option<T> {
        let mut json = self.resolved(json, root, prefix)?;
        let mut removed: Vec<String> = Vec::new();
        for _ in 0..MAX_ERRORS {
            let error = match serde_path_to_error::deserialize::<_, T>(&json) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let path = match error.path().to_string() {
                path if path == "." => String::new(),
                path => path,
            };
            let (problem, culprit) = explain(&error.into_inner().to_string());
            if removed.iter().any(|key| problem.message == format!("missing: `{key}`")) {
                return None;
            }
            // serde names an unknown field by the struct it stands in or by itself; either way it is the last word.
            let path = match &culprit {
                Some(key) if path != *key && !path.ends_with(&format!(".{key}")) => join(&path, key),
                _ => path,
            };
            let place = place::find(root, &join(prefix, &path));
            let span = if culprit.is_some() { place.key() } else { place.value() };
            let named = match (&culprit, path.is_empty()) {
                (None, false) => format!("`{}`: {}", join(prefix, &path), problem.message),
                (None, true) if !prefix.is_empty() => format!("`{prefix}`: {}", problem.message),
                _ => problem.message.clone(),
            };
            self.error(Diagnostic { message: named, labels: vec![(span, None)], ..problem });
            removed.push(path.rsplit('.').next().unwrap_or_default().to_owned());
            if !remove(&mut json, &path) {
                return None;
            }
        }
        None
    }

    /// `${ENV}` resolved; values that cannot be are complained about and left out.
    fn resolved(&mut self, mut json: Json, root: &Node, prefix: &str) -> Option<Json> {
        let lookup = |name: &str| std::env::var(name).ok();
        let errors = match resolve_env(&json, &lookup) {
            Ok(json) => return Some(json),
            Err(errors) => errors.0,
        };
        let mut all_removed = true;
        for e in errors {
            let problem = Diagnostic::error(e.message, place::find(root, &join(prefix, &e.path)).value());
            self.error(Diagnostic { help: e.hint, ..problem });
            all_removed &= remove(&mut json, &e.path);
        }
        if all_removed { resolve_env(&json, &lookup).ok() } else { None }
    }
}

/// The value of an entry where it is one word, else its key.
pub(crate) fn place_of(entry: &Entry) -> std::ops::Range<usize> {
    if entry.value.is_container() || entry.value.span.is_empty() { entry.key_span.clone() } else { entry.value.span.clone() }
}

/// A word of a fixed list as serde knows it.
pub(crate) fn word(text: &str) -> String {
    text.trim().to_lowercase().replace('_', "-")
}

pub(crate) fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (false, true) => prefix.to_owned(),
        (false, false) if path.starts_with('[') => format!("{prefix}{path}"),
        (false, false) => format!("{prefix}.{path}"),
    }
}

/// serde's message in a user's words, with a suggestion; and the key it complains about, if it complains about a key.
pub(crate) fn explain(message: &str) -> (Diagnostic, Option<String>) {
    let quoted = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let words = quoted(message);
    let suggest = |problem: Diagnostic, what: &str| match (words.first(), words.len()) {
        (Some(word), 2..) => match did_you_mean(word, words[1..].iter().map(String::as_str)) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help(format!("{what}: {}", words[1..].join(", "))),
        },
        _ => problem,
    };
    let first = words.first().cloned().unwrap_or_default();
    if message.starts_with("unknown field") {
        return (suggest(Diagnostic::without_place(format!("unknown key `{first}`")), "known keys"), Some(first));
    }
    if message.starts_with("unknown variant") {
        return (suggest(Diagnostic::without_place(format!("`{first}` is none of the choices")), "choices"), None);
    }
    if message.starts_with("missing field") {
        return (Diagnostic::without_place(format!("missing: `{first}`")), None);
    }
    let (message, _) = message.rsplit_once(" at line ").unwrap_or((message, ""));
    let mut message = message.replace("invalid type: ", "found ").replace("invalid value: ", "found ");
    for number in ["usize", "u64", "u32", "u16", "i64"] {
        message = message.replace(&format!("expected {number}"), "expected a whole number");
    }
    (Diagnostic::without_place(message.replace("expected f64", "expected a number")), None)
}

/// Takes the value at a path out of a JSON value; false where there is none.
fn remove(json: &mut Json, path: &str) -> bool {
    let mut pointer = String::new();
    for part in path.replace('[', ".").replace(']', "").split('.').filter(|p| !p.is_empty()) {
        pointer.push('/');
        pointer.push_str(&part.replace('~', "~0").replace('/', "~1"));
    }
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    match json.pointer_mut(parent) {
        Some(Json::Object(map)) => map.shift_remove(last).is_some(),
        Some(Json::Array(items)) => last.parse::<usize>().ok().filter(|&i| i < items.len()).map(|i| items.remove(i)).is_some(),
        _ => false,
    }
}
