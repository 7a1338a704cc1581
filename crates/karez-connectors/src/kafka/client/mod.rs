//! The client: how it is configured and connected, and what its errors mean.
//!
//! All parts of one end of a job in one process share a [`Kafka`]: its connections, one to each broker, and what it knows of the cluster.

mod error;
mod jaas;
mod security;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use karez_core::Result;
use karez_core::config::{ConfigError, Span};
use karez_external::{ClientFigures, ClientMeter, ClientOptions, RetryOptions};
use krafka::Kafka;
use krafka::auth::AuthConfig;

use error::doubt;
pub(super) use error::{broker_error, client_error};

use super::options::{BootstrapServers, SecurityOptions};
use super::properties::PropertyReader;

/// The options of an end that say how the cluster is reached.
#[derive(Clone, Copy)]
pub(super) struct ConnectionOptions<'a> {
    pub(super) bootstrap_servers: Option<&'a BootstrapServers>,
    pub(super) client_id: Option<&'a str>,
    pub(super) security: Option<&'a SecurityOptions>,
    pub(super) external: Option<&'a ClientOptions>,
}

/// Everything needed to connect. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub(super) struct ClientConfig {
    /// `host:port`, separated by commas.
    pub(super) servers: String,
    pub(super) client_id: String,
    auth: Option<AuthConfig>,
    pub(super) request_timeout: Duration,
    /// How requests are sent again. Where `external` does not say how often, that is not limited here.
    pub(super) retry: RetryOptions,
    connect_timeout: Duration,
    metadata_max_age: Duration,
    connections_max_idle: Option<Duration>,
    send_buffer: Option<usize>,
    receive_buffer: Option<usize>,
}

impl ClientConfig {
    /// Validates what the user wrote; what is wrong goes into `errors` and the properties' own.
    pub(super) fn plan(options: ConnectionOptions<'_>, properties: &mut PropertyReader<'_>, errors: &mut Vec<ConfigError>) -> Option<Self> {
        let given = options.bootstrap_servers.map(|s| s.addresses().join(","));
        let servers = properties.or("bootstrapServers", given, "bootstrap.servers", |p| p.text("bootstrap.servers").map(str::to_owned));
        match &servers {
            None => errors.push(ConfigError::new("bootstrapServers", "missing").hint("the brokers' addresses, as `host:9092`, separated by commas")),
            Some(servers) => errors.extend(check_servers(servers).err()),
        }
        let client_id = properties.or("clientId", options.client_id.map(str::to_owned), "client.id", |p| p.text("client.id").map(str::to_owned));
        let auth = security::plan(options.security, properties, errors);

        let external = options.external;
        errors.extend(external.and_then(|e| e.check().err()).map(|e| e.under("external")));
        let timeout = external.map(|e| e.timeout.0);
        let timeout = properties.or("external.timeout", timeout, "request.timeout.ms", |p| p.millis("request.timeout.ms"));
        let request_timeout = timeout.unwrap_or(Duration::from_secs(30));
        let connect_timeout = properties.millis("socket.connection.setup.timeout.ms").unwrap_or(request_timeout.min(Duration::from_secs(10)));
        if request_timeout < connect_timeout {
            properties.error("socket.connection.setup.timeout.ms", "must be at most `request.timeout.ms` or `external.timeout` (30000 unless set)");
        }
        let retry = retry(external, properties);
        let metadata_max_age = properties.millis("metadata.max.age.ms").unwrap_or(Duration::from_secs(300));
        let connections_max_idle = match properties.parse::<i64>("connections.max.idle.ms", "milliseconds, or -1") {
            None => Some(Duration::from_secs(540)),
            Some(ms) => u64::try_from(ms).ok().map(Duration::from_millis),
        };
        let mut buffer = |name| match properties.number(name, -1) {
            None | Some(-1) => None,
            Some(bytes) => usize::try_from(bytes).ok(),
        };
        let (send_buffer, receive_buffer) = (buffer("send.buffer.bytes"), buffer("receive.buffer.bytes"));
        properties.only("client.dns.lookup", &["use_all_dns_ips"], "all addresses of a broker's name are tried, in parallel");
        properties.only("metadata.recovery.strategy", &["rebootstrap"], "the client begins again with `bootstrapServers` when it reaches no broker");

        Some(Self {
            servers: servers?,
            client_id: client_id.unwrap_or_else(|| "karez".to_owned()),
            auth: auth?,
            request_timeout,
            retry,
            connect_timeout,
            metadata_max_age,
            connections_max_idle,
            send_buffer,
            receive_buffer,
        })
    }

