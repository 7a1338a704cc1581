//! One round: a run, its kills, the restarts, the comparison.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use karez_testkit::unique;

use super::input::{write_bad_input, write_input};
use super::job::{Job, Place};
use super::letters::Clerk;
use super::process::Process;
use super::rows::{Difference, Rows};
use super::servers::{Servers, System};

/// When a process is killed.
#[derive(Clone, Debug)]
pub enum Kill {
    /// So long after its job has started.
    After(Duration),
    /// After this many checkpoints of its own.
    AfterCheckpoints(u64),
    /// At a fail point, when it is come by for the `skip + 1`-th time.
    At {
        /// The fail point's name.
        step: &'static str,
        /// How often it is passed before.
        skip: u64,
    },
}

impl Kill {
    /// The same, earlier: for a run that had ended before it could be killed.
    fn sooner(&mut self) {
        match self {
            Self::After(moment) => *moment /= 2,
            Self::AfterCheckpoints(n) => *n = (*n / 2).max(1),
            Self::At { skip, .. } => *skip /= 2,
        }
    }
}

/// A job and what befalls it.
#[derive(Clone, Debug)]
pub struct Round {
    /// The job.
    pub job: Job,
    /// The parallelism of the first start, the second and so on; the last holds for all further ones.
    pub parallelism: Vec<usize>,
    /// How the first process dies, the second and so on. The one after the last is left alone.
    pub kills: Vec<Kill>,
    /// A server that is killed and started again, so long after the first start of the job.
    pub server: Option<(System, Duration)>,
}

/// What came of a round.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How often it was killed, its server included; a round that ended before its first kill came does not count.
    pub kills: u64,
    /// Rows that are missing or too many.
    pub difference: Difference,
    /// The logs of its processes.
    pub log: String,
}

/// Where rounds of one job take place.
pub struct Ground {
    karez: PathBuf,
    folder: PathBuf,
    job: Job,
    servers: Arc<Servers>,
    /// What is read in a server, and what the names of what is written there begin with.
    name: String,
    rounds: AtomicU64,
    expected: Rows,
}

/// How often a round is tried again with earlier kills because it had ended before them.
const TRIES: usize = 6;

impl Ground {
    /// Lets the job run undisturbed once, in a folder that is this ground's own.
    ///
    /// # Errors
    /// The job cannot be run.
    pub fn prepare(karez: &Path, folder: &Path, job: Job, servers: &Arc<Servers>) -> Result<Self, String> {
        let ground = Self {
            karez: karez.to_owned(),
            folder: folder.to_owned(),
            job,
            servers: Arc::clone(servers),
            name: unique("crash"),
            rounds: AtomicU64::new(0),
            expected: Rows::default(),
        };
        ground.clear()?;
        let output = ground.output();
        let place = ground.place(&output);
        if let Some(filling) = job.filling(place)? {
            job.make_input(place)?;
            ground.undisturbed("fill.yaml", &filling)?;
        }
        job.make_output(place)?;
        ground.undisturbed("job.yaml", &job.yaml(1, false, place)?)?;
        let expected = Rows::read(karez, folder, job, place)?;
        if expected.count() == 0 {
            return Err(format!("the undisturbed run of {} wrote nothing", job.name()));
        }
        Ok(Self { expected, ..ground })
    }

    fn undisturbed(&self, file: &str, job: &str) -> Result<(), String> {
        self.write(file, job)?;
        let ended = Process::start(&self.karez, &self.folder, file, None)?.end()?;
        if ended.code == Some(0) { Ok(()) } else { Err(format!("the undisturbed run of {} failed: {}", self.job.name(), ended.log)) }
    }

    /// A name for the topic or table of the next round.
    fn output(&self) -> String {
        format!("{}_{}", self.name, self.rounds.fetch_add(1, Ordering::Relaxed))
    }

    fn place<'a>(&'a self, output: &'a str) -> Place<'a> {
        Place { servers: &self.servers, input: &self.name, output }
    }

    /// Runs a round, again with earlier kills where it had ended before the first.
    ///
    /// # Errors
    /// A process fails or hangs, or its end always comes before the kill.
    pub fn run(&self, round: &Round) -> Result<Outcome, String> {
        let mut round = round.clone();
        for _ in 0..TRIES {
            if let Some(outcome) = self.once(&round).map_err(|e| format!("{round:?}: {e}"))? {
                return Ok(outcome);
            }
            round.kills.iter_mut().for_each(Kill::sooner);
        }
        Err(format!("{round:?}: the kill never came before the end"))
    }

