//! From a job graph to tasks: queues between them, operators with their state, writers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use karez_core::async_operator::AsyncContext;
use karez_core::metrics::NodeMetrics;
use karez_core::sink::{SinkRunContext, WriterContext};
use karez_core::{CheckpointId, Clock, Error, Operator, OperatorContext, Result};
use karez_graph::{Exchange, JobGraph, JobVertex, Overflow, PlannedOperator, Port};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use crate::exchange::{Inputs, OutputGate, QueueLimit, Receiver, Sender, queue};
use crate::report::JobMetrics;
use crate::state::{MemoryBudget, OperatorState};
use crate::task::chain::{Chain, NodeGates, Running, Slot};
use crate::task::in_flight::Stage;
use crate::task::reject::Rejects;
use crate::task::replay::Replays;
use crate::task::sink::SinkDriver;
use crate::task::source::SourceLoop;
use crate::task::{Command, Head, SourceHead, Task, TaskEvent, TaskId, TaskMemory};

/// Makes and restores state, and gives writers theirs.
pub(super) trait Restore: Send {
    /// The state store of an operator's subtask.
    fn store(&mut self, node: &str, subtask: usize, parallelism: usize) -> Result<OperatorState>;

    /// What a sink's subtask goes on with.
    fn writer_state(&mut self, node: &str, subtask: usize) -> Vec<Value>;
}

/// What all tasks of a job share.
pub(super) struct Shared<'a> {
    /// The job.
    pub(super) graph: &'a JobGraph,
    /// Its counters.
    pub(super) metrics: &'a JobMetrics,
    /// Processing time.
    pub(super) clock: Arc<dyn Clock>,
    /// Its memory.
    pub(super) budget: Arc<MemoryBudget>,
    /// Who writes, but for the node's name.
    pub(super) run: SinkRunContext,
    /// The checkpoint before the first of this start.
    pub(super) last_checkpoint: CheckpointId,
    /// Leave state behind that no operator asks for.
    pub(super) allow_non_restored_state: bool,
    /// To the coordinator.
    pub(super) events: mpsc::UnboundedSender<TaskEvent>,
}

/// The tasks of a job and the way to command them.
pub(super) type Tasks = Vec<(Task, mpsc::UnboundedSender<Command>)>;

/// Makes all tasks; opens the writers.
pub(super) async fn build(shared: &Shared<'_>, restore: &mut dyn Restore) -> Result<Tasks> {
    let mut wiring = Wiring::new(shared.graph);
    let mut tasks = Vec::new();
    for (index, vertex) in shared.graph.vertices.iter().enumerate() {
        for subtask in 0..vertex.parallelism {
            tasks.push(task(shared, &mut wiring, restore, index, vertex, subtask).await?);
        }
    }
    Ok(tasks)
}

/// The queues of the whole job, taken apart by the tasks at their ends.
struct Wiring {
    senders: HashMap<(usize, usize), Vec<Sender>>,
    receivers: HashMap<TaskId, Vec<(usize, Receiver)>>,
    arrived: HashMap<TaskId, Arc<Notify>>,
}

impl Wiring {
    fn new(graph: &JobGraph) -> Self {
        let mut wiring = Self { senders: HashMap::new(), receivers: HashMap::new(), arrived: HashMap::new() };
        let buffer = &graph.settings.resources.buffer;
        let bytes = usize::try_from(buffer.bytes.0).unwrap_or(usize::MAX);
        for (e, edge) in graph.edges.iter().enumerate() {
            let (from, to) = (&graph.vertices[edge.from], &graph.vertices[edge.to]);
            let batches = if from.source.is_some() { buffer.source_buffer } else { buffer.sink_buffer };
            let limit = QueueLimit { batches: batches.max(1), bytes };
            for producer in 0..from.parallelism {
                let consumers = match edge.exchange {
                    Exchange::Forward => producer..producer + 1,
                    _ => 0..to.parallelism,
                };
                for consumer in consumers {
                    let id = TaskId { vertex: edge.to, subtask: consumer };
                    let arrived = wiring.arrived.entry(id).or_default();
                    let (sender, receiver) = queue(limit, Arc::clone(arrived));
                    wiring.senders.entry((e, producer)).or_default().push(sender);
                    wiring.receivers.entry(id).or_default().push((edge.input, receiver));
                }
            }
        }
        wiring
    }

    /// The outputs of a node of a vertex.
    fn gates(&mut self, shared: &Shared<'_>, vertex: usize, node: &str, subtask: usize, overflow: Overflow) -> NodeGates {
        let mut gates = NodeGates::default();
        let metrics = shared.metrics.node(node);
        for (e, edge) in shared.graph.edges.iter().enumerate().filter(|(_, e)| e.from == vertex && e.node == node) {
            let Some(senders) = self.senders.remove(&(e, subtask)) else { continue };
            let overflow = if edge.port == Port::Errors { Overflow::Buffer } else { overflow };
            let gate = OutputGate::new(&edge.exchange, senders, subtask, shared.graph.settings.max_parallelism, overflow, Arc::clone(&metrics));
            match edge.port {
                Port::Output(port) => gates.ports.push((port, gate)),
                Port::Errors => gates.errors.push(gate),
            }
        }
        gates
    }
}

