//! Files that are followed, with the process up and down during each change.

use std::fs;

use serde_json::{Value, json};

use super::job::*;

/// More than the 1,024 bytes of a fingerprint.
fn lines(name: &str, range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("{name} line {i} {}\n", "-".repeat(40))).collect()
}

fn rows(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn config(folder: &Folder) -> Value {
    folder.config("*.log*", "text", json!({ "follow": true }))
}

/// A change that happens to `app.log`, of which `before` had been read and `unread` not, while the process is up or down; the rows that come then.
fn change(down: bool, before: &str, unread: &str, change: impl FnOnce(&Folder)) -> (Vec<String>, Folder, Job) {
    let folder = Folder::new();
    folder.write("app.log", before);
    let mut job = Job::start(&config(&folder), None);
    assert_eq!(job.settle(), rows(before));
    let saved = down.then(|| job.save());
    folder.append("app.log", unread);
    change(&folder);
    if let Some(saved) = saved {
        drop(job);
        job = Job::restore(&config(&folder), None, &saved);
    }
    let mut read = job.settle();
    read.sort();
    (read, folder, job)
}

/// The change with few lines and with many, for weak and strong fingerprints, with the process up and down; `news` stands in `app.log` behind it.
fn in_all_ways(news: &str, change_files: impl Fn(&Folder)) {
    for down in [false, true] {
        for (first, second) in [(2, 4), (100, 150)] {
            let (before, unread) = (lines("app", 0..first), lines("app", first..second));
            let (read, folder, job) = change(down, &before, &unread, &change_files);
            let mut expected = rows(&unread);
            expected.extend(rows(news));
            expected.sort();
            assert_eq!(read, expected, "down: {down}, lines: {first}");
            goes_on(&folder, job);
        }
    }
}

/// What is appended is read once, also behind another restart.
fn goes_on(folder: &Folder, mut job: Job) {
    folder.append("app.log", "one more\n");
    assert_eq!(job.settle(), ["one more"]);
    let mut job = Job::restore(&config(folder), None, &job.go_down());
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.append("app.log", "and one\n");
    assert_eq!(job.settle(), ["and one"]);
}

#[test]
fn a_line_is_emitted_at_its_newline() {
    let folder = Folder::new();
    folder.write("app.log", "one\ntw");
    let mut job = Job::start(&config(&folder), None);
    assert_eq!(job.settle(), ["one"]);
    let mut job = Job::restore(&config(&folder), None, &job.go_down());
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.append("app.log", "o\nthree");
    assert_eq!(job.settle(), ["two"]);
    folder.append("app.log", "\n");
    assert_eq!(job.settle(), ["three"]);
}

#[test]
fn lines_appended_while_down_are_read() {
    in_all_ways("", |_| {});
}

#[test]
fn a_renamed_file_is_read_to_its_end() {
    in_all_ways("fresh\n", |folder| {
        folder.rename("app.log", "app.log.1").write("app.log", "fresh\n");
    });
}

#[test]
fn a_renamed_file_is_found_where_no_pattern_matches() {
    in_all_ways("fresh\n", |folder| {
        folder.rename("app.log", "old-app").write("app.log", "fresh\n");
    });
}

#[test]
fn a_renamed_file_that_grows_is_read_on() {
    for down in [false, true] {
        let (read, folder, mut job) = change(down, "a\n", "b\n", |folder| {
            folder.rename("app.log", "app.log.1");
        });
        assert_eq!(read, ["b"]);
        folder.append("app.log.1", "c\n");
        assert_eq!(job.settle(), ["c"]);
    }
}

#[test]
fn a_compressed_file_is_read_to_its_end() {
    in_all_ways("fresh\n", |folder| {
        folder.rename("app.log", "app.log.1").gzip("app.log.1", "app.log.1.gz").write("app.log", "fresh\n");
    });
}

#[test]
fn a_compressed_file_is_found_where_no_pattern_matches() {
    for down in [false, true] {
        let folder = Folder::new();
        folder.write("app.log", "a\nb\n");
        let config = folder.config("app.log", "text", json!({ "follow": true }));
        let mut job = Job::start(&config, None);
        assert_eq!(job.settle(), ["a", "b"]);
        let saved = job.save();
        folder.append("app.log", "c\nd").gzip("app.log", "app-20130101.gz").write("app.log", "e\n");
        if down {
            drop(job);
            job = Job::restore(&config, None, &saved);
        }
        let mut read = job.settle();
        read.sort();
        // The last line has no line feed, and none will come.
        assert_eq!(read, ["c", "d", "e"]);
    }
}

#[test]
fn a_copy_truncated_file_is_read_on_in_the_copy() {
    in_all_ways("fresh\n", |folder| {
        folder.copy_truncate("app.log", "app.log.1").append("app.log", "fresh\n");
    });
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    for down in [false, true] {
        for first in [3, 100] {
            let (read, folder, job) = change(down, &lines("app", 0..first), "", |folder| {
                let file = fs::OpenOptions::new().write(true).open(folder.path("app.log")).unwrap();
                file.set_len(0).unwrap();
                folder.append("app.log", "app li");
                folder.append("app.log", "ne new\n");
            });
            assert_eq!(read, ["app line new"], "down: {down}, lines: {first}");
            goes_on(&folder, job);
        }
    }
}

#[test]
fn a_smaller_size_is_a_truncation_though_the_first_bytes_are_the_same() {
    for down in [false, true] {
        let before = lines("app", 0..100);
        let again = lines("app", 0..50);
        let (read, folder, job) = change(down, &before, "", |folder| {
            fs::OpenOptions::new().write(true).open(folder.path("app.log")).unwrap().set_len(again.len() as u64).unwrap();
        });
        let mut expected = rows(&again);
        expected.sort();
        assert_eq!(read, expected, "down: {down}");
        goes_on(&folder, job);
    }
}

#[test]
fn a_changed_fingerprint_is_a_truncation_though_the_file_is_larger() {
    for down in [false, true] {
        for first in [3, 100] {
            let other = lines("other", 0..first * 2);
            let (read, folder, job) = change(down, &lines("app", 0..first), "", |folder| {
                // The same inode.
                let file = fs::OpenOptions::new().write(true).open(folder.path("app.log")).unwrap();
                file.set_len(0).unwrap();
                folder.append("app.log", &other);
            });
            let mut expected = rows(&other);
            expected.sort();
            assert_eq!(read, expected, "down: {down}, lines: {first}");
            goes_on(&folder, job);
        }
    }
}

#[test]
fn a_file_removed_and_made_anew_is_a_new_one() {
    for down in [false, true] {
        for first in [3, 100] {
            let other = lines("other", 0..first * 2);
            let (read, folder, job) = change(down, &lines("app", 0..first), "", |folder| {
                folder.remove("app.log").write("app.log", &other);
            });
            let mut expected = rows(&other);
            expected.sort();
            assert_eq!(read, expected, "down: {down}, lines: {first}");
            goes_on(&folder, job);
        }
    }
}

#[test]
fn a_removed_file_is_read_to_its_end_while_the_process_is_up_and_its_split_ends() {
    let (read, _folder, job) = change(false, "a\n", "b\nc", |folder| {
        folder.remove("app.log");
    });
    assert_eq!((read, job.open_splits()), (vec!["b".to_owned(), "c".to_owned()], 0));
    let (read, folder, mut job) = change(true, "a\n", "b\n", |folder| {
        folder.remove("app.log");
    });
    assert_eq!((read, job.open_splits()), (vec![], 0));
    folder.write("app.log", "new\n");
    assert_eq!(job.settle(), ["new"]);
}

#[test]
fn new_files_join_and_known_ones_are_not_read_again() {
    in_all_ways("", |folder| {
        folder.write("b.log", "");
    });
    for down in [false, true] {
        let (mut read, folder, mut job) = change(down, "a\n", "b\n", |folder| {
            folder.write("b.log", "x\n").write("c.log.gz", gzip(b"y\nz"));
        });
        read.sort();
        assert_eq!(read, ["b", "x", "y", "z"]);
        job = Job::restore(&config(&folder), None, &job.go_down());
        assert_eq!(job.settle(), Vec::<String>::new());
    }
}

#[test]
fn several_rotations_while_down_are_all_found() {
    let folder = Folder::new();
    folder.write("app.log", lines("first", 0..50));
    let mut job = Job::start(&config(&folder), None);
    job.settle();
    let saved = job.go_down();
    folder.append("app.log", "first ends\n").rename("app.log", "app.log.1");
    folder.write("app.log", lines("second", 0..3)).gzip("app.log.1", "app.log.2.gz").rename("app.log", "app.log.1").write("app.log", "third\n");
    let mut job = Job::restore(&config(&folder), None, &saved);
    let mut read = job.settle();
    read.sort();
    let mut expected = rows(&lines("second", 0..3));
    expected.extend(["first ends".to_owned(), "third".to_owned()]);
    expected.sort();
    assert_eq!(read, expected);
    let saved = job.go_down();
    folder.gzip("app.log.1", "app.log.3.gz").gzip("app.log", "app.log.1.gz");
    assert_eq!(Job::restore(&config(&folder), None, &saved).settle(), Vec::<String>::new());
}

#[test]
fn a_copy_that_is_not_yet_truncated_is_not_read_twice() {
    let folder = Folder::new();
    folder.write("app.log", lines("app", 0..100));
    let mut job = Job::start(&config(&folder), None);
    assert_eq!(job.settle().len(), 100);
    fs::copy(folder.path("app.log"), folder.path("app.log.1")).unwrap();
    assert_eq!(job.settle(), Vec::<String>::new());
    fs::OpenOptions::new().write(true).truncate(true).open(folder.path("app.log")).unwrap();
    folder.append("app.log", "fresh\n");
    assert_eq!(job.settle(), ["fresh"]);
}

#[test]
fn a_compressed_file_that_is_being_written_is_read_when_it_is_whole() {
    let folder = Folder::new();
    let text = lines("zipped", 0..20_000);
    let zipped = gzip(text.as_bytes());
    folder.write("b.log.gz", &zipped[..3]);
    let mut job = Job::start(&config(&folder), None);
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.write("b.log.gz", &zipped[..zipped.len() / 2]);
    let mut read = job.settle();
    folder.write("b.log.gz", &zipped);
    read.extend(job.settle());
    assert_eq!(read, rows(&text));
}

#[test]
fn following_can_begin_at_the_end_of_files_that_are_there() {
    let folder = Folder::new();
    folder.write("app.log", "old\nhalf").write("old.log.gz", gzip(b"old\n"));
    let config = folder.config("*.log*", "text", json!({ "follow": true, "from": "end" }));
    let mut job = Job::start(&config, None);
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.append("app.log", " a line\n").write("new.log", "from the start\n");
    let mut read = job.settle();
    read.sort();
    assert_eq!(read, ["from the start", "half a line"]);
}

#[test]
fn a_followed_csv_file_waits_for_its_header_and_keeps_it_over_restarts() {
    let folder = Folder::new();
    let config = folder.config("*.csv", "csv", json!({ "follow": true }));
    let schema = schema(&[("s", TEXT), ("n", BIGINT)]);
    folder.write("a.csv", "n,");
    let mut job = Job::start(&config, Some(&schema));
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.append("a.csv", "s\n1,\"two\n");
    let mut job = Job::restore(&config, Some(&schema), &job.go_down());
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.append("a.csv", "lines\"\n");
    assert_eq!(job.settle(), ["two\nlines|1"]);
    let saved = job.go_down();
    folder.append("a.csv", "2,x\n").gzip("a.csv", "a.csv.gz");
    assert_eq!(Job::restore(&config, Some(&schema), &saved).settle(), ["x|2"]);
}

#[test]
fn a_renamed_file_that_rests_ends_and_is_taken_up_when_it_grows() {
    let (_, folder, mut job) = change(false, "a\n", "", |folder| {
        folder.rename("app.log", "app.log.1");
    });
    job.clock.set(4_000_000_000_000);
    job.settle();
    assert_eq!(job.open_splits(), 0);
    job.clock.set(0);
    folder.append("app.log.1", "b\n");
    assert_eq!(job.settle(), ["b"]);
}

#[test]
fn files_that_were_read_and_are_gone_are_forgotten_beyond_a_limit() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut job = Job::start(&config, None);
    let mut longest = 0;
    for round in 0..30 {
        for file in 0..50 {
            folder.write(&format!("{round}-{file}.log"), format!("{round} {file}\n"));
        }
        assert_eq!(job.settle().len(), 50);
        for file in 0..50 {
            folder.remove(&format!("{round}-{file}.log"));
        }
        job.settle();
        longest = longest.max(job.save().len());
    }
    assert!(job.save().len() < 400_000, "{}", job.save().len());
    assert!(longest < 400_000, "{longest}");
}
