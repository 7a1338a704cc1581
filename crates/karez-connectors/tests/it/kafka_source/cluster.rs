//! Partitions that move between the brokers of a cluster.

use krafka::admin::TopicPartition;
use serde_json::json;

use super::*;

async fn led_by(kafka: &Kafka, topic: &str, broker: i32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let described = kafka.admin().describe_topics([topic], Default::default()).await.unwrap();
        if described[topic].as_ref().is_ok_and(|t| t.partitions.first().is_some_and(|p| p.leader == Some(broker))) {
            return;
        }
        assert!(Instant::now() < deadline, "{described:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_partition_is_read_on_where_its_leader_has_moved() {
    let address = service("KAFKA_CLUSTER");
    let kafka = kafka_at(&address).await;
    let name = unique("moved");
    let new = NewTopic::with_replica_assignment(&name, [(0, vec![1])].into()).unwrap();
    let made = kafka.admin().create_topics([new], CreateTopicsOptions::default()).await.unwrap();
    made.into_values().for_each(|r| r.unwrap());
    led_by(&kafka, &name, 1).await;
    let topic = Topic { name: name.clone(), kafka };
    topic.count(0, 0..50).await;
    let config = json!({ "bootstrapServers": address, "topics": [name] });
    let mut job = Job::start(&config, &numbers()).await;
    assert_eq!(job.settle().await.take(), texts(0..50));
    let at = TopicPartition::new(name.clone(), 0);
    let moved = topic.kafka.admin().alter_partition_reassignments([(at, Some(vec![2]))], Default::default()).await.unwrap();
    moved.into_values().for_each(|r| r.unwrap());
    led_by(&topic.kafka, &name, 2).await;
    let again = Topic { name, kafka: kafka_at(&address).await };
    again.count(0, 50..100).await;
    assert_eq!(job.read(50).await.take(), texts(50..100));
}
