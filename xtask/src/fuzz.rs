//! Fuzzing: the targets of `fuzz/`, or the property tests that stand for them where the toolchain cannot run these.
//!
//! Under the user's cache are the build, the inputs found so far (`corpus`), those that failed (`artifacts`) and what each run said (`logs`). In the
//! repository are the seeds, from which a fresh machine begins.

use std::fs::{self, File};
use std::path::{self, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tools;
use crate::workspace::{FEATURES, Outcome, cache, root, run, with_target};

/// How long a target is fuzzed by hand, if nothing is said.
const BY_HAND: Duration = Duration::from_secs(600);

/// The oldest nightly compiler that takes the project: Rust 1.x.
const NIGHTLY_LEAST: u32 = 95;

/// An input that takes longer is a finding, seconds.
const INPUT_TIMEOUT_S: u32 = 20;

/// Lines of a log that are shown for a failure.
const LOG_LINES_SHOWN: usize = 20;

struct Target {
    name: &'static str,
    /// The property tests that stand for it, as nextest's filter.
    properties: &'static str,
    /// Cases in one run of them, which takes some seconds; runs are repeated until the time is over.
    cases: u32,
}

const TARGETS: [Target; 3] = [
    Target { name: "csv", properties: "binary(formats) & test(/^csv::.*however_/)", cases: 50_000 },
    Target { name: "job_yaml", properties: "binary(job) & test(/^robust::no_.*_the_reader_fall$/)", cases: 10_000 },
    Target { name: "ndjson", properties: "binary(formats) & test(/^json::.*_are_what_arrow_json_makes_of_them$/)", cases: 2_000 },
];

/// Each target for so long: fuzzed, or its property tests.
pub(crate) fn smoke(time: Duration) -> Outcome {
    match missing() {
        None => fuzz(&TARGETS.each_ref(), time),
        Some(missing) => {
            println!("xtask: {missing}, so property tests run instead of fuzzing, {} s for each target", time.as_secs());
            TARGETS.iter().try_for_each(|target| properties(target, time))
        }
    }
}

/// `cargo xtask fuzz [TARGET [INPUT]] [--seconds N]`.
pub(crate) fn by_hand(arguments: &[&str]) -> Outcome {
    let (mut words, mut time) = (Vec::new(), BY_HAND);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--seconds" => {
                let seconds = arguments.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                time = Duration::from_secs(seconds.ok_or("--seconds takes a whole number above 0")?);
            }
            word => words.push(word),
        }
    }
    if let Some(missing) = missing() {
        return Err(format!("{missing}; fuzzing needs `rustup toolchain install nightly` and a C++ compiler"));
    }
    let known = TARGETS.map(|target| target.name).join(", ");
    let find = |name: &str| TARGETS.iter().find(|target| target.name == name).ok_or(format!("no fuzz target is named `{name}`; there are: {known}"));
    match words[..] {
        [] => fuzz(&TARGETS.each_ref(), time),
        [name] => fuzz(&[find(name)?], time),
        [name, input] => {
            let input = path::absolute(input).map_err(|e| format!("{input}: {e}"))?;
            run(cargo_fuzz()?.args(["run", find(name)?.name]).arg(input).arg("--fuzz-dir").arg(root().join("fuzz")))
        }
        _ => Err("usage: cargo xtask fuzz [TARGET [INPUT]] [--seconds N]".into()),
    }
}

/// What the machine lacks for fuzzing.
fn missing() -> Option<&'static str> {
    let version = Command::new("rustup").args(["run", "nightly", "rustc", "--version"]).output().ok().filter(|o| o.status.success());
    let Some(version) = version else { return Some("there is no nightly compiler") };
    // `rustc 1.97.0-nightly (…)`.
    let text = String::from_utf8_lossy(&version.stdout);
    let minor = text.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < NIGHTLY_LEAST) {
        return Some("the nightly compiler is too old");
    }
    let has_cpp = Command::new("c++").arg("--version").output().is_ok_and(|o| o.status.success());
    (!has_cpp).then_some("there is no C++ compiler")
}

