//! Hands queued dead letters to the tasks they belong to, and says in each checkpoint which have been fed. Lives in the coordinator.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use karez_core::key_group::{KeyGroup, hash_columns, subtask_of};
use karez_core::schema::{CHANGE_COLUMN, visible_schema};
use karez_core::{CheckpointId, Distribution, Error, Letter, Result, RunId, Watermark, dead_letter, result_letter};
use karez_graph::JobGraph;

use crate::checkpoint::Manifest;
use crate::replay::{Progress, ReplayRequest, requests};
use crate::task::replay::{Entry, ReplayWork};
use crate::task::{Command, TaskId};

/// The replays of one attempt.
pub(super) struct Replays {
    /// The job's directory; none where the job runs without one.
    job: Option<PathBuf>,
    run: RunId,
    /// What the restored checkpoint says.
    restored: BTreeMap<String, Progress>,
    /// Replays whose letters have been handed out.
    handed_out: HashSet<String>,
    /// What tasks have said at a barrier.
    acked: HashMap<(CheckpointId, TaskId), Vec<Progress>>,
    /// What tasks said when they ended.
    ended: HashMap<TaskId, Vec<Progress>>,
    /// Tasks whose input has ended, their last state written or not.
    closed: HashSet<TaskId>,
}

/// What came of looking for queued letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayAnswer {
    /// Letters handed to tasks now.
    pub letters: usize,
    /// Letters that cannot be fed, and why: they stay queued.
    pub refused: Vec<String>,
}

/// Letters on their way to tasks.
pub(super) type Handed = (Vec<(TaskId, Command)>, ReplayAnswer);

impl Replays {
    /// With what the restored checkpoint knows.
    pub(super) fn new(job: Option<PathBuf>, run: RunId, restored: Option<&Manifest>) -> Self {
        let restored = restored.iter().flat_map(|m| &m.replays).map(|p| (p.replay.clone(), p.clone())).collect();
        Self { job, run, restored, handed_out: HashSet::new(), acked: HashMap::new(), ended: HashMap::new(), closed: HashSet::new() }
    }

    /// Looks for letters of this run that have not been fed nor handed out. Those of a run that this one goes on from by a savepoint are fed to their
    /// end where the savepoint stands in the middle of them.
    pub(super) async fn hand_out(&mut self, graph: &JobGraph, watermarks: &HashMap<usize, Watermark>) -> Result<Handed> {
        let Some(job) = self.job.clone() else {
            return Err(Error::user("this job runs without a state directory, so there is nothing to feed letters from"));
        };
        let queued = tokio::task::spawn_blocking(move || requests(&job)).await.map_err(|e| Error::internal(e.to_string()))??;
        for (id, _) in self.restored.iter().filter(|(_, p)| !p.is_complete()) {
            if !queued.iter().any(|r| r.id == *id) {
                return Err(Error::user(format!(
                    "the checkpoint stands in the middle of the replay {id}, and its file `replays/{id}.ndjson` is not in the job's state directory: put it back, \
                     or start with --fresh"
                )));
            }
        }
        let mut handed = (Vec::new(), ReplayAnswer::default());
        for request in queued {
            let known = self.restored.get(&request.id);
            let mine = request.run == self.run || known.is_some();
            if mine && !known.is_some_and(Progress::is_complete) && self.handed_out.insert(request.id.clone()) {
                Plan { graph, ended: &self.closed, watermarks }.hand_out(request, known, &mut handed);
            }
        }
        Ok(handed)
    }

