use super::{Made, Registry, batch, columns, decoder, encoder, run, texts};

#[test]
fn a_message_is_one_record() {
    let schema = columns("id bigint; name string");
    let mut decoder = decoder(r#"{"type":"csv","delimiter":";","nullValue":"NULL"}"#, &schema);
    let messages: [&[u8]; 8] = [b"1;a", b"2;\"b\nc\"\r\n", b"3;NULL", b"x;y", b"4;a\n5;b", b"", b"6", b"7;\xff"];
    let made = run(decoder.as_mut(), &Registry::new(), &messages);
    let expected = Made::of(
        &[(0, r#"{"id":1,"name":"a"}"#), (1, r#"{"id":2,"name":"b\nc"}"#), (2, r#"{"id":3}"#)],
        &[
            (3, "column `id`: `x` is not a bigint"),
            (4, "more than one record in the message"),
            (5, "the message is empty"),
            (6, "the record has 1 field, expected 2"),
            (7, "byte 2 of the record is not UTF-8"),
        ],
    );
    assert_eq!(made, expected);
}

#[test]
fn rows_are_written_as_records_without_a_line_feed() {
    let schema = columns("id bigint; name string");
    let written = texts(encoder(r#"{"type":"csv"}"#, &schema).as_mut(), &batch(&schema, &[r#"{"id":1,"name":"a,\n\"b\""}"#, r#"{"name":""}"#]));
    assert_eq!(written, ["1,\"a,\n\"\"b\"\"\"", ",\"\""]);
}
