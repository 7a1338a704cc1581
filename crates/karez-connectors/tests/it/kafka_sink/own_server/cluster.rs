//! A cluster of three whose members are killed in turn: leaders of partitions, coordinators of transactions and the controller move.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use karez_testkit::{Server, create_topic};

use super::*;
use crate::kafka_source;

const PARTITIONS: i64 = 6;

/// Every replica of every partition is in sync again.
async fn healthy(cluster: &Cluster, topic: &str) -> bool {
    let topics = [topic, "__transaction_state"];
    let Ok(described) = cluster.kafka.admin().describe_topics(topics, Default::default()).await else { return false };
    described.into_values().all(|t| t.is_ok_and(|t| t.partitions.iter().all(|p| p.leader.is_some() && p.isr.len() == 3)))
}

/// Rows go through a sink, exactly once, and a source reads them, while each member is away for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_costs_no_row_and_doubles_none() {
    let server = Arc::new(Mutex::new(OwnServer::start(Server::KafkaCluster).unwrap()));
    let bootstrap = server.lock().unwrap().address().to_owned();
    let topic = unique("members");
    create_topic(&bootstrap, &topic, u16::try_from(PARTITIONS).unwrap(), &[("min.insync.replicas", "2")]).unwrap();
    let cluster = Cluster::at(&bootstrap).await;
    let (end, checkpoints) = (AtomicBool::new(false), AtomicU64::new(0));

    let writing = async {
        let mut job = Job::new(&bootstrap, &topic).with("key", json!(["id"]));
        let mut process = job.start(2).await;
        let mut written = 0;
        while !end.load(SeqCst) {
            for subtask in [0, 1] {
                process.write(subtask, many(written, 50)).await;
                written += 50;
            }
            job.checkpoint(&mut process).await;
            let mut outcomes = job.commit(&process).await;
            while outcomes.iter().any(|o| matches!(o, CommitOutcome::RetryLater(_))) {
                outcomes = job.commit(&process).await;
            }
            assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted)), "{outcomes:?}");
            checkpoints.fetch_add(1, SeqCst);
        }
        written
    };
    let killing = async {
        for member in 1..=3 {
            until("all replicas are in sync", || healthy(&cluster, &topic)).await;
            let own = Arc::clone(&server);
            tokio::task::spawn_blocking(move || own.lock().unwrap().crash_member(member).unwrap()).await.unwrap();
            let before = checkpoints.load(SeqCst);
            until("two are enough to go on", || async { checkpoints.load(SeqCst) >= before + 3 }).await;
            let own = Arc::clone(&server);
            tokio::task::spawn_blocking(move || own.lock().unwrap().up().unwrap()).await.unwrap();
        }
        end.store(true, SeqCst);
    };
    let written = async { tokio::join!(writing, killing).0 };
    let config = json!({ "bootstrapServers": bootstrap, "topics": [topic], "properties": { "fetch.max.wait.ms": 100 } });
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let mut source = kafka_source::Job::start(&config, &schema).await;
    let mut written = std::pin::pin!(written);
    let written = loop {
        // A step that fails would fail the job.
        tokio::select! {
            written = &mut written => break written,
            () = tokio::time::sleep(Duration::from_millis(5)) => drop(source.step().await.unwrap()),
        }
    };
    let expected: Vec<String> = (0..written).map(|n| n.to_string()).collect();
    source.read(expected.len()).await.settle().await;
    assert!(source.take() == expected, "the rows read are not those written");
    // By a client that has not known other leaders.
    let mut seen = ids(&Cluster::at(&bootstrap).await, &topic).await;
    seen.sort_unstable();
    assert!(seen == (0..written).collect::<Vec<_>>(), "{} rows of {written}", seen.len());
}
