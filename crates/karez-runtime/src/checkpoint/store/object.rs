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

use super::{Creation, DurableStore, checked};

/// A prefix in a bucket.
#[derive(Debug)]
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    url: String,
}

impl RemoteStore {
    /// Opens `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; credentials come from the environment, as each provider's tools take them.
    pub fn open(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let prefix = rest.split_once('/').map_or("", |(_, path)| path);
        Ok(Self::new(connect(scheme, url)?, prefix, url))
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
    runtime.spawn(async move {
        let _ = sender.send(request.await);
    });
    answer.recv().map_err(|_| Error::internal("a request to an object store ended without an answer"))
}

fn connect(scheme: &str, url: &str) -> Result<Arc<dyn ObjectStore>> {
    match scheme {
        "s3" | "s3a" => s3(url),
        "gs" => gcs(url),
        "az" | "azure" | "abfs" | "abfss" => azure(url),
        _ => Err(Error::user(format!(
            "`{url}`: checkpoints cannot be kept under `{scheme}://`; use a path, file:///path, s3://bucket/path, gs://bucket/path or az://container/path"
        ))),
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn not_built(url: &str, feature: &str) -> Result<Arc<dyn ObjectStore>> {
    Err(Error::user(format!("`{url}`: this build of karez has no access to that object store; build it with `--features {feature}`")))
}

#[cfg(feature = "s3")]
fn s3(url: &str) -> Result<Arc<dyn ObjectStore>> {
    let store = object_store::aws::AmazonS3Builder::from_env().with_url(url).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "s3"))]
fn s3(url: &str) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "s3")
}

#[cfg(feature = "gcs")]
fn gcs(url: &str) -> Result<Arc<dyn ObjectStore>> {
    let store = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "gcs"))]
fn gcs(url: &str) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "gcs")
}

#[cfg(feature = "azure")]
fn azure(url: &str) -> Result<Arc<dyn ObjectStore>> {
    let store = object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url).build();
    Ok(Arc::new(store.map_err(|e| Error::user(format!("`{url}`")).caused_by(e))?))
}
#[cfg(not(feature = "azure"))]
fn azure(url: &str) -> Result<Arc<dyn ObjectStore>> {
    not_built(url, "azure")
}
