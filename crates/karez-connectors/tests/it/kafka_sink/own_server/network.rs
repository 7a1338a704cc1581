//! Answers that are lost, a network that is away for a while, for good, or stands still.

use std::time::Instant;

use karez_core::Reach;

use super::*;

/// The cases share a broker, which takes longer to start than they take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_between_fails_in_every_way_and_each_row_is_there_once_and_in_order() {
    let broker = Behind::start().await;
    for exactly_once in [true, false] {
        requests_arrive_and_their_answers_do_not(&broker, exactly_once).await;
        nothing_passes_for_longer_than_a_request_may_take(&broker, exactly_once).await;
    }
    away_for_a_while(&broker).await;
    away_for_longer_than_the_delivery_timeout(&broker).await;
    what_external_says_holds_and_is_counted(&broker).await;
}

/// What is sent again is told apart by its sequence number.
async fn requests_arrive_and_their_answers_do_not(Behind { cluster, proxy, .. }: &Behind, exactly_once: bool) {
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("batchSize", "1k").with("linger", "0ms");
    job.exactly_once = exactly_once;
    let mut process = job.start(1).await;
    process.write(0, many(0, 100)).await;
    process.writers[0].flush().await.unwrap();
    until("the producer is known", || async { cluster.uncommitted(&topic).await.len() == 100 }).await;
    for round in 1..5 {
        proxy.hold_answers();
        let before = proxy.to_server_bytes();
        let write = async {
            process.write(0, many(round * 100, 100)).await;
            // The linger of the last batch is over: this waits for no answer.
            process.writers[0].flush().await.unwrap();
        };
        let cut = async {
            until("a batch has reached the broker", || async { proxy.to_server_bytes() > before + 500 }).await;
            proxy.cut();
            proxy.back();
        };
        tokio::join!(write, cut);
        let all = usize::try_from((round + 1) * 100).unwrap();
        until("everything has been sent again", || async { cluster.uncommitted(&topic).await.len() >= all }).await;
    }
    job.commit_checkpoint(&mut process).await;
    assert_eq!(ids(cluster, &topic).await, (0..500).collect::<Vec<_>>());
}

/// Connections are taken and stay open, and nobody answers: a request is given up after its time-out, and rows go on when the network does.
async fn nothing_passes_for_longer_than_a_request_may_take(Behind { cluster, proxy, .. }: &Behind, exactly_once: bool) {
    let topic = cluster.topic(1).await;
    let impatient = json!({ "request.timeout.ms": 1000, "socket.connection.setup.timeout.ms": 1000 });
    let mut job = Job::new(&cluster.bootstrap, &topic).with("batchSize", "1k").with("linger", "0ms").with("properties", impatient);
    job.exactly_once = exactly_once;
    let mut process = job.start(1).await;
    process.write(0, many(0, 100)).await;
    job.commit_checkpoint(&mut process).await;
    process.write(0, many(100, 50)).await;
    proxy.stall();
    let before = proxy.connections();
    let write = async {
        process.write(0, many(150, 50)).await;
        job.checkpoint(&mut process).await;
    };
    let stalled = async {
        until("requests have been given up, more than once", || async { proxy.connections() >= before + 3 }).await;
        proxy.back();
    };
    tokio::join!(write, stalled);
    // And once more between the barrier and the commit.
    proxy.stall();
    let before = proxy.connections();
    let stalled = async {
        until("the commit has been given up, more than once", || async { !exactly_once || proxy.connections() >= before + 3 }).await;
        proxy.back();
    };
    let (outcomes, ()) = tokio::join!(job.commit(&process), stalled);
    assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed | CommitOutcome::AlreadyCommitted)), "{outcomes:?}");
    process.write(0, many(200, 100)).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(ids(cluster, &topic).await, (0..300).collect::<Vec<_>>());
}

