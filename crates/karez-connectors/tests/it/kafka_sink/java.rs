//! The Java tools of Apache Kafka read what the sink writes, and put keys where it does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::client::Cluster;
use super::*;

/// `kafka.sh tool CLASS ARGUMENT…`
fn tool(input: Option<&str>, arguments: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/services/kafka.sh");
    let mut command = Command::new(script);
    command.arg("tool").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_java_console_consumer_reads_all_codecs_and_keys_lie_where_java_puts_them() {
    let cluster = Cluster::shared().await;
    let bootstrap = cluster.bootstrap.clone();
    let topic = cluster.topic(5).await;
    let keys = ["a", "customer-17", "坎儿井", "", "a-little-bit-longer-string", "Δ"];
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let mut job = Job::new(&bootstrap, &topic).with("key", json!(["name"])).with("compression", codec).with("headers", json!({ "id": "id" }));
        let mut process = job.start(1).await;
        process.write(0, rows(&keys.map(|k| (7, k)))).await;
        job.commit_checkpoint(&mut process).await;
    }
    let expected = keys.len() * codecs.len();
    let count = expected.to_string();
    let read = tool(
        None,
        &[
            "ConsoleConsumer",
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            &topic,
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "60000",
            "--isolation-level",
            "read_committed",
            "--formatter-property",
            "print.key=true",
            "--formatter-property",
            "print.headers=true",
        ],
    );
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    let mut wanted: Vec<String> = keys.iter().flat_map(|k| vec![format!("id:7\t{k}\t{{\"id\":7,\"name\":\"{k}\"}}"); codecs.len()]).collect();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);

    let theirs = cluster.topic(5).await;
    let input: String = keys.iter().map(|k| format!("{k}\tv\n")).collect();
    tool(Some(&input), &["ConsoleProducer", "--bootstrap-server", &bootstrap, "--topic", &theirs, "--reader-property", "parse.key=true"]);
    let place = |messages: Vec<client::Message>| {
        let mut places: Vec<_> = messages.into_iter().map(|m| (m.key.unwrap(), m.partition)).collect();
        places.sort();
        places.dedup();
        places
    };
    assert_eq!(place(cluster.committed(&topic).await), place(cluster.committed(&theirs).await));
}
