use karez_formats::message::{DecodePlan, EncodePlan, EncodeRequest};

use super::{Made, Registry, batch, columns, decoder, encoder, format, request, run, run_all, texts};

#[test]
fn the_payload_is_the_value_and_none_is_null() {
    let mut text = decoder(r#""raw""#, &columns("line string"));
    let made = run_all(text.as_mut(), &Registry::new(), &[Some(b"a\nb"), None, Some(b""), Some(b"\xff")], 2);
    let expected = Made::of(&[(0, r#"{"line":"a\nb"}"#), (1, "{}"), (2, r#"{"line":""}"#)], &[(3, "byte 0 of the message is not UTF-8")]);
    assert_eq!(made, expected);

    let plan = DecodePlan::new(request(&format(r#""raw""#), None)).unwrap();
    assert_eq!(plan.schema().field(0).name(), "value");
    let made = run(plan.decoder().unwrap().as_mut(), &Registry::new(), &[b"\xff\x00"]);
    assert_eq!(made, Made::of(&[(0, r#"{"value":"ff00"}"#)], &[]));
}

#[test]
fn the_only_column_is_the_payload_and_null_is_a_tombstone() {
    let schema = columns("line string");
    let written = texts(encoder(r#""raw""#, &schema).as_mut(), &batch(&schema, &[r#"{"line":"a\nb"}"#, "{}", r#"{"line":""}"#]));
    assert_eq!(written, ["a\nb", "tombstone", ""]);
    for wrong in ["a string; b string", "a bigint"] {
        let schema = columns(wrong);
        let error = EncodePlan::new(EncodeRequest { format: &format(r#""raw""#), schema: &schema, registry: false }).unwrap_err().to_string();
        assert!(error.contains("format `raw` writes one column of text or binary"), "{error}");
    }
}
