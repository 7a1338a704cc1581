//! Runs a plan on the engine: stopped, cancelled, failed and restored as planned.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use karez_core::config::{ByteSize, Span};
use karez_graph::settings::{Delivery, JobType, RestartStrategy, StateBackendKind};
use karez_graph::{EventTime, Implementation, JobGraph, JobSettings, OnError, Order, RequestedExchange, StreamGraph, StreamGraphBuilder};
use karez_runtime::checkpoint::Start;
use karez_runtime::{Durability, JobHandle, JobOptions, JobStatus, start};
use serde_json::{Value as Json, json};

use super::plan::{Aggregate, End, Faults, Input, NodePlan, OperatorPlan, Plan, RunPlan, Spread, Window};
use super::sink::Collect;
use super::source::RandomSource;
use super::value::Value;
use super::world::{Tally, World};

/// Longer than any of these jobs takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The rows of each sink, sorted.
pub async fn rows(plan: &Arc<Plan>, tally: &Tally) -> Result<BTreeMap<String, Vec<Vec<Value>>>, String> {
    let world = World::new(plan);
    let folder = folder();
    let mut how = Start::Resume;
    for (n, run) in plan.runs.iter().enumerate() {
        world.begin(run);
        let at = |e: String| format!("run {n}: {e}");
        let ended = tokio::time::timeout(PATIENCE, one_run(&world, run, folder.path(), how.clone())).await;
        match ended.map_err(|_| at(format!("not over after {PATIENCE:?}")))?.map_err(at)? {
            Ended::Completed => break,
            Ended::Early(savepoint) => how = savepoint.map_or(Start::Resume, Start::FromSavepoint),
        }
    }
    let mut tables = BTreeMap::new();
    for (name, store) in &world.stores {
        let (rows, retractions) = store.table().map_err(|e| format!("{name}: {e}"))?;
        world.tally.rows.fetch_add(rows.len(), SeqCst);
        if plan.sinks.iter().any(|s| s.name == *name && s.input.port.name == "late") {
            world.tally.late.fetch_add(rows.len(), SeqCst);
        }
        world.tally.retractions.fetch_add(retractions, SeqCst);
        tables.insert(name.clone(), rows);
    }
    tally.add(&world.tally);
    Ok(tables)
}

/// In memory where the machine has such a folder: each checkpoint syncs a dozen files, and what a disk does is not what is shown here.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

enum Ended {
    Completed,
    /// With the savepoint to go on from, if there is one.
    Early(Option<String>),
}

async fn one_run(world: &Arc<World>, run: &RunPlan, folder: &Path, how: Start) -> Result<Ended, String> {
    let graph = job_graph(world, run)?;
    let options = JobOptions::new(Some(Durability { state_dir: folder.join("state"), start: how }));
    let handle = start(graph, options).await.map_err(|e| format!("not started: {e}"))?;
    let savepoint = end(world, run, &handle).await?;
    let outcome = handle.wait().await;
    let report = handle.report();
    world.tally.checkpoints.fetch_add(usize::try_from(report.checkpoints.completed).unwrap(), SeqCst);
    world.tally.starts.fetch_add(usize::try_from(report.restarts).unwrap(), SeqCst);
    match (outcome.status, &outcome.error) {
        (JobStatus::Completed, _) => Ok(Ended::Completed),
        (JobStatus::Stopped | JobStatus::Cancelled, _) => Ok(Ended::Early(savepoint)),
        (status, error) => Err(format!("{status}: {}", error.as_ref().map_or_else(String::new, ToString::to_string))),
    }
}

