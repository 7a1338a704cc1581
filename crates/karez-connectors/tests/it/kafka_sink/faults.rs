//! Answers that are lost, brokers that are away for a while or for good.

use std::time::Instant;

use karez_core::Reach;
use karez_testkit::{OwnServer, Proxy, Server};

use super::client::Cluster;
use super::*;

/// A broker that clients reach through a proxy alone.
struct Behind {
    proxy: Proxy,
    _server: OwnServer,
}

fn behind_proxy() -> Behind {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let extra = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let server = OwnServer::start_with(Server::Kafka, &[("KAFKA_EXTRA", &extra)]).unwrap();
    Behind { proxy: Proxy::on(port, server.address()), _server: server }
}

fn many(from: i64, count: i64) -> RecordBatch {
    let text = "z".repeat(100);
    rows(&(from..from + count).map(|n| (n, text.as_str())).collect::<Vec<_>>())
}

async fn ids(cluster: &Cluster, topic: &str) -> Vec<i64> {
    let messages = cluster.committed(topic).await;
    let id = |m: &client::Message| serde_json::from_str::<Value>(m.value.as_deref().unwrap()).unwrap()["id"].as_i64().unwrap();
    messages.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_between_fails_in_every_way_and_each_row_is_there_once_and_in_order() {
    let broker = behind_proxy();
    let cluster = Cluster::at(&broker.proxy.address()).await;

    // Requests arrive and their answers do not: what is sent again is told apart by its sequence number.
    for exactly_once in [true, false] {
        let topic = cluster.topic(1).await;
        let mut job = Job::new(&cluster.bootstrap, &topic).with("batchSize", "1k").with("linger", "0ms");
        job.exactly_once = exactly_once;
        let mut process = job.start(1).await;
        process.write(0, many(0, 100)).await;
        process.writers[0].flush().await.unwrap();
        until("the producer is known", || async { cluster.uncommitted(&topic).await.len() == 100 }).await;
        for round in 1..5 {
            broker.proxy.hold_answers();
            let before = broker.proxy.to_server_bytes();
            let write = async {
                process.write(0, many(round * 100, 100)).await;
                // The linger of the last batch is over: this waits for no answer.
                process.writers[0].flush().await.unwrap();
            };
            let cut = async {
                until("a batch has reached the broker", || async { broker.proxy.to_server_bytes() > before + 500 }).await;
                broker.proxy.cut();
                broker.proxy.back();
            };
            tokio::join!(write, cut);
            let all = usize::try_from((round + 1) * 100).unwrap();
            until("everything has been sent again", || async { cluster.uncommitted(&topic).await.len() >= all }).await;
        }
        let (committables, _) = process.barrier(1).await;
        commit(process.sink.as_ref(), &process.context, 1, &committables).await.unwrap();
        assert_eq!(ids(&cluster, &topic).await, (0..500).collect::<Vec<_>>());
    }

    // Away for a while: rows wait, in bounded memory, and then go on.
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("bufferMemory", "64k").with("batchSize", "8k").with("linger", "0ms");
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    broker.proxy.gone();
    let mut written = 10;
    while tokio::time::timeout(Duration::from_secs(2), process.writers[0].write(many(written, 100))).await.is_ok() {
        written += 100;
        assert!(written < 2_000, "64 KiB hold no 2,000 rows");
    }
    written += 100; // The one that waited; dropping its future is no way the engine takes, so the process goes on with what it was given.
    broker.proxy.back();
    let (committables, _) = process.barrier(1).await;
    commit(process.sink.as_ref(), &process.context, 1, &committables).await.unwrap();
    let seen = ids(&cluster, &topic).await;
    assert!(seen.is_sorted() && seen.len() == usize::try_from(written).unwrap(), "{} of {written}", seen.len());

    // Away for longer than `deliveryTimeout`: the job fails, and may be restarted.
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("deliveryTimeout", "1s");
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    broker.proxy.gone();
    process.writers[0].flush().await.unwrap();
    let started = Instant::now();
    let failed = process.writers[0].prepare_commit(Epoch(1), false).await.unwrap_err();
    assert!(failed.is_retryable() && failed.reach() == Reach::Connection && failed.to_string().contains("deliveryTimeout"), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(20));
    broker.proxy.back();
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(ids(&cluster, &topic).await, (0..10).collect::<Vec<_>>());
}
