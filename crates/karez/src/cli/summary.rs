//! What a run came to: a table of its nodes on the standard error, or log events.

use comfy_table::{CellAlignment, ContentArrangement};
use indicatif::{HumanBytes, HumanCount};
use karez_runtime::{JobHandle, JobReport};

use super::connectors::table;
use super::log::LogFormat;
use super::output::note;
use super::progress::rows;

const HEADER: [&str; 11] =
    ["node", "records in", "records out", "late", "dropped", "skipped", "dead-lettered", "bytes in", "busy", "idle", "back-pressured"];

/// Tells how it ended.
pub(crate) fn print(handle: &JobHandle, report: &JobReport, format: LogFormat) {
    match format {
        LogFormat::Text => note(text(handle, report)),
        LogFormat::Json => events(handle, report),
    }
}

fn text(handle: &JobHandle, report: &JobReport) -> String {
    let mut nodes = table(HEADER);
    nodes.set_content_arrangement(ContentArrangement::Disabled);
    for column in nodes.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for node in &report.nodes {
        let m = &node.metrics;
        let counts = [m.records_in, m.records_out, m.late, m.dropped, m.skipped, m.dead_lettered].map(|n| HumanCount(n).to_string());
        let times = [m.busy_ms, m.idle_ms, m.backpressured_ms].map(duration);
        let cells = std::iter::once(node.name.clone()).chain(counts).chain([HumanBytes(m.bytes_in).to_string()]).chain(times);
        nodes.add_row(cells.collect::<Vec<_>>());
    }
    let (read, written) = rows(report);
    let ms = u64::try_from(report.running_ms).unwrap_or(0);
    let per_second = read.saturating_mul(1000).checked_div(ms).unwrap_or(0);
    let checkpoints = &report.checkpoints;
    let mut out = format!("{nodes}\n");
    out.push_str(&format!(
        "job {} (run {}): {} after {}, {} rows read ({}/s), {} written\n",
        handle.id(),
        handle.run(),
        report.status,
        duration(ms),
        HumanCount(read),
        HumanCount(per_second),
        HumanCount(written),
    ));
    out.push_str(&format!("checkpoints: {} completed, {} failed", checkpoints.completed, checkpoints.failed));
    if checkpoints.completed > 0 {
        let (took, bytes) = (duration(checkpoints.last_duration_ms), HumanBytes(checkpoints.last_bytes));
        out.push_str(&format!("; the last took {took} and {bytes}, all together {}", HumanBytes(checkpoints.total_bytes)));
    }
    out.push_str(&format!("; restarts: {}", report.restarts));
    if let Some(store) = &report.object_store {
        let [calls, retried, timed_out] = [store.calls, store.retried, store.timed_out].map(HumanCount);
        out.push_str(&format!("\nobject store: {calls} requests, {retried} of them sent again; {timed_out} not answered in time"));
    }
    if let Some(failure) = &checkpoints.last_failure {
        out.push_str(&format!("\nthe last failed checkpoint: {failure}"));
    }
    out
}

fn events(handle: &JobHandle, report: &JobReport) {
    for node in &report.nodes {
        let m = &node.metrics;
        tracing::info!(
            job_id = handle.id(),
            job_name = handle.name(),
            event = "NODE_SUMMARY",
            node = node.name,
            records_in = m.records_in,
            records_out = m.records_out,
            late = m.late,
            dropped = m.dropped,
            skipped = m.skipped,
            dead_lettered = m.dead_lettered,
            bytes_in = m.bytes_in,
            busy_ms = m.busy_ms,
            idle_ms = m.idle_ms,
            backpressured_ms = m.backpressured_ms,
            "figures of a node"
        );
    }
    let (read, written) = rows(report);
    tracing::info!(
        job_id = handle.id(),
        job_name = handle.name(),
        event = "JOB_SUMMARY",
        run = %handle.run(),
        status = %report.status,
        running_ms = report.running_ms,
        rows_read = read,
        rows_written = written,
        checkpoints = report.checkpoints.completed,
        checkpoints_failed = report.checkpoints.failed,
        checkpoint_duration_ms = report.checkpoints.last_duration_ms,
        checkpoint_bytes = report.checkpoints.last_bytes,
        object_store_calls = report.object_store.as_ref().map(|s| s.calls),
        object_store_retried = report.object_store.as_ref().map(|s| s.retried),
        object_store_timed_out = report.object_store.as_ref().map(|s| s.timed_out),
        restarts = report.restarts,
        "figures of the job"
    );
}

/// Milliseconds for a person.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} m {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}
