//! Brokers of the tests' own: killed, away, out of reach.

mod cluster;
mod crash;
mod network;
mod outage;

use karez_testkit::{OwnServer, Proxy};

use super::client::{self, Cluster};
use super::*;

/// A broker that clients reach through a network that fails on request.
struct Behind {
    cluster: Cluster,
    proxy: Proxy,
    _server: OwnServer,
}

impl Behind {
    async fn start() -> Self {
        let (server, proxy) = OwnServer::kafka_behind_proxy().unwrap();
        Self { cluster: Cluster::at(&proxy.address()).await, proxy, _server: server }
    }
}

/// Rows `from..from + count`, of some 130 bytes each.
fn many(from: i64, count: i64) -> RecordBatch {
    let text = "z".repeat(100);
    rows(&(from..from + count).map(|n| (n, text.as_str())).collect::<Vec<_>>())
}

/// The ids that readers of committed rows see, by partition and offset.
async fn ids(cluster: &Cluster, topic: &str) -> Vec<i64> {
    let messages = cluster.committed(topic).await;
    let id = |m: &client::Message| serde_json::from_str::<Value>(m.value.as_deref().unwrap()).unwrap()["id"].as_i64().unwrap();
    messages.iter().map(id).collect()
}