/// Ends the run as planned, unless it is over before.
async fn end(world: &World, run: &RunPlan, handle: &JobHandle) -> Result<Option<String>, String> {
    let (End::Stop(after) | End::Cancel(after) | End::Savepoint(after)) = run.end else { return Ok(None) };
    let mut given = world.given.subscribe();
    tokio::select! {
        reached = given.wait_for(|n| *n >= after) => drop(reached),
        _ = handle.wait() => return Ok(None),
    }
    loop {
        let ended = match run.end {
            End::Savepoint(_) => handle.stop_with_savepoint(None).await.map(Some),
            End::Stop(_) => handle.stop().await.map(|()| None),
            End::Cancel(_) | End::Complete => {
                handle.cancel();
                return Ok(None);
            }
        };
        match ended {
            Ok(savepoint) => {
                world.tally.savepoints.fetch_add(usize::from(savepoint.is_some()), SeqCst);
                return Ok(savepoint.map(|p| p.display().to_string()));
            }
            // It is over, or it has failed and is about to be restarted.
            Err(_) if handle.status().is_final() => return Ok(None),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

pub fn job_graph(world: &Arc<World>, run: &RunPlan) -> Result<JobGraph, String> {
    let graph = stream_graph(&world.plan, run).build().map_err(|e| format!("not built: {e}"))?;
    // A graph is plain data: it is the same read back.
    let text = serde_json::to_string(&graph).map_err(|e| e.to_string())?;
    let graph: StreamGraph = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let registry = karez::registry().with_connector(RandomSource(Arc::clone(world))).with_connector(Collect(Arc::clone(world)));
    karez_graph::plan(&graph, &registry).map_err(|e| format!("not planned: {e}"))
}

fn settings(plan: &Plan, run: &RunPlan) -> JobSettings {
    let mut settings = JobSettings { id: "random".into(), name: "random".into(), ..JobSettings::default() };
    settings.job_type = if plan.batch { JobType::Batch } else { JobType::Streaming };
    settings.max_parallelism = plan.key_groups;
    settings.delivery = Delivery::ExactlyOnce;
    settings.restart = RestartStrategy::FixedDelay { attempts: 100, delay: Span::millis(1) };
    settings.state.backend = if run.disk { StateBackendKind::Disk } else { StateBackendKind::Memory };
    settings.checkpoint.interval = Span::millis(run.checkpoint_interval_ms);
    settings.checkpoint.retained = run.retained;
    settings.buffer_timeout = Span::millis(run.buffer_timeout_ms);
    let buffer = &mut settings.resources.buffer;
    (buffer.source_buffer, buffer.sink_buffer, buffer.bytes) = (run.queue_batches[0], run.queue_batches[1], ByteSize(run.queue_bytes));
    settings
}

fn stream_graph(plan: &Plan, run: &RunPlan) -> StreamGraphBuilder {
    let mut graph = StreamGraph::builder(settings(plan, run));
    for (i, source) in plan.sources.iter().enumerate() {
        let event_time = EventTime {
            column: super::plan::EVENT_TIME.into(),
            max_out_of_orderness: Span::millis(u64::try_from(source.out_of_orderness_ms).unwrap()),
            idle_timeout: None,
            order: if source.in_order { Order::Bounded } else { Order::None },
        };
        graph = graph
            .add_source(&source.name, Implementation::named("random", json!({ "source": i })))
            .parallelism(source.level.subtasks(run))
            .event_time(event_time);
    }
    for node in &plan.nodes {
        let (name, config) = operator(node);
        let on_error = match node.faults {
            Faults::None => OnError::Fail,
            Faults::Skip => OnError::Skip,
            Faults::DeadLetter => OnError::DeadLetter,
        };
        graph = graph.add_operator(&node.name, Implementation::named(name, config)).parallelism(node.level.subtasks(run)).on_error(on_error);
        graph = node.inputs.iter().fold(graph, |graph, input| connect(graph, input, &node.name));
    }
    for (i, sink) in plan.sinks.iter().enumerate() {
        graph = graph.add_sink(&sink.name, Implementation::named("collect", json!({ "sink": i }))).parallelism(sink.level.subtasks(run));
        graph = connect(graph, &sink.input, &sink.name);
    }
    graph
}

fn connect(graph: StreamGraphBuilder, input: &Input, to: &str) -> StreamGraphBuilder {
    let graph = graph.connect_port(&input.port.node, &input.port.name, to);
    match &input.exchange {
        None => graph,
        Some(Spread::Rebalance) => graph.exchange(RequestedExchange::Rebalance),
        Some(Spread::Global) => graph.exchange(RequestedExchange::Global),
        Some(Spread::Hash(column)) => graph.exchange(RequestedExchange::Hash(vec![column.clone()])),
    }
}

/// The type of an operator and its options.
fn operator(node: &NodePlan) -> (&'static str, Json) {
    match &node.operator {
        OperatorPlan::Identity => ("map", json!({})),
        OperatorPlan::Map(items) => {
            ("select", json!({ "columns": items.iter().map(|(name, e)| format!("{} AS {name}", e.sql())).collect::<Vec<_>>() }))
        }
        OperatorPlan::Filter(predicate) => ("filter", json!({ "where": predicate.sql() })),
        OperatorPlan::FlatMap { list, alias, keep_empty } => {
            ("flat-map", json!({ "unnest": node.names(&[*list])[0], "as": alias, "keepEmpty": keep_empty }))
        }
        OperatorPlan::Union => ("union", json!({})),
        OperatorPlan::Split { routes, all, drops } => {
            let routes: Json = routes.iter().map(|(name, p)| (name.clone(), Json::from(p.sql()))).collect();
            let (mode, otherwise) = (if *all { "all" } else { "first" }, if *drops { "drop" } else { "main" });
            ("route", json!({ "routes": routes, "mode": mode, "otherwise": otherwise }))
        }
        OperatorPlan::Window { keys, window, lateness_ms, with_time, aggregates } => {
            let window = match window {
                Window::Sliding { size_ms, slide_ms, offset_ms } if size_ms == slide_ms => {
                    json!({ "type": "tumbling", "size": size_ms, "offset": offset_ms })
                }
                Window::Sliding { size_ms, slide_ms, offset_ms } => {
                    json!({ "type": "sliding", "size": size_ms, "slide": slide_ms, "offset": offset_ms })
                }
                Window::Session { gap_ms } => json!({ "type": "session", "gap": gap_ms }),
                Window::Count { rows } => json!({ "type": "count", "size": rows }),
            };
            let config = json!({
                "keyBy": node.names(keys), "window": window, "aggregates": texts(aggregates), "allowedLateness": lateness_ms, "windowTime": with_time
            });
            ("window-aggregate", config)
        }
        OperatorPlan::Aggregate { keys, aggregates } => ("aggregate", json!({ "keyBy": node.names(keys), "aggregates": texts(aggregates) })),
        OperatorPlan::Deduplicate { keys, last } => {
            ("deduplicate", json!({ "keyBy": node.names(keys), "keep": if *last { "last" } else { "first" } }))
        }
    }
}

fn texts(aggregates: &[(String, Aggregate)]) -> Json {
    aggregates.iter().map(|(name, a)| (name.clone(), Json::from(a.sql()))).collect()
}
