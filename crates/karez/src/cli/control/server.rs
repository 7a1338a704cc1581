//! The side of the running job: answers requests until the job has ended.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use karez_core::{Error, Result};
use karez_runtime::JobHandle;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::protocol::{Answer, MAX_REQUEST_BYTES, Request};
use super::socket::Place;

/// Connections open at a time; others wait.
const MAX_CONNECTIONS: usize = 16;

/// A client has so long to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// After the end of the job the answers under way have so long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The socket of a running job. Only the user who runs the job may use it.
#[derive(Debug)]
pub(crate) struct Server {
    ended: watch::Sender<bool>,
    task: JoinHandle<()>,
    /// Removes the socket when dropped.
    _place: Place,
}

impl Server {
    /// Listens below the job's directory, whose lock the caller holds.
    pub(crate) fn start(job: &Path, handle: JobHandle) -> io::Result<Self> {
        let place = Place::claim(job)?;
        let listener = UnixListener::bind(&place.socket)?;
        std::fs::set_permissions(&place.socket, std::fs::Permissions::from_mode(0o600))?;
        let (ended, end) = watch::channel(false);
        Ok(Self { ended, task: tokio::spawn(serve(listener, handle, end)), _place: place })
    }

    /// Takes no more requests, finishes the answers under way, removes the socket.
    pub(crate) async fn finish(self) {
        self.ended.send_replace(true);
        let aborted = self.task.abort_handle();
        if tokio::time::timeout(LAST_ANSWERS, self.task).await.is_err() {
            aborted.abort();
        }
    }
}

async fn serve(listener: UnixListener, handle: JobHandle, mut end: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = end.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => { connections.spawn(converse(stream, handle.clone())); }
                Err(e) => {
                    tracing::warn!("the control socket: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn converse(stream: UnixStream, handle: JobHandle) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_REQUEST_BYTES));
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, reader.read_line(&mut line)).await {
        Err(_) | Ok(Err(_)) => return,
        Ok(Ok(_)) => match serde_json::from_str(&line) {
            Ok(request) => match perform(request, &handle).await {
                Ok(value) => Answer::Ok(value),
                Err(e) => Answer::Error(e.to_string()),
            },
            Err(e) => Answer::Error(format!("not understood: {e}")),
        },
    };
    if let Ok(mut text) = serde_json::to_string(&answer) {
        text.push('\n');
        // A client that has gone away does not need the answer.
        let _ = write.write_all(text.as_bytes()).await;
    }
}

async fn perform(request: Request, handle: &JobHandle) -> Result<Value> {
    match request {
        Request::Status => {
            Ok(json!({ "id": handle.id(), "name": handle.name(), "run": handle.run().0, "status": handle.status(), "report": handle.report() }))
        }
        Request::Pause => {
            handle.pause().await?;
            Ok(json!({ "status": handle.status() }))
        }
        Request::Resume => {
            handle.resume().await?;
            Ok(json!({ "status": handle.status() }))
        }
        Request::Savepoint { folder } => Ok(json!({ "savepoint": handle.savepoint(folder).await? })),
        Request::Stop { savepoint: false, .. } => {
            handle.stop().await?;
            end_of(handle, None).await
        }
        Request::Stop { savepoint: true, folder } => {
            let path = handle.stop_with_savepoint(folder).await?;
            end_of(handle, Some(path)).await
        }
        Request::Replay => {
            let answer = handle.replay().await?;
            Ok(json!({ "letters": answer.letters, "refused": answer.refused }))
        }
        Request::Drain => {
            handle.drain().await?;
            end_of(handle, None).await
        }
    }
}

async fn end_of(handle: &JobHandle, savepoint: Option<std::path::PathBuf>) -> Result<Value> {
    let outcome = handle.wait().await;
    match &outcome.error {
        Some(e) => Err(Error::external(format!("the job failed while it was stopped: {e}"))),
        None => Ok(json!({ "status": outcome.status, "savepoint": savepoint })),
    }
}
