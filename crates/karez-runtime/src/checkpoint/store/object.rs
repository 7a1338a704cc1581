//! An object store (S3, Google Cloud Storage, Azure Blob Storage) through the crate `object_store`, as blocking calls.
//!
//! The store must create-if-absent atomically (S3: `If-None-Match`); without it two processes could both believe they own a run.

use std::future::Future;
use std::sync::{Arc, OnceLock, mpsc};

use bytes::Bytes;
use futures::TryStreamExt;
use karez_core::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use super::counted;
use super::{Creation, DurableStore, StoreCalls, checked};

/// A prefix in a bucket.
#[derive(Debug)]
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    url: String,
}

impl RemoteStore {
    /// Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; credentials come from the environment, as each provider's tools take them.
    /// Requests are sent, sent again and counted as `calls` says.
    pub fn open(url: &str, calls: &StoreCalls) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let prefix = rest.split_once('/').map_or("", |(_, path)| path);
        Ok(Self::new(connect(scheme, url, calls)?, prefix, url))
    }

    /// A prefix of any object store; `url` names it in messages.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, url: &str) -> Self {
        Self { store, prefix: prefix.trim_matches('/').to_owned(), url: url.trim_end_matches('/').to_owned() }
    }

    fn path(&self, name: &str) -> Result<Path> {
        checked(name)?;
        Ok(if self.prefix.is_empty() { Path::from(name) } else { Path::from(format!("{}/{name}", self.prefix)) })
    }

    fn failed(&self, what: &str, name: &str, cause: object_store::Error) -> Error {
        let retryable = matches!(cause, object_store::Error::Generic { .. });
        Error::external(format!("cannot {what} {}", self.describe(name))).caused_by(cause).retryable(retryable)
    }
}

impl DurableStore for RemoteStore {
    fn create(&self, name: &str, bytes: &Bytes) -> Result<Creation> {
        let (store, path, payload) = (Arc::clone(&self.store), self.path(name)?, PutPayload::from(bytes.clone()));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match wait(async move { store.put_opts(&path, payload, options).await })? {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Creation::Exists),
            Err(e) => Err(self.failed("create", name, e)),
        }
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name)?);
        match wait(async move { store.get(&path).await?.bytes().await })? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("read", name, e)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder)?);
        let listed: Result<Vec<_>, _> = wait(async move { store.list(Some(&path)).try_collect().await })?;
        let listed = listed.map_err(|e| self.failed("list", folder, e))?;
        let strip = |path: &Path| path.as_ref().strip_prefix(self.prefix.as_str()).map(|n| n.trim_start_matches('/').to_owned());
        let mut names: Vec<String> = listed.iter().filter_map(|meta| strip(&meta.location)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(name)?);
        match wait(async move { store.delete(&path).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed("delete", name, e)),
        }
    }

    fn describe(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }
}

/// Waits for a request on a runtime of its own, so that a caller may block whatever runtime it runs on.
fn wait<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> Result<T> {
    static REQUESTS: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = REQUESTS
        .get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("karez-object-store").enable_all().build())
        .as_ref()
        .map_err(|e| Error::internal(format!("cannot start the threads for object stores: {e}")))?;
    let (sender, answer) = mpsc::sync_channel(1);
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    let request = counted::operation(request);
    runtime.spawn(async move {
        let _ = sender.send(request.await);
    });
    answer.recv().map_err(|_| Error::internal("a request to an object store ended without an answer"))
}

fn connect(scheme: &str, url: &str, calls: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    match scheme {
        "s3" | "s3a" => s3(url, calls),
        "gs" => gcs(url, calls),
        "az" | "azure" | "abfs" | "abfss" => azure(url, calls),
        _ => Err(Error::user(format!(
            "`{url}`: checkpoints cannot be kept under `{scheme}://`; use a path, file:///path, s3://bucket/path, gs://bucket/path or az://container/path"
        ))),
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn not_built(url: &str, feature: &str) -> Result<Arc<dyn ObjectStore>> {
    Err(Error::user(format!("`{url}`: this build of karez has no access to that object store; build it with `--features {feature}`")))
}

/// A builder whose client is called as `calls` says: the three have these methods, and no trait in common.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
macro_rules! called {
    ($builder:expr, $key:path, $calls:expr) => {{
        let builder = $builder.with_http_connector(counted::Counted(Arc::clone(&$calls.meter)));
        match &$calls.options {
            None => builder,
            Some(options) => builder
                .with_retry(counted::retries(options))
                // One by one, so that what the environment says of proxies and the like stays.
                .with_config(<$key>::Client(object_store::ClientConfigKey::Timeout), format!("{}ms", options.timeout.as_millis()))
                .with_config(<$key>::Client(object_store::ClientConfigKey::ConnectTimeout), format!("{}ms", connect_timeout(options).as_millis())),
        }
    }};
}

/// A connection that has not come about by then will not, and there may be time for another.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn connect_timeout(options: &karez_external::ClientOptions) -> std::time::Duration {
    options.timeout.0.min(std::time::Duration::from_secs(5))
}

#[cfg(feature = "s3")]
fn s3(url: &str, calls: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    let builder = object_store::aws::AmazonS3Builder::from_env().with_url(url);
    let store = called!(builder, object_store::aws::AmazonS3ConfigKey, calls).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "s3"))]
