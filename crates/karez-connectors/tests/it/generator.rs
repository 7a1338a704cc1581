//! The generator: the same rows every time, from any position.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use karez_connectors::generator::GeneratorConnector;
use karez_core::config::ConfigErrors;
use karez_core::source::{ReadLimit, ReaderContext, Replay};
use karez_core::{Boundedness, Connector, Read, Source, SourceContext, Split, SystemClock};
use serde_json::{Value, json};

fn plan(config: &Value, batch: bool) -> Result<Arc<dyn Source>, ConfigErrors> {
    GeneratorConnector.source(SourceContext { node: "in", config, schema: None, batch })
}

fn refused(config: Value) -> String {
    plan(&config, true).err().map(|e| e.to_string()).unwrap_or_default()
}

fn reader_context(with_origin: bool) -> ReaderContext {
    ReaderContext { with_origin, metrics: Arc::default(), clock: Arc::new(SystemClock) }
}

async fn splits(source: &Arc<dyn Source>) -> Vec<Split> {
    let mut enumerator = source.enumerator(None).await.unwrap();
    let found = enumerator.discover().await.unwrap();
    assert!(found.done);
    assert!(enumerator.discover().await.unwrap().splits.is_empty(), "splits are given once");
    let state = enumerator.snapshot().unwrap();
    assert!(source.enumerator(Some(state)).await.unwrap().discover().await.unwrap().splits.is_empty(), "also after a restore");
    found.splits
}

/// Up to `batches` batches of a split, and where it stands then.
async fn read(source: &Arc<dyn Source>, split: &Split, rows: usize, batches: usize) -> (Vec<RecordBatch>, Split) {
    let mut reader = source.open(split, reader_context(false)).await.unwrap();
    let mut found = Vec::new();
    while found.len() < batches {
        match reader.next(ReadLimit { rows, bytes: 1 << 20 }).await.unwrap() {
            Read::Rows { batch, bad } => {
                assert!(bad.is_empty());
                found.push(batch);
            }
            Read::End => break,
            Read::Nothing | Read::Pending => panic!("a generator always has rows"),
        }
    }
    (found, Split { id: split.id.clone(), position: reader.position().unwrap() })
}

async fn all(config: Value) -> RecordBatch {
    let source = plan(&config, false).unwrap();
    let mut batches = Vec::new();
    for split in splits(&source).await {
        batches.extend(read(&source, &split, 1_000, usize::MAX).await.0);
    }
    concat_batches(&source.schema().arrow, &batches).unwrap()
}

#[tokio::test]
async fn a_restored_split_gives_exactly_the_rest() {
    for config in [
        json!({ "kind": "nexmark", "rows": 1_000, "splits": 3 }),
        json!({ "kind": "nexmark", "event": "all", "rows": 1_000 }),
        json!({ "kind": "fields", "rows": 1_000, "splits": 2, "fields": [
            { "name": "id", "type": "sequence", "start": 5, "step": -2 }, { "name": "v", "type": "double", "nulls": 0.2 }, { "name": "s", "type": "string" }
        ] }),
    ] {
        let source = plan(&config, true).unwrap();
        assert_eq!((source.boundedness(), source.replay()), (Boundedness::Bounded, Replay::Exact));
        let mut total = 0;
        for split in splits(&source).await {
            let (whole, _) = read(&source, &split, 1_000, usize::MAX).await;
            let (mut parts, middle) = read(&source, &split, 7, 11).await;
            parts.extend(read(&source, &middle, 100, usize::MAX).await.0);
            let schema = source.schema().arrow;
            let whole = concat_batches(&schema, &whole).unwrap();
            assert_eq!(concat_batches(&schema, &parts).unwrap(), whole);
            total += whole.num_rows();
        }
        assert_eq!(total, 1_000);
    }
}

#[tokio::test]
async fn splits_deal_the_rows_out() {
    let one = all(json!({ "kind": "nexmark", "rows": 100 })).await;
    let source = plan(&json!({ "kind": "nexmark", "rows": 100, "splits": 4 }), false).unwrap();
    assert_eq!(source.max_parallelism(), Some(4));
    for (i, split) in splits(&source).await.iter().enumerate() {
        let (batches, _) = read(&source, split, 1_000, usize::MAX).await;
        for row in 0..25 {
            assert_eq!(batches[0].slice(row, 1), one.slice(row * 4 + i, 1));
        }
    }
}

