//! Decodes the bytes of dead letters again, as a line of the file they came from.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use karez_core::{Error, LetterDecoder, Result};

use super::Plan;
use super::format::{Lines, read_header};
use super::input::{Compression, cannot_read, open, stream};

/// Behind the origin of a letter that holds but the beginning of its record.
pub(super) const CUT: &str = " cut=";

/// Decodes letters, with the header of the file that each came from.
pub(super) struct FileLetters {
    plan: Arc<Plan>,
    lines: Lines,
    /// The file looked at last, and its header.
    header: Option<(String, Vec<String>)>,
}

impl FileLetters {
    pub(super) const fn new(plan: Arc<Plan>, lines: Lines) -> Self {
        Self { plan, lines, header: None }
    }

    /// The header of the file of an origin; empty where files have none.
    fn header(&mut self, path: Option<&str>) -> Result<Vec<String>> {
        if !self.lines.has_header() {
            return Ok(Vec::new());
        }
        let needed =
            || Error::record("the header of its file is needed to read it, and the letter does not say which file; give the letter a `row` instead");
        let path = path.ok_or_else(needed)?;
        match &self.header {
            Some((known, header)) if known == path => return Ok(header.clone()),
            _ => {}
        }
        let read = || {
            let file = open(path)?;
            let compression = Compression::of(path, &file, self.plan.compression).map_err(|e| cannot_read(path, e))?;
            read_header(&self.lines, path, stream(file, compression, 0).map_err(|e| cannot_read(path, e))?, false)
        };
        let header = read()
            .map_err(|e| Error::record(format!("the header of its file is needed to read it: {e}; give the letter a `row` instead")))?
            .ok_or_else(needed)?;
        self.header = Some((path.to_owned(), header.clone()));
        Ok(header)
    }
}

#[async_trait]
impl LetterDecoder for FileLetters {
    async fn decode(&mut self, raw: &[u8], origin: Option<&str>) -> Result<RecordBatch> {
        if let Some((_, length)) = origin.and_then(|o| o.rsplit_once(CUT))
            && length.parse() == Ok(raw.len())
        {
            return Err(Error::record("the letter holds only the beginning of its record, which was too long; give the whole one, or a `row`"));
        }
        if raw.len() > self.plan.record_limit {
            return Err(Error::record(format!("the record is longer than {} bytes (`maxRecordSize`)", self.plan.record_limit)));
        }
        let path = origin.and_then(path_of);
        let header = self.header(path)?;
        let mut decoder = self.lines.decoder(path.unwrap_or_default(), &header)?;
        let mut errors = Vec::new();
        decoder.decode_lines(raw, true, usize::MAX, &mut errors);
        if let Some(e) = errors.first() {
            return Err(Error::record(e.reason.clone()));
        }
        let rows = decoder.flush().map_err(|e| Error::internal("rows of a dead letter").caused_by(e))?;
        rows.ok_or_else(|| Error::record("there is no record in these bytes"))
    }
}

/// The file of an origin: `file=PATH offset=N`, perhaps behind the names of a replay.
fn path_of(origin: &str) -> Option<&str> {
    let (_, path) = origin.split_once("file=")?;
    path.rsplit_once(" offset=").map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn the_file_stands_in_the_origin() {
        assert_eq!(path_of("file=/in/a b.csv offset=12"), Some("/in/a b.csv"));
        assert_eq!(path_of("replay=r letter=l file=/in/x.csv offset=0 cut=1024"), Some("/in/x.csv"));
        assert_eq!(path_of("topic=t partition=0 offset=3"), None);
    }
}
