//! The source loop, written once for all connectors: splits, positions, event time, idleness, rate limits, back-off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::operator::MAX_BATCH_ROWS;
use karez_core::schema::{ORIGIN_COLUMN, batch_bytes};
use karez_core::source::{ReadLimit, ReaderContext, SplitAssignment};
use karez_core::{BadRecord, Clock, Error, Reach, Read, Result, Split, SplitReader, Watermark, dead_letter};
use karez_graph::PlannedSource;
use karez_graph::stream_graph::Order;
use tokio::time::Instant;

use crate::checkpoint::{SourceAck, SplitState};
use crate::watermark::{SplitWatermark, max_event_time};

/// Bytes a read gives at most.
const READ_BYTES: usize = 4 << 20;
/// The first wait after a lost connection, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait after a lost connection.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What the loop gives.
#[derive(Debug)]
pub enum SourceEvent {
    /// Rows, bad records, and the watermark behind them if it has risen.
    Rows {
        /// The rows.
        batch: RecordBatch,
        /// What could not be decoded.
        bad: Vec<BadRecord>,
        /// The new watermark.
        watermark: Option<Watermark>,
    },
    /// The watermark has risen without rows.
    Watermark(Watermark),
    /// Every split is idle.
    Idle,
    /// A split has been read to its end; another may be asked for.
    Finished(Split),
    /// All splits have ended and there will be no more.
    End,
}

struct OpenSplit {
    split: Split,
    reader: Box<dyn SplitReader>,
    watermark: SplitWatermark,
    /// Asked for rows and had none since then.
    empty_since: Option<Instant>,
    /// When it was last asked and had none: under back-pressure, a rate limit or a pause nobody asks, so nothing becomes idle then.
    asked: Option<Instant>,
    /// When it is asked again.
    ask_at: Option<Instant>,
    idle: bool,
}

/// The source of one subtask.
pub struct SourceLoop {
    planned: Arc<PlannedSource>,
    context: ReaderContext,
    open: Vec<OpenSplit>,
    to_open: VecDeque<SplitState>,
    /// Read to their end since the last barrier.
    finished: Vec<Split>,
    /// Whether the coordinator has assigned something (even nothing) yet.
    assigned: bool,
    no_more: bool,
    ended: bool,
    next: usize,
    watermark: Watermark,
    restored_watermark: Option<Watermark>,
    idle_told: bool,
    event_time: Option<usize>,
    bound_ms: i64,
    rows_per_second: Option<f64>,
    allowed_at: Instant,
    backoff: Option<(Duration, Instant)>,
    /// Time spent in reads that gave rows, since it was taken last.
    busy: Duration,
}

impl OpenSplit {
    fn state(&self) -> Result<SplitState> {
        let watermark = self.watermark.watermark();
        Ok(SplitState {
            split: Split { id: self.split.id.clone(), position: self.reader.position()? },
            watermark_ms: (watermark > Watermark::MIN).then_some(watermark.0),
        })
    }
}

impl SourceLoop {
    /// The loop of one of `parallelism` subtasks. In a batch job there is no watermark before the end.
    pub fn new(planned: Arc<PlannedSource>, parallelism: usize, batch_job: bool, metrics: Arc<NodeMetrics>, clock: Arc<dyn Clock>) -> Result<Self> {
        let event_time = match &planned.event_time {
            Some(e) if !batch_job && e.order == Order::Bounded => {
                Some(planned.schema.arrow.index_of(&e.column).map_err(|_| Error::internal(format!("no event-time column `{}`", e.column)))?)
            }
            _ => None,
        };
        let bound_ms = planned.event_time.as_ref().map_or(0, |e| e.max_out_of_orderness.as_millis());
        #[allow(clippy::cast_precision_loss)] // A rate far beyond 2^52 rows per second is no limit.
        let rows_per_second = planned.rate_limit.map(|r| r as f64 / parallelism as f64);
        let context = ReaderContext { with_origin: planned.with_origin, metrics, clock };
        Ok(Self {
            planned,
            context,
            open: Vec::new(),
            to_open: VecDeque::new(),
            finished: Vec::new(),
            assigned: false,
            no_more: false,
            ended: false,
            next: 0,
            watermark: Watermark::MIN,
            restored_watermark: None,
            idle_told: false,
            event_time,
            bound_ms,
            rows_per_second,
            allowed_at: Instant::now(),
            backoff: None,
            busy: Duration::ZERO,
        })
    }

