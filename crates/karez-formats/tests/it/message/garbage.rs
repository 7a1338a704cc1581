//! Whatever the bytes: no panic, every message is a row (or more) or bad, and those around it are not harmed.

use karez_formats::message::SchemaKind;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Made, Registry, columns, decoder, registered, registry_decoder, run_all};

const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"s","type":["null","string"]},
    {"name":"l","type":{"type":"array","items":"int"}},{"name":"m","type":{"type":"map","values":"double"}},
    {"name":"r","type":{"type":"record","name":"I","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}}]}},
    {"name":"x","type":{"type":"fixed","name":"F","size":3}}]}"#;

const PROTO: &str = "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/wrappers.proto\";
    message R { int64 id = 1; optional string s = 2; repeated sint32 l = 3; map<string, double> m = 4; I r = 5; google.protobuf.Timestamp t = 6;
    google.protobuf.Int64Value w = 7; oneof o { bool a = 8; fixed32 b = 9; } repeated I many = 10; message I { string d = 1; E e = 2; repeated string f = 3; } enum E { A = 0; B = 1; } }";

/// The messages with a good one before, between and behind them; the good ones must come out.
fn check(
    mut decoder: Box<dyn karez_formats::message::MessageDecoder>,
    registry: &Registry,
    good: &[u8],
    messages: &[Vec<u8>],
    rows: usize,
) -> Result<(), TestCaseError> {
    let all: Vec<Option<&[u8]>> = std::iter::once(Some(good)).chain(messages.iter().flat_map(|m| [Some(m.as_slice()), Some(good)])).collect();
    let Made { rows: made, bad } = run_all(decoder.as_mut(), registry, &all, rows);
    let mut outcome = vec![0; all.len()];
    made.iter().for_each(|(message, _)| outcome[*message as usize] += 1);
    for (message, reason) in &bad {
        prop_assert_eq!(outcome[*message as usize], 0, "bad, and a row: {}", reason);
        outcome[*message as usize] = -1;
    }
    for (at, outcome) in outcome.iter().enumerate() {
        prop_assert!(*outcome != 0, "message {} left no trace: {:?}", at, all[at]);
        prop_assert!(at % 2 == 1 || *outcome > 0, "the good message {} is bad: {:?}", at, bad);
    }
    Ok(())
}

fn avro_good() -> Vec<u8> {
    [&[2, 2, 2, b'x', 2, 8, 0, 2, 2, b'k'][..], &1.5_f64.to_le_bytes(), &[0, 2, 5, 2, 1, 2, 3]].concat()
}

fn framed(prefix: &[u8], datum: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 1], prefix, datum].concat()
}

/// Random bytes, and good ones with a few bytes changed, cut or added.
fn damaged(good: Vec<u8>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let length = good.len();
    let changed = (vec((0..length, any::<u8>()), 1..4), 0..=length, vec(any::<u8>(), 0..3)).prop_map(move |(changes, cut, more)| {
        let mut bytes = good.clone();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(cut);
        bytes.extend(more);
        bytes
    });
    vec(prop_oneof![vec(any::<u8>(), 0..40), changed.clone(), changed], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn avro(messages in damaged(avro_good()), rows in 1..9_usize) {
        let json = format!(r#"{{"type":"avro","schema":{AVRO}}}"#);
        let schema = columns("id bigint; s string; l array<int>; m map<string, double>; r row<d decimal(10, 2), e string>; x binary");
        check(decoder(&json, &schema), &Registry::new(), &avro_good(), &messages, rows)?;
        let registry = Registry::from([(1, registered(SchemaKind::Avro, AVRO, &[]))]);
        let with_id: Vec<Vec<u8>> = messages.iter().map(|m| framed(&[], m)).chain(messages.iter().cloned()).collect();
        check(registry_decoder(r#""avro""#, &schema), &registry, &framed(&[], &avro_good()), &with_id, rows)?;
    }

    #[test]
    fn protobuf(messages in damaged(PROTO_GOOD.to_vec()), rows in 1..9_usize) {
        let json = serde_json::json!({ "type": "protobuf", "schema": PROTO }).to_string();
        let schema = columns("id bigint; s string; l array<int>; m map<string, double>; r row<d string, e string, f array<string>>; t timestamp_ltz(9); w bigint; a boolean; b bigint; many array<row<f array<string>>>");
        check(decoder(&json, &schema), &Registry::new(), PROTO_GOOD, &messages, rows)?;
        let registry = Registry::from([(1, registered(SchemaKind::Protobuf, PROTO, &[]))]);
        let with_id: Vec<Vec<u8>> = messages.iter().map(|m| framed(&[], m)).chain(messages.iter().map(|m| framed(&[0], m))).collect();
        check(registry_decoder(r#""protobuf""#, &schema), &registry, &framed(&[0], PROTO_GOOD), &with_id, rows)?;
    }

    #[test]
    fn json(messages in damaged(br#"{"id":1,"s":"a\u00e9","l":[1],"r":{"d":1.5}}"#.to_vec()), rows in 1..9_usize) {
        let good = br#"{"id":1,"s":"b"}"#;
        check(decoder(r#""json""#, &columns("id bigint; s string")), &Registry::new(), good, &messages, rows)?;
        check(decoder(r#""json""#, &columns("id bigint; l array<int>; r row<d decimal(5, 2)>")), &Registry::new(), good, &messages, rows)?;
        check(decoder(r#"{"type":"json","schema":true}"#, &columns("id bigint; s string")), &Registry::new(), good, &messages, rows)?;
    }

    #[test]
    fn csv(messages in damaged(b"1,\"a\"\"b\",2.5".to_vec()), rows in 1..9_usize) {
        check(decoder(r#""csv""#, &columns("id bigint; s string; d double")), &Registry::new(), b"1,x,", &messages, rows)?;
    }

    #[test]
    fn debezium(messages in damaged(br#"{"before":{"id":1},"after":{"id":2,"s":"x"},"op":"u","source":{"a":[1]}}"#.to_vec()), rows in 1..9_usize) {
        // An `m` and a null payload leave no trace, as they should.
        let traced: Vec<Vec<u8>> = messages.into_iter().filter(|m| !m.windows(3).any(|w| w == b"\"m\"")).collect();
        let good = br#"{"before":{"id":1},"after":{"id":2},"op":"u"}"#;
        check(decoder(r#""debezium-json""#, &columns("id bigint; s string")), &Registry::new(), good, &traced, rows)?;
    }
}

/// `id: 1`, text, packed list, map, row, instant, wrapper, oneof, rows.
const PROTO_GOOD: &[u8] = &[
    8, 1, 18, 1, b's', 26, 2, 2, 4, 34, 12, 10, 1, b'k', 17, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 42, 5, 10, 1, b'd', 16, 1, 50, 2, 8, 1, 58, 2, 8, 5, 64,
    1, 82, 3, 26, 1, b'f',
];
