//! A folder with job files, and the `karez` binary run in it.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a loaded machine; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own: jobs run in it, their state is in `state/`.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, answers its name.
    pub fn file<'a>(&self, name: &'a str, text: &str) -> &'a str {
        std::fs::write(self.path().join(name), text).unwrap();
        name
    }

    /// Adds to the end of a file, which need not be there.
    pub fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_karez"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("KAREZ_STATE_DIR", self.path().join("state"))
            .env_remove("KAREZ_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn karez(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// Starts `karez run` with JSON logs.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).args(["--log-format", "json"]).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Running { child, log, read: String::new() }
    }

    /// Starts a job whose log goes to the file `log`, so that it never waits for somebody to read it.
    pub fn start_logging(&self, mut command: Command, log: &str) -> Logging {
        let log = self.path().join(log);
        let child = command.args(["--log-format", "json"]).stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        Logging { child, log }
    }

    /// Everything in the folder, hidden files included.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path.clone());
                }
                found.push(path.strip_prefix(self.path()).unwrap().to_owned());
            }
        }
        found.sort();
        found
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// `karez run` under way.
pub struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    read: String,
}

impl Running {
    /// Reads the log up to the line with this text.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> &mut Self {
        loop {
            let mut line = String::new();
            let n = self.log.read_line(&mut line).unwrap();
            assert!(n > 0, "ended before `{text}`:\n{}", self.read);
            self.read.push_str(&line);
            if line.contains(text) {
                return self;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Bytes it has printed that nobody has read.
    pub fn unread_output(&self) -> u64 {
        rustix::io::ioctl_fionread(self.child.stdout.as_ref().unwrap()).unwrap()
    }

    /// Waits for its end without reading what it prints.
    pub fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Done {
        let mut stdout = self.child.stdout.take().unwrap();
        // Both at once: a full pipe holds the process up.
        let out = std::thread::spawn(move || {
            let mut out = String::new();
            stdout.read_to_string(&mut out).unwrap();
            out
        });
        self.log.read_to_string(&mut self.read).unwrap();
        let out = out.join().unwrap();
        let status = self.child.wait().unwrap();
        Done { code: status.code().unwrap_or(-1), out, err: std::mem::take(&mut self.read) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves no process behind; one that has ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `karez run` under way with its log in a file.
pub struct Logging {
    child: Child,
    log: PathBuf,
}

impl Logging {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log with this text.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> &mut Self {
        self.until_times(text, 1)
    }

    /// Waits until the text has been there so many times.
    #[track_caller]
    pub fn until_times(&mut self, text: &str, times: usize) -> &mut Self {
        eventually(text, || {
            if self.log().matches(text).count() >= times {
                return Some(());
            }
            assert!(self.child.try_wait().unwrap().is_none(), "ended before `{text}`:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(10));
            None
        });
        self
    }

    /// What the process has in memory.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kb = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        kb.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, which must be a good one. Answers its log.
    #[track_caller]
    pub fn end(mut self) -> String {
        let (ended, log) = (self.child.wait().unwrap(), self.log());
        assert!(ended.success(), "{ended}:\n{log}");
        log
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // Only where a test fails is it still there, or of interest why it is not.
        let runs = self.child.try_wait().is_ok_and(|ended| ended.is_none());
        if runs {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if runs || std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Asks until the answer is there.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}
