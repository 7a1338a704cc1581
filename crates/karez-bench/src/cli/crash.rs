//! `karez-bench crash`: many rounds of kill and restart. The last line is `rounds R kills K lost L doubled D`.
//!
//! Jobs with servers run against servers of the harness's own; in every third of their rounds a server is killed too.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use karez_bench::crash::{Ground, Job, Kill, Random, Round, Servers};

/// What the parallelism of a round's starts may be.
const PARALLELISMS: [&[usize]; 4] = [&[1], &[2], &[1, 2, 1], &[2, 1, 2]];

#[derive(Args)]
pub(crate) struct CrashArgs {
    /// How many rounds.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// These jobs alone, separated by commas: window-to-sqlite, to-parquet, to-ndjson, two-sinks, letters (dead letters are fed again meanwhile), and
    /// with servers, which are installed and started, kafka-kafka, kafka-postgres, kafka-mysql, postgres-kafka, postgres-postgres. Default: those
    /// without servers.
    #[arg(long, value_delimiter = ',', value_parser = job)]
    job: Option<Vec<Job>>,
    /// The `karez` binary. Default: the one beside this one.
    #[arg(long)]
    karez: Option<PathBuf>,
    /// The binary has the cargo feature `failpoints`: kill it at named steps as well as at any moment.
    #[arg(long)]
    fail_points: bool,
    /// Repeats the choices of the run that printed this number.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the jobs run; what is in it is removed. Default: a new folder among the temporary ones.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn job(name: &str) -> Result<Job, String> {
    let names: Vec<_> = Job::ALL.iter().map(|j| j.name()).collect();
    Job::ALL.into_iter().find(|j| j.name() == name).ok_or_else(|| format!("there are the jobs {}", names.join(", ")))
}

pub(crate) fn run(arguments: &CrashArgs) -> Result<ExitCode, String> {
    let karez = super::karez(arguments.karez.as_ref())?;
    let karez = karez.canonicalize().map_err(|e| format!("there is no `{}` ({e}); build it, or say where it is with --karez", karez.display()))?;
    let seed = arguments.seed.unwrap_or_else(|| Random::from_time().number());
    let mut random = Random::new(seed);
    let folder = arguments.folder.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("karez-crash-{seed:016x}")));
    println!("seed {seed}, in {}", folder.display());
    let alone = || Job::ALL.into_iter().filter(|j| j.systems().is_empty()).collect();
    let jobs: Vec<Job> = arguments.job.clone().unwrap_or_else(alone);
    let systems: Vec<_> = jobs.iter().flat_map(|j| j.systems()).collect();
    let servers = Arc::new(Servers::start(&systems)?);
    let grounds = jobs.iter().map(|j| Ground::prepare(&karez, &folder.join(j.name()), *j, &servers)).collect::<Result<Vec<_>, _>>()?;

    let (mut rounds, mut kills, mut lost, mut doubled) = (0, 0, 0, 0);
    for (ground, job) in std::iter::repeat_with(|| grounds.iter().zip(&jobs)).flatten().take(usize::try_from(arguments.rounds).unwrap_or(usize::MAX))
    {
        let mut round = choose(*job, arguments.fail_points, &mut random);
        // Counted by turns, so that each job has its third.
        if (rounds / jobs.len() as u64) % 3 == 2 && !job.systems().is_empty() {
            round.server = Some((pick(&job.systems(), &mut random), Duration::from_millis(500 + random.below(1_500))));
            // Killed at any time while the server is away or comes back.
            round.kills = vec![Kill::After(Duration::from_millis(random.below(6_000)))];
        }
        let outcome = ground.run(&round)?;
        rounds += 1;
        kills += outcome.kills;
        lost += outcome.difference.lost;
        doubled += outcome.difference.doubled;
        if outcome.difference.lost + outcome.difference.doubled > 0 {
            println!("{round:?}\n{}\n{}", outcome.difference.examples.join("\n"), outcome.log);
        }
    }
    if arguments.folder.is_none() && lost + doubled == 0 {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("`{}` cannot be removed: {e}", folder.display()))?;
    }
    println!("rounds {rounds} kills {kills} lost {lost} doubled {doubled}");
    Ok(if lost + doubled == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Any of a job's rounds.
fn choose(job: Job, fail_points: bool, random: &mut Random) -> Round {
    let parallelism = pick(&PARALLELISMS, random).to_vec();
    // Letters are repaired and come back for some seconds.
    let (limit_ms, skip) = if job == Job::Letters { (3_000, 20) } else { (800, 5) };
    let moment = |random: &mut Random| Kill::After(Duration::from_millis(random.below(limit_ms)));
    let kills = match random.below(if fail_points { 6 } else { 3 }) {
        0 => vec![moment(random)],
        1 => vec![Kill::AfterCheckpoints(1 + random.below(skip))],
        2 => vec![moment(random), moment(random)],
        3 => vec![
            Kill::AfterCheckpoints(1 + random.below(4)),
            Kill::At { step: pick(&["recovery-before-commit", "recovery-after-commit"], random), skip: 0 },
        ],
        _ => {
            // Only where there are two subtasks is there a moment between their commits.
            let steps: Vec<_> = job.steps().into_iter().filter(|s| !s.ends_with("-commit-between") || parallelism[0] > 1).collect();
            vec![Kill::At { step: pick(&steps, random), skip: random.below(skip) }]
        }
    };
    Round { job, parallelism, kills, server: None }
}

fn pick<T: Copy>(of: &[T], random: &mut Random) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap_or(0)]
}