fn s3(url: &str, _: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "s3")
}

#[cfg(feature = "gcs")]
fn gcs(url: &str, calls: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url);
    let store = called!(builder, object_store::gcp::GoogleConfigKey, calls).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "gcs"))]
fn gcs(url: &str, _: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "gcs")
}

#[cfg(feature = "azure")]
fn azure(url: &str, calls: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    let builder = object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url);
    let store = called!(builder, object_store::azure::AzureConfigKey, calls).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "azure"))]
fn azure(url: &str, _: &StoreCalls) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "azure")
}

#[cfg(all(test, feature = "s3"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use karez_core::config::Span;
    use karez_core::metrics::NodeMetrics;
    use karez_external::{ClientOptions, RetryOptions};

    use super::*;

    /// A store that answers its requests with these, one after the other, and then no more; 0: it lets the request lie.
    fn server(answers: impl IntoIterator<Item = u16> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for status in answers {
                let mut client = listener.accept().unwrap().0;
                read_request(&client);
                if status == 0 {
                    unanswered.push(client);
                } else {
                    write!(client, "HTTP/1.1 {status} as told\r\nconnection: close\r\netag: \"1\"\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            }
        });
        address
    }

    fn read_request(client: &TcpStream) {
        let mut reader = BufReader::new(client);
        let mut body = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                body = length.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; body]).unwrap();
    }

    fn store(at: SocketAddr, attempts: usize, timeout: Span) -> (RemoteStore, Arc<NodeMetrics>) {
        let retry = RetryOptions { attempts, initial_delay: Span::millis(1), max_delay: Span::millis(2), jitter: true };
        let metrics = Arc::<NodeMetrics>::default();
        let calls = StoreCalls::new(Some(ClientOptions { timeout, retry }), Arc::clone(&metrics));
        let builder = object_store::aws::AmazonS3Builder::new().with_bucket_name("bucket").with_region("here").with_endpoint(format!("http://{at}"));
        let builder = builder.with_access_key_id("key").with_secret_access_key("secret").with_allow_http(true);
        let store = called!(builder, object_store::aws::AmazonS3ConfigKey, calls).build().unwrap();
        (RemoteStore::new(Arc::new(store), "prefix", "s3://bucket/prefix"), metrics)
    }

    #[test]
    fn each_request_and_each_attempt_at_it_is_counted() {
        let (store, metrics) = store(server([503, 429, 200, 200]), 4, Span::millis(30_000));
        assert_eq!(store.create("a", &Bytes::from_static(b"rows")).unwrap(), Creation::Created);
        assert_eq!((metrics.calls.get(), metrics.retried.get(), metrics.throttled.get()), (3, 2, 1));
        store.create("a", &Bytes::from_static(b"rows")).unwrap();
        assert_eq!((metrics.calls.get(), metrics.retried.get()), (4, 2), "the same request as a part of another operation is a new one");
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[test]
    fn a_request_is_sent_as_often_as_the_options_say() {
        let (store, metrics) = store(server([503; 12]), 3, Span::millis(30_000));
        let error = store.create("a", &Bytes::new()).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!((metrics.calls.get(), metrics.retried.get()), (3, 2));
    }

    #[test]
    fn a_store_that_does_not_answer_is_given_up_after_its_time() {
        let (store, metrics) = store(server([0; 12]), 2, Span::millis(50));
        store.get("a").unwrap_err();
        assert_eq!((metrics.calls.get(), metrics.retried.get(), metrics.timed_out.get()), (2, 1, 2));
    }
}
