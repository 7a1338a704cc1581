//! A process of a job at its source: splits are discovered and read, as the engine does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use karez_core::metrics::NodeMetrics;
use karez_core::source::{ReadLimit, ReaderContext};
use karez_core::{Error, Read, Source, SourceContext, Split, SplitReader, SystemClock};

use super::{End, as_lines, rows_schema};

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn plan_source<E: End>(end: &E, config: &serde_json::Value) -> Result<Arc<dyn Source>, String> {
    let schema = rows_schema();
    let schema = end.declares_schema().then_some(&schema);
    end.connector().source(SourceContext { node: "in", config, schema, batch: true }).map_err(|e| e.to_string())
}

/// The splits there are. A source that does not end by itself is asked once.
pub async fn splits(source: &dyn Source) -> Result<Vec<Split>, Error> {
    let mut enumerator = source.enumerator(None).await?;
    let mut splits = Vec::new();
    loop {
        let found = enumerator.discover().await?;
        splits.extend(found.splits);
        if found.done {
            return Ok(splits);
        }
        tokio::time::sleep(Duration::from_millis(enumerator.interval_ms().min(100))).await;
    }
}

pub async fn open(source: &dyn Source, split: &Split) -> Result<Box<dyn SplitReader>, Error> {
    let context = ReaderContext { with_origin: false, metrics: Arc::new(NodeMetrics::default()), clock: Arc::new(SystemClock) };
    source.open(split, context).await
}

/// The next rows; `None` at the end of the split.
pub async fn next(reader: &mut dyn SplitReader, rows: usize) -> Result<Option<RecordBatch>, Error> {
    let since = Instant::now();
    loop {
        match reader.next(ReadLimit { rows, bytes: 8 << 20 }).await? {
            Read::Rows { batch, bad } => {
                assert!(bad.is_empty(), "{bad:?}");
                return Ok(Some(batch));
            }
            Read::End => return Ok(None),
            Read::Nothing | Read::Pending => {
                assert!(since.elapsed() < PATIENCE, "neither rows nor the end come");
                tokio::time::sleep(Duration::from_millis(reader.poll_interval_ms())).await;
            }
        }
    }
}

/// All batches of all splits.
pub async fn read_all(source: &dyn Source, rows: usize) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    for split in splits(source).await? {
        let mut reader = open(source, &split).await?;
        while let Some(batch) = next(reader.as_mut(), rows).await? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// What an end's source reads of its target, as lines by id.
pub async fn read<E: End>(end: &E) -> Vec<String> {
    let source = plan_source(end, &end.source()).unwrap();
    as_lines(&read_all(source.as_ref(), 1_000).await.unwrap())
}
