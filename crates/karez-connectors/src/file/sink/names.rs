//! What files are called while they are written and afterwards, and whose a hidden file is.
//!
//! Run and node are part of every hidden name: another run, and another sink of the same job in the same folder, have names of their own.

use std::path::{Path, PathBuf};

use karez_core::sink::SinkRunContext;

/// Where a file is and what it will be.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The name it is written under: begins with `.`.
    pub(super) temporary: PathBuf,
    /// The name it gets when it is committed, in the same folder.
    pub(super) target: PathBuf,
}

/// Names for a file in a folder. Generation, subtask and number make one that is never given twice.
pub(super) fn part(folder: &Path, run: &SinkRunContext, subtask: usize, number: u64, extension: &str) -> Names {
    let name = format!("part-{}-g{}-{subtask}-{number}.{extension}", owner(run), run.generation);
    Names { temporary: folder.join(format!(".{name}.inprogress")), target: folder.join(name) }
}

/// Names for the one file.
pub(super) fn whole(target: &Path, run: &SinkRunContext) -> Names {
    Names { temporary: hidden_file(target, run, ""), target: target.to_owned() }
}

/// Names for a part of the one file that is joined with others at the end.
pub(super) fn segment(target: &Path, run: &SinkRunContext, number: u64) -> Names {
    Names { temporary: hidden_file(target, run, &format!("-g{}-{number}", run.generation)), target: target.to_owned() }
}

/// Whether a name is that of a hidden [`part`] of this sink and run, begun by an older generation.
pub(super) fn is_older_part(name: &str, run: &SinkRunContext) -> bool {
    let middle = name.strip_prefix(&format!(".part-{}-g", owner(run))).and_then(|rest| rest.strip_suffix(".inprogress"));
    let Some((numbers, _extension)) = middle.and_then(|m| m.split_once('.')) else {
        return false;
    };
    match numbers.split('-').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([generation, _subtask, _number]) => *generation < run.generation.0,
        _ => false,
    }
}

/// The target's file name, if a name is that of a hidden [`whole`] or [`segment`] of this sink and run.
pub(super) fn target_of<'a>(name: &'a str, run: &SinkRunContext) -> Option<&'a str> {
    let (begin, rest) = name.strip_prefix('.')?.rsplit_once(&format!(".inprogress-{}", owner(run)))?;
    let is_segment = || {
        let numbers = rest.strip_prefix("-g")?.split('-').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok()?;
        (numbers.len() == 2).then_some(())
    };
    (rest.is_empty() || is_segment().is_some()).then_some(begin)
}

fn hidden_file(target: &Path, run: &SinkRunContext, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.inprogress-{}{suffix}", owner(run)))
}

/// Run and node. What cannot stand in a file name everywhere is written as `%` and hexadecimal digits, so that two nodes never share one.
fn owner(run: &SinkRunContext) -> String {
    let mut text = format!("{}-", run.run);
    for byte in run.node.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}
