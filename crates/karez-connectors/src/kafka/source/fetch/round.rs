//! Which partitions are asked for, of whom, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use karez_core::Error;
use krafka::__private::metadata::ClusterMetadata;
use krafka::__private::protocol::{
    ApiKey, FetchPartitionRequest, FetchRequest, FetchResponse, FetchTopicRequest, VersionedDecode, VersionedEncode, versions,
};
use krafka::error::ErrorCode;
use krafka::{__private, BrokerId, KrafkaError};
use tokio::time::Instant;

use super::partition::{Failure, Partition};
use super::{FetchSettings, Shared};
use crate::kafka::client::figures;
use crate::kafka::source::position::TopicId;

/// The wait of a broker while other partitions of it have no room: they must not wait for this request when they have.
const SHORT_WAIT: Duration = Duration::from_millis(5);
/// So long a topic may be unknown to brokers before it counts as deleted.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Partitions that are opened together are asked for together.
const GATHER: Duration = Duration::from_millis(5);
/// From this version on requests name topics by their ids.
const TOPIC_IDS: i16 = 13;

/// A partition in a request.
pub(super) struct Target {
    pub(super) partition: Arc<Partition>,
    pub(super) offset: i64,
    leader_epoch: i32,
}

/// A request that has been answered, or has failed.
pub(super) struct Fetched {
    pub(super) broker: BrokerId,
    pub(super) targets: Vec<Target>,
    pub(super) result: Result<FetchResponse, KrafkaError>,
}

/// Fetches until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    let metadata = Arc::clone(__private::kafka_metadata(&shared.kafka));
    let mut fetches: FuturesUnordered<BoxFuture<'static, Fetched>> = FuturesUnordered::new();
    let mut busy: HashSet<BrokerId> = HashSet::new();
    let mut refresh: Option<BoxFuture<'static, ()>> = None;
    // Topics whose leaders have to be asked for.
    let mut stale: BTreeSet<String> = BTreeSet::new();
    // Short waits in a row that brought nothing, by broker.
    let mut in_vain: HashMap<BrokerId, u32> = HashMap::new();
    let mut turn = 0_usize;
    loop {
        let partitions = shared.live();
        shared.show_lag(&partitions);
        let round = Round::plan(&shared, &metadata, &partitions, &busy, turn);
        turn = turn.wrapping_add(1);
        stale.extend(round.leaderless);
        for (broker, targets) in round.requests {
            busy.insert(broker);
            let wait = if round.full.contains(&broker) {
                let doubled = SHORT_WAIT.saturating_mul(1 << in_vain.get(&broker).copied().unwrap_or(0).min(10));
                doubled.min(shared.settings.max_wait)
            } else {
                shared.settings.max_wait
            };
            fetches.push(fetch(Arc::clone(&metadata), Arc::clone(&shared), broker, targets, wait).boxed());
        }
        if refresh.is_none() && !stale.is_empty() {
            let (metadata, topics) = (Arc::clone(&metadata), std::mem::take(&mut stale));
            refresh = Some(
                async move {
                    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                    if let Err(e) = metadata.force_refresh(Some(&topics)).await {
                        tracing::warn!(error = %e, "the leaders of Kafka partitions could not be looked up, trying again");
                    }
                }
                .boxed(),
            );
        }
        tokio::select! {
            () = shared.wake.notified() => {
                if shared.partitions().len() > partitions.len() {
                    tokio::time::sleep(GATHER).await;
                }
            }
            Some(fetched) = fetches.next(), if !fetches.is_empty() => {
                busy.remove(&fetched.broker);
                let broker = fetched.broker;
                let brought = shared.take_in(fetched, &mut stale);
                shared.meter.report(figures(&shared.kafka));
                let count = in_vain.entry(broker).or_default();
                *count = if brought { 0 } else { count.saturating_add(1) };
            }
            () = async { if let Some(refresh) = &mut refresh { refresh.await } }, if refresh.is_some() => refresh = None,
            () = tokio::time::sleep_until(round.again_at.unwrap_or_else(Instant::now)), if round.again_at.is_some() => {}
        }
    }
}

/// What is to be done now.
#[derive(Default)]
struct Round {
    requests: BTreeMap<BrokerId, Vec<Target>>,
    /// Brokers of partitions for which there is no room.
    full: HashSet<BrokerId>,
    /// Topics of partitions whose leader is not known.
    leaderless: BTreeSet<String>,
    /// When a partition may be tried again.
    again_at: Option<Instant>,
}