    /// Event time had come this far at the checkpoint that is restored: rows that were late then are late now.
    pub fn restore_watermark(&mut self, watermark: Watermark) {
        if self.event_time.is_some() {
            self.restored_watermark = Some(watermark);
        }
    }

    /// Whether event time has still to be told that it had come further before.
    #[must_use]
    pub const fn restores_watermark(&self) -> bool {
        self.restored_watermark.is_some()
    }

    /// The source.
    #[must_use]
    pub fn planned(&self) -> Arc<dyn karez_core::Source> {
        Arc::clone(&self.planned.source)
    }

    /// Takes rows of dead letters: like those of a split that holds no watermark back and moves none.
    pub fn replayed(&mut self, batch: RecordBatch, bad: &mut Vec<BadRecord>) -> Result<RecordBatch> {
        let metrics = &self.context.metrics;
        metrics.records_in.add((batch.num_rows() + bad.len()) as u64);
        let batch = match self.event_time {
            Some(column) if batch.column(column).null_count() > 0 => without_null_event_time(&batch, column, bad)?,
            _ => batch,
        };
        metrics.records_out.add(batch.num_rows() as u64);
        metrics.bytes_out.add(batch_bytes(&batch) as u64);
        Ok(batch)
    }

    /// Takes splits over.
    pub fn assign(&mut self, splits: Vec<SplitState>) {
        self.assigned = true;
        self.idle_told = false;
        self.to_open.extend(splits);
    }

    /// No split will be assigned any more.
    pub fn no_more_splits(&mut self) {
        self.assigned = true;
        self.no_more = true;
    }

    /// Ends the input here: what has not been read is left.
    pub fn drain(&mut self) {
        self.open.clear();
        self.to_open.clear();
        self.no_more = true;
    }

