use karez_formats::message::{DecodePlan, DecodeRequest, EncodePlan, EncodeRequest, Outcome, Payloads, SchemaKind};

use super::{Made, Registry, batch, columns, decoder, encoder, format, id, payloads, registered, registry_decoder, request, run};

const ORDER: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum State { UNKNOWN = 0; OPEN = 1; CLOSED = 2; }
message Other { int32 x = 1; }
message Order {
  int64 id = 1;
  optional string item = 2;
  double price = 3;
  State state = 4;
  repeated int32 sizes = 5;
  map<string, int64> counts = 6;
  Address to = 7;
  repeated Address via = 8;
  google.protobuf.Timestamp at = 9;
  google.protobuf.StringValue note = 10;
  oneof pay { string card = 11; int32 cash = 12; }
  bytes raw = 13;
  sint32 delta = 14;
  fixed64 code = 15;
  message Address { string city = 1; optional int32 zip = 2; }
}
"#;

fn order() -> String {
    serde_json::json!({ "type": "protobuf", "schema": ORDER, "message": "shop.Order" }).to_string()
}

/// A field of bytes.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, value.len() as u8][..], value].concat()
}

/// A field of a small number.
fn varint(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    let mut rest = value;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

#[test]
fn columns_are_those_of_the_message() {
    let plan = DecodePlan::new(request(&format(&order()), None)).unwrap();
    let types: Vec<String> = plan
        .schema()
        .fields()
        .iter()
        .map(|f| format!("{} {}{}", f.name(), karez_core::sql_type::to_sql(f.data_type()), if f.is_nullable() { "" } else { " not null" }))
        .collect();
    assert_eq!(
        types,
        [
            "id bigint not null",
            "item string",
            "price double not null",
            "state string not null",
            "sizes array<int not null> not null",
            "counts map<string, bigint not null> not null",
            "to row<city string not null, zip int>",
            "via array<row<city string not null, zip int> not null> not null",
            "at timestamp_ltz(9)",
            "note string",
            "card string",
            "cash int",
            "raw binary not null",
            "delta int not null",
            "code bigint unsigned not null"
        ]
    );
}

#[test]
fn fields_become_values_nulls_and_defaults() {
    let full = [
        varint(1, 7),
        bytes(2, b"tea"),
        [&[0x19][..], &2.5_f64.to_le_bytes()].concat(),
        varint(4, 2),
        bytes(5, &[1, 0x80, 0x01]),
        varint(5, 3),
        bytes(6, &[bytes(1, b"a"), varint(2, 5)].concat()),
        bytes(7, &bytes(1, b"Hami")),
        // The same message again is merged.
        bytes(7, &varint(2, 9)),
        bytes(8, &bytes(1, b"Turpan")),
        bytes(8, &[]),
        bytes(9, &[varint(1, 10), vec![0x10, 0x80, 0x80, 0xe4, 0x01]].concat()),
        bytes(10, &[]),
        // Of a oneof the last counts.
        bytes(11, b"visa"),
        varint(12, 20),
        bytes(13, &[0xff]),
        varint(14, 3),
        [&[0x79][..], &8_u64.to_le_bytes()].concat(),
        // Unknown: a varint, bytes, a group, fixed.
        vec![0xa0, 0x06, 0x01],
        vec![0xa2, 0x06, 0x01, 0x00],
        vec![0xa3, 0x06, 0x08, 0x01, 0xa4, 0x06],
        vec![0xa5, 0x06, 0, 0, 0, 0],
    ]
    .concat();
    let made = run(DecodePlan::new(request(&format(&order()), None)).unwrap().decoder().unwrap().as_mut(), &Registry::new(), &[&full, b""]);
    let expected = Made::of(
        &[
            (
                0,
                r#"{"id":7,"item":"tea","price":2.5,"state":"CLOSED","sizes":[1,128,3],"counts":{"a":5},"to":{"city":"Hami","zip":9},
                "via":[{"city":"Turpan"},{"city":""}],"at":"1970-01-01T00:00:10.003735552Z","note":"","cash":20,"raw":"ff","delta":-2,"code":8}"#,
            ),
            (1, r#"{"id":0,"price":0.0,"state":"UNKNOWN","sizes":[],"counts":{},"via":[],"raw":"","delta":0,"code":0}"#),
        ],
        &[],
    );
    assert_eq!(made, expected);
}

#[test]
fn damaged_messages_are_bad_alone() {
    let schema = columns("id bigint; item string; via array<row<city string>>; counts map<string, bigint>");
    let good = [varint(1, 7), bytes(8, &bytes(1, b"x")), bytes(6, &bytes(1, b"k"))].concat();
    let messages: [&[u8]; 8] = [
        &good,
        &[varint(1, 1), vec![0x12, 9, b'x']].concat(),
        &[bytes(8, &bytes(1, b"a")), bytes(2, &[0xff])].concat(),
        &[bytes(8, &bytes(1, b"a")), bytes(6, &bytes(1, b"b")), bytes(1, b"no number")].concat(),
        &[0x08; 3],
        &[0x0c],
        &[0x00, 0x01],
        &good,
    ];
    let made = run(decoder(&order(), &schema).as_mut(), &Registry::new(), &messages);
    let row = r#"{"id":7,"via":[{"city":"x"}],"counts":{"k":0}}"#;
    assert_eq!(made.rows, Made::of(&[(0, row), (7, row)], &[]).rows);
    let reasons: Vec<(u32, &str)> = made.bad.iter().map(|(at, why)| (*at, why.as_str())).collect();
    let expected = [
        (1, "the message ends in the middle of a field"),
        (2, "field `item` (2): byte 0 of the text is not UTF-8"),
        (3, "field `id` (1): the message has a length and bytes for it, which is not of its type"),
        (4, "the message ends in the middle of a field"),
        (5, "the end of group 1 without its beginning"),
        (6, "a field has the number 0, which is none"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn messages_of_a_registry_are_read_by_their_own_schemas() {
    let v1 = "syntax = \"proto3\"; message Order { int64 id = 1; }";
    let v2 = "syntax = \"proto3\"; import \"geo.proto\"; message Else {} message Order { int64 id = 1; string item = 2; geo.City city = 3; message In { int32 id = 1; } }";
    let geo = "syntax = \"proto3\"; package geo; message City { string name = 1; }";
    let registry = Registry::from([
        (1, registered(SchemaKind::Protobuf, v1, &[])),
        (2, registered(SchemaKind::Protobuf, v2, &[("geo.proto", geo)])),
        (3, registered(SchemaKind::Avro, "\"long\"", &[])),
    ]);
    let schema = columns("id bigint; item string; city row<name string>");
    let mut decoder = registry_decoder(r#""protobuf""#, &schema);
    let messages: [&[u8]; 7] = [
        // The first message of the file.
        &[&[0, 0, 0, 0, 1, 0][..], &varint(1, 5)].concat(),
        // Message 1 of the file.
        &[&[0, 0, 0, 0, 2, 2, 2][..], &varint(1, 6), &bytes(2, b"t"), &bytes(3, &bytes(1, b"Hami"))].concat(),
        // Message 0 inside message 1.
        &[&[0, 0, 0, 0, 2, 4, 2, 0][..], &varint(1, 7)].concat(),
        &[&[0, 0, 0, 0, 2, 2, 8][..], &varint(1, 8)].concat(),
        &[0, 0, 0, 0, 3, 0],
        &[0, 0, 0, 0, 9, 0],
        &[0, 0, 0, 0, 2],
    ];
    let made = run(decoder.as_mut(), &registry, &messages);
    let rows = &[(0, r#"{"id":5}"#), (1, r#"{"id":6,"item":"t","city":{"name":"Hami"}}"#), (2, r#"{"id":7}"#)];
    let bad = &[
        (3, "schema 2: the schema has no message at the indexes [4]"),
        (4, "schema 3: it is AVRO, not PROTOBUF"),
        (5, "schema 9: the registry does not have it"),
        (6, "the indexes of the message's type are damaged"),
    ];
    assert_eq!(made, Made::of(rows, bad));

    // Read by one's own schema, fields that are missing have their defaults, and other messages are refused.
    let json = serde_json::json!({ "type": "protobuf", "schema": v2.replace("import \"geo.proto\";", "").replace("geo.City city = 3;", ""), "message": "Order" });
    let mut own = registry_decoder(&json.to_string(), &columns("id bigint; item string"));
    let made = run(own.as_mut(), &registry, &messages[..3]);
    let expected =
        Made::of(&[(0, r#"{"id":5,"item":""}"#), (1, r#"{"id":6,"item":"t"}"#)], &[(2, "schema 2: the message is a `Order.In`, not a `Order`")]);
    assert_eq!(made, expected);
}

#[test]
fn rows_are_written_with_indexes_before_them() {
    let schema = columns("id bigint; item string");
    let json = serde_json::json!({ "type": "protobuf", "schema": "syntax = \"proto3\"; message A {} message Order { int64 id = 1; optional string item = 2; }", "message": "Order" });
    let format = format(&json.to_string());
    let mut encoder = EncodePlan::new(EncodeRequest { format: &format, schema: &schema, registry: true }).unwrap().encoder().unwrap();
    assert_eq!(encoder.registration().unwrap().record_name, "Order");
    encoder.registered(id(258), None).unwrap();
    let written = payloads(encoder.as_mut(), &batch(&schema, &[r#"{"id":7,"item":""}"#, r#"{"id":0}"#]));
    assert_eq!(written, [[&[0, 0, 0, 1, 2, 2, 2][..], &varint(1, 7), &bytes(2, b"")].concat(), vec![0, 0, 0, 1, 2, 2, 2]]);
}

#[test]
fn decimals_dates_and_times_are_written_as_texts_and_read_back() {
    let schema = columns("price decimal(40, 2); day date; at time(3)");
    let row = r#"{"price":12345678901234567890123456789012345678.90,"day":"2024-01-31","at":"23:59:59.500"}"#;
    let proto = r#"{"type":"protobuf","schema":"syntax = \"proto3\"; message R { optional string price = 1; optional string day = 2; optional string at = 3; }"}"#;
    let written = payloads(encoder(r#"{"type":"protobuf"}"#, &schema).as_mut(), &batch(&schema, &[row]));
    let finer = [bytes(1, b"1.239"), bytes(2, b"2024-01-31")].concat();
    let made = run(decoder(proto, &schema).as_mut(), &Registry::new(), &[&written[0], &finer]);
    assert_eq!(made, Made::of(&[(0, row)], &[(1, "column `price`: `1.239` has more digits behind the point than decimal(40, 2) keeps")]));
}

#[test]
fn a_number_that_is_longer_than_its_field_makes_its_message_bad() {
    let proto = r#"{"type":"protobuf","schema":"syntax = \"proto3\"; message R { int32 i = 1; uint32 u = 2; sint32 s = 3; }"}"#;
    let schema = columns("i int; u bigint; s int");
    let negative = [varint(1, (-7_i64).cast_unsigned()), varint(2, u32::MAX.into()), varint(3, 1)].concat();
    let short = varint(1, u32::MAX.into());
    let long = [varint(1, 1 << 40), varint(2, 1 << 32), varint(3, 1 << 33)];
    let messages: Vec<&[u8]> = [&negative, &short].into_iter().chain(&long).map(Vec::as_slice).collect();
    let made = run(decoder(proto, &schema).as_mut(), &Registry::new(), &messages);
    let bad = [("`i` (1)", 1_u64 << 40), ("`u` (2)", 1 << 32), ("`s` (3)", 1 << 33)];
    let bad: Vec<(u32, String)> = (2..)
        .zip(bad)
        .map(|(n, (field, number))| {
            (n, format!("field {field}: {number} has more than the 32 bits of its field: it may be written by another schema"))
        })
        .collect();
    let bad: Vec<(u32, &str)> = bad.iter().map(|(n, why)| (*n, why.as_str())).collect();
    assert_eq!(made, Made::of(&[(0, r#"{"i":-7,"u":4294967295,"s":-1}"#), (1, r#"{"i":-1,"u":0,"s":0}"#)], &bad));
}

#[test]
fn rows_that_the_message_cannot_hold_are_refused_one_by_one() {
    let schema = columns("id bigint; state string; via array<row<city string>>");
    let json = serde_json::json!({ "type": "protobuf", "message": "Order",
        "schema": "syntax = \"proto2\"; message Order { required int32 id = 1; optional State state = 4; enum State { OPEN = 1; } repeated To via = 8; message To { optional string city = 1; } }" });
    let rows = [
        r#"{"id":1,"state":"OPEN","via":[{"city":"a"}]}"#,
        r#"{"id":3000000000}"#,
        r#"{"id":1,"state":"LOST"}"#,
        "{}",
        r#"{"id":1,"via":[null]}"#,
        r#"{"id":2,"state":"1"}"#,
    ];
    let mut out = Payloads::default();
    encoder(&json.to_string(), &schema).encode(&batch(&schema, &rows), &mut out).unwrap();
    assert_eq!(out.get(0), Some([varint(1, 1), varint(4, 1), bytes(8, &bytes(1, b"a"))].concat().as_slice()));
    assert_eq!(out.get(5), Some([varint(1, 2), varint(4, 1)].concat().as_slice()));
    let rejected: Vec<&str> = out.outcomes()[1..5].iter().map(|o| if let Outcome::Rejected(why) = o { why.as_str() } else { "" }).collect();
    assert_eq!(
        rejected,
        [
            "column `id`: `3000000000` is not an int",
            "column `state`: `LOST` is no value of the enum",
            "column `id`: is null, and its field is required",
            "column `via`: Protobuf has no null in a list"
        ]
    );
}

#[test]
fn a_message_that_contains_itself_is_read_as_deep_as_is_declared() {
    let json = serde_json::json!({ "type": "protobuf", "schema": "syntax = \"proto3\"; message Node { int32 id = 1; Node next = 2; }" }).to_string();
    let error = DecodePlan::new(request(&format(&json), None)).unwrap_err().to_string();
    assert_eq!(error, "field `next`: the message `Node` contains itself, for which there is no column type; declare the columns");
    let schema = columns("id int; next row<id int, next row<id int>>");
    let message = [varint(1, 1), bytes(2, &[varint(1, 2), bytes(2, &[varint(1, 3), bytes(2, &varint(1, 4))].concat())].concat())].concat();
    assert_eq!(
        run(decoder(&json, &schema).as_mut(), &Registry::new(), &[&message]),
        Made::of(&[(0, r#"{"id":1,"next":{"id":2,"next":{"id":3}}}"#)], &[])
    );
}

#[test]
fn imports_are_found_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("part.proto"), "syntax = \"proto3\"; message Part { int32 n = 1; }").unwrap();
    let file = folder.path().join("whole.proto");
    std::fs::write(&file, "syntax = \"proto3\"; import \"part.proto\"; message Whole { Part part = 1; }").unwrap();
    let json = serde_json::json!({ "type": "protobuf", "schemaFile": file });
    let format = format(&json.to_string());
    let plan = DecodePlan::new(DecodeRequest { ..request(&format, None) }).unwrap();
    assert_eq!(run(plan.decoder().unwrap().as_mut(), &Registry::new(), &[&bytes(1, &varint(1, 4))]), Made::of(&[(0, r#"{"part":{"n":4}}"#)], &[]));
}
