//! Topics: made by the one request of Kafka's protocol that this takes, written and read by a client of their own.

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use krafka::admin::{DescribeProducersOptions, DescribeTopicsOptions, ListTransactionsOptions};
use krafka::consumer::{AutoOffsetReset, IsolationLevel, TopicPartition};
use krafka::producer::Acks;
use krafka::{Kafka, Record};

/// `CreateTopics`, in its last version with fixed-width lengths.
const CREATE_TOPICS: (i16, i16) = (19, 4);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a topic with so many partitions and, where it is given, settings such as `("cleanup.policy", "compact")`, replicated as the brokers' default says.
/// `bootstrap` is a plain text listener, `host:port`; of several separated by commas the first is asked.
///
/// # Errors
/// The broker is not reached, or does not make it.
pub fn create_topic(bootstrap: &str, name: &str, partitions: u16, settings: &[(&str, &str)]) -> Result<()> {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    text(&mut body, name);
    body.extend(i32::from(partitions).to_be_bytes());
    body.extend((-1_i16).to_be_bytes()); // The default replication.
    body.extend(0_i32.to_be_bytes()); // No assignment by hand.
    body.extend(count(settings.len()));
    for (key, value) in settings {
        text(&mut body, key);
        text(&mut body, value);
    }
    body.extend(20_000_i32.to_be_bytes());
    body.push(0);

    let answer = ask(bootstrap.split(',').next().unwrap_or(bootstrap), &body)?;
    // Correlation, throttle time, one topic: its name, a code, a message.
    let short = |at: usize| answer.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]]));
    let cut = || Error::other("the broker's answer is cut off");
    let at = 12 + 2 + usize::try_from(short(12).ok_or_else(cut)?).unwrap_or(0);
    let code = short(at).ok_or_else(cut)?;
    if code == 0 {
        return Ok(());
    }
    let message = String::from_utf8_lossy(answer.get(at + 4..).unwrap_or_default()).into_owned();
    Err(Error::other(format!("the topic `{name}` is not made: error {code}, {message}")))
}

fn ask(address: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(CREATE_TOPICS.0.to_be_bytes());
    request.extend(CREATE_TOPICS.1.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    text(&mut request, "karez-testkit");
    request.extend(body);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(&count(request.len()))?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).map_err(Error::other)?];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(i16::try_from(text.len()).unwrap_or(i16::MAX).to_be_bytes());
    into.extend(text.as_bytes());
}

fn count(n: usize) -> [u8; 4] {
    i32::try_from(n).unwrap_or(i32::MAX).to_be_bytes()
}

/// The transactional ids with `part` in them whose transactions are open at a plain text listener.
///
/// # Errors
/// A broker does not answer.
pub async fn open_transactions(bootstrap: &str, part: &str) -> krafka::error::Result<Vec<String>> {
    let kafka = Kafka::builder(bootstrap).connect().await?;
    let open = ListTransactionsOptions::default().states(vec!["Ongoing".to_owned()]);
    let mut ids = Vec::new();
    for of_broker in kafka.admin().list_transactions(open).await?.into_values() {
        ids.extend(of_broker?.into_iter().map(|t| t.transactional_id).filter(|id| id.contains(part)));
    }
    Ok(ids)
}

/// A message, as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// `None` is no key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A topic of a plain text listener, as anybody else would use it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The brokers.
    pub bootstrap: String,
    /// Its name.
    pub name: String,
}

impl Topic {
    /// Makes it.
    ///
    /// # Errors
    /// The broker is not reached, or does not make it.
    pub fn create(bootstrap: &str, name: &str, partitions: u16) -> Result<Self> {
        create_topic(bootstrap, name, partitions, &[])?;
        Ok(Self { bootstrap: bootstrap.to_owned(), name: name.to_owned() })
    }

    /// Adds messages, those of one key to one partition and in order; all of them are there when this returns.
    ///
    /// # Errors
    /// The broker does not take one.
    pub async fn produce(&self, messages: impl IntoIterator<Item = (Option<Vec<u8>>, Option<Vec<u8>>)>) -> krafka::error::Result<()> {
        let kafka = Kafka::builder(self.bootstrap.clone()).connect().await?;
        let producer = kafka.producer().acks(Acks::All).linger(Duration::from_millis(5)).build().await?;
        let mut waiting = Vec::new();
        for (key, value) in messages {
            let mut record = Record::new(self.name.clone(), value.clone().unwrap_or_default());
            record.key = key.map(Into::into);
            record.value = value.map(Into::into);
            waiting.push(producer.enqueue(record).await?);
        }
        producer.flush().await?;
        for handle in waiting {
            let _ = handle.await?;
        }
        producer.close().await
    }

