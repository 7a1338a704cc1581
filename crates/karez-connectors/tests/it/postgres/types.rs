//! Every type both ways.

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, ListBuilder, NullArray, StringArray, StringBuilder, StringDictionaryBuilder, StructArray,
    Time64MicrosecondArray, Time64MicrosecondBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit, i256};
use arrow::record_batch::RecordBatch;

use super::*;

const EVERY: &str = "id int PRIMARY KEY, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric(10, 3), big numeric(60, 5), \
    free numeric, t text, v varchar(5), c char(4), nm name, one \"char\", ci citext, bin bytea, u uuid, j json, jb jsonb, d date, tm time, ts timestamp, \
    tz timestamptz, iv interval, ttz timetz, ip inet, net cidr, mac macaddr, mac8 macaddr8, bits bit varying(9), x xml, o oid, mood mood, dom positive, \
    ints int[], texts text[], nums numeric(5, 1)[], stamps timestamptz[], moods mood[], jbs jsonb[], ips inet[]";

async fn every() -> Db {
    let db = Db::with(
        "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy'); \
         CREATE DOMAIN positive AS numeric(6, 2) NOT NULL CHECK (VALUE > 0)",
    )
    .await;
    db.run(&format!("SET search_path = {}, public; CREATE TABLE t ({EVERY})", db.schema)).await;
    db.run(
        "INSERT INTO t VALUES (1, true, -32768, 2147483647, -9223372036854775808, 1.5, 0.1, -1234567.891, 12345678901234567890123456789012345678901234567890.12345, \
           0.000000000000000001, 'ä\n\"\\坎', 'five5', 'ab', 'pg_class', 'q', 'CiText', '\\x00ff10', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": [1]}', \
           '{\"b\": null}', '0001-01-01', '23:59:59.999999', '1999-12-31 23:59:59.000001', '2038-01-19 03:14:07.5Z', '1 year 2 mons 3 days 04:05:06.7', \
           '05:06:07.5+05:30', '10.1.2.3/8', '2001:db8::/32', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10110', '<a>b</a>', 4294967295, 'so so', 0.01, \
           '{1,NULL,-3}', '{\"a,b\",\"\",NULL,\"\\\"\"}', '{1.5,-0.1}', '{2020-01-01 00:00:00Z}', '{happy,NULL}', '{\"{\\\"x\\\": 1}\"}', '{10.0.0.1,NULL}'), \
         (2, NULL, NULL, NULL, NULL, 'NaN', '-Infinity', 0, 0, NULL, '', '', '', NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, '00:00', NULL, NULL, '0', NULL, \
           '::1', NULL, NULL, NULL, B'', NULL, NULL, NULL, 9999.99, '{}', NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    .await;
    db
}

#[tokio::test]
async fn every_type_is_read_and_written_back_as_it_was() {
    let db = every().await;
    let url = format!("{},public", db.url);
    let source = try_source(&json!({ "url": url, "table": "t" }), None).unwrap();
    let mut reader = open(source.as_ref(), Value::Null).await;
    let (batches, bad, _) = drain(reader.as_mut(), 100).await;
    assert!(bad.is_empty(), "{bad:?}");
    let batch = &batches[0];
    let shown = |name: &str| column(&batches, name);
    for (name, expected) in [
        ("i8", ["-9223372036854775808", "NULL"]),
        ("f8", ["0.1", "-inf"]),
        ("n", ["-1234567.891", "0.000"]),
        ("big", ["12345678901234567890123456789012345678901234567890.12345", "0.00000"]),
        ("free", ["0.000000000000000001", "NULL"]),
        ("c", ["ab  ", "    "]),
        ("one", ["q", "NULL"]),
        ("u", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "NULL"]),
        ("jb", ["{\"b\": null}", "NULL"]),
        ("d", ["0001-01-01", "NULL"]),
        ("tm", ["23:59:59.999999", "00:00:00"]),
        ("ts", ["1999-12-31T23:59:59.000001", "NULL"]),
        ("tz", ["2038-01-19T03:14:07.500Z", "NULL"]),
        ("iv", ["P1Y2M3DT4H5M6.7S", "PT0S"]),
        ("ttz", ["05:06:07.500000+05:30", "NULL"]),
        ("ip", ["10.1.2.3/8", "::1"]),
        ("net", ["2001:db8::/32", "NULL"]),
        ("bits", ["10110", ""]),
        ("o", ["4294967295", "NULL"]),
        ("mood", ["so so", "NULL"]),
        ("dom", ["0.01", "9999.99"]),
        ("ints", ["[1, NULL, -3]", "[]"]),
        ("nums", ["[1.5, -0.1]", "NULL"]),
        ("moods", ["[happy, NULL]", "NULL"]),
    ] {
        assert_eq!(shown(name), expected, "{name}");
    }
    assert_eq!(batch.schema().field_with_name("tz").unwrap().data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert!(!batch.schema().field_with_name("dom").unwrap().is_nullable());
    // Back through the sink, into a table of the same types: the same text in every column.
    for guarantee in ["transactional", "at-least-once"] {
        db.run("DROP TABLE IF EXISTS u; CREATE TABLE u (LIKE t INCLUDING ALL)").await;
        let config = json!({ "url": url, "table": "u", "key": ["id"], "guarantee": guarantee });
        let mut process = Process::start(&config, batch.schema(), 1, 1, &[]).await;
        for batch in &batches {
            process.write(0, batch.clone()).await;
        }
        let manifest = process.barrier(1).await;
        if !manifest.is_empty() {
            assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
        }
        assert_eq!(
            db.rows("SELECT ROW(u.*)::text FROM u ORDER BY id").await,
            db.rows("SELECT ROW(t.*)::text FROM t ORDER BY id").await,
            "{guarantee}"
        );
        assert!(process.rejects.is_empty(), "{:?}", process.rejects);
    }
}

#[tokio::test]
async fn without_odd_types_rows_travel_in_binary_form_and_arrive_alike() {
    let db = Db::with("CREATE TABLE t (id int PRIMARY KEY, a numeric(10,3), b bytea, c jsonb, d uuid, e int[], f timestamptz, g char(4))").await;
    db.run("INSERT INTO t SELECT i, i * 1.001, ('\\x0' || i % 10)::bytea, jsonb_build_object('i', i), md5(i::text)::uuid, ARRAY[i, NULL], now() + i * interval '1 s', i FROM generate_series(1, 5000) i").await;
    let source = db.source(json!({ "table": "t" }));
    let mut reader = open(source.as_ref(), Value::Null).await;
    let (batches, _, _) = drain(reader.as_mut(), 3_000).await;
    db.run("CREATE TABLE u (LIKE t INCLUDING ALL)").await;
    let mut process = Process::start(&db.config(json!({ "table": "u" })), batches[0].schema(), 1, 1, &[]).await;
    for batch in batches {
        process.write(0, batch).await;
    }
    let manifest = process.barrier(1).await;
    process.commit(1, &manifest).await;
    assert_eq!(db.rows("SELECT count(*) FROM (TABLE t EXCEPT TABLE u) d").await, ["0"]);
    assert_eq!(db.count("u").await, 5_000);
}

#[tokio::test]
async fn a_table_made_for_the_rows_takes_every_type_of_the_rows() {
    let nested = StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int32, true)), Arc::new(Int32Array::from(vec![7])) as ArrayRef)]);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    dictionary.append_value("word");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("b", Arc::new(BooleanArray::from(vec![true]))),
        ("i1", Arc::new(Int8Array::from(vec![-128]))),
        ("i2", Arc::new(Int16Array::from(vec![3]))),
        ("u8", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("f4", Arc::new(Float32Array::from(vec![f32::NAN]))),
        ("f8", Arc::new(Float64Array::from(vec![1e300]))),
        ("dec", Arc::new(Decimal128Array::from(vec![-5]).with_precision_and_scale(20, 4).unwrap())),
        ("dec2", Arc::new(Decimal256Array::from(vec![i256::from_i128(10).wrapping_pow(60)]).with_precision_and_scale(70, 2).unwrap())),
        ("t", Arc::new(StringArray::from(vec!["坎儿井 \\N \t"]))),
        ("word", Arc::new(dictionary.finish())),
        ("bin", Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"]))),
        ("d", Arc::new(Date32Array::from(vec![-1]))),
        ("tm", Arc::new(Time64MicrosecondArray::from(vec![1]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![-1]))),
        ("tsms", Arc::new(TimestampMillisecondArray::from(vec![1_500]))),
        ("tsns", Arc::new(TimestampNanosecondArray::from(vec![1_000]).with_timezone("UTC"))),
        ("list", Arc::new(list)),
        ("row", Arc::new(nested)),
        ("nothing", Arc::new(NullArray::new(1))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let db = Db::new().await;
    let mut process = Process::start(&db.config(json!({ "table": "made", "createTable": true })), batch.schema(), 1, 1, &[]).await;
    process.write(0, batch).await;
    let manifest = process.barrier(1).await;
    assert_eq!(outcomes(&process.commit(1, &manifest).await), ["committed"]);
    let rows =
        db.rows("SELECT b, i1, u8, f4, f8, dec, dec2, t, word, bin, d, tm, ts, tsms, tsns AT TIME ZONE 'UTC', list, row, nothing FROM made").await;
    let sixty = format!("1{}.00", "0".repeat(58));
    let expected = format!(
        "t|-128|18446744073709551615|NaN|1e+300|-0.0005|{sixty}|坎儿井 \\N \t|word|\\x00ff|1969-12-31|00:00:00.000001|1969-12-31 23:59:59.999999|\
         1970-01-01 00:00:01.5|1970-01-01 00:00:00.000001|{{1,NULL}}|{{\"x\": 7}}|NULL"
    );
    assert_eq!(rows, [expected]);
}

#[tokio::test]
async fn a_narrower_type_neither_rounds_nor_cuts_off() {
    let db = Db::with(
        "CREATE TABLE t (id int PRIMARY KEY, price numeric(10, 3), share float8, at timestamp, day timestamp); INSERT INTO t VALUES \
         (1, 1.230, 8, '2024-01-01 00:00:00.001', '2024-01-01'), (2, 1.239, 8, '2024-01-01', '2024-01-01'), (3, 1, 8.5, '2024-01-01', '2024-01-01'), \
         (4, 1, 1e300, '2024-01-01', '2024-01-01'), (5, 1, 8, '2024-01-01 00:00:00.0001', '2024-01-01'), (6, 1, 8, '2024-01-01', '2024-01-01 12:00')",
    )
    .await;
    let schema = schema_of(vec![
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("share", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("day", DataType::Date32, true),
    ]);
    let source = try_source(&db.config(json!({ "table": "t" })), Some(&schema)).unwrap();
    let (batches, bad, _) = drain(open(source.as_ref(), Value::Null).await.as_mut(), 100).await;
    assert_eq!(["price", "share", "at", "day"].map(|name| column(&batches, name).concat()), ["1.23", "8", "2024-01-01T00:00:00.001", "2024-01-01"]);
    let at_fault = [(2, "price"), (3, "share"), (4, "share"), (5, "at"), (6, "day")];
    assert_eq!(bad.len(), at_fault.len());
    for (bad, (id, name)) in bad.iter().zip(at_fault) {
        assert!(bad.origin.as_ref().unwrap().ends_with(&format!(".t id={id}")), "{:?}", bad.origin);
        assert!(bad.reason.starts_with(&format!("column `{name}`: ")), "{}", bad.reason);
    }
}

#[tokio::test]
async fn a_numeric_that_is_declared_double_is_the_nearest_one_whatever_its_size() {
    let db = Db::with("CREATE TABLE t (id int PRIMARY KEY, a numeric, b numeric(5, 2)); INSERT INTO t VALUES (1, 1e60, 0.1), (2, 1e-20, 1), (3, 'NaN', 1), (4, '-Infinity', 1), (5, 1e310, 1)").await;
    let schema = schema_of(vec![Field::new("a", DataType::Float64, true), Field::new("b", DataType::Float32, true)]);
    let source = try_source(&db.config(json!({ "table": "t" })), Some(&schema)).unwrap();
    let (batches, bad, _) = drain(open(source.as_ref(), Value::Null).await.as_mut(), 100).await;
    assert_eq!(column(&batches, "a"), ["1e60", "1e-20", "NaN", "-inf"]);
    assert_eq!(column(&batches, "b"), ["0.1", "1.0", "1.0", "1.0"]);
    assert!(bad.len() == 1 && bad[0].reason.ends_with("is out of the range of double"), "{bad:?}");
}

#[tokio::test]
async fn a_numeric_is_read_as_declared_also_as_text() {
    let db = Db::with("CREATE TABLE t (id int PRIMARY KEY, a numeric, b numeric(5, 2)); INSERT INTO t VALUES (1, 123456789012345678901234567890123456789012.5, 1.5), (2, 'NaN', 2)").await;
    let schema =
        schema_of(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Float64, true), Field::new("id", DataType::Utf8, true)]);
    let source = try_source(&db.config(json!({ "table": "t" })), Some(&schema)).unwrap();
    let mut reader = open(source.as_ref(), Value::Null).await;
    let (batches, bad, _) = drain(reader.as_mut(), 100).await;
    assert!(bad.is_empty());
    assert_eq!(column(&batches, "a"), ["123456789012345678901234567890123456789012.5", "NaN"]);
    assert_eq!(column(&batches, "b"), ["1.5", "2.0"]);
    assert_eq!(batches[0].column(2).data_type(), &DataType::Utf8);
    assert_eq!(batches[0].column(0).null_count(), 0);
}

#[tokio::test]
async fn a_text_or_array_that_would_be_rounded_is_a_refused_row() {
    fn lists<B: ArrayBuilder>(elements: B, mut append: impl FnMut(&mut B, usize)) -> ArrayRef {
        let mut lists = ListBuilder::new(elements);
        for row in 1..=7 {
            append(lists.values(), row);
            lists.append(true);
        }
        Arc::new(lists.finish())
    }
    let odd = |row, at| i64::from(row == at);
    let texts = |at| (1..=7).map(move |row| if row == at { "1.239" } else { "1.230" });
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from_iter_values(1..=7))),
        ("price", Arc::new(StringArray::from_iter_values(texts(2)))),
        ("prices", lists(StringBuilder::new(), |b, row| b.append_value(if row == 3 { "0.001" } else { "NaN" }))),
        ("at", lists(TimestampMicrosecondBuilder::new(), |b, row| b.append_value(1_000 + odd(row, 4)))),
        ("instants", lists(TimestampMicrosecondBuilder::new().with_timezone("UTC"), |b, row| b.append_value(1_000_000 + odd(row, 5)))),
        ("clock", lists(Time64MicrosecondBuilder::new(), |b, row| b.append_value(1_000 + odd(row, 6)))),
        ("fee", Arc::new(StringArray::from_iter_values(texts(7)))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    for binary in ["", ", more interval"] {
        let db = Db::with(&format!(
            "CREATE DOMAIN cents AS numeric(10, 2); CREATE TABLE t (id int, price numeric(10, 2), prices numeric(10, 2)[], at timestamp(3)[], \
             instants timestamptz(0)[], clock time(3)[], fee cents{binary})"
        ))
        .await;
        let more = (!binary.is_empty()).then(|| ("more", Arc::new(StringArray::from(vec!["PT1S"; 7])) as ArrayRef, true));
        let all = batch.schema().fields().iter().zip(batch.columns()).map(|(f, c)| (f.name().clone(), Arc::clone(c), true)).collect::<Vec<_>>();
        let all = all.into_iter().chain(more.map(|(n, c, nullable)| (n.to_owned(), c, nullable)));
        let all = RecordBatch::try_from_iter_with_nullable(all).unwrap();
        let mut process = Process::start(&db.config(json!({ "table": "t" })), all.schema(), 1, 1, &[]).await;
        process.write(0, all).await;
        let manifest = process.barrier(1).await;
        process.commit(1, &manifest).await;
        assert_eq!(db.rows("SELECT id, price, prices, at, fee FROM t").await, ["1|1.23|{NaN}|{\"1970-01-01 00:00:00.001\"}|1.23"]);
        for (name, bad) in ["price", "prices", "at", "instants", "clock", "fee"].iter().zip(&process.rejects) {
            assert!(bad.reason.contains(&format!("column `{name}`: ")) && bad.reason.contains("more digits behind the"), "{name}: {}", bad.reason);
        }
        assert_eq!(process.rejects.len(), 6);
    }
}

