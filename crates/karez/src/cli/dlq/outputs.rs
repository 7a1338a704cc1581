//! The sinks that a job's dead letters go to, and what they hold.

use std::collections::HashSet;
use std::time::Duration;

use karez_core::source::ReadLimit;
use karez_core::{BadRecord, Boundedness, Clock, Letter, Read, Registry, Source, SourceContext, Split, SystemClock, dead_letter};
use karez_graph::stream_graph::ERRORS_PORT;
use karez_graph::{Implementation, NodeKind, StreamGraph};
use serde_json::Value;
use std::sync::Arc;

use super::super::Failure;
use super::Opened;
use super::no_letters::NoLetters;

/// Different letters looked at, at most: their ids are in memory, since a sink that is at least once may hold one twice.
const MAX_LETTERS: usize = 5_000_000;

/// A sink that letters go to.
struct Output<'a> {
    node: &'a str,
    connector: &'a str,
    config: &'a Value,
}

/// Gives each letter of the job to `each`, in the order in which the outputs hold them, one that stands there twice once, until it answers `false`. What
/// is no letter is told, and answered.
pub(super) fn read(job: &Opened, each: &mut dyn FnMut(Letter) -> bool) -> Result<NoLetters, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::failed(e.to_string()))?;
    let mut no_letters = NoLetters::default();
    let read = runtime.block_on(read_all(job, each, &mut no_letters));
    runtime.shutdown_background();
    no_letters.tell();
    read.map(|()| no_letters)
}

async fn read_all(job: &Opened, each: &mut dyn FnMut(Letter) -> bool, no_letters: &mut NoLetters) -> Result<(), Failure> {
    let registry = karez::registry();
    let mut seen = HashSet::new();
    for output in outputs(&job.file.graph)? {
        let source = source(&registry, &output)?;
        let Some(source) = source else { continue };
        let mut go_on = true;
        let mut of_the_job = |row: Result<Letter, BadRecord>| {
            match row {
                Err(bad) => no_letters.add(output.node, bad),
                // An output may be shared by jobs.
                Ok(letter) if letter.job == job.id() && seen.insert(letter.id.clone()) => go_on = each(letter),
                Ok(_) => {}
            }
            go_on && seen.len() < MAX_LETTERS
        };
        read_source(source.as_ref(), &mut of_the_job).await.map_err(|e| Failure::failed(format!("error: {}: {e}", output.node)))?;
        if !go_on {
            return Ok(());
        }
        if seen.len() >= MAX_LETTERS {
            return Err(Failure::failed(format!("error: there are more than {MAX_LETTERS} dead letters; query the output itself")));
        }
    }
    Ok(())
}

fn outputs(graph: &StreamGraph) -> Result<Vec<Output<'_>>, Failure> {
    let mut outputs: Vec<Output<'_>> = Vec::new();
    let mut others = Vec::new();
    for edge in graph.edges.iter().filter(|e| e.port == ERRORS_PORT) {
        let Some(node) = graph.nodes.iter().find(|n| n.name == edge.to) else { continue };
        match &node.kind {
            NodeKind::Sink(Implementation::Named { name, config }) if !outputs.iter().any(|o| o.node == node.name) => {
                outputs.push(Output { node: &node.name, connector: name, config });
            }
            NodeKind::Sink(_) => {}
            _ => others.push(node.name.as_str()),
        }
    }
    if outputs.is_empty() {
        let message = match others.first() {
            Some(other) => format!("the dead letters of this job go to `{other}`, which is no sink: what comes out behind it is not read back"),
            None => "this job has no dead-letter output: set `onError: dead-letter` on a node, and a sink in `deadLetter`".into(),
        };
        return Err(Failure::usage(format!("error: {message}")));
    }
    Ok(outputs)
}

/// What reads an output back; `None` where it holds nothing yet.
fn source(registry: &Registry, output: &Output<'_>) -> Result<Option<Arc<dyn Source>>, Failure> {
    let Output { node, connector: name, config } = output;
    let failed = |e: &dyn std::fmt::Display| Failure::usage(format!("error: the dead letters in `{node}` cannot be read back: {e}"));
    let connector = registry.connector(name).map_err(|e| failed(&e))?;
    let Some(back) = connector.read_back(config).map_err(|e| failed(&e))? else {
        let readable = "a `file` in ndjson, csv or parquet, a `jdbc` table, a `kafka` topic";
        return Err(failed(&format_args!("connector `{name}` does not keep what it is given, or cannot read it; send dead letters to {readable}")));
    };
    if back.nothing_yet {
        return Ok(None);
    }
    let schema = dead_letter::read_schema(back.binary_as_hex);
    let context = SourceContext { node, config: &back.config, schema: Some(&schema), batch: true };
    let source = connector.source(context).map_err(|e| failed(&e))?;
    if source.boundedness() == Boundedness::Unbounded {
        return Err(failed(&"its source does not end"));
    }
    Ok(Some(source))
}

/// Reads a source that ends, once, split by split. Gives letters, and what is no letter.
async fn read_source(source: &dyn Source, each: &mut dyn FnMut(Result<Letter, BadRecord>) -> bool) -> karez_core::Result<()> {
    let mut enumerator = source.enumerator(None).await?;
    loop {
        let found = enumerator.discover().await?;
        for split in &found.splits {
            if !read_split(source, split, each).await? {
                return Ok(());
            }
        }
        if found.done {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(enumerator.interval_ms().min(1_000))).await;
    }
}

async fn read_split(source: &dyn Source, split: &Split, each: &mut dyn FnMut(Result<Letter, BadRecord>) -> bool) -> karez_core::Result<bool> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let context = karez_core::source::ReaderContext { with_origin: true, metrics: Arc::default(), clock };
    let mut reader = source.open(split, context).await?;
    loop {
        match reader.next(ReadLimit { rows: 1_024, bytes: 4 << 20 }).await? {
            Read::Rows { batch, bad } => {
                for row in bad.into_iter().map(Err).chain(dead_letter::from_batch(&batch)?) {
                    if !each(row) {
                        return Ok(false);
                    }
                }
            }
            Read::End => return Ok(true),
            Read::Nothing | Read::Pending => tokio::time::sleep(Duration::from_millis(reader.poll_interval_ms())).await,
        }
    }
}