    /// Replays that were handed out and that the job's next start hands out again, since its newest checkpoint does not hold all that came of them.
    pub(super) fn under_way(&self, newest: Option<&Manifest>) -> Vec<String> {
        let fed = |id: &String| newest.is_some_and(|m| m.replays.iter().any(|p| p.replay == *id && p.is_complete()));
        let mut ids: Vec<_> = self.handed_out.iter().filter(|id| !fed(id)).cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// A task has passed a barrier. Also that nothing had been fed by then is to be known, in case it ends before the checkpoint is complete.
    pub(super) fn acked(&mut self, checkpoint: CheckpointId, task: TaskId, progress: Vec<Progress>) {
        self.acked.insert((checkpoint, task), progress);
    }

    /// The input of a task has ended: it takes no more letters.
    pub(super) fn input_ended(&mut self, task: TaskId) {
        self.closed.insert(task);
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, task: TaskId, progress: Vec<Progress>) {
        self.ended.insert(task, progress);
    }

    /// What a manifest says: what was fed before its barrier, and of ended tasks that saw no barrier of it, all.
    pub(super) fn at(&mut self, checkpoint: CheckpointId) -> Vec<Progress> {
        let mut all = self.restored.clone();
        let behind = self.ended.iter().filter(|(task, _)| !self.acked.contains_key(&(checkpoint, **task))).map(|(_, p)| p);
        let before = self.acked.iter().filter(|((id, _), _)| *id == checkpoint).map(|(_, p)| p);
        for progress in behind.chain(before).flatten() {
            all.entry(progress.replay.clone()).or_insert_with(|| Progress::new(progress.replay.clone(), progress.letters)).merge(progress);
        }
        self.acked.retain(|(id, _), _| *id > checkpoint);
        all.into_values().collect()
    }
}

/// Which task a letter goes to.
struct Plan<'a> {
    graph: &'a JobGraph,
    ended: &'a HashSet<TaskId>,
    /// Where event time stood in the restored checkpoint, by the vertex of the source.
    watermarks: &'a HashMap<usize, Watermark>,
}

/// Where letters of a node enter.
struct Place {
    vertex: usize,
    entry: Entry,
    /// The rows there.
    schema: SchemaRef,
    /// The columns that decide on the subtask.
    key: Option<Vec<usize>>,
    /// All to subtask 0.
    global: bool,
}

impl Plan<'_> {
    fn hand_out(&self, request: ReplayRequest, known: Option<&Progress>, (commands, answer): &mut Handed) {
        let total = u32::try_from(request.letters.len()).unwrap_or(u32::MAX);
        let mut places: HashMap<String, Result<Place, String>> = HashMap::new();
        let mut works: BTreeMap<(TaskId, String), ReplayWork> = BTreeMap::new();
        for (number, letter) in (0..).zip(request.letters) {
            if known.is_some_and(|k| k.contains(number)) {
                continue;
            }
            let place = places.entry(letter.node.clone()).or_insert_with(|| place(self.graph, &letter.node));
            let task = place.as_ref().map_err(Clone::clone).and_then(|p| self.task(p, number as usize, &letter).map(|t| (p, t)));
            match task {
                Ok((place, task)) => {
                    answer.letters += 1;
                    let work = works.entry((task, letter.node.clone())).or_insert_with(|| ReplayWork {
                        replay: request.id.clone(),
                        total,
                        entry: place.entry,
                        schema: Arc::clone(&place.schema),
                        not_before: self.not_before(place.vertex),
                        letters: VecDeque::new(),
                    });
                    work.letters.push_back((number, letter));
                }
                Err(why) => answer.refused.push(format!("letter {}: {why}", letter.id)),
            }
        }
        commands.extend(works.into_iter().map(|((task, _), work)| (task, Command::Replay(work))));
    }

    fn task(&self, place: &Place, number: usize, letter: &Letter) -> Result<TaskId, String> {
        no_result(letter)?;
        let parallelism = self.graph.vertices[place.vertex].parallelism;
        let subtask = match &place.key {
            _ if place.global => 0,
            None => number % parallelism,
            Some(key) => self.owner(key, &place.schema, letter, parallelism),
        };
        let task = TaskId { vertex: place.vertex, subtask };
        if self.ended.contains(&task) {
            return Err(format!("the input of `{}` has ended in this run", letter.node));
        }
        Ok(task)
    }

    /// The subtask that has the row's key. A row that does not fit the columns is refused wherever it comes to.
    fn owner(&self, key: &[usize], schema: &SchemaRef, letter: &Letter, parallelism: usize) -> usize {
        let key_groups = self.graph.settings.max_parallelism;
        let hash = || {
            let batch = dead_letter::row_batch(&visible_schema(schema), letter.row.as_deref()?).ok()?;
            let columns: Vec<_> = key.iter().map(|&c| Arc::clone(batch.column(c))).collect();
            let mut hashes = Vec::new();
            hash_columns(&columns, 1, &mut hashes).ok()?;
            hashes.first().copied()
        };
        hash().map_or(0, |hash| subtask_of(KeyGroup::of(hash, key_groups), parallelism, key_groups))
    }

    /// What all sources before a vertex have reached again before its letters are fed.
    fn not_before(&self, vertex: usize) -> Watermark {
        let mut before = vec![vertex];
        let mut at = 0;
        while let Some(&vertex) = before.get(at) {
            for edge in self.graph.edges.iter().filter(|e| e.to == vertex) {
                if !before.contains(&edge.from) {
                    before.push(edge.from);
                }
            }
            at += 1;
        }
        let sources = before.into_iter().filter(|&v| self.graph.vertices[v].source.is_some());
        sources.map(|v| self.watermarks.get(&v).copied().unwrap_or(Watermark::MIN)).min().unwrap_or(Watermark::MIN)
    }
}