/// Fuzzes targets side by side.
fn fuzz(targets: &[&Target], time: Duration) -> Outcome {
    run(cargo_fuzz()?.arg("build").arg("--fuzz-dir").arg(root().join("fuzz")))?;
    let names: Vec<_> = targets.iter().map(|target| target.name).collect();
    println!("xtask: fuzzing {}, {} s", names.join(", "), time.as_secs());
    let runs: Vec<_> = targets.iter().map(|target| start(target, time)).collect();
    let mut failed = Vec::new();
    for (target, run) in targets.iter().zip(runs) {
        let log = log(target);
        let is_good = match run {
            Ok(mut run) => run.wait().map_err(|e| format!("{}: {e}", target.name))?.success(),
            Err(message) => {
                eprintln!("xtask: {message}");
                false
            }
        };
        let said = fs::read_to_string(&log).unwrap_or_else(|e| format!("{}: {e}", log.display()));
        if is_good {
            let inputs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).map_or("?", str::trim);
            println!("xtask: {}: {inputs} inputs, none failed", target.name);
        } else {
            failed.push(target.name);
            report(target, &said);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("fuzzing failed: {}", failed.join(", "))) }
}

/// Starts a target; what it says goes to its log.
fn start(target: &Target, time: Duration) -> Result<Child, String> {
    let (corpus, artifacts, log) = (place("corpus").join(target.name), place("artifacts").join(target.name), log(target));
    for folder in [&corpus, &artifacts, &place("logs")] {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let out = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let err = out.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    let mut command = cargo_fuzz()?;
    command.arg("run").arg("--fuzz-dir").arg(root().join("fuzz")).arg(target.name);
    // What is found goes to the first folder.
    command.args([&corpus, &root().join("fuzz/seeds").join(target.name)]);
    command.arg("--").arg(format!("-max_total_time={}", time.as_secs())).arg(format!("-timeout={INPUT_TIMEOUT_S}"));
    command.arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(|e| format!("{command:?}: {e}"))
}

/// Says what failed, where the input is, and how to run it again.
fn report(target: &Target, said: &str) {
    let lines: Vec<_> = said.lines().collect();
    // From where it failed; where it does not say, the end.
    let begin = lines.iter().position(|line| line.contains("panicked at") || line.contains("ERROR: "));
    let begin = begin.unwrap_or(lines.len().saturating_sub(LOG_LINES_SHOWN));
    for line in lines[begin..].iter().take(LOG_LINES_SHOWN) {
        eprintln!("{line}");
    }
    eprintln!("xtask: {} failed; all it said is in {}", target.name, log(target).display());
    if let Some(input) = said.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path.trim())) {
        eprintln!("xtask: the input is {input}; run it again with\n\n    cargo xtask fuzz {} {input}\n", target.name);
    }
}

/// Runs the property tests of a target until the time is over.
fn properties(target: &Target, time: Duration) -> Outcome {
    let nextest = tools::nextest()?;
    let begin = Instant::now();
    let mut runs = 0;
    while begin.elapsed() < time {
        let mut tests = with_target(Command::new(&nextest));
        tests.args(["nextest", "run", "--workspace", FEATURES[0], FEATURES[1], "--cargo-quiet", "--status-level", "fail"]);
        tests.args(["--final-status-level", "fail", "-E", target.properties]);
        run(tests.env("PROPTEST_CASES", target.cases.to_string()).stdout(Stdio::null()))?;
        runs += 1;
    }
    println!("xtask: {}: {runs} runs of its property tests, {} cases each, none failed", target.name, target.cases);
    Ok(())
}

/// cargo-fuzz with the nightly compiler, in a build of its own.
fn cargo_fuzz() -> Result<Command, String> {
    let mut command = Command::new(tools::fuzz()?);
    command.current_dir(root()).env("RUSTUP_TOOLCHAIN", "nightly").env("CARGO_TARGET_DIR", place("target")).env_remove("CARGO_BUILD_BUILD_DIR");
    Ok(command)
}

fn log(target: &Target) -> PathBuf {
    place("logs").join(target.name).with_extension("log")
}

fn place(what: &str) -> PathBuf {
    cache().join(Path::new("fuzz").join(what))
}
