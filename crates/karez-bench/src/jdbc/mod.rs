//! How fast tables of PostgreSQL are written and read, beside `psql`'s `COPY` of the same rows: through the contracts of the connector, without an engine
//! around, since that is measured by `speed`.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{CommitPermit, SinkRunContext, WriterContext};
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{Committable, Connector, Epoch, Error, Generation, Read, Result, RunId, SinkContext, SourceContext, StreamSchema, SystemClock};
use serde_json::{Value, json};

const BATCH_ROWS: usize = 8_192;

/// Rows per second of one way.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was done.
    pub name: &'static str,
    /// How fast.
    pub rows_per_second: f64,
    /// As a part of what `psql` did in the same round; itself 1.
    pub of_psql: f64,
}

/// Measures all ways, once each, on an empty table that is dropped afterwards.
pub async fn measure(url: &str, rows: usize) -> Result<Vec<Figure>> {
    let batches = batches(rows)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows");
    let file = file.display();
    let created = "DROP TABLE IF EXISTS karez_bench; CREATE TABLE karez_bench (id bigint PRIMARY KEY, who bigint, amount numeric(12,2), name text, \
                   url text, at timestamptz, flag boolean, score double precision)";
    psql(url, created)?;
    // A first load fills the file that `psql` copies from, and warms everything up.
    write(url, &batches, "at-least-once").await?;
    psql(url, &format!("\\copy karez_bench to '{file}'"))?;
    let per_second = |took: Duration| rows as f64 / took.as_secs_f64();

    psql(url, "TRUNCATE karez_bench; CHECKPOINT")?;
    let copied = per_second(timed(|| psql(url, &format!("\\copy karez_bench from '{file}'")))?);
    let mut figures = vec![Figure { name: "psql COPY FROM", rows_per_second: copied, of_psql: 1.0 }];
    for (name, guarantee) in [("append at-least-once", "at-least-once"), ("append exactly once", "transactional")] {
        psql(url, "TRUNCATE karez_bench; CHECKPOINT")?;
        let written = per_second(write(url, &batches, guarantee).await?);
        figures.push(Figure { name, rows_per_second: written, of_psql: written / copied });
    }
    psql(url, "VACUUM ANALYZE karez_bench; CHECKPOINT")?;
    let read = per_second(timed(|| psql(url, &format!("\\copy karez_bench to '{file}'")))?);
    figures.push(Figure { name: "psql COPY TO", rows_per_second: read, of_psql: 1.0 });
    let (took, count) = read_all(url).await?;
    if count != rows {
        return Err(Error::internal(format!("{count} rows were read of {rows}")));
    }
    figures.push(Figure { name: "table source", rows_per_second: per_second(took), of_psql: per_second(took) / read });
    psql(url, "DROP TABLE karez_bench")?;
    Ok(figures)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let since = Instant::now();
    work()?;
    Ok(since.elapsed())
}

fn psql(url: &str, command: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", url]);
    for part in command.split("; ") {
        psql.args(["-c", part]);
    }
    let done = psql.stdin(Stdio::null()).output().map_err(|e| Error::external(format!("psql: {e}")))?;
    if done.status.success() { Ok(()) } else { Err(Error::external(format!("psql: {}", String::from_utf8_lossy(&done.stderr)))) }
}

fn batches(rows: usize) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for first in (0..rows).step_by(BATCH_ROWS) {
        let ids: Vec<i64> = (first..rows.min(first + BATCH_ROWS)).map(|i| i as i64).collect();
        let scattered = |i: &i64| i.wrapping_mul(2_654_435_761) % 1_000_003;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("who", Arc::new(Int64Array::from_iter_values(ids.iter().map(scattered)))),
            ("amount", Arc::new(Decimal128Array::from_iter_values(ids.iter().map(|i| i128::from(scattered(i)))).with_precision_and_scale(12, 2)?)),
            ("name", Arc::new(StringArray::from_iter_values(ids.iter().map(|i| format!("customer {}", scattered(i)))))),
            ("url", Arc::new(StringArray::from_iter_values(ids.iter().map(|i| format!("https://example.org/shop/item/{i}?from=mail"))))),
            ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(ids.iter().map(|i| 1_700_000_000_000_000 + i * 1_001)).with_timezone("UTC"))),
            ("flag", Arc::new(BooleanArray::from_iter(ids.iter().map(|i| Some(i % 3 == 0))))),
            ("score", Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| scattered(i) as f64 / 7.0)))),
            ("id", Arc::new(Int64Array::from(ids.clone()))),
        ];
        batches.push(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))?);
    }
    Ok(batches)
}

async fn write(url: &str, batches: &[RecordBatch], guarantee: &str) -> Result<Duration> {
    let Some(first) = batches.first() else { return Ok(Duration::ZERO) };
    let input = StreamSchema::append_only(first.schema());
    let config = json!({ "url": url, "table": "karez_bench", "guarantee": guarantee });
    let sink = JdbcConnector.sink(SinkContext { node: "out", config: &config, input: &input, exactly_once: false })?;
    let run =
        SinkRunContext { run: RunId("bench".into()), generation: Generation(generation()), job: "bench".into(), node: "out".into(), scheduled_ms: 0 };
    sink.prepare(&run, &[]).await?;
    let context = WriterContext {
        run: run.clone(),
        subtask: 0,
        parallelism: 1,
        schema: input,
        metrics: Arc::new(NodeMetrics::default()),
        clock: Arc::new(SystemClock),
    };
    let mut writer = sink.writer(context, Vec::new()).await?;
    let mut committer = sink.committer(&run).await?;
    let since = Instant::now();
    for batch in batches {
        writer.write(batch.clone()).await?;
    }
    let payloads = writer.prepare_commit(Epoch(1), true).await?;
    let rejects = writer.take_rejects();
    if let Some(bad) = rejects.first() {
        return Err(Error::internal(format!("{} rows refused, first: {}", rejects.len(), bad.reason)));
    }
    if let Some(committer) = &mut committer {
        let committables: Vec<Committable> = payloads.into_iter().map(|payload| Committable { epoch: Epoch(1), subtask: 0, payload }).collect();
        committer.commit(&CommitPermit::from_completed_manifest(Epoch(1)), &committables).await?;
    }
    Ok(since.elapsed())
}

/// Each load is a newer start of the same run.
fn generation() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0))
}

async fn read_all(url: &str) -> Result<(Duration, usize)> {
    let config = json!({ "url": url, "table": "karez_bench" });
    let source = JdbcConnector.source(SourceContext { node: "in", config: &config, schema: None, batch: true })?;
    let mut splits = source.enumerator(None).await?.discover().await?.splits;
    let split = splits.pop().unwrap_or(karez_core::Split { id: "0".into(), position: Value::Null });
    let context = ReaderContext { with_origin: false, metrics: Arc::new(NodeMetrics::default()), clock: Arc::new(SystemClock) };
    let since = Instant::now();
    let mut reader = source.open(&split, context).await?;
    let mut rows = 0;
    loop {
        match reader.next(ReadLimit { rows: BATCH_ROWS, bytes: 4 << 20 }).await? {
            Read::Rows { batch, .. } => rows += batch.num_rows(),
            Read::End => return Ok((since.elapsed(), rows)),
            Read::Nothing | Read::Pending => {}
        }
    }
}
