//! Dead letters in a topic are read back as they were written: `karez dlq`.

use karez_core::source::{Read, ReadLimit, ReaderContext};
use karez_core::{Letter, SourceContext, dead_letter};

use super::client::Cluster;
use super::*;

async fn read_back(config: &Value) -> Vec<Letter> {
    let back = KafkaConnector.read_back(config).unwrap().unwrap();
    let schema = dead_letter::read_schema(back.binary_as_hex);
    let source = KafkaConnector.source(SourceContext { node: "letters", config: &back.config, schema: Some(&schema), batch: true }).unwrap();
    let mut letters = Vec::new();
    for split in source.enumerator(None).await.unwrap().discover().await.unwrap().splits {
        let context = ReaderContext { with_origin: false, metrics: Arc::default(), clock: Arc::new(ManualClock::new(0)) };
        let mut reader = source.open(&split, context).await.unwrap();
        loop {
            match reader.next(ReadLimit { rows: 100, bytes: 1 << 20 }).await.unwrap() {
                Read::Rows { batch, bad } => {
                    assert!(bad.is_empty(), "{bad:?}");
                    letters.extend(dead_letter::from_batch(&batch).unwrap().into_iter().map(Result::unwrap));
                }
                Read::End => break,
                Read::Nothing | Read::Pending => tokio::task::yield_now().await,
            }
        }
    }
    letters.sort_by(|a, b| a.id.cmp(&b.id));
    letters
}

#[tokio::test]
async fn letters_in_a_topic_are_read_back_as_they_were_written() {
    let cluster = Cluster::shared().await;
    for format in ["json", "csv"] {
        let topic = cluster.topic(2).await;
        let letters: Vec<Letter> = (0..10)
            .map(|i| Letter {
                id: format!("{i:016x}"),
                time_ms: 1_700_000_000_123 + i,
                job: "j".into(),
                run: "r".into(),
                node: "n".into(),
                reason: "said, \"no\"".into(),
                origin: (i % 2 == 0).then(|| "file=a offset=3".into()),
                raw: (i % 2 == 0).then(|| bytes::Bytes::from_static(b"\x00\xff{")),
                row: (i % 2 == 1).then(|| r#"{"a":1}"#.into()),
            })
            .collect();
        let mut job = Job::new(&cluster.bootstrap, &topic).with("format", format);
        job.schema = dead_letter::stream_schema();
        let mut process = job.start(1).await;
        process.write(0, dead_letter::to_batch(&letters).unwrap()).await;
        job.commit_checkpoint(&mut process).await;
        assert_eq!(read_back(&job.config).await, letters, "{format}");
    }
}
