//! One `karez` child process and its log.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longer than a run takes on a loaded machine, its server killed and started again included; only a run that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `karez run` under way.
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: String,
    deadline: Instant,
}

/// How a process ended.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    /// Whether a signal ended it: SIGKILL from outside, SIGABRT at a fail point.
    pub(super) killed: bool,
    pub(super) log: String,
}

impl Process {
    pub(super) fn start(karez: &Path, folder: &Path, job: &str, fail_points: Option<&str>) -> Result<Self, String> {
        let mut command = Command::new(karez);
        command.args(["run", job, "--log-format", "json"]).current_dir(folder).env("KAREZ_STATE_DIR", folder.join("state"));
        // Completed checkpoints are told at this level.
        command.env("KAREZ_LOG", "info,karez_runtime=debug").env_remove("FAILPOINTS");
        if let Some(points) = fail_points {
            command.env("FAILPOINTS", points);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("`{}` does not start: {e}", karez.display()))?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, log: String::new(), deadline: Instant::now() + PATIENCE })
    }

    /// Reads the log up to the line with this text; false if the process ended before.
    pub(super) fn until(&mut self, text: &str) -> Result<bool, String> {
        loop {
            match self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.log.push_str(&line);
                    self.log.push('\n');
                    if line.contains(text) {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => return Err(format!("hangs before `{text}`; its log:\n{}", self.log)),
            }
        }
    }

    /// Reads the log for so long; false if the process ended before.
    pub(super) fn during(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.log.extend([line.as_str(), "\n"]),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Result<Ended, String> {
        self.child.kill().map_err(|e| format!("cannot be killed: {e}"))?;
        self.end()
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Result<Ended, String> {
        while self.until("\u{0}")? {}
        let status = self.child.wait().map_err(|e| format!("cannot be waited for: {e}"))?;
        Ok(Ended { code: status.code(), killed: status.signal().is_some(), log: std::mem::take(&mut self.log) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is not there any more; one that hangs is not left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
