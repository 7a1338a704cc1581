//! However a file is split, and wherever reading is interrupted, the rows are those of a plain read.

use karez_core::source::ReadLimit;
use proptest::prelude::*;
use serde_json::json;

use super::job::*;

/// Reads with interruptions: after each number of calls the process goes down and comes up again.
fn interrupted(config: &serde_json::Value, schema: &arrow::datatypes::SchemaRef, stops: &[usize], limit: ReadLimit) -> (Vec<String>, Vec<String>) {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    let mut job = Job::new(source(config, Some(schema)).unwrap(), true, None);
    let mut stops = stops.iter();
    loop {
        job.discover().unwrap();
        job.open().unwrap();
        let calls = stops.next().copied();
        for _ in 0..calls.unwrap_or(usize::MAX) {
            if !job.read(limit).unwrap() {
                break;
            }
        }
        rows.append(&mut job.rows);
        bad.extend(job.bad.drain(..).map(|b| format!("{} {}", b.origin.unwrap(), b.reason)));
        if calls.is_none() {
            rows.sort();
            bad.sort();
            return (rows, bad);
        }
        job = Job::new(source(config, Some(schema)).unwrap(), true, Some(&job.go_down()));
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (any::<i32>(), "[a-zé ]{0,12}").prop_map(|(n, s)| format!("{n},{s}")),
        1 => Just(String::new()),
        1 => Just("x,not a number".to_owned()),
        1 => Just("1,\"open".to_owned()),
        1 => Just("2,\"quoted, \"\"text\"\"\"\r".to_owned()),
        1 => Just("3".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn csv_rows_do_not_depend_on_splits_and_restarts(
        lines in proptest::collection::vec(line(), 0..60), header: bool, ends: bool, split in 1_u64..200,
        stops in proptest::collection::vec(0_usize..6, 0..4), rows in 1_usize..20,
    ) {
        let folder = Folder::new();
        let mut text = lines.join("\n") + if ends { "\n" } else { "" };
        if header {
            text.insert_str(0, "n,s\n");
        }
        folder.write("a.csv", text);
        let schema = schema(&[("n", BIGINT), ("s", TEXT)]);
        let config = |split| folder.config("a.csv", "csv", json!({ "header": header, "multiline": false, "splitSize": split }));
        let plain = interrupted(&config(1 << 20), &schema, &[], LIMIT);
        let limit = ReadLimit { rows, bytes: 1 << 20 };
        prop_assert_eq!(interrupted(&config(split), &schema, &stops, limit), plain);
    }

    #[test]
    fn json_rows_do_not_depend_on_splits_and_restarts(
        records in proptest::collection::vec((any::<i32>(), "[a-z\\PC]{0,8}", 0..5), 0..60), split in 1_u64..200,
        stops in proptest::collection::vec(0_usize..6, 0..4), rows in 1_usize..20,
    ) {
        let folder = Folder::new();
        let text: String = records.iter().map(|(n, s, kind)| match kind {
            0 => format!("{{\"n\": {n}, \"extra\": [1, 2], \"s\": {}}}\n", json!(s)),
            1 => format!("{{\"n\":\"{s}\n"),
            2 => "\n".to_owned(),
            _ => format!("{{\"n\":{n},\"s\":{}}}\n", json!(s)),
        }).collect();
        folder.write("a.json", text);
        let schema = schema(&[("n", BIGINT), ("s", TEXT)]);
        let config = |split| folder.config("a.json", "ndjson", json!({ "splitSize": split }));
        let plain = interrupted(&config(1 << 20), &schema, &[], LIMIT);
        let limit = ReadLimit { rows, bytes: 1 << 20 };
        prop_assert_eq!(interrupted(&config(split), &schema, &stops, limit), plain);
    }

    #[test]
    fn multiline_csv_and_compressed_files_go_on_exactly(
        fields in proptest::collection::vec("[a-z,\"\n\r]{0,9}", 1..60), zip: bool,
        stops in proptest::collection::vec(0_usize..6, 0..4), rows in 1_usize..20,
    ) {
        let folder = Folder::new();
        let text: String = fields.iter().map(|f| format!("1,\"{}\"\n", f.replace('"', "\"\""))).collect();
        let name = if zip { "a.csv.gz" } else { "a.csv" };
        folder.write(name, if zip { gzip(text.as_bytes()) } else { text.into_bytes() });
        let schema = schema(&[("n", BIGINT), ("s", TEXT)]);
        let config = folder.config(name, "csv", json!({ "header": false, "splitSize": 7 }));
        let (read, bad) = interrupted(&config, &schema, &stops, ReadLimit { rows, bytes: 1 << 20 });
        prop_assert_eq!(bad, Vec::<String>::new());
        let mut expected: Vec<_> = fields.iter().map(|f| format!("1|{f}|")).collect();
        expected.sort();
        let mut read: Vec<_> = read.iter().map(|r| r[..r.rfind("file=").unwrap()].to_owned()).collect();
        read.sort();
        prop_assert_eq!(read, expected);
    }
}
