//! `.proto` texts to message descriptors, without `protoc`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use protox::{Compiler, Error};

use crate::message::RegisteredSchema;

/// The name that a text without a file gets.
const UNNAMED: &str = "schema.proto";

/// Texts by the name under which they are imported.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(Error::file_not_found(name)),
        }
    }
}

/// Compiles a text; imports are looked for in `imports`, and those of Google's are known.
pub(super) fn compile_text(text: &str, imports: &[String]) -> Result<FileDescriptor, String> {
    compile(HashMap::from([(UNNAMED.to_owned(), text.to_owned())]), imports.iter().map(PathBuf::from), UNNAMED)
}

/// Compiles a file; imports are looked for in its folder too.
pub(super) fn compile_file(path: &str, imports: &[String]) -> Result<FileDescriptor, String> {
    let path = Path::new(path);
    let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| format!("`{}` is no file", path.display()))?;
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
    let folder = path.parent().map(Path::to_path_buf).filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
    compile(HashMap::from([(name.to_owned(), text)]), std::iter::once(folder).chain(imports.iter().map(PathBuf::from)), name)
}

/// Compiles a registry's schema with what it refers to.
pub(super) fn compile_registered(schema: &RegisteredSchema) -> Result<FileDescriptor, String> {
    let mut texts: HashMap<_, _> = schema.references.iter().map(|r| (r.name.clone(), r.text.clone())).collect();
    texts.insert(UNNAMED.to_owned(), schema.text.clone());
    compile(texts, std::iter::empty(), UNNAMED)
}

fn compile(texts: HashMap<String, String>, folders: impl Iterator<Item = PathBuf>, name: &str) -> Result<FileDescriptor, String> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    for folder in folders {
        resolver.add(IncludeFileResolver::new(folder));
    }
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(name).map_err(|e| format!("the Protobuf schema does not compile: {e}"))?;
    compiler.descriptor_pool().get_file_by_name(name).ok_or_else(|| "the Protobuf schema has not been compiled".to_owned())
}

/// The message of that name, with its package or without, or the first of the file.
pub(super) fn message(file: &FileDescriptor, name: Option<&str>) -> Result<MessageDescriptor, String> {
    let Some(name) = name else {
        return file.messages().next().ok_or_else(|| "the Protobuf schema has no message".to_owned());
    };
    let pool = file.parent_pool();
    let full = || format!("{}.{name}", file.package_name());
    pool.get_message_by_name(name).or_else(|| pool.get_message_by_name(&full())).ok_or_else(|| {
        let known: Vec<String> = file.messages().map(|m| m.full_name().to_owned()).collect();
        match karez_core::error::did_you_mean(name, known.iter().map(String::as_str)) {
            Some(near) => format!("there is no message `{name}`; did you mean `{near}`?"),
            None => format!("there is no message `{name}`; its messages are {}", known.join(", ")),
        }
    })
}

/// The message at a path of indexes: the place among the file's messages, then among those inside it, and so on.
pub(super) fn at(file: &FileDescriptor, indexes: &[u32]) -> Result<MessageDescriptor, String> {
    let none = || format!("the schema has no message at the indexes {indexes:?}");
    let (first, inner) = indexes.split_first().ok_or_else(none)?;
    let first = file.messages().nth(*first as usize).ok_or_else(none)?;
    inner.iter().try_fold(first, |outer, index| outer.child_messages().nth(*index as usize).ok_or_else(none))
}

/// Where a message stands in its file: what [`at`] takes.
pub(super) fn indexes(message: &MessageDescriptor) -> Vec<u32> {
    // Field numbers of descriptors (4: a file's messages, 3: a message's) and indexes by turns.
    message.path().iter().skip(1).step_by(2).map(|index| index.unsigned_abs()).collect()
}
