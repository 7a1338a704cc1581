//! Reads one file that is followed, wherever its content is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use async_trait::async_trait;
use karez_core::source::{Read, ReadLimit, ReaderContext};
use karez_core::{Result, SplitReader};
use serde_json::Value;

use super::super::Plan;
use super::super::format::{Lines, read_header};
use super::super::input::{Compression, cannot_read, open, stream};
use super::super::split::{FollowPosition, Position};
use super::super::window::{AtEnd, Input, Window};
use super::locate::{Facts, Known, Place, locate};
use super::tail::{Tail, Truncated};

/// A file that was renamed, and has not grown for so long, has ended. Should it grow again, the enumerator finds it again.
const RENAMED_IDLE_MS: i64 = 300_000;

pub(in super::super) struct FollowReader {
    plan: Arc<Plan>,
    lines: Lines,
    context: ReaderContext,
    position: FollowPosition,
    reading: Reading,
    /// The file had no name and nothing new when it was last looked at.
    seen_deleted: bool,
}

enum Reading {
    /// A file that grows.
    Tail(Window),
    /// A copy or a compressed file, to its end.
    Rest(Window),
    /// A compressed file that is still being written: to be opened again.
    Later,
    Ended,
}

/// What a step has come to.
enum Step {
    Give(Read),
    Nothing,
    Again,
}

impl FollowReader {
    pub(in super::super) fn open(plan: Arc<Plan>, position: FollowPosition, lines: Lines, context: ReaderContext) -> Result<Self> {
        let mut reader = Self { plan, lines, context, position, reading: Reading::Later, seen_deleted: false };
        reader.find()?;
        Ok(reader)
    }

    /// Looks for the content, and opens what holds it at the position.
    fn find(&mut self) -> Result<()> {
        let p = &self.position;
        let known = Known { path: &p.path, device: p.device, inode: p.inode, head: p.head, size: p.offset };
        self.reading = match locate(known, &self.plan.patterns, self.plan.compression)? {
            Place::Same(facts) => self.open_file(&facts, facts.compression == Compression::None)?,
            Place::Copy(facts) => {
                tracing::info!(file = p.path, copy = facts.path, offset = p.offset, "reading on in a copy of the file");
                self.position.left = true;
                self.open_file(&facts, false)?
            }
            Place::Nowhere { truncated } => {
                tracing::warn!(file = p.path, offset = p.offset, truncated, "the rest of the file is gone");
                self.context.metrics.add("files_gone", 1);
                self.position.left |= truncated;
                Reading::Ended
            }
        };
        Ok(())
    }

    fn open_file(&self, facts: &Facts, grows: bool) -> Result<Reading> {
        let (path, offset) = (&facts.path, self.position.offset);
        let cannot = |e| cannot_read(path, e);
        let file = open(path)?;
        let meta = file.metadata().map_err(cannot)?;
        if (meta.dev(), meta.ino()) != (facts.device, facts.inode) {
            return Ok(Reading::Later);
        }
        let header = match offset {
            0 => None,
            _ if self.lines.has_header() => {
                let start = stream(file.try_clone().map_err(cannot)?, facts.compression, 0).map_err(cannot)?;
                let Some(header) = read_header(&self.lines, path, start, true)? else { return Ok(Reading::Later) };
                Some(header)
            }
            _ => Some(Vec::new()),
        };
        let input = if grows {
            Input::Tail(Tail::new(file, offset, self.position.head))
        } else {
            match stream(open(path)?, facts.compression, offset) {
                Ok(s) => Input::Stream(s),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Reading::Later),
                Err(e) => return Err(cannot(e)),
            }
        };
        // Rows say where their file was found first: names change, and a restart must give the same rows.
        let name = self.position.path.clone();
        let window = Window::new(name, input, self.lines.clone(), offset, header.as_deref(), self.plan.record_limit, self.context.clone())?;
        Ok(if grows { Reading::Tail(window) } else { Reading::Rest(window) })
    }

    fn step(&mut self, limit: ReadLimit) -> Result<Step> {
        match &mut self.reading {
            Reading::Ended => Ok(Step::Give(Read::End)),
            Reading::Later => {
                self.find()?;
                Ok(if matches!(self.reading, Reading::Later) { Step::Nothing } else { Step::Again })
            }
            Reading::Rest(window) => {
                let read = window.read(limit, None, AtEnd::Last);
                self.position.offset = window.offset();
                match read {
                    Ok(Some(read)) => Ok(Step::Give(read)),
                    Ok(None) => {
                        self.reading = Reading::Ended;
                        Ok(Step::Again)
                    }
                    Err(_) if window.error().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) => {
                        self.reading = Reading::Later;
                        Ok(Step::Nothing)
                    }
                    Err(e) => Err(e),
                }
            }
            Reading::Tail(window) => {
                let ends = self.seen_deleted;
                let read = window.read(limit, None, if ends { AtEnd::Last } else { AtEnd::Wait });
                self.position.offset = window.offset();
                let Input::Tail(tail) = &window.input else { return Ok(Step::Give(Read::End)) };
                self.position.head = tail.head();
                match read {
                    Ok(Some(read)) => Ok(Step::Give(read)),
                    Err(_) if window.error().and_then(io::Error::get_ref).is_some_and(|e| e.is::<Truncated>()) => {
                        self.find()?;
                        Ok(Step::Again)
                    }
                    Err(e) => Err(e),
                    Ok(None) if ends => {
                        self.reading = Reading::Ended;
                        Ok(Step::Again)
                    }
                    Ok(None) => {
                        let cannot = |e| cannot_read(&self.position.path, e);
                        self.seen_deleted = tail.is_deleted().map_err(cannot)?;
                        let meta = tail.metadata().map_err(cannot)?;
                        let here = fs::metadata(&self.position.path).is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()));
                        let idle_ms = self.context.clock.now_ms().saturating_sub(meta.mtime().saturating_mul(1_000));
                        if !here && !self.seen_deleted && idle_ms > RENAMED_IDLE_MS {
                            self.reading = Reading::Ended;
                            return Ok(Step::Again);
                        }
                        window.rest();
                        Ok(Step::Nothing)
                    }
                }
            }
        }
    }
}

#[async_trait]
impl SplitReader for FollowReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        loop {
            match self.step(limit)? {
                Step::Give(read) => return Ok(read),
                Step::Nothing => return Ok(Read::Nothing),
                Step::Again => {}
            }
        }
    }

    fn position(&self) -> Result<Value> {
        Position::Follow(self.position.clone()).to_value()
    }
}
