//! Jobs that are killed with -9 and started again lose no row and write none twice: at random moments, at each named step, at one parallelism and
//! another after the restart. Rows are compared bit for bit with a run nobody disturbed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[allow(dead_code, unused_imports)] // `karez-bench crash` uses more of it.
#[path = "../../../karez-bench/src/crash/mod.rs"]
mod rounds;

use rounds::{Ground, Job, Kill, Random, Round, Servers};

/// Runs the rounds one after the other on one ground.
#[track_caller]
fn survives(job: Job, parallelism: &[usize], rounds: impl IntoIterator<Item = Vec<Kill>>) {
    let rounds = rounds.into_iter().map(|kills| Round { job, parallelism: parallelism.to_vec(), kills, server: None });
    survive(job, &Arc::new(Servers::shared(&job.systems())), rounds);
}

#[track_caller]
fn survive(job: Job, servers: &Arc<Servers>, rounds: impl IntoIterator<Item = Round>) {
    let folder = tempfile::tempdir().unwrap();
    let ground =
        Ground::prepare(Path::new(env!("CARGO_BIN_EXE_karez")), &folder.path().join("ground"), job, servers).unwrap_or_else(|e| panic!("{e}"));
    for round in rounds {
        let outcome = ground.run(&round).unwrap_or_else(|e| panic!("{e}"));
        assert!(outcome.kills > 0);
        let difference = &outcome.difference;
        let (lost, doubled) = (difference.lost, difference.doubled);
        assert!(lost + doubled == 0, "{round:?}: lost {lost}, doubled {doubled}\n{}\n{}", difference.examples.join("\n"), outcome.log);
    }
}

/// Three rounds: killed once, once, and twice.
fn any_moment() -> Vec<Vec<Kill>> {
    within(700)
}

/// The same for a job that takes so many milliseconds.
fn within(limit_ms: u64) -> Vec<Vec<Kill>> {
    let mut random = Random::from_time();
    let mut kill = || Kill::After(Duration::from_millis(random.below(limit_ms)));
    vec![vec![kill()], vec![kill()], vec![kill(), kill()]]
}