#[tokio::test]
async fn arrays_and_domains_that_would_be_rounded_are_refused_before_the_job_starts() {
    let db = Db::with("CREATE DOMAIN cents AS numeric(10, 2); CREATE TABLE t (a numeric(10, 2)[], b numeric(3, 0)[], c cents)").await;
    let decimal = DataType::Decimal128(10, 3);
    let schema = schema_of(vec![
        Field::new("a", DataType::new_list(decimal.clone(), true), true),
        Field::new("b", DataType::new_list(DataType::Float64, true), true),
        Field::new("c", decimal, true),
    ]);
    let sink = try_sink(&db.config(json!({ "table": "t" })), &karez_core::StreamSchema::append_only(schema)).unwrap();
    let error = sink.check().await.err().unwrap().to_string();
    for part in ["column `a` (numeric(10,2)[]): cannot take", "column `b` (numeric(3,0)[]): cannot take", "column `c` (cents): cannot take"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(error.matches("would be rounded").count(), 3, "{error}");
}

#[tokio::test]
async fn rows_that_would_be_changed_silently_are_refused_before_the_job_starts() {
    let db = Db::with("CREATE TABLE t (n numeric(5, 1), ts timestamp, i int, d date)").await;
    let schema = schema_of(vec![
        Field::new("n", DataType::Decimal128(10, 4), true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("i", DataType::Float64, true),
        Field::new("d", DataType::Utf8, true),
    ]);
    let input = karez_core::StreamSchema::append_only(schema);
    let sink = try_sink(&db.config(json!({ "table": "t" })), &input).unwrap();
    let error = sink.check().await.err().unwrap().to_string();
    for part in [
        "column `n` (numeric(5,1))",
        "would be rounded",
        "CAST it to timestamp in a `map`",
        "column `i` (integer): cannot take double",
        "column `d` (date)",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
