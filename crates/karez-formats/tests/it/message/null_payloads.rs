use karez_formats::message::{DecodePlan, DecodeRequest, NullPayload};

use super::{Made, Registry, columns, format, request, run_all};

fn run_with(json: &str, declared: &str, policy: Option<NullPayload>, messages: &[Option<&[u8]>]) -> Made {
    let (format, schema) = (format(json), columns(declared));
    let plan = DecodePlan::new(DecodeRequest { null_payload: policy, ..request(&format, Some(&schema)) }).unwrap();
    run_all(plan.decoder().unwrap().as_mut(), &Registry::new(), messages, usize::MAX)
}

const MESSAGES: [Option<&[u8]>; 6] = [None, Some(b"{\"id\":1}"), None, None, Some(b"{\"id\":x}"), Some(b"{\"id\":2}")];

#[test]
fn tombstones_are_skipped_unless_asked_for() {
    let made = run_with(r#""json""#, "id bigint", None, &MESSAGES);
    assert_eq!(made.rows, Made::of(&[(1, r#"{"id":1}"#), (5, r#"{"id":2}"#)], &[]).rows);
    assert_eq!(made.bad.iter().map(|b| b.0).collect::<Vec<_>>(), [4]);
}

#[test]
fn tombstones_can_be_rows_of_nulls() {
    let made = run_with(r#""json""#, "id bigint", Some(NullPayload::NullRow), &MESSAGES);
    assert_eq!(made.rows, Made::of(&[(0, "{}"), (1, r#"{"id":1}"#), (2, "{}"), (3, "{}"), (5, r#"{"id":2}"#)], &[]).rows);
    let only = run_with(r#""csv""#, "id bigint", Some(NullPayload::NullRow), &[None, None]);
    assert_eq!(only, Made::of(&[(0, "{}"), (1, "{}")], &[]));
    let not_null = run_with(r#""json""#, "id bigint not null", Some(NullPayload::NullRow), &MESSAGES[..2]);
    assert_eq!(not_null, Made::of(&[(1, r#"{"id":1}"#)], &[(0, "the message has no payload, and column `id` must not be null")]));
}

#[test]
fn tombstones_can_be_bad_records() {
    let made = run_with(r#""json""#, "id bigint", Some(NullPayload::Error), &MESSAGES[..3]);
    let why = "the message has no payload (a tombstone)";
    assert_eq!(made, Made::of(&[(1, r#"{"id":1}"#)], &[(0, why), (2, why)]));
}
