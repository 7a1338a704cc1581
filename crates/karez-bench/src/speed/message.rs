//! Messages of each format against lines of NDJSON with the same rows, on one thread, in turn.

use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use karez_formats::json::{JsonDecoder, JsonOptions};
use karez_formats::message::{DecodePlan, DecodeRequest, EncodePlan, EncodeRequest, MessageDecoder, MessageFormat, Outcome, Payloads};
use serde_json::{Value, json};

use super::clock::{peak_mb, thread_cpu};
use super::figure::{Figure, median};
use super::json::{self, FOUR, SEVEN};
use super::work::schema;

const BATCH_ROWS: usize = 8_192;
/// Messages that a source hands to the decoder at a time.
const FETCH_MESSAGES: usize = 2_000;

/// Which format, and how many of the seven columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) bench: &'static str,
    format: &'static str,
    columns: &'static [&'static str],
}

/// The cases, by bench.
pub(super) const CASES: [Case; 5] = [
    Case { bench: "message-json", format: "json", columns: &FOUR },
    Case { bench: "message-csv", format: "csv", columns: &SEVEN },
    Case { bench: "message-avro", format: "avro", columns: &FOUR },
    Case { bench: "message-protobuf", format: "protobuf", columns: &FOUR },
    Case { bench: "message-debezium", format: "debezium-json", columns: &FOUR },
];

/// Measures a case: how much faster its messages are decoded than NDJSON of the same rows.
pub(super) fn measure(case: Case, rounds: usize) -> Result<Figure, String> {
    let text = json::alike();
    let all = whole(&lines(&mut json_decoder(&schema(&SEVEN))?, text.as_bytes())?)?;
    let payloads = encode(case.format, &all)?;
    let messages: Vec<Option<&[u8]>> = payloads.iter().map(|p| Some(p.as_slice())).collect();
    let columns = schema(case.columns);
    let mut theirs = json_decoder(&columns)?;
    let mut ours = decoder(case.format, &all, case.columns)?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for round in 0..=rounds * 3 {
        let (their_rows, their_time) = timed(|| lines(&mut theirs, text.as_bytes()))?;
        let (our_rows, our_time) = timed(|| decode(ours.as_mut(), &messages))?;
        if round == 0 {
            let (theirs, ours) = (whole(&their_rows)?, whole(&our_rows)?);
            if theirs.columns() != ours.columns() {
                return Err(format!("{}: the decoders do not agree", case.bench));
            }
            continue;
        }
        ratios.push(their_time.as_secs_f64() / our_time.as_secs_f64());
        #[allow(clippy::cast_precision_loss)]
        rates.push(messages.len() as f64 / our_time.as_secs_f64());
    }
    Ok(Figure {
        against: Some("ndjson".into()),
        ratio: Some(median(ratios)),
        rows_per_cpu_second: Some(median(rates)),
        peak_mb: peak_mb(),
        ..Figure::new(case.bench)
    })
}

fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<(T, Duration), String> {
    let begin = thread_cpu();
    let done = work()?;
    Ok((done, thread_cpu() - begin))
}

fn whole(batches: &[RecordBatch]) -> Result<RecordBatch, String> {
    let first = batches.first().ok_or("there are no rows")?;
    concat_batches(first.schema_ref(), batches).map_err(|e| e.to_string())
}

fn json_decoder(schema: &SchemaRef) -> Result<JsonDecoder, String> {
    JsonDecoder::try_new(Arc::clone(schema), JsonOptions::default()).map_err(|e| e.to_string())
}

fn lines(decoder: &mut JsonDecoder, mut text: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let (mut batches, mut errors) = (Vec::new(), Vec::new());
    while !text.is_empty() {
        let read = decoder.decode_lines(text, true, BATCH_ROWS, &mut errors);
        text = &text[read..];
        batches.extend(decoder.flush().map_err(|e| e.to_string())?);
    }
    errors.first().map_or(Ok(batches), |e| Err(e.reason.clone()))
}

/// The format, with the schema that its encoder makes of the columns where messages do not name one.
fn format(name: &str, all: &RecordBatch) -> Result<MessageFormat, String> {
    let bare: MessageFormat = serde_json::from_value(json!(name)).map_err(|e| e.to_string())?;
    if !matches!(name, "avro" | "protobuf") {
        return Ok(bare);
    }
    let plan = EncodePlan::new(EncodeRequest { format: &bare, schema: &all.schema(), registry: true }).map_err(|e| e.to_string())?;
    let encoder = plan.encoder().map_err(|e| e.to_string())?;
    let text = encoder.registration().ok_or("the format has no schema")?.text.clone();
    let value: Value = json!({ "type": name, "schema": text });
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn encode(name: &str, all: &RecordBatch) -> Result<Vec<Vec<u8>>, String> {
    let format = format(name, all)?;
    let plan = EncodePlan::new(EncodeRequest { format: &format, schema: &all.schema(), registry: false }).map_err(|e| e.to_string())?;
    let mut out = Payloads::default();
    plan.encoder().and_then(|mut encoder| encoder.encode(all, &mut out)).map_err(|e| e.to_string())?;
    let payload = |outcome: &Outcome| match outcome {
        Outcome::Payload(range) => Ok(out.bytes()[range.clone()].to_vec()),
        other => Err(format!("a row was not encoded: {other:?}")),
    };
    out.outcomes().iter().map(payload).collect()
}

fn decoder(name: &str, all: &RecordBatch, columns: &[&str]) -> Result<Box<dyn MessageDecoder>, String> {
    let format = format(name, all)?;
    let schema = all.schema();
    let request = DecodeRequest { format: &format, schema: Some(&schema), registry: false, latest: None, null_payload: None };
    let wanted: Vec<usize> = (0..schema.fields().len()).filter(|&c| columns.contains(&schema.field(c).name().as_str())).collect();
    DecodePlan::new(request).map_err(|e| e.to_string())?.project(&wanted).decoder().map_err(|e| e.to_string())
}

fn decode(decoder: &mut dyn MessageDecoder, messages: &[Option<&[u8]>]) -> Result<Vec<RecordBatch>, String> {
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    for fetch in messages.chunks(FETCH_MESSAGES) {
        let mut done = 0;
        while done < fetch.len() {
            done += decoder.decode(&fetch[done..], BATCH_ROWS, &mut bad).done;
            if decoder.rows() >= BATCH_ROWS {
                batches.extend(decoder.flush().map_err(|e| e.to_string())?.map(|d| d.batch));
            }
        }
    }
    batches.extend(decoder.flush().map_err(|e| e.to_string())?.map(|d| d.batch));
    bad.first().map_or(Ok(batches), |b| Err(b.reason.clone()))
}
