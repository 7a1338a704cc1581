//! A full disk during the checkpoints of a whole job: they fail, the job goes on, and once there is room again nothing is lost and nothing doubled.
//!
//! The disk is full for one process: it may write no byte to a file (`RLIMIT_FSIZE` of 0), which a test may set for its own child without being root. A write
//! fails then as it does on a full disk, but for the number of the error.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use karez_runtime::checkpoint::Start;
use karez_runtime::{Durability, JobHandle, JobOptions, JobStatus, start};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::random_graphs::expression::Expression;
use crate::random_graphs::plan::{
    Aggregate, End, Faults, Input, Level, NodePlan, OperatorPlan, Plan, Port, RunPlan, SinkPlan, SourcePlan, Window, source_columns,
};
use crate::random_graphs::value::{Column, Kind, Row, Value};
use crate::random_graphs::world::World;
use crate::random_graphs::{engine, reference};

const CHILD: &str = "KAREZ_FULL_DISK";
/// What the kernel sends with a write beyond the limit; unheard it would end the process.
const SIGXFSZ: i32 = 25;

#[test]
fn checkpoints_on_a_full_disk_fail_while_the_job_goes_on_and_when_there_is_room_again_every_row_is_there_once() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(fill());
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let child = Command::new(std::env::current_exe().unwrap()).args([&name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
}

async fn fill() {
    let _heard = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let (plan, folder) = (Arc::new(plan()), tempfile::tempdir().unwrap());
    let world = World::new(&plan);
    world.begin(&plan.runs[0]);
    world.until.store(100, SeqCst);
    let options = JobOptions::new(Some(Durability { state_dir: folder.path().join("state"), start: Start::Resume }));
    let handle = start(engine::job_graph(&world, &plan.runs[0]).unwrap(), options).await.unwrap();
    reaches("a checkpoint", &handle, |h| h.report().checkpoints.completed >= 1 && *world.given.borrow() >= 100).await;

    let room = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    room(Some(0));
    world.until.store(200, SeqCst);
    reaches("a second failure", &handle, |h| h.report().checkpoints.failed >= 2).await;
    reaches("rows in spite of it", &handle, |_| *world.given.borrow() >= 200).await;
    let full = handle.report();
    room(None);
    assert_eq!((full.status, full.restarts), (JobStatus::Running, 0));
    let why = full.checkpoints.last_failure.unwrap();
    assert!(why.contains("File too large"), "{why}");

    reaches("a checkpoint after it", &handle, |h| h.report().checkpoints.completed > full.checkpoints.completed).await;
    world.until.store(usize::MAX, SeqCst);
    let outcome = tokio::time::timeout(Duration::from_secs(30), handle.wait()).await.unwrap();
    assert_eq!((outcome.status, outcome.report.restarts), (JobStatus::Completed, 0), "{:?}", outcome.error);
    for (sink, expected) in reference::rows(&plan) {
        assert_eq!(world.stores[&sink].table().unwrap().0, expected, "{sink}");
    }
}

async fn reaches(what: &str, handle: &JobHandle, there: impl Fn(&JobHandle) -> bool) {
    let wait = async {
        while !there(handle) {
            assert!(!handle.status().is_final(), "{what}: {:?}", handle.wait().await.error);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Windows and a running sum, each with state that every checkpoint adds to.
fn plan() -> Plan {
    let row = |i: i64| Row::of(vec![Value::Int(i % 7), Value::Int(i), Value::Null, Value::Time(i), Value::Null]);
    let batches = (0..400).map(|batch| (0..5).map(|i| row(5 * batch + i)).collect()).collect();
    let source = SourcePlan {
        name: "in".into(),
        level: Level::One,
        splits: vec![batches],
        pauses: vec![BTreeSet::new()],
        bounded: false,
        one_at_a_time: false,
        found_at_once: 1,
        projects: false,
        in_order: true,
        out_of_orderness_ms: 0,
    };
    let columns = source_columns();
    let sum = || vec![("sum".to_owned(), Aggregate::Sum(Expression::column(&columns, 1)))];
    let port = |node: &str| Input { port: Port { node: node.into(), name: "main".into() }, exchange: None };
    let node = |name: &str, operator| NodePlan {
        name: name.into(),
        level: Level::A,
        operator,
        inputs: vec![port("in")],
        columns: columns.clone(),
        event_time: Some("t".into()),
        faults: Faults::None,
    };
    let window = Window::Sliding { size_ms: 300, slide_ms: 300, offset_ms: 0 };
    let nodes = vec![
        node("windows", OperatorPlan::Window { keys: vec![0], window, lateness_ms: 0, with_time: false, aggregates: sum() }),
        node("sums", OperatorPlan::Aggregate { keys: vec![0], aggregates: sum() }),
    ];
    let sink = |of: &str| SinkPlan {
        name: format!("{of}-out"),
        level: Level::A,
        input: port(of),
        columns: vec![Column::new("k", Kind::Int), Column::new("sum", Kind::Int)],
        keyed: false,
        slow: false,
    };
    let run = RunPlan {
        parallelism: [2, 1],
        disk: false,
        queue_batches: [4, 4],
        queue_bytes: 1 << 20,
        buffer_timeout_ms: 1,
        checkpoint_interval_ms: 5,
        retained: 2,
        failing_reads: Vec::new(),
        lost_answers: 0,
        end: End::Complete,
    };
    Plan { batch: false, key_groups: 128, sources: vec![source], nodes, sinks: vec![sink("windows"), sink("sums")], runs: vec![run] }
}
