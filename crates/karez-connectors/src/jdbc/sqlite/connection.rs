//! A connection whose calls run beside the tasks of the job, and its errors in words.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use karez_core::metrics::NodeMetrics;
use karez_core::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

/// How long SQLite itself waits for a lock before the wait is counted and tried again.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// One connection. Calls wait for each other and run on threads that may block.
#[derive(Clone, Debug)]
pub(super) struct Database {
    connection: Arc<Mutex<Connection>>,
    path: Arc<Path>,
    lock_timeout: Duration,
}

/// Set when whoever waits for a call has gone away.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Database {
    /// Opens an existing file to read; nothing is created.
    pub(super) fn open_to_read(path: &Path) -> Result<Connection> {
        if !path.exists() {
            return Err(Error::user(format!("there is no file `{}`", path.display())));
        }
        // Read-write where allowed: a reader of a database in WAL mode must be able to make its shared-memory file. Without the flag CREATE no file appears.
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = |f| Connection::open_with_flags(path, flags | f);
        let connection =
            open(OpenFlags::SQLITE_OPEN_READ_WRITE).or_else(|_| open(OpenFlags::SQLITE_OPEN_READ_ONLY)).map_err(|e| failed("open", path, e))?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(|e| failed("open", path, e))?;
        // `query_only` keeps a `query:` that writes from writing.
        connection.pragma_update(None, "query_only", true).map_err(|e| failed("open", path, e))?;
        Ok(connection)
    }

    /// Opens a file to write; makes the file, not its folder.
    pub(super) async fn open_to_write(path: &Path, lock_timeout: Duration) -> Result<Self> {
        let path: Arc<Path> = Arc::from(path);
        let file = Arc::clone(&path);
        let connection = blocking(move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&file, flags).map_err(|e| failed("open", &file, e))?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| failed("open", &file, e))?;
            Ok(connection)
        })
        .await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path, lock_timeout })
    }

    /// Runs work on the connection. A lock that others hold is waited for, up to the time allowed, as long as the caller is there.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        metrics: Option<Arc<NodeMetrics>>,
        work: impl Fn(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let abandoned = Abandoned(Arc::default());
        let gone = Arc::clone(&abandoned.0);
        let result = blocking(move || {
            let mut connection = this.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let started = Instant::now();
            loop {
                match work(&mut connection) {
                    Ok(value) => return Ok(value),
                    Err(e) if is_busy(&e) && !gone.load(Ordering::Relaxed) && started.elapsed() < this.lock_timeout => {
                        if let Some(metrics) = &metrics {
                            metrics.retried.add(1);
                        }
                        // Where SQLite answers at once (a possible deadlock) its busy handler has not waited.
                        #[allow(clippy::disallowed_methods)] // This thread is one that may block.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(e) => return Err(failed("write to", &this.path, e)),
                }
            }
        })
        .await;
        drop(abandoned);
        result
    }

    /// Runs work in one transaction that holds the write lock from its start. See [`Self::durable`].
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        durable: bool,
        metrics: Option<Arc<NodeMetrics>>,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.call(metrics, move |connection| {
            Self::durable(connection, durable)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Whether a commit reaches the disk before it returns. Off, it does so with the next commit that has it on: the log is synced as a whole. Without
    /// a write-ahead log it is always on.
    fn durable(connection: &Connection, yes: bool) -> rusqlite::Result<()> {
        let wal = connection.query_row("PRAGMA journal_mode", [], |r| r.get::<_, String>(0))?.eq_ignore_ascii_case("wal");
        connection.pragma_update(None, "synchronous", if yes || !wal { "FULL" } else { "NORMAL" })
    }
}

/// Makes the folder of a file.
pub(super) async fn create_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()).map(Path::to_path_buf) else { return Ok(()) };
    blocking(move || std::fs::create_dir_all(&folder).map_err(|e| Error::external(format!("cannot create the folder `{}`: {e}", folder.display()))))
        .await
}

/// Runs blocking work beside the tasks of the job.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("database work was interrupted").caused_by(e))?
}

/// An error of ours that travels through SQLite's error type.
pub(super) fn ours(e: Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(e))
}

fn code(e: &rusqlite::Error) -> Option<ErrorCode> {
    e.sqlite_error_code()
}

pub(super) fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(code(e), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a row is at fault and not the database.
pub(super) fn is_row_fault(e: &rusqlite::Error) -> bool {
    matches!(code(e), Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig))
}

/// The reason a row was refused for, as SQLite gives it.
pub(super) fn reason(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

/// An error of the database in words.
pub(super) fn failed(what: &str, path: &Path, e: rusqlite::Error) -> Error {
    if let rusqlite::Error::ToSqlConversionFailure(inner) = e {
        return match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => Error::external(format!("cannot {what} `{}`: {other}", path.display())),
        };
    }
    let message = format!("cannot {what} `{}`: {}", path.display(), reason(&e));
    match code(&e) {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::connection(format!("{message}; another program holds its write lock (raise `lockTimeout` if that is meant to be)"))
        }
        Some(ErrorCode::DiskFull) => Error::external(format!("{message}; make room and start the job again, it goes on where it was")),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Error::external(format!("{message}; the user that runs karez needs the right to read and write the file and its folder"))
        }
        Some(ErrorCode::NotADatabase) => Error::user(format!("`{}` is no SQLite database", path.display())),
        _ => Error::external(message),
    }
}

/// The path of a sink's or source's file, and how long it waits for locks.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) lock_timeout: Duration,
}
