use karez_formats::message::{DecodePlan, DecodeRequest, MessageFormat};

use super::{columns, format, request};

#[test]
fn a_format_is_its_name_or_an_object_of_its_options() {
    assert_eq!(format(r#""csv""#), format(r#"{"type":"csv"}"#));
    for (wrong, why) in [
        (r#""cvs""#, "unknown variant `cvs`"),
        (r#"{"type":"csv","delimeter":";"}"#, "unknown field `delimeter`"),
        (r#"{"type":"csv","nullValue":null}"#, "write it in quotes"),
        ("7", "expected the name of a format, such as `json`"),
        (r#"{"delimiter":";"}"#, "missing field `type`"),
    ] {
        let error = serde_json::from_str::<MessageFormat>(wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn what_cannot_work_is_told_when_the_job_is_planned() {
    let schema = columns("id bigint; name string");
    let avro = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"string"},{"name":"nam","type":"string"}]}"#;
    let avro = format!(r#"{{"type":"avro","schema":{avro}}}"#);
    for (wrong, declared, registry, why) in [
        (r#""json""#, false, false, "a message of `json` does not say what columns it has; declare them: `schema: { id: bigint, … }`"),
        (r#"{"type":"csv","delimiter":";;"}"#, true, false, "`delimiter`: must be one ASCII character (or `\\t`), and no line break"),
        (
            r#"{"type":"json","framing":"confluent"}"#,
            true,
            false,
            "`framing`: `confluent` needs a schema registry; give `schemaRegistry: { url: … }`",
        ),
        (r#""raw""#, true, false, "the payload is one column of type string or binary; declared are 2; declare one: `schema: { value: string }`"),
        (
            r#""avro""#,
            true,
            false,
            "`schema`: is missing: messages do not say what schema they were written with; give the schema, a `schemaFile`, or a `schemaRegistry`",
        ),
        (
            r#"{"type":"avro","framing":"confluent","schema":"long"}"#,
            true,
            false,
            "`framing`: `confluent` needs a schema registry; give `schemaRegistry: { url: … }`",
        ),
        (&avro, true, false, "`schema`: the Avro schema has no field `name`, which is declared; did you mean `nam`?"),
        (r#"{"type":"protobuf","schema":"message M { optional bytes id = 1 }"}"#, true, false, "`schema`: the Protobuf schema does not compile"),
        (
            r#"{"type":"protobuf","schema":"syntax=\"proto3\"; message M { int64 id = 1; double name = 2; }","message":"N"}"#,
            true,
            false,
            "`message`: there is no message `N`; did you mean `M`?",
        ),
        (
            r#"{"type":"protobuf","schema":"syntax=\"proto3\"; message M { int64 id = 1; map<string, int32> name = 2; }"}"#,
            true,
            false,
            "column `name`: map<string, int not null> does not become string",
        ),
        (r#"{"type":"json","schema":{"type":"wrong"}}"#, true, false, "`schema`: the JSON Schema cannot be used"),
        (r#"{"type":"json","schemaFile":"/no/such/file"}"#, true, false, "`schemaFile`: cannot read `/no/such/file`"),
    ] {
        let format = format(wrong);
        let request = DecodeRequest { registry, ..request(&format, declared.then_some(&schema)) };
        let error = DecodePlan::new(request).unwrap_err().to_string();
        assert!(error.starts_with(why), "{wrong}: {error}");
    }
}
