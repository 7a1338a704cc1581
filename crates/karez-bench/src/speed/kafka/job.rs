//! The jobs that are measured.

use super::Case;
use super::bare::BATCH_BYTES;

const BIDS: &str = "{ auction: bigint, bidder: bigint, price: bigint, channel: string, url: string, date_time: timestamp(3), extra: string }";

/// The job file of a case. Without an `output` its rows go to `blackhole`.
pub(super) fn text(case: Case, bootstrap: &str, input: &str, output: Option<&str>, delivery: &str) -> String {
    let (format, schema, operator) = match case {
        Case::Count => ("raw", "{ value: binary }", None),
        Case::Parse => {
            let per_key = r#"{ name: per-key, type: aggregate, keyBy: [auction], aggregates: { bids: "count(*)" } }"#;
            ("json", "{ auction: bigint, price: bigint }", Some(per_key))
        }
        Case::Filter | Case::ExactlyOnce => ("json", BIDS, Some(r#"{ name: half, type: filter, where: "price % 2 = 0" }"#)),
    };
    let operators = operator.map(|o| format!("  operators: [{o}]\n")).unwrap_or_default();
    let sink = output.map_or_else(
        || "connector: blackhole".to_owned(),
        |topic| format!(r#"connector: kafka, config: {{ bootstrapServers: "{bootstrap}", topic: {topic}, format: json, batchSize: {BATCH_BYTES} }}"#),
    );
    format!(
        r#"job:
  id: bench
  name: Bench
  type: streaming
  parallelism: 1
  delivery: {delivery}
  checkpoint: {{ interval: 10s }}
  source:
    connector: kafka
    config: {{ bootstrapServers: "{bootstrap}", topics: [{input}], startFrom: earliest, stopAt: latest, format: {format} }}
    schema: {schema}
{operators}  sink: {{ name: out, {sink} }}
"#
    )
}