/// Where the letters of a node enter the job.
fn place(graph: &JobGraph, node: &str) -> Result<Place, String> {
    for (vertex, v) in graph.vertices.iter().enumerate() {
        if let Some(source) = v.source.as_ref().filter(|s| s.name == node) {
            return Ok(Place { vertex, entry: Entry::Source, schema: without_changes(node, &source.schema.arrow)?, key: None, global: false });
        }
        if let Some((at, operator)) = v.operators.iter().enumerate().find(|(_, o)| o.name == node) {
            let schema = without_changes(node, &operator.inputs[0].arrow)?;
            if operator.inputs.iter().any(|i| i.arrow != operator.inputs[0].arrow) {
                return Err(format!("the inputs of `{node}` have different rows, and a letter does not say which it came by"));
            }
            let (key, global) = match operator.spec.distribution(0) {
                Distribution::Any => (None, false),
                Distribution::Hash(columns) => (Some(columns), false),
                Distribution::Global => (None, true),
                Distribution::Broadcast if v.parallelism == 1 => (None, true),
                Distribution::Broadcast => return Err(format!("every subtask of `{node}` takes every row, and a letter goes to one")),
            };
            return Ok(Place { vertex, entry: Entry::Operator(at), schema, key, global });
        }
        if let Some(sink) = v.sink.as_ref().filter(|s| s.name == node) {
            let schema = without_changes(node, &sink.input.arrow)?;
            let key = sink.sink.key().iter().map(|k| schema.index_of(k).map_err(|e| e.to_string())).collect::<Result<Vec<_>, _>>()?;
            return Ok(Place { vertex, entry: Entry::Sink, schema, key: (!key.is_empty()).then_some(key), global: false });
        }
    }
    Err(format!("the job has no node `{node}`"))
}

fn without_changes(node: &str, schema: &SchemaRef) -> Result<SchemaRef, String> {
    if schema.column_with_name(CHANGE_COLUMN).is_some() {
        return Err(dead_letter::of_changes(node));
    }
    Ok(Arc::clone(schema))
}

fn no_result(letter: &Letter) -> Result<(), String> {
    if result_letter::is_result(letter) { Err(result_letter::of_results(&letter.node)) } else { Ok(()) }
}

/// A row for a source: what the source could not read of a record is left out of its letter, and must not become null because nobody has looked.
fn whole(schema: &SchemaRef, row: &str) -> Result<(), String> {
    let given: serde_json::Map<String, serde_json::Value> = serde_json::from_str(row).map_err(|e| e.to_string())?;
    match schema.fields().iter().find(|f| !given.contains_key(f.name())) {
        Some(missing) => Err(format!("`row` lacks the column `{}`: give it its value, or null", missing.name())),
        None => Ok(()),
    }
}

/// Whether a letter can be fed to a job, as far as the job's plan says.
///
/// # Errors
/// Why not.
pub fn check(graph: &JobGraph, letter: &Letter) -> Result<(), String> {
    let place = place(graph, &letter.node)?;
    no_result(letter)?;
    match (&letter.row, &letter.raw, place.entry) {
        (Some(row), _, entry) => {
            let schema = visible_schema(&place.schema);
            dead_letter::row_batch(&schema, row).map_err(|e| e.to_string())?;
            if matches!(entry, Entry::Source) { whole(&schema, row) } else { Ok(()) }
        }
        (None, Some(_), Entry::Source) => {
            let source = graph.vertices[place.vertex].source.as_ref();
            source.map_or(Ok(()), |s| s.source.letter_decoder().map(drop).map_err(|e| e.to_string()))
        }
        (None, Some(_), _) => Err(format!("`{}` takes rows, and the letter holds bytes: give it a `row`", letter.node)),
        (None, None, _) => Err("it holds neither bytes nor a row".into()),
    }
}