/// Rows wait, in bounded memory, and then go on.
async fn away_for_a_while(Behind { cluster, proxy, .. }: &Behind) {
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("bufferMemory", "64k").with("batchSize", "8k").with("linger", "0ms");
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    proxy.gone();
    let mut written = 10;
    while tokio::time::timeout(Duration::from_secs(2), process.writers[0].write(many(written, 100))).await.is_ok() {
        written += 100;
        assert!(written < 2_000, "64 KiB hold no 2,000 rows");
    }
    written += 100; // The one that waited; dropping its future is no way the engine takes, so the process goes on with what it was given.
    proxy.back();
    job.commit_checkpoint(&mut process).await;
    let seen = ids(cluster, &topic).await;
    assert!(seen.is_sorted() && seen.len() == usize::try_from(written).unwrap(), "{} of {written}", seen.len());
}

/// The job fails, and may be restarted.
async fn away_for_longer_than_the_delivery_timeout(Behind { cluster, proxy, .. }: &Behind) {
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("deliveryTimeout", "1s");
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    proxy.gone();
    process.writers[0].flush().await.unwrap();
    let started = Instant::now();
    let failed = process.writers[0].prepare_commit(Epoch(1), false).await.unwrap_err();
    assert!(failed.is_retryable() && failed.reach() == Reach::Connection && failed.to_string().contains("deliveryTimeout"), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(20));
    proxy.back();
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    job.commit_checkpoint(&mut process).await;
    assert_eq!(ids(cluster, &topic).await, (0..10).collect::<Vec<_>>());
}

/// `external` sets the client's time-out and what is sent again; requests, those that were not answered in time and those sent again are counted.
async fn what_external_says_holds_and_is_counted(Behind { cluster, proxy, .. }: &Behind) {
    let external = |attempts: usize| json!({ "timeout": "1s", "retry": { "attempts": attempts, "initialDelay": "10ms", "maxDelay": "50ms" } });
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("external", external(1_000));
    let mut process = job.start(1).await;
    let metrics = Arc::clone(&process.metrics);
    process.write(0, many(0, 10)).await;
    process.writers[0].flush().await.unwrap();
    until("a request is answered", || async { cluster.uncommitted(&topic).await.len() == 10 }).await;
    assert!(metrics.calls.get() > 0 && metrics.timed_out.get() == 0);
    proxy.hold_answers();
    process.write(0, many(10, 10)).await;
    process.writers[0].flush().await.unwrap();
    let before = metrics.retried.get();
    until("the client gives a request up after the second it was given", || async { metrics.timed_out.get() > 0 && metrics.retried.get() > before })
        .await;
    proxy.cut();
    proxy.back();
    job.commit_checkpoint(&mut process).await;
    assert_eq!(ids(cluster, &topic).await, (0..20).collect::<Vec<_>>());
    assert_eq!(metrics.in_flight.get(), 0);

    // Away for more attempts than there may be.
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic).with("external", external(3));
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    proxy.gone();
    process.writers[0].flush().await.unwrap();
    let failed = process.writers[0].prepare_commit(Epoch(1), false).await.unwrap_err();
    assert!(failed.is_retryable() && failed.reach() == Reach::Job, "the job restarts by its strategy: {failed}");
    assert!(failed.to_string().contains("given up after 3 attempts (`external.retry`)"), "{failed}");
    proxy.back();

    // The same of a source.
    let topic = cluster.topic(1).await;
    let mut job = Job::new(&cluster.bootstrap, &topic);
    let mut process = job.start(1).await;
    process.write(0, many(0, 10)).await;
    job.commit_checkpoint(&mut process).await;
    let config =
        json!({ "bootstrapServers": cluster.bootstrap, "topics": [topic], "external": external(3), "properties": { "fetch.max.wait.ms": 50 } });
    let mut reading = crate::kafka_source::Job::start(&config, &two_columns()).await;
    reading.settle().await;
    assert_eq!(reading.take().len(), 10);
    assert!(reading.metrics.calls.get() > 0 && reading.metrics.timed_out.get() == 0);
    proxy.hold_answers();
    let failed = loop {
        match reading.step().await {
            Err(e) => break e,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(failed.is_retryable() && failed.reach() == Reach::Job, "the job restarts by its strategy: {failed}");
    assert!(failed.to_string().contains("given up after 3 attempts (`external.retry`)"), "{failed}");
    assert!(reading.metrics.timed_out.get() > 0 && reading.metrics.retried.get() > 1, "{:?}", reading.metrics.read());
    proxy.cut();
    proxy.back();
}