    /// Connects. `doing` says what for, in errors.
    pub(super) async fn connect(&self, doing: &str) -> Result<Kafka> {
        let mut builder = Kafka::builder(&self.servers)
            .client_id(&self.client_id)
            .request_timeout(self.request_timeout)
            .connect_timeout(self.connect_timeout)
            .metadata_max_age(self.metadata_max_age)
            .connections_max_idle(self.connections_max_idle)
            .socket_send_buffer(self.send_buffer)
            .socket_receive_buffer(self.receive_buffer);
        if let Some(auth) = &self.auth {
            builder = builder.security(auth.clone());
        }
        builder.connect().await.map_err(|e| {
            let doubt = doubt(self.auth.as_ref(), &e).map_or_else(String::new, |d| format!(", whose listener {d}"));
            client_error(&format!("{doing}: connect to Kafka at {}{doubt}", self.servers), e)
        })
    }
}

/// How requests are sent again, from `external` or Kafka's own names.
fn retry(external: Option<&ClientOptions>, properties: &mut PropertyReader<'_>) -> RetryOptions {
    let given = external.map(|e| &e.retry);
    let mut delay = |option: &str, given: Option<Span>, name: &'static str, default_ms: u64| {
        let delay = properties.or(option, given.map(|s| s.0), name, |p| p.millis(name));
        delay.unwrap_or(Duration::from_millis(default_ms)).max(Duration::from_millis(1))
    };
    let first = delay("external.retry.initialDelay", given.map(|r| r.initial_delay), "retry.backoff.ms", 50);
    let longest = delay("external.retry.maxDelay", given.map(|r| r.max_delay), "retry.backoff.max.ms", 1_000);
    RetryOptions {
        attempts: given.map_or(usize::MAX, |r| r.attempts),
        initial_delay: Span(first),
        max_delay: Span(longest.max(first)),
        jitter: given.is_none_or(|r| r.jitter),
    }
}

fn check_servers(servers: &str) -> Result<(), ConfigError> {
    for server in servers.split(',').map(str::trim) {
        let port = server.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(ConfigError::new("bootstrapServers", format!("`{server}` is no address of a broker")).hint("write it as `host:9092`"));
        }
    }
    Ok(())
}

/// One client for all that live at the same time: connected by the first who asks, closed with the last. A job that starts again connects again, on the
/// runtime that it runs on then.
#[derive(Debug, Default)]
pub(super) struct SharedClient {
    live: Mutex<Weak<Kafka>>,
    metered: Mutex<(Weak<Kafka>, Meter)>,
}

/// What counts the requests of a client, as soon as the node is known that they are counted for.
pub(super) type Meter = Arc<OnceLock<ClientMeter>>;

/// What a client has counted itself. What is sent again is counted by who sends it.
pub(super) fn figures(kafka: &Kafka) -> ClientFigures {
    let connections = kafka.metrics().connections;
    ClientFigures { retried: 0, timed_out: connections.stalled_connections, throttled: connections.throttle_delays }
}

impl SharedClient {
    /// The client that lives, or a new one.
    pub(super) async fn get(&self, config: &ClientConfig, doing: &str) -> Result<Arc<Kafka>> {
        if let Some(kafka) = self.live.lock().unwrap_or_else(PoisonError::into_inner).upgrade() {
            return Ok(kafka);
        }
        let mine = Arc::new(config.connect(doing).await?);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have been faster.
        if let Some(kafka) = live.upgrade() {
            return Ok(kafka);
        }
        *live = Arc::downgrade(&mine);
        Ok(mine)
    }

    /// The meter of a client.
    pub(super) fn meter(&self, kafka: &Arc<Kafka>) -> Meter {
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(metered.0.as_ptr(), Arc::as_ptr(kafka)) {
            *metered = (Arc::downgrade(kafka), Meter::default());
        }
        Arc::clone(&metered.1)
    }
}