    fn once(&self, round: &Round) -> Result<Option<Outcome>, String> {
        debug_assert_eq!(round.job, self.job);
        self.clear()?;
        let output = self.output();
        let place = self.place(&output);
        self.job.make_output(place)?;
        if !self.job.has_letters() {
            return self.starts(round, place);
        }
        let clerk = Clerk::new(&self.karez, &self.folder, &self.job.yaml(1, true, place)?)?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| clerk.work(&over));
            let outcome = self.starts(round, place);
            over.store(true, Ordering::SeqCst);
            outcome
        })
    }

    /// Starts the job until it has come to its end.
    fn starts(&self, round: &Round, place: Place<'_>) -> Result<Option<Outcome>, String> {
        let mut log = String::new();
        let mut kills = 0;
        for i in 0..=round.kills.len() {
            let parallelism = round.parallelism.get(i).or(round.parallelism.last()).copied().unwrap_or(1);
            self.write("job.yaml", &self.job.yaml(parallelism, true, place)?)?;
            let kill = round.kills.get(i);
            let server = round.server.filter(|_| i == 0);
            let ended = self.start(kill).and_then(|p| self.beside(server, || die(p, kill))).map_err(|e| format!("{e}\nbefore that:\n{log}"))?;
            log.push_str(&format!("--- start {} at parallelism {parallelism}, {kill:?}\n{}", i + 1, ended.log));
            if ended.killed && !self.has_finished()? {
                kills += 1;
                continue;
            }
            // A kill between the end of the run and that of the process comes too late: the next start would be a new run, which writes all rows again.
            if !ended.killed && ended.code != Some(0) {
                return Err(format!("start {} failed:\n{log}", i + 1));
            }
            break;
        }
        if kills == 0 {
            return Ok(None);
        }
        kills += u64::from(round.server.is_some());
        let found = Rows::read(&self.karez, &self.folder, self.job, place).map_err(|e| format!("{e}\n{log}"))?;
        Ok(Some(Outcome { kills, difference: self.expected.compare(&found), log }))
    }

    /// Does `act` while a server is killed and started again; the server is there when this returns.
    fn beside<T>(&self, server: Option<(System, Duration)>, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let Some((system, moment)) = server else { return act() };
        std::thread::scope(|scope| {
            let crashing = scope.spawn(move || {
                std::thread::park_timeout(moment);
                self.servers.crash(system)
            });
            let done = act();
            crashing.join().unwrap_or_else(|_| Err("a thread panicked".into()))?;
            done
        })
    }

    /// Whether the run has come to its end: the only one, since each start goes on with it.
    fn has_finished(&self) -> Result<bool, String> {
        let runs = self.folder.join("state").join("crash").join("runs");
        let failed = |e: std::io::Error| format!("`{}` cannot be read: {e}", runs.display());
        for run in std::fs::read_dir(&runs).map_err(failed)? {
            if run.map_err(failed)?.path().join("finished").exists() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn start(&self, kill: Option<&Kill>) -> Result<Process, String> {
        let points = match kill {
            Some(Kill::At { step, skip: 0 }) => Some(format!("{step}=return(kill)")),
            Some(Kill::At { step, skip }) => Some(format!("{step}={skip}*off->return(kill)")),
            _ => None,
        };
        Process::start(&self.karez, &self.folder, "job.yaml", points.as_deref())
    }

    fn write(&self, file: &str, job: &str) -> Result<(), String> {
        std::fs::write(self.folder.join(file), job).map_err(|e| format!("`{}` cannot be written: {e}", self.folder.display()))
    }

    /// An empty folder with input.
    fn clear(&self) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("`{}` cannot be made ready: {e}", self.folder.display());
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).map_err(failed)?;
        }
        if self.job.has_letters() {
            write_bad_input(&self.folder).map_err(failed)?;
        }
        write_input(&self.folder).map_err(failed)
    }
}

/// Waits for the moment, kills, waits for the end.
fn die(mut process: Process, kill: Option<&Kill>) -> Result<super::process::Ended, String> {
    let alive = match kill {
        Some(Kill::After(moment)) => process.until("JOB_STARTED")? && process.during(*moment),
        Some(Kill::AfterCheckpoints(n)) => {
            let mut alive = true;
            for _ in 0..*n {
                alive = alive && process.until("CHECKPOINT_COMPLETED")?;
            }
            alive
        }
        Some(Kill::At { .. }) | None => false,
    };
    if alive { process.kill() } else { process.end() }
}