async fn task(
    shared: &Shared<'_>,
    wiring: &mut Wiring,
    restore: &mut dyn Restore,
    index: usize,
    vertex: &JobVertex,
    subtask: usize,
) -> Result<(Task, mpsc::UnboundedSender<Command>)> {
    let id = TaskId { vertex: index, subtask };
    let job: Arc<str> = shared.graph.settings.id.as_str().into();
    let batch_job = shared.graph.settings.job_type == karez_graph::settings::JobType::Batch;
    let head = match &vertex.source {
        Some(source) => {
            let metrics = shared.metrics.node(&source.name);
            Head::Source(Box::new(SourceHead {
                source: SourceLoop::new(Arc::clone(source), vertex.parallelism, batch_job, Arc::clone(&metrics), Arc::clone(&shared.clock))?,
                name: source.name.clone(),
                gates: wiring.gates(shared, index, &source.name, subtask, source.overflow),
                rejects: Rejects::new(source.on_error, Arc::clone(&job), &shared.run, &source.name, subtask),
                metrics,
            }))
        }
        None => {
            let receivers = wiring.receivers.remove(&id).ok_or_else(|| Error::internal(format!("vertex `{}` has no input", vertex.name)))?;
            Head::Inputs(Inputs::new(receivers, wiring.arrived.remove(&id).unwrap_or_default()))
        }
    };
    let accounts = vertex.operators.iter().map(|o| shared.budget.account(&o.name)).collect();
    let mut slots = Vec::new();
    for planned in &vertex.operators {
        let metrics = shared.metrics.node(&planned.name);
        let operator = match planned.spec.asynchronous() {
            None => Running::Sync(synchronous(shared, restore, planned, subtask, vertex.parallelism, &metrics).map_err(|e| e.at(&planned.name))?),
            Some(spec) => {
                let (metrics, clock) = (Arc::clone(&metrics), Arc::clone(&shared.clock));
                let context = AsyncContext { subtask, parallelism: vertex.parallelism, metrics: Arc::clone(&metrics), clock };
                let operator = spec.create(context).map_err(|e| e.at(&planned.name))?;
                Running::Async(Stage::new(operator, spec.settings(), metrics))
            }
        };
        slots.push(Slot {
            name: planned.name.clone(),
            operator,
            metrics,
            gates: wiring.gates(shared, index, &planned.name, subtask, Overflow::Buffer),
            rejects: Rejects::new(planned.on_error, Arc::clone(&job), &shared.run, &planned.name, subtask),
        });
    }
    let sink = match &vertex.sink {
        None => None,
        Some(planned) => {
            let metrics = shared.metrics.node(&planned.name);
            let context = WriterContext {
                run: SinkRunContext { node: planned.name.clone(), ..shared.run.clone() },
                subtask,
                parallelism: vertex.parallelism,
                schema: planned.input.clone(),
                metrics: Arc::clone(&metrics),
                clock: Arc::clone(&shared.clock),
            };
            let state = restore.writer_state(&planned.name, subtask);
            Some(SinkDriver {
                name: planned.name.clone(),
                writer: planned.sink.writer(context, state).await.map_err(|e| e.at(&planned.name))?,
                metrics,
                gates: wiring.gates(shared, index, &planned.name, subtask, Overflow::Buffer),
                rejects: Rejects::new(planned.on_error, Arc::clone(&job), &shared.run, &planned.name, subtask),
                clock: Arc::clone(&shared.clock),
                ended: false,
            })
        }
    };
    let (commands, inbox) = mpsc::unbounded_channel();
    let task = Task {
        id,
        head,
        chain: Chain::new(slots, sink.is_some(), Arc::clone(&shared.clock)),
        sink,
        commands: inbox,
        events: shared.events.clone(),
        clock: Arc::clone(&shared.clock),
        buffer_timeout: Duration::from_millis(u64::try_from(shared.graph.settings.buffer_timeout.as_millis()).unwrap_or(5)),
        memory: TaskMemory { budget: Arc::clone(&shared.budget), operators: accounts },
        last_checkpoint: shared.last_checkpoint,
        replays: Replays::default(),
    };
    Ok((task, commands))
}

/// An operator with its state.
fn synchronous(
    shared: &Shared<'_>,
    restore: &mut dyn Restore,
    planned: &PlannedOperator,
    subtask: usize,
    parallelism: usize,
    metrics: &Arc<NodeMetrics>,
) -> Result<Box<dyn Operator>> {
    let mut store = restore.store(&planned.name, subtask, parallelism)?;
    let (metrics, clock) = (Arc::clone(metrics), Arc::clone(&shared.clock));
    let operator = planned.spec.create(OperatorContext { subtask, parallelism, state: &mut store, metrics, clock })?;
    let lost = store.unclaimed();
    if !lost.is_empty() && !shared.allow_non_restored_state {
        return Err(Error::user(format!(
            "the checkpoint holds {} of this node, which its operator no longer keeps: it would be lost; give the node another name, or allow state that is not restored",
            lost.join(", ")
        )));
    }
    Ok(operator)
}
