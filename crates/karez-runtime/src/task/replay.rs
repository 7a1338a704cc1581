//! Dead letters that go back into a task, between two elements: at the source that could not decode them, or in front of the operator or sink that
//! refused the row.
//!
//! What has been fed is part of the task's next snapshot, with what came of it. Watermarks do not move: a row that is late by now is late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use karez_core::schema::{ORIGIN_COLUMN, visible_schema};
use karez_core::{BadRecord, Error, Letter, LetterDecoder, Result, Source, Watermark, dead_letter};
use tokio::time::Instant;

use crate::replay::Progress;

/// Letters fed at a time.
const CHUNK: usize = 256;
/// The first and the longest wait for an outside system that a decoder needs.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Where letters enter a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Behind its source.
    Source,
    /// In front of an operator of its chain.
    Operator(usize),
    /// In front of its sink.
    Sink,
}

/// The letters of one replay for one node of one task.
#[derive(Clone, Debug)]
pub struct ReplayWork {
    /// The replay.
    pub replay: String,
    /// How many letters it has in all.
    pub total: u32,
    /// Where they enter.
    pub entry: Entry,
    /// The rows there, hidden columns included.
    pub schema: SchemaRef,
    /// They are not fed before event time has come this far: where it stood at the restored checkpoint.
    pub not_before: Watermark,
    /// The letters, with their numbers in the replay.
    pub letters: VecDeque<(u32, Letter)>,
}

/// Letters ready to be put in.
#[derive(Debug)]
pub struct Injection {
    /// Where.
    pub entry: Entry,
    /// Their rows.
    pub batch: RecordBatch,
    /// Those that are bad still.
    pub bad: Vec<BadRecord>,
    /// How many letters of the work in hand these are.
    letters: usize,
}

/// The letters that a task has been given.
#[derive(Default)]
pub struct Replays {
    works: VecDeque<ReplayWork>,
    decoder: Option<Box<dyn LetterDecoder>>,
    backoff: Option<(Duration, Instant)>,
    progress: BTreeMap<String, Progress>,
}

impl Replays {
    /// Takes letters over.
    pub fn give(&mut self, work: ReplayWork) {
        self.works.push_back(work);
    }

    /// Whether letters wait that may be fed at this watermark.
    #[must_use]
    pub fn is_ready(&self, watermark: Watermark) -> bool {
        self.works.front().is_some_and(|w| w.not_before <= watermark)
    }

    /// Whether letters wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// What has been fed since the start of the task, for its snapshot.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.progress.values().cloned().collect()
    }

    /// The next letters. Cancel-safe: they stay here until [`Self::fed`].
    pub async fn next(&mut self, source: Option<&Arc<dyn Source>>) -> Result<Injection> {
        loop {
            if let Some((_, until)) = self.backoff {
                tokio::time::sleep_until(until).await;
            }
            let Some(work) = self.works.front() else { return std::future::pending().await };
            match decode(work, &mut self.decoder, source).await {
                Ok(injection) => {
                    self.backoff = None;
                    return Ok(injection);
                }
                Err(e) if e.is_retryable() => {
                    let wait = self.backoff.map_or(BACKOFF.0, |(w, _)| (w * 2).min(BACKOFF.1));
                    tracing::warn!(replay = %work.replay, error = %e, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "dead letters cannot be decoded now, trying again");
                    self.backoff = Some((wait, Instant::now() + wait));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The letters of an injection have been put in.
    pub fn fed(&mut self, injection: usize) {
        let Some(work) = self.works.front_mut() else { return };
        let progress = self.progress.entry(work.replay.clone()).or_insert_with(|| Progress::new(work.replay.clone(), work.total));
        for (number, _) in work.letters.drain(..injection.min(work.letters.len())) {
            progress.add(number);
        }
        if work.letters.is_empty() {
            self.works.pop_front();
            self.decoder = None;
        }
    }
}

impl Injection {
    /// How many letters, bad ones included.
    #[must_use]
    pub const fn letters(&self) -> usize {
        self.letters
    }
}

async fn decode(work: &ReplayWork, decoder: &mut Option<Box<dyn LetterDecoder>>, source: Option<&Arc<dyn Source>>) -> Result<Injection> {
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    let letters = work.letters.len().min(CHUNK);
    for (_, letter) in work.letters.iter().take(letters) {
        let rows = match rows(letter, work, decoder, source).await {
            Err(e) if e.is_retryable() => return Err(e),
            Ok(rows) => with_hidden(&rows, work, letter),
            Err(e) => Err(e),
        };
        match rows {
            Ok(rows) => batches.push(rows),
            // Whatever it is, it must not fail the job again and again: the letter stays one.
            Err(e) => {
                bad.push(BadRecord { reason: e.to_string(), origin: Some(origin(work, letter)), raw: letter.raw.clone(), row: letter.row.clone() })
            }
        }
    }
    let batch = concat_batches(&work.schema, &batches)?;
    Ok(Injection { entry: work.entry, batch, bad, letters })
}

/// The rows of a letter: its row where it has one, otherwise what its bytes decode to.
async fn rows(
    letter: &Letter,
    work: &ReplayWork,
    decoder: &mut Option<Box<dyn LetterDecoder>>,
    source: Option<&Arc<dyn Source>>,
) -> Result<RecordBatch> {
    if let Some(row) = &letter.row {
        return dead_letter::row_batch(&visible_schema(&work.schema), row);
    }
    let (Some(raw), Some(source)) = (&letter.raw, source) else { return Err(Error::record("the letter holds no row")) };
    let decoder = match decoder {
        Some(decoder) => decoder,
        None => decoder.insert(source.letter_decoder()?),
    };
    decoder.decode(raw, letter.origin.as_deref()).await
}

/// Adds the origin where rows have one.
fn with_hidden(rows: &RecordBatch, work: &ReplayWork, letter: &Letter) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    if work.schema.column_with_name(ORIGIN_COLUMN).is_some() {
        let origin = origin(work, letter);
        let origins: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows.num_rows()).map(|_| &origin)));
        columns.push(origins);
    }
    RecordBatch::try_new(Arc::clone(&work.schema), columns).map_err(|e| Error::record("the rows do not fit the node's columns").caused_by(e))
}

/// Where the rows of a letter come from: if they are refused again, that is another letter.
fn origin(work: &ReplayWork, letter: &Letter) -> String {
    let before = letter.origin.as_deref().map_or(String::new(), |o| format!(" {o}"));
    format!("replay={} letter={}{before}", work.replay, letter.id)
}
