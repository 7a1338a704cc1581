//! `karez` as a user meets it.

mod dlq;
mod files;
mod lookup;
mod outage;
mod preview;
mod reference;
mod run;
mod steer;

/// A bounded job: numbers through a filter to a file.
pub const NUMBERS: &str = r#"
job:
  id: numbers
  name: Numbers
  sources:
    - name: numbers
      connector: generator
      config: { kind: fields, rows: 1000, fields: [ { type: sequence, name: n } ] }
  operators:
    - { name: small, type: filter, inputs: [numbers], where: "n < 10" }
  sinks:
    - name: out
      connector: file
      inputs: [small]
      config: { path: out.ndjson, format: ndjson, ifExists: replace }
"#;

/// A job without end: one row in a while, counted in windows of ten thousand seconds of event time that no run here completes.
pub const ENDLESS: &str = r#"
job:
  id: endless
  name: Endless
  checkpoint: { interval: 100ms }
  sources:
    - name: bids
      connector: generator
      config: { kind: nexmark, event: bid }
      eventTime: { column: date_time }
      rateLimit: 1000
  operators:
    - name: counts
      type: window-aggregate
      inputs: [bids]
      window: { type: tumbling, size: 10000s }
      aggregates: { bids: "count(*)" }
  sinks:
    - name: out
      connector: file
      inputs: [counts]
      config: { path: out, format: ndjson }
"#;