    /// Time spent in reads that gave rows, since the last call.
    pub fn take_busy(&mut self) -> Duration {
        std::mem::take(&mut self.busy)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// This subtask's part of a checkpoint.
    pub fn acknowledge(&mut self) -> Result<SourceAck> {
        let open = self.open.iter().map(OpenSplit::state);
        let splits = open.chain(self.to_open.iter().cloned().map(Ok)).collect::<Result<_>>()?;
        let watermark = if self.ended { Watermark::MAX } else { self.watermark };
        let watermark_ms = (watermark > Watermark::MIN).then_some(watermark.0);
        Ok(SourceAck { splits, finished: std::mem::take(&mut self.finished), watermark_ms })
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            if let Some((_, until)) = self.backoff {
                tokio::time::sleep_until(until).await;
            }
            if let Some(watermark) = self.restored_watermark.take().and_then(|w| self.rise(w)) {
                return Ok(SourceEvent::Watermark(watermark));
            }
            while let Some(SplitState { split, .. }) = self.to_open.front() {
                match self.planned.source.open(split, self.context.clone()).await {
                    Ok(reader) => {
                        if let Some(SplitState { split, watermark_ms }) = self.to_open.pop_front() {
                            let watermark = SplitWatermark::restored(self.bound_ms, watermark_ms);
                            self.open.push(OpenSplit { split, reader, watermark, empty_since: None, asked: None, ask_at: None, idle: false });
                        }
                    }
                    Err(e) => self.back_off(e)?,
                }
                if let Some((_, until)) = self.backoff {
                    tokio::time::sleep_until(until).await;
                }
            }
            if self.open.is_empty() {
                if self.no_more {
                    self.ended = true;
                    return Ok(SourceEvent::End);
                }
                if self.assigned && !self.idle_told && self.planned.source.assignment() == SplitAssignment::AllAtOnce {
                    self.idle_told = true;
                    return Ok(SourceEvent::Idle);
                }
                // Until the coordinator says something; the task drops this future then.
                std::future::pending::<()>().await;
            }
            // Also without a row: a restored split may have no more, and one that held the others back may have ended.
            if let Some(watermark) = self.risen() {
                return Ok(SourceEvent::Watermark(watermark));
            }
            if self.rows_per_second.is_some() && Instant::now() < self.allowed_at {
                self.context.metrics.throttled.add(1);
                tokio::time::sleep_until(self.allowed_at).await;
            }
            let now = Instant::now();
            let Some(at) = self.askable(now) else {
                if let Some(event) = self.mark_idle() {
                    return Ok(event);
                }
                tokio::time::sleep_until(self.wake_at(now)).await;
                continue;
            };
            let limit = self.limit();
            let started = Instant::now();
            let read = self.open[at].reader.next(limit).await;
            self.next = at + 1;
            match read {
                Ok(Read::Rows { batch, bad }) => {
                    self.backoff = None;
                    let event = self.rows(at, batch, bad);
                    self.busy += started.elapsed();
                    return event;
                }
                Ok(Read::Pending) => {
                    self.backoff = None;
                    let split = &mut self.open[at];
                    (split.empty_since, split.asked, split.idle) = (None, None, false);
                    split.ask_at = Some(Instant::now() + Duration::from_millis(split.reader.poll_interval_ms()));
                }
                Ok(Read::Nothing) => {
                    self.backoff = None;
                    let timeout = self.idle_timeout();
                    let split = &mut self.open[at];
                    let now = Instant::now();
                    let since = *split.empty_since.get_or_insert(now);
                    split.asked = Some(now);
                    let ask_at = now + Duration::from_millis(split.reader.poll_interval_ms());
                    // It is asked once more before it counts as idle.
                    let idle_at = timeout.map(|t| since + t).filter(|t| *t > now);
                    split.ask_at = Some(idle_at.map_or(ask_at, |t| t.min(ask_at)));
                    if let Some(event) = self.mark_idle() {
                        return Ok(event);
                    }
                }
                Ok(Read::End) => {
                    self.backoff = None;
                    let closed = self.open.remove(at);
                    let split = Split { id: closed.split.id, position: closed.reader.position()? };
                    self.finished.push(split.clone());
                    return Ok(SourceEvent::Finished(split));
                }
                Err(e) => {
                    self.back_off(e)?;
                    // The split is opened anew where it stood.
                    self.to_open.push_back(self.open.remove(at).state()?);
                }
            }
        }
    }

    fn back_off(&mut self, e: Error) -> Result<()> {
        if e.reach() != Reach::Connection || !e.is_retryable() {
            return Err(e);
        }
        let wait = self.backoff.map_or(FIRST_BACKOFF, |(w, _)| (w * 2).min(MAX_BACKOFF));
        self.context.metrics.retried.add(1);
        tracing::warn!(node = %self.planned.name, error = %e, wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "connection lost, trying again");
        self.backoff = Some((wait, Instant::now() + wait));
        Ok(())
    }

    fn limit(&self) -> ReadLimit {
        // Under a rate limit a read is a fiftieth of a second's rows, so that rows flow evenly.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rows = self.rows_per_second.map_or(MAX_BATCH_ROWS, |r| ((r / 50.0) as usize).clamp(1, MAX_BATCH_ROWS));
        ReadLimit { rows, bytes: READ_BYTES }
    }

    /// The next split in turn that may be asked now.
    fn askable(&self, now: Instant) -> Option<usize> {
        let n = self.open.len();
        (0..n).map(|i| (self.next + i) % n).find(|&i| self.open[i].ask_at.is_none_or(|t| t <= now))
    }

