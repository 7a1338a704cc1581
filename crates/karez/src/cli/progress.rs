//! How a run is going: a line that moves on a terminal, a log line now and then elsewhere.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use karez_core::Watermark;
use karez_runtime::report::NodeRole;
use karez_runtime::{JobHandle, JobReport};

use super::summary::duration;

/// Between two pictures of the line.
const REFRESH: Duration = Duration::from_millis(200);
/// Between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// The rate is that of so many pictures.
const RATE_WINDOW: usize = 10;

/// The line, while one is shown: log lines must not be written into it.
static LINE: OnceLock<ProgressBar> = OnceLock::new();

/// The standard error, for log lines: they push the progress line down. A job goes on when nobody takes them any more
/// (`2>&1 | head`, a full disk): there is nowhere left to say so, and tracing would panic on the error.
#[derive(Debug)]
pub(crate) struct LogOutput;

impl Write for LogOutput {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _nobody_reads = match LINE.get() {
            Some(line) => line.suspend(|| io::stderr().write_all(text)),
            None => io::stderr().write_all(text),
        };
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether there is a terminal to draw on, which the job itself does not print to.
pub(crate) fn has_line(prints: bool) -> bool {
    io::stderr().is_terminal() && !(prints && io::stdout().is_terminal())
}

/// Shows how the job is going, until it is dropped or the job ends.
pub(crate) async fn show(handle: JobHandle, line: bool) {
    let mut rate = Rate::default();
    let mut ticks = tokio::time::interval(if line { REFRESH } else { LOG_INTERVAL });
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    rate.add(0);
    loop {
        ticks.tick().await;
        let report = handle.report();
        let (rows, _) = rows(&report);
        let per_second = rate.add(rows);
        if line {
            LINE.get_or_init(new_line).set_message(text(&report, per_second));
        } else {
            tracing::info!(
                job_id = handle.id(),
                job_name = handle.name(),
                event = "JOB_PROGRESS",
                rows,
                rows_per_second = per_second,
                watermark = %watermark(&report),
                checkpoints = report.checkpoints.completed,
                "{}",
                text(&report, per_second)
            );
        }
    }
}

/// Takes the line away, so that what follows stands alone.
pub(crate) fn clear() {
    if let Some(line) = LINE.get() {
        line.finish_and_clear();
    }
}

fn new_line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
        line.set_style(style);
    }
    line
}

/// Rows taken from all sources, and given to all sinks.
pub(crate) fn rows(report: &JobReport) -> (u64, u64) {
    let sum = |role| report.nodes.iter().filter(|n| n.role == role).map(|n| n.metrics.records_in).sum();
    (sum(NodeRole::Source), sum(NodeRole::Sink))
}

/// How far event time has come in all sinks.
fn watermark(report: &JobReport) -> Watermark {
    let sinks = report.nodes.iter().filter(|n| n.role == NodeRole::Sink);
    Watermark(sinks.map(|n| n.metrics.watermark_ms).min().unwrap_or(i64::MIN))
}

/// Fits a terminal of eighty columns for as long as nothing fails.
fn text(report: &JobReport, per_second: u64) -> String {
    let (read, _) = rows(report);
    let mut text = format!(
        "{} {} rows ({}/s), watermark {}, checkpoints {}",
        report.status,
        HumanCount(read),
        HumanCount(per_second),
        to_the_second(&watermark(report).to_string()),
        report.checkpoints.completed,
    );
    if report.checkpoints.completed > 0 {
        text.push_str(&format!(" ({})", duration(report.checkpoints.last_duration_ms)));
    }
    if report.checkpoints.failed > 0 {
        text.push_str(&format!(", {} failed", report.checkpoints.failed));
    }
    if report.restarts > 0 {
        text.push_str(&format!(", restarts {}", report.restarts));
    }
    text
}

/// `2013-01-01T05:00:00.000Z` without its milliseconds; other words as they are.
fn to_the_second(time: &str) -> &str {
    time.split_once('.').map_or(time, |(seconds, _)| seconds)
}

/// Rows per second over the last few pictures.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, rows: u64) -> u64 {
        let now = Instant::now();
        self.0.push_back((now, rows));
        if self.0.len() > RATE_WINDOW {
            self.0.pop_front();
        }
        let Some((since, before)) = self.0.front() else { return 0 };
        let ms = u64::try_from(now.duration_since(*since).as_millis()).unwrap_or(u64::MAX);
        rows.saturating_sub(*before).saturating_mul(1000).checked_div(ms).unwrap_or(0)
    }
}