    /// All that is committed, by partition and offset.
    ///
    /// # Errors
    /// The topic is not there, or its end is not reached.
    pub async fn read_committed(&self) -> krafka::error::Result<Vec<Message>> {
        patiently(|| self.read_to_the_end()).await
    }

    async fn read_to_the_end(&self) -> krafka::error::Result<Vec<Message>> {
        let kafka = Kafka::builder(self.bootstrap.clone()).connect().await?;
        self.settled(&kafka).await?;
        let consumer = kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .build()
            .await?;
        let metadata = consumer.fetch_metadata(Some(&self.name)).await?;
        let topic = metadata.topics.iter().find(|t| *t.name == *self.name).ok_or_else(|| krafka::KrafkaError::unknown_topic(&self.name))?;
        let partitions: Vec<_> = topic.partitions.values().map(|p| p.partition).collect();
        // Of committed rows: before the first transaction that is open.
        let mut ends = Vec::new();
        for partition in &partitions {
            let (begin, end) = consumer.fetch_watermarks(&self.name, *partition).await?;
            if end > begin {
                ends.push((*partition, end));
            }
        }
        consumer.assign(&self.name, ends.iter().map(|(p, _)| *p).collect()).await?;
        let (mut messages, since) = (Vec::new(), Instant::now());
        loop {
            let mut behind = false;
            for (partition, end) in &ends {
                behind |= consumer.position(&self.name, *partition).await.is_none_or(|at| at < *end);
            }
            if !behind {
                break;
            }
            if since.elapsed() > TIMEOUT {
                return Err(krafka::KrafkaError::illegal_state(format!("the end of `{}` is not reached", self.name)));
            }
            for record in consumer.poll(Duration::from_millis(200)).await? {
                let bytes = |b: Option<bytes::Bytes>| b.map(|b| b.to_vec());
                messages.push(Message { partition: record.partition, offset: record.offset, key: bytes(record.key), value: bytes(record.value) });
            }
        }
        consumer.close().await?;
        messages.sort_by_key(|m| (m.partition, m.offset));
        Ok(messages)
    }

    /// Waits for the end of the transactions that are being ended: a commit is answered before its markers are in the log, by a moment, or by the next start
    /// of a broker that was killed, which lists none before it has loaded them. Those that are open may stay so.
    async fn settled(&self, kafka: &Kafka) -> krafka::error::Result<()> {
        let (admin, since) = (kafka.admin(), Instant::now());
        let described = admin.describe_topics([&self.name], DescribeTopicsOptions::default()).await?.remove(&self.name);
        let described = described.unwrap_or_else(|| Err(krafka::KrafkaError::unknown_topic(&self.name)))?;
        let partitions: Vec<_> = described.partitions.iter().map(|p| TopicPartition::new(&self.name, p.partition)).collect();
        while since.elapsed() < TIMEOUT {
            let mut writing = Vec::new();
            for producers in admin.describe_producers(partitions.clone(), DescribeProducersOptions::default()).await?.into_values() {
                writing.extend(producers?.into_iter().filter(|p| p.current_transaction_start_offset.is_some()).map(|p| p.producer_id));
            }
            if writing.is_empty() {
                return Ok(());
            }
            let open = ListTransactionsOptions::default().states(vec!["Ongoing".to_owned()]).producer_ids(writing.clone());
            let mut listed = Vec::new();
            for transactions in admin.list_transactions(open).await?.into_values() {
                listed.extend(transactions?.into_iter().map(|t| t.producer_id));
            }
            if writing.iter().all(|producer| listed.contains(producer)) {
                return Ok(());
            }
        }
        Err(krafka::KrafkaError::illegal_state(format!("a transaction in `{}` is being ended for ever", self.name)))
    }

    /// The same for those who are not asynchronous.
    ///
    /// # Errors
    /// The topic is not there, or its end is not reached.
    pub fn read_committed_blocking(&self) -> std::result::Result<Vec<Message>, String> {
        blocking(self.read_committed())
    }

    /// Waits until every transaction that was committed before can be read, for those who are not asynchronous and read by themselves.
    ///
    /// # Errors
    /// The brokers do not answer in time.
    pub fn settled_blocking(&self) -> std::result::Result<(), String> {
        blocking(patiently(|| async { self.settled(&Kafka::builder(self.bootstrap.clone()).connect().await?).await }))
    }
}

/// A broker that has been killed is there again soon.
async fn patiently<T, F: Future<Output = krafka::error::Result<T>>>(act: impl Fn() -> F) -> krafka::error::Result<T> {
    let since = Instant::now();
    loop {
        match act().await {
            Err(e) if e.is_retriable() && since.elapsed() < TIMEOUT => {}
            done => return done,
        }
    }
}

fn blocking<T>(what: impl Future<Output = krafka::error::Result<T>>) -> std::result::Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(what).map_err(|e| e.to_string())
}