/// One round for each step, killed at one of the first times it is come by.
fn at(steps: &[&'static str]) -> Vec<Vec<Kill>> {
    let mut random = Random::from_time();
    steps.iter().map(|step| vec![Kill::At { step, skip: random.below(4) }]).collect()
}

/// Two rounds killed while they recover from a kill.
fn in_recovery() -> Vec<Vec<Kill>> {
    let mut random = Random::from_time();
    ["recovery-before-commit", "recovery-after-commit"]
        .map(|step| vec![Kill::AfterCheckpoints(1 + random.below(3)), Kill::At { step, skip: 0 }])
        .into()
}

const CHECKPOINT: [&str; 3] = ["checkpoint-before-manifest", "checkpoint-after-manifest", "checkpoint-retention"];
const RENAME: [&str; 2] = ["file-sink-rename-before", "file-sink-rename-after"];
const COMMIT: [&str; 3] = ["jdbc-commit-before", "jdbc-commit-between", "jdbc-commit-after"];

// ===== any moment =====

#[test]
fn windows_into_sqlite_survive_a_kill_at_any_moment() {
    survives(Job::WindowToSqlite, &[1], any_moment());
}

#[test]
fn windows_into_sqlite_survive_a_kill_at_any_moment_with_two_subtasks() {
    survives(Job::WindowToSqlite, &[2], any_moment());
}

#[test]
fn windows_into_sqlite_survive_a_restart_with_more_and_with_fewer_subtasks() {
    survives(Job::WindowToSqlite, &[1, 2, 1], any_moment());
}

/// Two half-read files fall to one subtask: the one that is behind must hold event time back, or its rows are late.
#[test]
fn no_row_is_late_after_a_restart_with_fewer_subtasks() {
    survives(Job::WindowToSqlite, &[2, 1], [1, 2, 4].map(|n| vec![Kill::AfterCheckpoints(n)]));
}

#[test]
fn parquet_files_survive_a_kill_at_any_moment() {
    survives(Job::ToParquet, &[1], any_moment());
}

#[test]
fn parquet_files_survive_a_kill_at_any_moment_with_two_subtasks() {
    survives(Job::ToParquet, &[2], any_moment());
}

#[test]
fn parquet_files_survive_a_restart_with_fewer_and_with_more_subtasks() {
    survives(Job::ToParquet, &[2, 1, 2], any_moment());
}

#[test]
fn ndjson_files_survive_a_kill_at_any_moment() {
    survives(Job::ToNdjson, &[1], any_moment());
}

#[test]
fn ndjson_files_survive_a_kill_at_any_moment_with_two_subtasks() {
    survives(Job::ToNdjson, &[2], any_moment());
}

#[test]
fn ndjson_files_survive_a_restart_with_fewer_and_with_more_subtasks() {
    survives(Job::ToNdjson, &[2, 1, 2], any_moment());
}

#[test]
fn two_sinks_survive_a_kill_at_any_moment() {
    survives(Job::TwoSinks, &[1], any_moment());
}

#[test]
fn two_sinks_survive_a_kill_at_any_moment_with_two_subtasks() {
    survives(Job::TwoSinks, &[2], any_moment());
}

#[test]
fn two_sinks_survive_a_restart_with_more_and_with_fewer_subtasks() {
    survives(Job::TwoSinks, &[1, 2, 1], any_moment());
}

// ===== named steps =====

#[cfg(feature = "failpoints")]
#[test]
fn windows_into_sqlite_survive_a_kill_at_each_step_of_a_checkpoint() {
    survives(Job::WindowToSqlite, &[1, 2], at(&CHECKPOINT));
}

#[cfg(feature = "failpoints")]
#[test]
fn windows_into_sqlite_survive_a_kill_at_each_step_of_a_commit() {
    survives(Job::WindowToSqlite, &[2], at(&COMMIT));
}

#[cfg(feature = "failpoints")]
#[test]
fn windows_into_sqlite_survive_a_kill_in_recovery() {
    survives(Job::WindowToSqlite, &[2, 1], in_recovery());
}

#[cfg(feature = "failpoints")]
#[test]
fn two_sinks_survive_a_kill_at_each_step_of_a_checkpoint() {
    survives(Job::TwoSinks, &[2], at(&CHECKPOINT));
}

#[cfg(feature = "failpoints")]
#[test]
fn two_sinks_survive_a_kill_at_each_step_of_their_commits() {
    survives(Job::TwoSinks, &[2, 1], at(&[COMMIT.as_slice(), &RENAME].concat()));
}

#[cfg(feature = "failpoints")]
#[test]
fn two_sinks_survive_a_kill_in_recovery() {
    survives(Job::TwoSinks, &[1, 2], in_recovery());
}

#[cfg(feature = "failpoints")]
#[test]
fn parquet_files_survive_a_kill_around_a_rename_and_in_recovery() {
    survives(Job::ToParquet, &[2, 1], [at(&RENAME), in_recovery()].concat());
}

#[cfg(feature = "failpoints")]
#[test]
fn ndjson_files_survive_a_kill_around_a_rename_and_in_recovery() {
    survives(Job::ToNdjson, &[1, 2], [at(&RENAME), in_recovery()].concat());
}

// ===== dead letters =====

#[test]
fn dead_letters_fed_again_count_once_whatever_moment_the_job_dies_at() {
    survives(Job::Letters, &[1, 2], within(5_000));
}

#[cfg(feature = "failpoints")]
#[test]
fn dead_letters_fed_again_count_once_whatever_step_the_job_dies_at() {
    let steps = [&CHECKPOINT[..2], &COMMIT[..1], &COMMIT[2..], &RENAME].concat();
    survives(Job::Letters, &[2, 1], [at(&steps), in_recovery()].concat());
}

// ===== servers =====

/// Those of a sink on a server: it seals what it has staged, and the answer to its commit can be lost.
const SERVER_COMMIT: [&str; 5] = ["jdbc-seal-before", "jdbc-commit-before", "jdbc-commit-between", "jdbc-commit-answer", "jdbc-commit-after"];
const KAFKA_COMMIT: [&str; 4] = ["kafka-prepare", "kafka-commit-before", "kafka-commit-between", "kafka-commit-after"];

/// A round in which the server is killed beside the job, which is killed while that is away or comes back.
fn with_its_server(job: Job, parallelism: &[usize]) -> Vec<Round> {
    let mut random = Random::from_time();
    let systems = job.systems();
    let rounds = systems.into_iter().map(|system| Round {
        job,
        parallelism: parallelism.to_vec(),
        kills: vec![Kill::After(Duration::from_millis(random.below(4_000)))],
        server: Some((system, Duration::from_millis(300 + random.below(1_000)))),
    });
    rounds.collect()
}

#[test]
fn topic_to_topic_survives_a_kill_at_any_moment_and_a_restart_with_other_subtasks() {
    survives(Job::KafkaKafka, &[2, 1, 2], any_moment());
}

#[test]
fn topic_to_postgres_survives_a_kill_at_any_moment_and_a_restart_with_other_subtasks() {
    survives(Job::KafkaPostgres, &[1, 2, 1], any_moment());
}

#[test]
fn topic_to_mysql_survives_a_kill_at_any_moment_and_a_restart_with_other_subtasks() {
    survives(Job::KafkaMysql, &[2, 1, 2], any_moment());
}

#[test]
fn postgres_to_topic_survives_a_kill_at_any_moment_and_a_restart_with_other_subtasks() {
    survives(Job::PostgresKafka, &[1, 2, 1], any_moment());
}

#[test]
fn postgres_to_postgres_survives_a_kill_at_any_moment_and_a_restart_with_other_subtasks() {
    survives(Job::PostgresPostgres, &[2, 1], any_moment());
}

#[cfg(feature = "failpoints")]
#[test]
fn topic_to_topic_survives_a_kill_at_each_step_of_checkpoint_commit_and_recovery() {
    survives(Job::KafkaKafka, &[2, 1], [at(&CHECKPOINT), at(&KAFKA_COMMIT), in_recovery()].concat());
}

#[cfg(feature = "failpoints")]
#[test]
fn topic_to_postgres_survives_a_kill_at_each_step_of_commit_and_recovery() {
    survives(Job::KafkaPostgres, &[2, 1], [at(&SERVER_COMMIT), in_recovery()].concat());
}

#[cfg(feature = "failpoints")]
#[test]
fn topic_to_mysql_survives_a_kill_at_each_step_of_commit_and_recovery() {
    survives(Job::KafkaMysql, &[2, 1], [at(&SERVER_COMMIT), in_recovery()].concat());
}

#[test]
fn own_server_topic_to_topic_survives_a_kill_of_the_broker() {
    let servers = Arc::new(Servers::start(&Job::KafkaKafka.systems()).unwrap_or_else(|e| panic!("{e}")));
    survive(Job::KafkaKafka, &servers, with_its_server(Job::KafkaKafka, &[2, 1]));
}

#[test]
fn own_server_topic_to_postgres_survives_a_kill_of_either_server() {
    let servers = Arc::new(Servers::start(&Job::KafkaPostgres.systems()).unwrap_or_else(|e| panic!("{e}")));
    survive(Job::KafkaPostgres, &servers, with_its_server(Job::KafkaPostgres, &[1, 2]));
}

#[test]
fn own_server_topic_to_mysql_survives_a_kill_of_either_server() {
    let servers = Arc::new(Servers::start(&Job::KafkaMysql.systems()).unwrap_or_else(|e| panic!("{e}")));
    survive(Job::KafkaMysql, &servers, with_its_server(Job::KafkaMysql, &[2]));
}
