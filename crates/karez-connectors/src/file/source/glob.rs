//! Which files a list of paths and patterns stands for.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use karez_core::config::ConfigError;
use karez_core::{Error, Result};

/// Folders below each other that `**` goes through at most.
const DEPTH_LIMIT: usize = 64;

/// Files found at most; a pattern that matches more is refused.
pub(super) const FILES_LIMIT: usize = 100_000;

/// Paths and patterns.
#[derive(Debug)]
pub(super) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    text: String,
    /// `None`: the text is a path.
    glob: Option<Glob>,
}

#[derive(Debug)]
struct Glob {
    /// The folder in front of the first part with a wildcard.
    base: PathBuf,
    matcher: GlobMatcher,
    /// Folders below `base` that can hold matches.
    depth: usize,
    /// Whether names that begin with `.` match.
    hidden: bool,
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

impl Patterns {
    pub(super) fn new(texts: &[String]) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut patterns = Vec::new();
        if texts.is_empty() {
            errors.push(ConfigError::new("path", "no path is given"));
        }
        for text in texts {
            match Pattern::new(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => errors.push(ConfigError::new("path", message)),
            }
        }
        if errors.is_empty() { Ok(Self(patterns)) } else { Err(errors) }
    }

    /// The files, in the order of their paths. A path that is no pattern and does not exist is none.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let mut files = BTreeSet::new();
        for pattern in &self.0 {
            pattern.list(&mut files)?;
        }
        Ok(files.into_iter().collect())
    }

    /// The patterns as the user wrote them.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|p| format!("`{}`", p.text)).collect::<Vec<_>>().join(", ")
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        // A file may have such a name: then it is meant.
        if !is_wild(text) || Path::new(text).is_file() {
            return Ok(Self { text: text.to_owned(), glob: None });
        }
        let path = Path::new(text);
        let base: PathBuf = path.components().take_while(|c| !is_wild(&c.as_os_str().to_string_lossy())).collect();
        let below = path.components().count() - base.components().count();
        // The walk gives paths without a leading `./`.
        let pattern: PathBuf = path.components().filter(|c| !matches!(c, Component::CurDir)).collect();
        let matcher = GlobBuilder::new(&pattern.to_string_lossy()).literal_separator(true).build();
        let matcher = matcher.map_err(|e| format!("`{text}` is no pattern: {}", e.kind()))?.compile_matcher();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        let depth = if text.contains("**") { DEPTH_LIMIT } else { below };
        Ok(Self { text: text.to_owned(), glob: Some(Glob { base, matcher, depth, hidden }) })
    }

    fn list(&self, files: &mut BTreeSet<String>) -> Result<()> {
        match &self.glob {
            None => match fs::metadata(&self.text) {
                Ok(meta) if meta.is_dir() => {
                    Err(Error::user(format!("`{0}` is a folder; write `{0}/*` for the files in it", self.text.trim_end_matches('/'))))
                }
                Ok(_) => {
                    files.insert(self.text.clone());
                    Ok(())
                }
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                Err(e) => Err(Error::external(format!("`{}` cannot be read", self.text)).caused_by(e)),
            },
            Some(glob) => {
                let base = if matches!(glob.base.components().next(), Some(Component::CurDir)) {
                    glob.base.components().skip(1).collect()
                } else {
                    glob.base.clone()
                };
                glob.walk(&base, glob.depth, &mut HashSet::new(), files)
            }
        }
    }
}

impl Glob {
    fn walk(&self, folder: &Path, depth: usize, seen: &mut HashSet<(u64, u64)>, files: &mut BTreeSet<String>) -> Result<()> {
        let cannot = |e| Error::external(format!("the folder `{}` cannot be read", folder.display())).caused_by(e);
        let shown = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = match fs::read_dir(shown) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(cannot(e)),
        };
        for entry in entries {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') && !self.hidden {
                continue;
            }
            let path = folder.join(&name);
            // What has vanished in between, and links to nowhere, are not there.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_dir() {
                // A link to a folder above would go round for ever.
                if depth > 1 && seen.insert((meta.dev(), meta.ino())) {
                    self.walk(&path, depth - 1, seen, files)?;
                }
            } else if self.matcher.is_match(&path) {
                let Some(path) = path.to_str() else {
                    return Err(Error::user(format!("the name of the file `{}` is not UTF-8; rename it", path.display())));
                };
                files.insert(path.to_owned());
                if files.len() > FILES_LIMIT {
                    return Err(Error::user(format!("more than {FILES_LIMIT} files match `{}`; narrow the pattern", self.matcher.glob())));
                }
            }
        }
        Ok(())
    }
}
