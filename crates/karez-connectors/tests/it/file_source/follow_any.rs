//! Whatever happens to followed files, in whatever order, with crashes in between: each line is read once.

use karez_core::source::ReadLimit;
use proptest::prelude::*;
use serde_json::json;

use super::job::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many lines to `app.log`.
    Append(usize),
    /// `app.log` gets another name, and a new one begins at the next line.
    Rename,
    /// `app.log` is copied, and emptied.
    CopyTruncate,
    /// The rotated file that was rotated so many rotations ago, if it is there.
    Compress(usize),
    Discover,
    /// Each reader gives so many rows at most.
    Read(usize),
    Save,
    /// Back to the last save.
    Crash,
    /// Saved and started again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![1..4_usize, 30..60_usize].prop_map(Step::Append),
        1 => Just(Step::Rename),
        1 => Just(Step::CopyTruncate),
        2 => (0..3_usize).prop_map(Step::Compress),
        4 => Just(Step::Discover),
        4 => prop_oneof![1..4_usize, Just(1_000)].prop_map(Step::Read),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ]
}

fn run(steps: &[Step]) -> (Vec<String>, Vec<String>) {
    let folder = Folder::new();
    let config = folder.config("app.log*", "text", json!({ "follow": true }));
    let (mut written, mut rotated) = (Vec::new(), Vec::new());
    let mut job = Job::start(&config, None);
    let mut saved = (job.save(), 0);
    let mut rows: Vec<String> = Vec::new();
    for step in steps {
        match step {
            Step::Append(count) => {
                let first = written.len();
                written.extend((first..first + count).map(|i| format!("line {i} of the log, of some length")));
                folder.append("app.log", &(written[first..].join("\n") + "\n"));
            }
            Step::Rename | Step::CopyTruncate if folder.path("app.log").exists() => {
                let name = format!("app.log.{}", rotated.len());
                if matches!(step, Step::Rename) {
                    folder.rename("app.log", &name)
                } else {
                    folder.copy_truncate("app.log", &name)
                };
                rotated.push(name);
            }
            Step::Compress(back) => {
                if let Some(name) = rotated.iter().rev().nth(*back).filter(|n| folder.path(n).exists()) {
                    folder.gzip(name, &format!("{name}.gz"));
                }
            }
            Step::Discover => {
                job.discover().unwrap();
                job.open().unwrap();
            }
            Step::Read(count) => {
                job.read(ReadLimit { rows: *count, bytes: 1 << 20 }).unwrap();
                rows.append(&mut job.rows);
            }
            Step::Save => saved = (job.save(), rows.len()),
            Step::Crash => {
                rows.truncate(saved.1);
                job = Job::restore(&config, None, &saved.0);
                job.open().unwrap();
            }
            Step::Restart => {
                saved = (job.go_down(), rows.len());
                job = Job::restore(&config, None, &saved.0);
                job.open().unwrap();
            }
            Step::Rename | Step::CopyTruncate => {}
        }
    }
    rows.extend(job.settle());
    let number = |r: &String| r.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    rows.sort_by_key(number);
    (rows, written)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn each_line_is_read_once(steps in proptest::collection::vec(step(), 1..30)) {
        let (read, written) = run(&steps);
        prop_assert_eq!(read, written);
    }
}
