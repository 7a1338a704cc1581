//! Paths with placeholders: the run's day, and the day of each row.

use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::record_batch::RecordBatch;
use arrow::temporal_conversions::as_datetime_with_timezone;
use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use karez_core::Result;
use karez_core::config::{ConfigError, ConfigErrors};
use karez_core::sql_type::to_sql;

const DAY: &str = "%Y-%m-%d";

/// An absolute path with placeholders.
#[derive(Clone, Debug)]
pub(super) struct PathTemplate {
    parts: Vec<Part>,
    folder_by_slash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    RunDay { format: String },
    RowDay { column: usize, format: String },
}

impl PathTemplate {
    pub(super) fn parse(path: &str, schema: &SchemaRef) -> Result<Self, ConfigErrors> {
        let wrong = |message: String| ConfigError::new("path", message);
        if path.is_empty() {
            return Err(wrong("is empty".to_owned()).into());
        }
        let absolute = std::path::absolute(path).map_err(|e| wrong(format!("`{path}`: {e}")))?;
        let text = absolute.to_str().ok_or_else(|| wrong("is not valid UTF-8".to_owned()))?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let close = rest[open..].find('}').ok_or_else(|| wrong(format!("`{{` without `}}` in `{path}`")))? + open;
            parts.push(placeholder(&rest[open + 1..close], schema)?);
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts, folder_by_slash: path.ends_with('/') })
    }

    /// Whether it names files and not folders.
    pub(super) fn is_file(&self) -> bool {
        let name = self.file_name();
        let extension = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default();
        !self.folder_by_slash && extension.starts_with(|c: char| c.is_ascii_alphabetic()) && extension.len() <= 8
    }

    /// The last part of the path; placeholders stand there as `x`.
    pub(super) fn file_name(&self) -> String {
        let text: String = self.parts.iter().map(|p| if let Part::Text(t) = p { t.as_str() } else { "x" }).collect();
        text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// The same for a run: only the row's days are left open.
    pub(super) fn for_run(&self, scheduled_ms: i64) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for part in &self.parts {
            let part = match part {
                Part::RunDay { format } => Part::Text(DateTime::from_timestamp_millis(scheduled_ms).unwrap_or_default().format(format).to_string()),
                other => other.clone(),
            };
            match (parts.last_mut(), part) {
                (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        Self { parts, folder_by_slash: self.folder_by_slash }
    }

    /// The path, where it does not depend on the row.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(trimmed(text)),
            _ => None,
        }
    }

    /// A pattern of the file source for every path that it may have been.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for part in &self.parts {
            match part {
                Part::RunDay { .. } | Part::RowDay { .. } => pattern.push('*'),
                Part::Text(text) => {
                    for c in text.chars() {
                        if matches!(c, '*' | '?' | '[' | '{') {
                            pattern.extend(['[', c, ']']);
                        } else {
                            pattern.push(c);
                        }
                    }
                }
            }
        }
        pattern
    }

    /// The longest folder that every path of it lies in.
    pub(super) fn root(&self) -> PathBuf {
        match self.parts.first() {
            Some(Part::Text(text)) if self.parts.len() == 1 => trimmed(text),
            Some(Part::Text(text)) => PathBuf::from(&text[..=text.rfind('/').unwrap_or(0)]),
            _ => PathBuf::from("/"),
        }
    }

    /// Sorts rows by the path they belong to; the order of the rows of one path is kept.
    pub(super) fn route(&self, batch: &RecordBatch) -> Result<Vec<(PathBuf, RecordBatch)>> {
        if let Some(path) = self.path() {
            return Ok(vec![(path, batch.clone())]);
        }
        let days = self
            .parts
            .iter()
            .map(|p| match p {
                Part::RowDay { column, format } => Days::new(batch.column(*column), format).map(Some),
                _ => Ok(None),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        let mut path = String::new();
        for row in 0..batch.num_rows() {
            path.clear();
            for (part, days) in self.parts.iter().zip(&days) {
                match (part, days) {
                    (Part::Text(text), _) => path.push_str(text),
                    (_, Some(days)) => days.append(row, &mut path),
                    _ => {}
                }
            }
            let index = u32::try_from(row).map_err(|_| karez_core::Error::internal("a batch of more than 2^32 rows"))?;
            // Rows near each other mostly have one day: the group used last is looked at first.
            match groups.iter_mut().rev().find(|(p, _)| *p == path) {
                Some((_, rows)) => rows.push(index),
                None => groups.push((path.clone(), vec![index])),
            }
        }
        groups
            .into_iter()
            .map(|(path, rows)| {
                let rows =
                    if rows.len() == batch.num_rows() { batch.clone() } else { arrow::compute::take_record_batch(batch, &UInt32Array::from(rows))? };
                Ok((trimmed(&path), rows))
            })
            .collect()
    }

    /// The folders that exist on disk and may hold files of this template (`Self::for_run`), for cleaning up.
    pub(super) fn existing_folders(&self) -> std::io::Result<Vec<PathBuf>> {
        // The path's segments, each a list of texts between which any day may stand.
        let mut segments: Vec<Vec<String>> = vec![vec![String::new()]];
        for part in &self.parts {
            match part {
                Part::Text(text) => {
                    for (i, piece) in text.split('/').enumerate() {
                        if i > 0 {
                            segments.push(vec![String::new()]);
                        }
                        if let Some(last) = segments.last_mut().and_then(|s| s.last_mut()) {
                            last.push_str(piece);
                        }
                    }
                }
                _ => {
                    if let Some(segment) = segments.last_mut() {
                        segment.push(String::new());
                    }
                }
            }
        }
        if self.is_file() {
            segments.pop();
        }
        let mut folders = vec![PathBuf::from("/")];
        for segment in segments.iter().filter(|s| s.len() > 1 || !s[0].is_empty()) {
            let mut next = Vec::new();
            for folder in folders {
                match segment.as_slice() {
                    [name] => next.push(folder.join(name)),
                    pieces => next.extend(matching(&folder, pieces)?),
                }
            }
            folders = next;
        }
        folders.retain(|f| f.is_dir());
        Ok(folders)
    }
}

fn trimmed(path: &str) -> PathBuf {
    PathBuf::from(if path.len() > 1 { path.trim_end_matches('/') } else { path })
}

fn matching(folder: &Path, pieces: &[String]) -> std::io::Result<Vec<PathBuf>> {
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|n| n.starts_with(first.as_str()) && n.ends_with(last.as_str())) {
            found.push(folder.join(name));
        }
    }
    Ok(found)
}

