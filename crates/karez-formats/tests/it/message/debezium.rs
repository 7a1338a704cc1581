use karez_core::schema::ChangeMode;
use karez_formats::message::DecodePlan;

use super::{Made, Registry, columns, decoder, format, request, run_all};

fn made(json: &str, messages: &[&str]) -> Made {
    let messages: Vec<Option<&[u8]>> = messages.iter().map(|m| (*m != "tombstone").then_some(m.as_bytes())).collect();
    run_all(decoder(json, &columns("id bigint; name string; at timestamp(3)")).as_mut(), &Registry::new(), &messages, usize::MAX)
}

#[test]
fn every_operation_becomes_its_changes() {
    let wrapped = r#"{"schema":{"type":"struct","fields":[{"field":"before"}]},"payload":{"before":null,"after":{"id":4},"op":"r","ts_ms":1}}"#;
    let messages = [
        r#"{"before":null,"after":{"id":1,"name":"a","at":1767323045678},"source":{"version":"3.0","lsn":[1,"2"]},"op":"c","ts_ms":1}"#,
        r#"{"op":"u","after":{"id":1,"name":"b"},"before":{"id":1,"name":"a"}}"#,
        r#"{"before":{"id":1,"name":"b"},"after":null,"op":"d"}"#,
        "tombstone",
        wrapped,
        r#"{"schema":null,"payload":null}"#,
        r#"{"op":"m","message":{"prefix":"x","content":"eA=="}}"#,
    ];
    let expected = Made::of(
        &[
            (0, r#"{"id":1,"name":"a","at":"2026-01-02T03:04:05.678","op":"+I"}"#),
            (1, r#"{"id":1,"name":"a","op":"-U"}"#),
            (1, r#"{"id":1,"name":"b","op":"+U"}"#),
            (2, r#"{"id":1,"name":"b","op":"-D"}"#),
            (4, r#"{"id":4,"op":"+I"}"#),
        ],
        &[],
    );
    assert_eq!(made(r#""debezium-json""#, &messages), expected);
}

#[test]
fn a_message_of_which_one_row_is_bad_leaves_neither() {
    let messages = [
        r#"{"before":null,"after":{"id":1},"op":"c"}"#,
        r#"{"before":{"id":1},"after":{"id":"x"},"op":"u"}"#,
        r#"{"before":{"id":"x"},"after":{"id":"x"},"op":"u"}"#,
        r#"{"before":{"id":1},"after":{"id":2},"op":"u"}"#,
    ];
    let made = made(r#""debezium-json""#, &messages);
    assert_eq!(made.rows, Made::of(&[(0, r#"{"id":1,"op":"+I"}"#), (3, r#"{"id":1,"op":"-U"}"#), (3, r#"{"id":2,"op":"+U"}"#)], &[]).rows);
    assert_eq!(made.bad.iter().map(|b| b.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_cannot_be_a_change_is_a_bad_record() {
    let messages = [
        r#"{"before":null,"after":{"id":1},"op":"u"}"#,
        r#"{"before":null,"after":null,"op":"d"}"#,
        r#"{"op":"t","before":null,"after":null}"#,
        r#"{"op":"z"}"#,
        r#"{"id":1}"#,
        r#"{"before":null,"after":{"id":1},"op":"c"} {}"#,
    ];
    let expected = Made::of(
        &[],
        &[
            (0, "the event is an update, and its `before` is null: set the table to REPLICA IDENTITY FULL, or `missingBefore: upsert`"),
            (1, "the event is a delete, and its `before` is null"),
            (2, "the event is a truncate, which a changelog cannot say"),
            (3, "its `op` is `z`, which is none of c, r, u, d, t, m"),
            (4, "there is no `op`: it is no change event of Debezium"),
            (5, "there is more behind the event, at byte 41"),
        ],
    );
    assert_eq!(made(r#""debezium-json""#, &messages), expected);
    let upsert = made(r#"{"type":"debezium-json","key":["id"],"missingBefore":"upsert"}"#, &messages[..1]);
    assert_eq!(upsert, Made::of(&[(0, r#"{"id":1,"op":"+U"}"#)], &[]));
}

#[test]
fn its_rows_are_a_changelog_with_the_key_that_is_given() {
    let schema = columns("id bigint; name string");
    let format = format(r#"{"type":"debezium-json","key":["id"]}"#);
    let plan = DecodePlan::new(request(&format, Some(&schema))).unwrap();
    assert_eq!((plan.change_mode(), plan.key()), (ChangeMode::Changelog, ["id".to_owned()].as_slice()));
    for (wrong, why) in [
        (r#"{"type":"debezium-json","key":["ids"]}"#, "`key[0]`: there is no column `ids`; did you mean `id`?"),
        (
            r#"{"type":"debezium-json","missingBefore":"upsert"}"#,
            "`missingBefore`: `upsert` replaces the row of a key, and none is given; give `key: [COLUMN, …]`",
        ),
    ] {
        let format = super::format(wrong);
        assert_eq!(DecodePlan::new(request(&format, Some(&schema))).unwrap_err().to_string(), why);
    }
}