    fn wake_at(&self, now: Instant) -> Instant {
        self.open.iter().filter_map(|o| o.ask_at).min().unwrap_or(now + Duration::from_millis(100))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.planned.event_time.as_ref().and_then(|e| e.idle_timeout).map(|s| s.0)
    }

    /// Splits that had nothing for long enough no longer hold the watermark back.
    fn mark_idle(&mut self) -> Option<SourceEvent> {
        let timeout = self.idle_timeout()?;
        for split in &mut self.open {
            if let (Some(since), Some(asked)) = (split.empty_since, split.asked) {
                split.idle |= asked >= since + timeout;
            }
        }
        if self.open.iter().all(|o| o.idle) {
            if self.idle_told {
                return None;
            }
            let max = self.open.iter().map(|o| o.watermark.watermark()).max().unwrap_or(Watermark::MIN);
            if let Some(watermark) = self.rise(max) {
                return Some(SourceEvent::Watermark(watermark));
            }
            self.idle_told = true;
            return Some(SourceEvent::Idle);
        }
        self.risen().map(SourceEvent::Watermark)
    }

    /// The least watermark of the splits that are not idle, if the source's has risen to it.
    fn risen(&mut self) -> Option<Watermark> {
        let min = self.open.iter().filter(|o| !o.idle).map(|o| o.watermark.watermark()).min()?;
        let held_back = !self.to_open.is_empty();
        if held_back { None } else { self.rise(min) }
    }

    fn rise(&mut self, to: Watermark) -> Option<Watermark> {
        (self.event_time.is_some() && to > self.watermark).then(|| {
            self.watermark = to;
            self.context.metrics.watermark_ms.set(to.0);
            to
        })
    }

    fn rows(&mut self, at: usize, batch: RecordBatch, mut bad: Vec<BadRecord>) -> Result<SourceEvent> {
        let metrics = Arc::clone(&self.context.metrics);
        metrics.records_in.add((batch.num_rows() + bad.len()) as u64);
        metrics.batches_in.add(1);
        // Bytes read are the reader's to count: it alone knows how many there were before they were decoded.
        let split = &mut self.open[at];
        (split.empty_since, split.asked, split.ask_at, split.idle) = (None, None, None, false);
        self.idle_told = false;
        if let Some(rate) = self.rows_per_second {
            #[allow(clippy::cast_precision_loss)]
            let span = Duration::from_secs_f64(batch.num_rows() as f64 / rate);
            self.allowed_at = self.allowed_at.max(Instant::now()) + span;
        }
        let mut batch = batch;
        if let Some(column) = self.event_time {
            let (max, has_nulls) = max_event_time(&batch, column)?;
            if has_nulls {
                batch = without_null_event_time(&batch, column, &mut bad)?;
            }
            self.open[at].watermark.observe(max);
        }
        metrics.records_out.add(batch.num_rows() as u64);
        metrics.bytes_out.add(batch_bytes(&batch) as u64);
        Ok(SourceEvent::Rows { batch, bad, watermark: self.risen() })
    }
}

/// Rows without an event time are bad records: no window could take them.
fn without_null_event_time(batch: &RecordBatch, column: usize, bad: &mut Vec<BadRecord>) -> Result<RecordBatch> {
    let array = batch.column(column);
    let name = batch.schema_ref().field(column).name();
    for row in (0..batch.num_rows()).filter(|&r| array.is_null(r)) {
        bad.push(dead_letter::row_record(batch, row, format!("the event time `{name}` is null"))?);
    }
    let keep: BooleanArray = (0..batch.num_rows()).map(|r| Some(array.is_valid(r))).collect();
    debug_assert!(batch.schema_ref().fields().iter().filter(|f| f.name() == ORIGIN_COLUMN).count() <= 1);
    Ok(filter_record_batch(batch, &keep)?)
}