fn placeholder(text: &str, schema: &SchemaRef) -> Result<Part, ConfigErrors> {
    let wrong = |message: String| {
        ConfigErrors::from(ConfigError::new("path", message).hint("known: {date}, {date:%Y%m%d}, {date:COLUMN}, {date:COLUMN:%Y-%m}"))
    };
    let mut words = text.splitn(2, ':');
    if words.next() != Some("date") {
        return Err(wrong(format!("unknown placeholder `{{{text}}}`")));
    }
    let (column, format) = match words.next() {
        None => (None, DAY),
        Some(format) if format.starts_with('%') => (None, format),
        Some(rest) => match rest.split_once(':') {
            Some((column, format)) => (Some(column), format),
            None => (Some(rest), DAY),
        },
    };
    if format.contains('/') || StrftimeItems::new(format).any(|i| i == Item::Error) {
        return Err(wrong(format!("`{format}` is no date format without `/`")));
    }
    let format = format.to_owned();
    let Some(name) = column else {
        return Ok(Part::RunDay { format });
    };
    let Ok(column) = schema.index_of(name) else {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let hint = match karez_core::error::did_you_mean(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("columns: {}", names.join(", ")),
        };
        return Err(ConfigError::new("path", format!("`{{{text}}}`: there is no column `{name}`")).hint(hint).into());
    };
    match schema.field(column).data_type() {
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 => Ok(Part::RowDay { column, format }),
        other => Err(wrong(format!("`{{{text}}}`: column `{name}` is {}, not a date or timestamp", to_sql(other)))),
    }
}

/// The days of a column.
struct Days {
    /// In milliseconds since the epoch, the column's time zone kept.
    millis: ArrayRef,
    zone: Option<arrow::array::timezone::Tz>,
    format: String,
}

impl Days {
    fn new(column: &ArrayRef, format: &str) -> Result<Self> {
        let zone = match column.data_type() {
            DataType::Timestamp(_, Some(zone)) => Some(zone.parse()?),
            _ => None,
        };
        let plain = match column.data_type() {
            DataType::Timestamp(unit, Some(_)) => cast(column, &DataType::Timestamp(*unit, Some("UTC".into())))?,
            _ => std::sync::Arc::clone(column),
        };
        let zone_of_plain = if zone.is_some() { Some("UTC".into()) } else { None };
        Ok(Self { millis: cast(&plain, &DataType::Timestamp(TimeUnit::Millisecond, zone_of_plain))?, zone, format: format.to_owned() })
    }

    fn append(&self, row: usize, path: &mut String) {
        use std::fmt::Write;
        let millis = self.millis.as_primitive::<TimestampMillisecondType>();
        if millis.is_null(row) {
            path.push_str("null");
            return;
        }
        let value = millis.value(row);
        let written = match self.zone {
            Some(zone) => as_datetime_with_timezone::<TimestampMillisecondType>(value, zone).map(|t| write!(path, "{}", t.format(&self.format))),
            None => DateTime::from_timestamp_millis(value).map(|t| write!(path, "{}", t.format(&self.format))),
        };
        if !matches!(written, Some(Ok(()))) {
            path.push_str("out-of-range");
        }
    }
}
