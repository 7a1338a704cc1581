//! A bounded run: the files as they are when it begins, in parts, in the order of (file, offset).

use std::fs::File;

use async_trait::async_trait;
use karez_core::source::{Discovery, Read, ReadLimit, ReaderContext};
use karez_core::{Error, Result, Split, SplitEnumerator, SplitReader};
use karez_formats::parquet::ParquetMeta;
use serde_json::{Value, json};
use std::sync::Arc;

use super::Plan;
use super::format::{Lines, read_header};
use super::input::{Compression, Fingerprint, HEAD_BYTES, cannot_read, open, raw_head, stream};
use super::split::{FileAsFound, LinesPosition, ParquetPosition, Position};
use super::window::{AtEnd, Input, Window};

/// Finds the splits once.
pub(super) struct BoundedEnumerator {
    plan: Arc<Plan>,
    listed: bool,
}

impl BoundedEnumerator {
    pub(super) fn new(plan: Arc<Plan>, state: Option<&Value>) -> Self {
        Self { plan, listed: state.is_some_and(|s| s["listed"] == Value::Bool(true)) }
    }

    fn splits_of(&self, path: &str, splits: &mut Vec<Split>) -> Result<()> {
        let file = open(path)?;
        let found = as_found(path, &file)?;
        if found.size == 0 {
            return Ok(());
        }
        let part = self.plan.split_size;
        let Some(lines) = &self.plan.lines else {
            let meta = parquet_meta(path, &file)?;
            let groups = meta.row_groups();
            let mut begin = 0;
            while begin < groups.len() {
                let (mut end, mut bytes) = (begin, 0);
                while end < groups.len() && (end == begin || bytes + groups[end].bytes <= part) {
                    bytes += groups[end].bytes;
                    end += 1;
                }
                let position = Position::Parquet(ParquetPosition { file: found.clone(), group: begin, row: 0, end });
                splits.push(Split { id: format!("{path}#{begin}"), position: position.to_value()? });
                begin = end;
            }
            return Ok(());
        };
        let compression = Compression::of(path, &file, self.plan.compression).map_err(|e| cannot_read(path, e))?;
        let whole = compression != Compression::None || !lines.can_be_split();
        let mut offset = 0;
        loop {
            let end = Some(offset + part).filter(|end| !whole && *end < found.size);
            // The last part ends with the file as it is now, so that every run over a growing file reads the same.
            let end = end.or((compression == Compression::None).then_some(found.size));
            let position = LinesPosition { file: found.clone(), compression, offset, end, aligned: offset == 0 };
            splits.push(Split { id: format!("{path}#{offset}"), position: Position::Lines(position).to_value()? });
            match end {
                Some(end) if end < found.size => offset = end,
                _ => return Ok(()),
            }
        }
    }
}

#[async_trait]
impl SplitEnumerator for BoundedEnumerator {
    async fn discover(&mut self) -> Result<Discovery> {
        let mut splits = Vec::new();
        if !self.listed {
            for path in self.plan.files()? {
                self.splits_of(&path, &mut splits)?;
            }
            self.listed = true;
        }
        Ok(Discovery { splits, done: true })
    }

    fn snapshot(&self) -> Result<Value> {
        Ok(json!({ "listed": self.listed }))
    }
}

fn as_found(path: &str, file: &File) -> Result<FileAsFound> {
    let size = file.metadata().map_err(|e| cannot_read(path, e))?.len();
    let head = Fingerprint::of(&raw_head(file, HEAD_BYTES).map_err(|e| cannot_read(path, e))?);
    Ok(FileAsFound { path: path.to_owned(), size, head })
}

/// Opens a file of a bounded run, if it is still the one that was found.
fn open_as_found(found: &FileAsFound) -> Result<File> {
    let path = &found.path;
    let file = open(path)?;
    let now = file.metadata().map_err(|e| cannot_read(path, e))?.len();
    if now < found.size {
        return Err(Error::external(format!(
            "the file `{path}` was {} bytes long when this run began and has {now} now: it was truncated or replaced; start afresh",
            found.size
        )));
    }
    let head = raw_head(&file, HEAD_BYTES).map_err(|e| cannot_read(path, e))?;
    if !found.head.matches(&head) {
        return Err(Error::external(format!(
            "the file `{path}` is not the one this run began with: its first bytes have changed; put the old one back, or start afresh"
        )));
    }
    Ok(file)
}

fn parquet_meta(path: &str, file: &File) -> Result<ParquetMeta> {
    ParquetMeta::read(file).map_err(|e| Error::user(format!("the file `{path}` is not Parquet, or is damaged")).caused_by(e))
}

/// Reads the lines of a split.
pub(super) struct LinesReader {
    position: LinesPosition,
    window: Window,
}

impl LinesReader {
    pub(super) fn open(position: LinesPosition, lines: &Lines, record_limit: usize, context: ReaderContext) -> Result<Self> {
        let file = open_as_found(&position.file)?;
        let path = &position.file.path;
        let cannot = |e| cannot_read(path, e);
        let header = match position.offset {
            0 => None,
            _ if lines.has_header() => {
                Some(read_header(lines, path, stream(open(path)?, position.compression, 0).map_err(cannot)?, false)?.unwrap_or_default())
            }
            _ => Some(Vec::new()),
        };
        let begin = if position.aligned { position.offset } else { position.offset - 1 };
        let input = Input::Stream(stream(file, position.compression, begin).map_err(cannot)?);
        let mut window = Window::new(path.clone(), input, lines.clone(), begin, header.as_deref(), record_limit, context)?;
        if position.compression == Compression::None {
            window.expect(position.file.size);
        }
        Ok(Self { position, window })
    }
}

#[async_trait]
impl SplitReader for LinesReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Read> {
        if !self.position.aligned {
            self.window.skip_line()?;
            self.position.aligned = true;
            self.position.offset = self.window.offset();
        }
        let end = self.position.end;
        if end.is_some_and(|end| self.window.offset() >= end) {
            return Ok(Read::End);
        }
        if let Some(read) = self.window.read(limit, end, AtEnd::Last)? {
            self.position.offset = self.window.offset();
            return Ok(read);
        }
        self.position.offset = self.window.offset();
        Ok(Read::End)
    }

    fn position(&self) -> Result<Value> {
        Position::Lines(self.position.clone()).to_value()
    }
}

/// Opens the file of a Parquet split.
pub(super) fn parquet_file(found: &FileAsFound) -> Result<(File, ParquetMeta)> {
    let file = open_as_found(found)?;
    let meta = parquet_meta(&found.path, &file)?;
    Ok((file, meta))
}