impl Round {
    fn plan(shared: &Shared, metadata: &ClusterMetadata, partitions: &[Arc<Partition>], busy: &HashSet<BrokerId>, turn: usize) -> Self {
        let mut round = Self::default();
        let now = Instant::now();
        let held = shared.held.load(Relaxed);
        let topics: HashSet<&str> = partitions.iter().map(|p| p.at.topic.as_str()).collect();
        metadata.touch_topics(&topics.into_iter().collect::<Vec<_>>());
        // Each is the first of a request in its turn: a broker answers with the first that has records, however large, and leaves out others.
        let start = if partitions.is_empty() { 0 } else { turn % partitions.len() };
        for partition in partitions[start..].iter().chain(&partitions[..start]) {
            let mut buffer = partition.buffer();
            if buffer.in_flight || buffer.failure.is_some() || partition.stop.is_some_and(|stop| buffer.next >= stop) {
                continue;
            }
            if let Some(at) = buffer.retry_at.filter(|at| *at > now) {
                round.again_at = Some(round.again_at.map_or(at, |t| t.min(at)));
                continue;
            }
            let known = metadata.topic_arc(&partition.at.topic);
            if let Some(since) = buffer.unknown_since {
                match &known {
                    Some(topic) if partition.topic_id.differs(TopicId(topic.topic_id)) => {
                        buffer.failure = Some(Failure::Recreated(TopicId(topic.topic_id)));
                        continue;
                    }
                    None if now.duration_since(since) > GONE_AFTER => {
                        buffer.failure = Some(Failure::Gone);
                        continue;
                    }
                    _ => {}
                }
            }
            let leader = known.as_ref().and_then(|topic| topic.leader(partition.at.partition));
            let Some(broker) = buffer.replica.or(leader) else {
                if known.is_none() && metadata.topic_error(&partition.at.topic) == Some(ErrorCode::UnknownTopicOrPartition) {
                    buffer.unknown_since.get_or_insert(now);
                }
                buffer.visible_end = None;
                if !buffer.again(&shared.settings.retry, now) {
                    let why = Error::connection(format!("no broker is known that leads `{}`", partition.at));
                    buffer.failure = Some(Failure::Other(Arc::new(shared.settings.retry.given_up("fetch", why))));
                    continue;
                }
                let at = buffer.retry_at.unwrap_or(now);
                round.again_at = Some(round.again_at.map_or(at, |t| t.min(at)));
                round.leaderless.insert(partition.at.topic.clone());
                continue;
            };
            let room = usize::try_from(shared.settings.partition_max_bytes).unwrap_or(0);
            if buffer.bytes >= room || (held >= shared.settings.buffer_bytes && !buffer.chunks.is_empty()) {
                round.full.insert(broker);
                continue;
            }
            if busy.contains(&broker) {
                continue;
            }
            buffer.in_flight = true;
            let leader_epoch = known.and_then(|t| t.leader_epoch(partition.at.partition)).unwrap_or(-1);
            round.requests.entry(broker).or_default().push(Target { partition: Arc::clone(partition), offset: buffer.next, leader_epoch });
        }
        round
    }
}

async fn fetch(metadata: Arc<ClusterMetadata>, shared: Arc<Shared>, broker: BrokerId, targets: Vec<Target>, wait: Duration) -> Fetched {
    let _call = shared.meter.begin();
    let result = request(&metadata, &shared.settings, broker, &targets, wait).await;
    Fetched { broker, targets, result }
}

async fn request(
    metadata: &ClusterMetadata,
    settings: &FetchSettings,
    broker: BrokerId,
    targets: &[Target],
    wait: Duration,
) -> Result<FetchResponse, KrafkaError> {
    let connection = metadata.get_broker_connection(broker).await?;
    let ids = targets.iter().all(|t| t.partition.topic_id.is_known());
    let newest = if ids { versions::FETCH_MAX } else { TOPIC_IDS - 1 };
    let version = connection
        .negotiate_api_version(ApiKey::Fetch, newest, versions::FETCH_MIN)
        .ok_or_else(|| KrafkaError::config(format!("the broker {broker} speaks no version of the fetch request that this client does")))?;
    let mut topics: Vec<FetchTopicRequest> = Vec::new();
    for target in targets {
        let (name, id) = (&target.partition.at.topic, target.partition.topic_id.0);
        let at = topics.iter().position(|t| t.topic == *name && t.topic_id == Some(id)).unwrap_or_else(|| {
            let mut topic = FetchTopicRequest::default();
            topic.topic.clone_from(name);
            topic.topic_id = Some(id);
            topics.push(topic);
            topics.len() - 1
        });
        let mut partition = FetchPartitionRequest::default();
        partition.partition = target.partition.at.partition;
        partition.current_leader_epoch = target.leader_epoch;
        partition.fetch_offset = target.offset;
        partition.partition_max_bytes = settings.partition_max_bytes;
        topics[at].partitions.push(partition);
    }
    let mut request = FetchRequest::default();
    request.max_wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    request.min_bytes = settings.min_bytes;
    request.max_bytes = settings.max_bytes;
    request.isolation_level = i8::from(settings.read_committed);
    request.topics = topics;
    request.rack_id = settings.rack.clone().unwrap_or_default();
    let mut answer = connection
        .send_request_with_timeout(ApiKey::Fetch, version, wait + settings.request_timeout, |to| request.encode_versioned(version, to))
        .await?;
    let response = FetchResponse::decode_versioned(version, &mut answer)?;
    connection.notify_throttle(response.throttle_time_ms);
    Ok(response)
}
