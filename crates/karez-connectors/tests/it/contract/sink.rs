//! What holds of every sink.

use karez_core::CommitOutcome;
use karez_core::sink::SinkGuarantee;

use super::process::{Process, plan_sink};
use super::{End, lines, numbered, rows, rows_schema};

async fn first<E: End>(end: &E, parallelism: usize) -> Process {
    Process::first(end.connector().as_ref(), &end.sink(), &rows_schema(), parallelism).await
}

async fn again<E: End>(end: &E, generation: u64, parallelism: usize, from: Option<&super::process::Manifest>) -> Process {
    Process::start(end.connector().as_ref(), &end.sink(), &rows_schema(), generation, parallelism, from).await.unwrap()
}

pub async fn rows_are_visible_after_their_commit_and_not_before<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 1).await;
    assert_eq!(process.sink.guarantee(), SinkGuarantee::Transactional);
    process.write(0, numbered(0..10)).await.unwrap();
    process.flush().await.unwrap();
    assert_eq!(end.visible().await, Vec::<String>::new());
    let manifest = process.barrier(1).await.unwrap();
    assert_eq!(end.visible().await, Vec::<String>::new());
    process.write(0, numbered(10..12)).await.unwrap();
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..10), "what was written behind the barrier is of the next epoch");
    let manifest = process.barrier(2).await.unwrap();
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..12));
}

pub async fn a_kill_before_the_manifest_leaves_nothing<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 2).await;
    process.write(0, numbered(0..5)).await.unwrap();
    process.write(1, numbered(5..9)).await.unwrap();
    let _never_in_a_manifest = process.barrier(1).await.unwrap();
    process.write(0, numbered(9..11)).await.unwrap();
    process.flush().await.unwrap();
    drop(process);
    let mut process = again(&end, 2, 1, None).await;
    process.write(0, numbered(0..11)).await.unwrap();
    let manifest = process.barrier(2).await.unwrap();
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..11));
}

pub async fn a_kill_between_manifest_and_commit_is_made_good_at_another_parallelism<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 2).await;
    process.write(0, numbered(0..5)).await.unwrap();
    process.write(1, numbered(5..9)).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    process.write(1, numbered(9..12)).await.unwrap();
    process.flush().await.unwrap();
    drop(process);
    let mut process = again(&end, 2, 1, Some(&manifest)).await;
    assert_eq!(end.visible().await, lines(0..9));
    process.write(0, numbered(9..12)).await.unwrap();
    let second = process.barrier(2).await.unwrap();
    drop(process);
    let mut process = again(&end, 3, 3, Some(&second)).await;
    for (subtask, range) in [(0, 12..13), (1, 13..14), (2, 14..15)] {
        process.write(subtask, numbered(range)).await.unwrap();
    }
    let third = process.barrier(3).await.unwrap();
    process.commit(&third).await.unwrap();
    assert_eq!(end.visible().await, lines(0..15));
}

pub async fn a_commit_that_is_repeated_changes_nothing<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 2).await;
    process.write(0, numbered(0..3)).await.unwrap();
    process.write(1, numbered(3..6)).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    assert!(!manifest.committables.is_empty());
    let first = process.commit(&manifest).await.unwrap();
    assert!(first.iter().all(|o| matches!(o, CommitOutcome::Committed)), "{first:?}");
    let repeated = |outcomes: &[CommitOutcome]| assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::AlreadyCommitted)), "{outcomes:?}");
    repeated(&process.commit(&manifest).await.unwrap());
    drop(process);
    let process = again(&end, 2, 1, Some(&manifest)).await;
    repeated(&process.commit(&manifest).await.unwrap());
    assert_eq!(end.visible().await, lines(0..6));
}

pub async fn what_a_failed_checkpoint_prepared_belongs_to_the_next<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 1).await;
    process.write(0, numbered(0..3)).await.unwrap();
    let failed = process.barrier(1).await.unwrap();
    process.write(0, numbered(3..5)).await.unwrap();
    let manifest = process.barrier(2).await.unwrap().and(failed);
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..5));
}

pub async fn an_empty_batch_and_an_empty_epoch_write_nothing<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 1).await;
    process.write(0, numbered(0..0)).await.unwrap();
    let empty = process.barrier(1).await.unwrap();
    process.commit(&empty).await.unwrap();
    let empty = process.barrier(2).await.unwrap();
    process.commit(&empty).await.unwrap();
    assert_eq!(end.visible().await, Vec::<String>::new());
    process.write(0, numbered(0..1)).await.unwrap();
    process.write(0, numbered(0..0)).await.unwrap();
    let manifest = process.barrier(3).await.unwrap();
    process.commit(&manifest).await.unwrap();
    assert_eq!(end.visible().await, lines(0..1));
}

/// More rows at once than any buffer of a sink holds, and one row of a megabyte.
pub async fn a_huge_batch_arrives_whole<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 1).await;
    process.write(0, numbered(0..100_000)).await.unwrap();
    let long = "x".repeat(900_000);
    process.write(0, rows(&[(100_000, Some(&long))])).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    process.commit(&manifest).await.unwrap();
    let mut expected = lines(0..100_000);
    expected.push(format!("100000|{long}"));
    let visible = end.visible().await;
    assert_eq!(visible.len(), expected.len());
    // Not shown where they differ: it is too much to read.
    assert!(visible == expected, "the rows are not those written");
}

/// Text in several scripts, what needs quotes in one form or another, and what looks like null and is not.
pub const TEXTS: [Option<&str>; 12] = [
    None,
    Some(""),
    Some("NULL"),
    Some("坎儿井 🐫 Ωmega ß"),
    Some("e\u{301} \u{200b}\u{feff}"),
    Some("tab\there"),
    Some("line\nbreak\r\n"),
    Some("quote\" and 'quote' and `quote`"),
    Some("back\\slash \\N \\0"),
    Some("comma, semicolon; bar"),
    Some(" spaces around "),
    Some("𝒳\u{10ffff}"),
];

/// The rows of [`TEXTS`].
pub fn texts() -> Vec<(i64, Option<&'static str>)> {
    (0..).zip(TEXTS).collect()
}

pub async fn nulls_and_unicode_arrive_as_they_are<E: End>() {
    let end = E::fresh().await;
    let mut process = first(&end, 1).await;
    process.write(0, rows(&texts())).await.unwrap();
    let manifest = process.barrier(1).await.unwrap();
    process.commit(&manifest).await.unwrap();
    let expected: Vec<_> = texts().iter().map(|(id, text)| format!("{id}|{}", text.unwrap_or("NULL"))).collect();
    assert_eq!(end.visible().await, expected);
}

pub async fn the_check_creates_nothing<E: End>() {
    let end = E::fresh().await;
    let sink = plan_sink(end.connector().as_ref(), &end.sink(), &rows_schema());
    sink.check().await.unwrap();
    let source = super::reader::plan_source(&end, &end.source());
    // Where the schema is the target's, the missing target shows when the source is planned, else when it is checked.
    let missing = match source {
        Err(_) => true,
        Ok(source) => source.check().await.is_err() || super::reader::splits(source.as_ref()).await.map_or(true, |s| s.is_empty()),
    };
    assert!(missing, "the check has created the target");
}