#[tokio::test]
async fn a_projection_gives_the_same_values() {
    for config in [
        json!({ "kind": "nexmark", "rows": 50 }),
        json!({ "kind": "fields", "rows": 50, "fields": [{ "name": "a", "type": "int" }, { "name": "b", "type": "int" }, { "name": "c", "type": "boolean" }] }),
    ] {
        let source = plan(&config, false).unwrap();
        let projected = source.project(&[0, 2]).unwrap();
        let whole = all(config).await;
        let (batches, _) = read(&projected, &splits(&projected).await[0], 1_000, usize::MAX).await;
        assert_eq!(batches[0], whole.project(&[0, 2]).unwrap());
        let last = projected.project(&[1]).unwrap();
        let (batches, _) = read(&last, &splits(&last).await[0], 1_000, usize::MAX).await;
        assert_eq!(batches[0], whole.project(&[2]).unwrap());
    }
}

#[tokio::test]
async fn nexmark_bids_are_the_crate_s_with_exact_times() {
    let bids = all(json!({ "kind": "nexmark", "rows": 500, "startTime": "2015-07-15T00:00:00Z" })).await;
    let names: Vec<_> = bids.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["auction", "bidder", "price", "channel", "url", "date_time", "extra"]);
    let config = nexmark::config::NexmarkConfig { base_time: 1_436_918_400_000, ..Default::default() };
    let theirs = nexmark::EventGenerator::new(config).with_type_filter(nexmark::event::EventType::Bid);
    for (row, event) in theirs.take(500).enumerate() {
        let nexmark::event::Event::Bid(bid) = event else { panic!("a bid") };
        assert_eq!(bids.column(0).as_primitive::<Int64Type>().value(row), bid.auction as i64);
        assert_eq!(bids.column(2).as_primitive::<Int64Type>().value(row), bid.price as i64);
        assert_eq!(bids.column(4).as_string::<i32>().value(row), bid.url);
        assert_eq!(bids.column(5).as_primitive::<TimestampMillisecondType>().value(row), bid.date_time as i64);
        assert_eq!(bids.column(6).as_string::<i32>().value(row), bid.extra);
    }
}

#[tokio::test]
async fn nexmark_time_goes_on_in_even_steps_after_a_day_of_events() {
    let source = plan(&json!({ "kind": "nexmark", "event": "all" }), false).unwrap();
    assert_eq!(source.boundedness(), Boundedness::Unbounded);
    let late = Split { id: "0 of 1".to_owned(), position: json!({ "next": 864_000_000_u64, "step": 1 }) };
    let (batches, _) = read(&source, &late, 1_000, 1).await;
    let times = batches[0].column(1).as_primitive::<TimestampMillisecondType>();
    assert_eq!(times.value(0), 1_436_918_400_000 + 86_400_000);
    assert!(times.values().windows(2).all(|w| (0..=1).contains(&(w[1] - w[0]))));
}

#[tokio::test]
async fn all_nexmark_events_come_in_one_stream() {
    let rows = all(json!({ "kind": "nexmark", "event": "all", "rows": 100 })).await;
    let kinds = rows.column(0).as_string::<i32>();
    let count = |kind: &str| kinds.iter().filter(|k| *k == Some(kind)).count();
    assert_eq!((count("person"), count("auction"), count("bid")), (2, 6, 92));
    for row in 0..100 {
        let set: Vec<_> =
            ["person", "auction", "bid"].into_iter().enumerate().filter(|(i, _)| rows.column(i + 2).is_valid(row)).map(|(_, k)| k).collect();
        assert_eq!(set, [kinds.value(row)]);
    }
    for event in ["person", "auction"] {
        assert_eq!(all(json!({ "kind": "nexmark", "event": event, "rows": 10 })).await.num_rows(), 10);
    }
}

/// The benchmark's input: bids as NDJSON.
#[tokio::test]
async fn a_bid_is_about_246_bytes_of_json() {
    let bids = all(json!({ "kind": "nexmark", "rows": 5_000 })).await;
    let encoder = karez_formats::encode::NdjsonEncoder::new(bids.schema(), &karez_formats::encode::NdjsonOptions::default()).unwrap();
    let mut out = Vec::new();
    karez_formats::encode::Encoder::encode(&encoder, &bids, &mut out).unwrap();
    let average = out.len() / 5_000;
    assert!((236..=266).contains(&average), "{average}: {}", String::from_utf8_lossy(&out[..300]));
}

