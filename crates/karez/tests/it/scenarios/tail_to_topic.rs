//! P4: lines appended to a file while the job runs, through a topic, into text files: every line once, in order, also where the file is rotated.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::{Scenario, lines, until_there};

const TO_TOPIC: &str = "examples/tail-to-topic/to-topic.yaml";
const TO_FILE: &str = "examples/tail-to-topic/to-file.yaml";

fn append(file: &Path, lines: &[String]) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    for line in lines {
        // Written in two pieces, as a program with a small buffer does: half a line is no line.
        let (begin, end) = line.split_at(line.len() / 2);
        file.write_all(begin.as_bytes()).unwrap();
        file.write_all(format!("{end}\n").as_bytes()).unwrap();
    }
}

#[test]
fn every_line_arrives_once_and_in_order_through_kills_and_a_rotation() {
    // One partition keeps the order.
    let (scenario, _) = Scenario::new().with_topic("LINES", 1);
    let (logs, copy) = (scenario.path().join("logs"), scenario.path().join("target/tail-to-topic/copy"));
    fs::create_dir_all(&logs).unwrap();
    let log = logs.join("app.log");
    fs::copy(scenario.path().join("examples/tail-to-topic/first.log"), &log).unwrap();
    let mut expected: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();

    let mut to_topic = scenario.start(TO_TOPIC);
    let mut to_file = scenario.start(TO_FILE);
    let arrived = |expected: &[String]| until_there("all lines so far", expected.len(), || lines(&copy).len());
    arrived(&expected);
    for part in 0..4 {
        let new: Vec<String> = (0..200).map(|n| format!("2026-03-01T09:{part:02}:{:02}Z INFO 坎儿井 line {part}-{n}", n % 60)).collect();
        append(&log, &new);
        expected.extend(new);
        match part {
            0 => to_topic = scenario.kill_and_restart(TO_TOPIC, to_topic),
            1 => to_file = scenario.kill_and_restart(TO_FILE, to_file),
            2 => {
                // Rotated while half of it may be unread.
                fs::rename(&log, logs.join("app.log.1")).unwrap();
            }
            _ => {}
        }
        if part == 2 {
            // Lines of the new file may come before the last ones of the old where both are read; the order holds within a file.
            arrived(&expected);
        }
    }
    arrived(&expected);
    scenario.stop("tail-to-topic", to_topic);
    scenario.stop("topic-to-file", to_file);
    assert_eq!(lines(&copy), expected);
}
