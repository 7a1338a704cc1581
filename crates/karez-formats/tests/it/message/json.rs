use karez_formats::message::{DecodePlan, EncodePlan, EncodeRequest, SchemaKind};

use super::{Made, Registry, batch, columns, decoder, encoder, format, id, registered, registry_decoder, request, run, run_all, texts};

#[test]
fn a_message_is_an_object_that_may_hold_line_feeds() {
    let schema = columns("id bigint; name string; tags array<string>");
    let mut decoder = decoder(r#""json""#, &schema);
    let messages: [&[u8]; 6] = [
        b"{\"id\":1,\"name\":\"a\",\"tags\":[\"x\"]}",
        b"\n{\n  \"id\": 2,\n  \"name\": \"b\\nc\"\n}\n",
        b"{\"id\":3} x",
        b"",
        b"{\"id\":4}{\"id\":5}",
        b"{\"id\":6,\"other\":{\"deep\":[1,{}]}}",
    ];
    let made = run(decoder.as_mut(), &Registry::new(), &messages);
    assert_eq!(made.rows, Made::of(&[(0, r#"{"id":1,"name":"a","tags":["x"]}"#), (1, r#"{"id":2,"name":"b\nc"}"#), (5, r#"{"id":6}"#)], &[]).rows);
    assert_eq!(made.bad.iter().map(|b| b.0).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn flat_columns_are_read_in_place_and_bad_messages_between_them_harm_no_other() {
    let schema = columns("id bigint not null; name string");
    let mut decoder = decoder(r#""json""#, &schema);
    let texts: Vec<String> = (0..5_000)
        .map(|n| match n % 7 {
            3 => format!("{{\"id\":\"x{n}\"}}"),
            5 => format!("{{\n\"name\":\"n{n}\",\n\"id\":{n}.0e0}}\n"),
            _ => format!("{{\"id\":{n},\"name\":\"n{n}\"}}"),
        })
        .collect();
    let messages: Vec<Option<&[u8]>> = texts.iter().map(|t| Some(t.as_bytes())).collect();
    let made = run_all(decoder.as_mut(), &Registry::new(), &messages, 700);
    let good: Vec<u32> = (0..5_000).filter(|n| n % 7 != 3).collect();
    assert_eq!(made.rows.iter().map(|r| r.0).collect::<Vec<_>>(), good);
    for (message, row) in &made.rows {
        assert_eq!(row["id"], *message);
        assert_eq!(row["name"], format!("n{message}"));
    }
    assert_eq!(made.bad.iter().map(|b| b.0).collect::<Vec<_>>(), (0..5_000).filter(|n| n % 7 == 3).collect::<Vec<_>>());
}

#[test]
fn only_the_columns_asked_for_are_decoded() {
    let schema = columns("id bigint; name string; price double");
    let format = format(r#""json""#);
    let plan = DecodePlan::new(request(&format, Some(&schema))).unwrap().project(&[0, 2]).project(&[1]);
    let mut decoder = plan.decoder().unwrap();
    let made = run(decoder.as_mut(), &Registry::new(), &[br#"{"id":"not read","price":2.5}"#]);
    assert_eq!(made, Made::of(&[(0, r#"{"price":2.5}"#)], &[]));
    let mut none = plan.project(&[]).decoder().unwrap();
    assert_eq!(run(none.as_mut(), &Registry::new(), &[b"{}", b"{\"a\":1}"]).rows.len(), 2);
}

#[test]
fn a_json_schema_makes_messages_bad_that_do_not_fulfil_it() {
    let schema = columns("id bigint; name string");
    let json = r#"{"type":"json","schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},"name":{"pattern":"^[a-z]+$"}}}}"#;
    let mut decoder = decoder(json, &schema);
    let messages: [&[u8]; 5] = [b"{\"id\":1,\"name\":\"ok\"}", b"{\"name\":\"ok\"}", b"{\"id\":0}", b"{\"id\":2", b"{\"id\":3,\"name\":\"X\"}"];
    let made = run(decoder.as_mut(), &Registry::new(), &messages);
    assert_eq!(made.rows, Made::of(&[(0, r#"{"id":1,"name":"ok"}"#)], &[]).rows);
    let reasons: Vec<&str> = made.bad.iter().map(|b| b.1.as_str()).collect();
    assert_eq!(reasons[0], "the message does not fulfil the JSON Schema: \"id\" is a required property");
    assert_eq!(reasons[1], "`/id` does not fulfil the JSON Schema: 0 is less than the minimum of 1");
    assert!(reasons[2].starts_with("the message is no JSON: EOF"), "{}", reasons[2]);
    assert!(reasons[3].starts_with("`/name` does not fulfil"), "{}", reasons[3]);
}

#[test]
fn with_a_registry_each_message_is_checked_by_the_schema_that_its_id_names() {
    let schema = columns("id bigint");
    let registry = Registry::from([
        (
            7,
            registered(
                SchemaKind::Json,
                r#"{"type":"object","properties":{"id":{"$ref":"id.json"}}}"#,
                &[("id.json", r#"{"type":"integer","maximum":9}"#)],
            ),
        ),
        (8, registered(SchemaKind::Avro, r#""long""#, &[])),
    ]);
    let mut decoder = registry_decoder(r#""json""#, &schema);
    let messages: [&[u8]; 5] =
        [b"\0\0\0\0\x07{\"id\":9}", b"\0\0\0\0\x07{\"id\":10}", b"\0\0\0\0\x08{\"id\":1}", b"\0\0\0\0\x09{\"id\":1}", b"{\"id\":1}"];
    let made = run(decoder.as_mut(), &registry, &messages);
    let expected = Made::of(
        &[(0, r#"{"id":9}"#)],
        &[
            (1, "`/id` does not fulfil the JSON Schema: 10 is greater than the maximum of 9"),
            (2, "schema 8: it is AVRO, not JSON"),
            (3, "schema 9: the registry does not have it"),
            (4, "the message is not in the schema registry's wire format: it begins with the byte 0x7b instead of 0x00"),
        ],
    );
    assert_eq!(made, expected);

    let mut bare = registry_decoder(r#"{"type":"json","framing":"none"}"#, &schema);
    assert_eq!(run(bare.as_mut(), &Registry::new(), &[b"{\"id\":1}"]), Made::of(&[(0, r#"{"id":1}"#)], &[]));
    let mut unchecked = registry_decoder(r#"{"type":"json","validate":false}"#, &schema);
    assert_eq!(run(unchecked.as_mut(), &Registry::new(), &[b"\0\0\0\0\x09{\"id\":1}"]), Made::of(&[(0, r#"{"id":1}"#)], &[]));
}

#[test]
fn rows_are_written_as_objects() {
    let schema = columns("id bigint; name string; at timestamp(3)");
    let rows = batch(&schema, &[r#"{"id":1,"name":"a\n","at":"2026-01-02T03:04:05.678"}"#, r#"{"id":2}"#]);
    let written = texts(encoder(r#""json""#, &schema).as_mut(), &rows);
    assert_eq!(written, [r#"{"id":1,"name":"a\n","at":"2026-01-02T03:04:05.678"}"#, r#"{"id":2,"name":null,"at":null}"#]);
    let written = texts(encoder(r#"{"type":"json","omitNulls":true}"#, &schema).as_mut(), &rows);
    assert_eq!(written[1], r#"{"id":2}"#);
}

#[test]
fn rows_that_do_not_fulfil_the_schema_are_refused_one_by_one() {
    let schema = columns("id bigint");
    let json = r#"{"type":"json","schema":{"properties":{"id":{"minimum":1}}}}"#;
    let written = texts(encoder(json, &schema).as_mut(), &batch(&schema, &[r#"{"id":1}"#, r#"{"id":0}"#, r#"{"id":2}"#]));
    assert_eq!(written, [r#"{"id":1}"#, "rejected: `/id` does not fulfil the JSON Schema: 0 is less than the minimum of 1", r#"{"id":2}"#]);
}

#[test]
fn with_a_registry_rows_fulfil_the_schema_that_is_made_of_their_columns() {
    let schema = columns("id bigint not null; name string; tags array<string>; at timestamp_ltz(3); sub row<a int>; m map<string, double>");
    let format = format(r#""json""#);
    let mut encoder = EncodePlan::new(EncodeRequest { format: &format, schema: &schema, registry: true }).unwrap().encoder().unwrap();
    let registration = encoder.registration().unwrap().clone();
    let rows = batch(&schema, &[r#"{"id":1,"name":"a","tags":["x"],"at":"2026-01-02T03:04:05Z","sub":{"a":1},"m":{"k":1.5}}"#, r#"{"id":2}"#]);
    assert!(encoder.encode(&rows, &mut karez_formats::message::Payloads::default()).is_err(), "no id yet");
    encoder.registered(id(3), None).unwrap();
    let written = super::payloads(encoder.as_mut(), &rows);
    assert_eq!(&written[0][..5], [0, 0, 0, 0, 3]);
    let registry = Registry::from([(3, registered(registration.kind, &registration.text, &[]))]);
    let messages: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    let made = run(registry_decoder(r#""json""#, &schema).as_mut(), &registry, &messages);
    assert_eq!((made.rows.len(), made.bad), (2, Vec::new()));
}
