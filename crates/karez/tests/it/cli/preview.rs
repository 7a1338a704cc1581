//! `karez preview`: rows to look at, and nothing else.

use super::{ENDLESS, NUMBERS};
use crate::karez::Bench;

#[test]
fn it_shows_rows_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let done = bench.karez(&["preview", bench.file("job.yaml", NUMBERS)]).with(0);
    assert!(done.out.contains("out (file): 10 rows") && done.out.contains("| 9 "), "{}", done.out);
    assert!(!done.out.contains("partial"), "{}", done.out);
    assert_eq!(bench.files(), [std::path::PathBuf::from("job.yaml")]);
}

#[test]
fn it_ends_at_the_limit() {
    let bench = Bench::new();
    let job = NUMBERS.replace("rows: 1000, ", "").replace("n < 10", "n >= 0");
    let done = bench.karez(&["preview", "--limit", "3", "--timeout", "1h", bench.file("job.yaml", &job)]).with(0);
    assert!(done.out.contains("out (file): 3 rows, the limit") && done.out.contains("| 2 ") && !done.out.contains("| 3 "), "{}", done.out);
}

#[test]
fn windows_that_the_end_of_reading_cut_short_are_marked() {
    let bench = Bench::new();
    let done = bench.karez(&["preview", "--timeout", "500ms", bench.file("job.yaml", ENDLESS)]).with(0);
    assert!(done.out.contains("| partial |") && done.out.contains("1 of them partial"), "{}", done.out);
    assert_eq!(bench.files(), [std::path::PathBuf::from("job.yaml")]);
}

#[test]
fn rows_that_no_more_input_would_change_are_not_marked() {
    let bench = Bench::new();
    for operator in
        ["type: deduplicate, keyBy: [bidder], keep: first", "type: deduplicate, keyBy: [bidder], keep: last", "type: aggregate, keyBy: [bidder]"]
    {
        let window = ENDLESS.find("      window:").unwrap()..ENDLESS.find("  sinks:").unwrap();
        let mut job = ENDLESS.to_owned();
        job.replace_range(window, "");
        let job = job.replace("type: window-aggregate", &operator.replace(", ", "\n      "));
        let done = bench.karez(&["preview", "--limit", "1000000", "--timeout", "300ms", bench.file("job.yaml", &job)]).with(0);
        assert!(done.out.contains("| bidder ") && !done.out.contains("partial"), "{operator}: {}", done.out);
    }
}

#[test]
fn exactly_once_is_not_asked_of_a_preview() {
    let bench = Bench::new();
    let job = NUMBERS.replace("  name: Numbers\n", "  name: Numbers\n  delivery: exactly-once\n");
    bench.karez(&["preview", bench.file("job.yaml", &job)]).with(0);
    assert_eq!(bench.files(), [std::path::PathBuf::from("job.yaml")]);
}
