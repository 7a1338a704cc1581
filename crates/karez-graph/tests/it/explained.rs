use karez_core::config::Span;
use karez_graph::{EventTime, JobSettings, StreamGraph, explain};
use serde_json::json;

use crate::bench::{none, op, plan, registry, settings, sink, source};

fn explained() -> karez_graph::Explanation {
    let builder = StreamGraph::builder(JobSettings { parallelism: 2, ..settings() })
        .add_source("in", source(json!({ "projects": true, "password": "hush", "url": "db://me:hush@host/x" })))
        .event_time(EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(5_000), idle_timeout: None, order: Default::default() })
        .add_operator("paid", op("filter", json!({ "where": "amount > 0", "reads": ["amount"] })))
        .add_operator("hourly", op("window", json!({ "keyBy": ["id"] })))
        .add_sink("out", sink(json!({ "key": ["id"] })))
        .add_sink("tardy", sink(none()))
        .connect("in", "paid")
        .connect("paid", "hourly")
        .connect("hourly", "out")
        .connect_port("hourly", "late", "tardy");
    let job = plan(&builder).unwrap();
    explain(&builder.build().unwrap(), &job, &registry())
}

#[test]
fn the_text_shows_chains_exchanges_and_what_was_pushed_down() {
    insta::assert_snapshot!(explained().to_string(), @r#"
Job test: streaming, at-least-once, parallelism 2, checkpoint every 10s

StreamGraph
  source in
  operator paid <- in
  operator hourly <- paid
  sink out <- hourly
  sink tardy <- hourly.late

JobGraph
  [0] in -> paid (parallelism 2)
      ├─ source in: rows
      │    projects: true, password: ***, url: db://me:***@host/x
      │    gives id bigint, amount double, ts timestamp(3)
      │    bounded, event time ts (out of order by up to 5s)
      │    reads only id, amount, ts
      ├─ operator paid: filter
      │    where: amount > 0, reads: ["amount"]
      │    gives id bigint, amount double, ts timestamp(3)
      └─ paid => [1] by hash(id)
  [1] hourly (parallelism 2)
      ├─ operator hourly: window
      │    keyBy: ["id"]
      │    gives id bigint
      ├─ hourly => [2] by hash(id)
      └─ hourly.late => [3] by forward
  [2] out (parallelism 2)
      └─ sink out: memory
           key: ["id"]
           gets id bigint
           idempotent (upserts by key)
  [3] tardy (parallelism 2)
      └─ sink tardy: memory
           gets id bigint, amount double, ts timestamp(3)
           at-least-once
"#);
}

#[test]
fn the_diagram_has_a_box_for_each_chain() {
    insta::assert_snapshot!(explained().mermaid(), @r#"
flowchart LR
  subgraph v0["in -&gt; paid x2"]
    direction LR
    v0n0(["in: rows"])
    v0n1["paid: filter"]
    v0n0 --> v0n1
  end
  subgraph v1["hourly x2"]
    direction LR
    v1n0["hourly: window"]
  end
  subgraph v2["out x2"]
    direction LR
    v2n0(["out: memory"])
  end
  subgraph v3["tardy x2"]
    direction LR
    v3n0(["tardy: memory"])
  end
  v0n1 -->|"hash(id)"| v1n0
  v1n0 -->|"hash(id)"| v2n0
  v1n0 -->|"late, forward"| v3n0
"#);
}

#[test]
fn no_form_shows_a_secret() {
    let e = explained();
    let json = serde_json::to_string(&e).unwrap();
    for text in [&e.to_string(), &e.mermaid(), &json] {
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(json.contains(r#""password":"***""#) && json.contains("db://me:***@host/x"), "{json}");
}

#[test]
fn references_to_the_environment_are_shown_but_not_their_defaults() {
    let schema = registry().connector("rows").unwrap().source_options();
    let shown = |v| explain::mask(&v, schema.as_ref());
    assert_eq!(shown(json!({ "password": "${PASS}", "url": "db://u:${PASS}@h" })), json!({ "password": "${PASS}", "url": "db://u:${PASS}@h" }));
    assert_eq!(shown(json!({ "password": "${PASS:-hush}" })), json!({ "password": "${PASS:-***}" }));
    assert_eq!(shown(json!({ "password": "x${PASS}" })), json!({ "password": "***" }));
    assert_eq!(shown(json!({ "url": "postgresql://user:pa/ss@word@host/db" })), json!({ "url": "postgresql://user:***@host/db" }));
    assert_eq!(shown(json!({ "url": "postgresql://user:${PASS:-a/b}@host/db" })), json!({ "url": "postgresql://user:***@host/db" }));
    assert_eq!(shown(json!({ "url": "postgres://user:it's \"so\"@host/db" })), json!({ "url": "postgres://user:***@host/db" }));
    for value in ["p@ss", "p?y", "a b", "it's"] {
        let url = |value: &str| format!("jdbc:postgresql://host:5432/db?user=me&password={value}&ssl=on");
        assert_eq!(shown(json!({ "url": url(value) })), json!({ "url": url("***") }));
    }
    assert_eq!(shown(json!({ "url": "no secret: http://host/a:b@c" })), json!({ "url": "no secret: http://host/a:b@c" }));
}