#[tokio::test]
async fn fields_hold_what_their_options_say() {
    let rows = all(json!({ "kind": "fields", "rows": 10_000, "seed": 7, "fields": [
        { "name": "id", "type": "sequence", "start": 100, "step": 10 },
        { "name": "i", "type": "int", "min": -3, "max": 3 },
        { "name": "wide", "type": "int", "min": i64::MIN, "max": i64::MAX },
        { "name": "d", "type": "double", "min": 1.5, "max": 2.5, "nulls": 0.25 },
        { "name": "s", "type": "string", "length": 23 },
        { "name": "b", "type": "boolean", "probability": 0.9 },
        { "name": "c", "type": "choice", "values": ["x", "y", "z"] },
        { "name": "t", "type": "timestamp", "start": "2024-01-01T00:00:00Z", "step": "1m" }
    ] }))
    .await;
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(9_999), 100 + 99_990);
    let ints = rows.column(1).as_primitive::<Int64Type>();
    assert_eq!((arrow::compute::min(ints), arrow::compute::max(ints)), (Some(-3), Some(3)));
    let wide = rows.column(2).as_primitive::<Int64Type>();
    assert!(arrow::compute::min(wide).unwrap() < i64::MIN / 2 && arrow::compute::max(wide).unwrap() > i64::MAX / 2);
    let doubles = rows.column(3).as_primitive::<Float64Type>();
    assert!((2_200..2_800).contains(&rows.column(3).null_count()));
    assert!(doubles.iter().flatten().all(|d| (1.5..2.5).contains(&d)));
    let texts = rows.column(4).as_string::<i32>();
    assert!(texts.iter().flatten().all(|t| t.len() == 23 && t.bytes().all(|b| b.is_ascii_lowercase())));
    assert_eq!(texts.iter().collect::<std::collections::BTreeSet<_>>().len(), 10_000);
    assert!((8_800..9_200).contains(&rows.column(5).as_boolean().true_count()));
    for value in ["x", "y", "z"] {
        assert!((3_000..3_700).contains(&rows.column(6).as_string::<i32>().iter().filter(|v| *v == Some(value)).count()));
    }
    assert_eq!(rows.column(7).as_primitive::<TimestampMillisecondType>().value(2), 1_704_067_320_000);
}

/// Replays over versions: these values must never change.
#[tokio::test]
async fn random_values_are_the_same_in_every_version() {
    let rows = all(json!({ "kind": "fields", "rows": 3, "fields": [{ "name": "i", "type": "int", "max": 999 }, { "name": "s", "type": "string", "length": 6 }] })).await;
    let text = arrow::util::pretty::pretty_format_batches(&[rows]).unwrap().to_string();
    let cells: Vec<&str> = text.lines().skip(3).take(3).collect();
    assert_eq!(cells, ["| 93  | zjmbin |", "| 709 | uzwvtl |", "| 614 | rjhblu |"]);
}

#[tokio::test]
async fn rows_tell_their_origin_where_it_is_asked_for() {
    let source = plan(&json!({ "kind": "nexmark", "rows": 10, "splits": 2 }), false).unwrap();
    let split = &splits(&source).await[1];
    let mut reader = source.open(split, reader_context(true)).await.unwrap();
    let Read::Rows { batch, .. } = reader.next(ReadLimit { rows: 2, bytes: 1 << 20 }).await.unwrap() else { panic!("rows") };
    assert_eq!(batch.column(7).as_string::<i32>().value(1), "generator row=3");
}

#[test]
fn mistakes_are_named_with_their_key() {
    let cases = [
        (json!({}), "`kind`: is missing"),
        (json!({ "kind": "nexmrak" }), "did you mean `nexmark`?"),
        (json!({ "kind": "nexmark" }), "`rows`: a batch job needs an end"),
        (json!({ "kind": "nexmark", "row": 1 }), "did you mean `rows`?"),
        (json!({ "kind": "nexmark", "rows": 1, "splits": 0 }), "`splits`: must lie between 1 and"),
        (json!({ "kind": "nexmark", "rows": 1, "startTime": "yesterday" }), "`startTime`: `yesterday` is no instant"),
        (json!({ "kind": "nexmark", "rows": 1, "eventsPerSecond": 0 }), "`eventsPerSecond`"),
        (json!({ "kind": "fields", "rows": 1, "fields": [] }), "needs at least one column"),
        (json!({ "kind": "fields", "rows": 1, "fields": [{ "name": "a", "type": "int", "min": 2, "max": 1 }] }), "`fields[0].min`: 2 is greater"),
        (json!({ "kind": "fields", "rows": 1, "fields": [{ "name": "a", "type": "int" }, { "name": "a", "type": "int" }] }), "two columns `a`"),
    ];
    for (config, expected) in cases {
        let e = refused(config.clone());
        assert!(e.contains(expected), "{config}: {e}");
    }
}
