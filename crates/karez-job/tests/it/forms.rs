use karez_graph::settings::JobType;
use karez_graph::{NodeKind, OnError, Order, RequestedExchange};
use karez_job::Schedule;
use serde_json::json;

use crate::kit::{edges, node, options, parse, problems};

/// §6.2 of the design document, key by key.
const SPEC: &str = r#"
# ETL任务配置示例
job:
  id: user-etl-job
  name: User Data ETL
  type: streaming

  # 调度配置
  schedule:
    policy: cron
    expression: "0 0 * * * ?"
    timezone: Asia/Shanghai

  # 资源配置
  resources:
    parallelism: 8
    memory: 4g

  source:
    connector: kafka
    type: kafka
    config:
      bootstrapServers: localhost:9092
      topics: [user-events]
      groupId: etl-consumer

  operators:
    - name: parse
      type: map
      parallelism: 8

    - name: filter
      type: filter
      parallelism: 8

    - name: aggregate
      type: window-aggregate
      parallelism: 4
      window:
        type: tumbling
        size: 5m

  sink:
    connector: jdbc
    type: jdbc
    config:
      url: jdbc:mysql://localhost:3306/warehouse
      table: user_stats
      batchSize: 100
      flushInterval: 5s
"#;

#[test]
fn the_form_of_the_design_document_is_a_line() {
    let file = parse(SPEC);
    let graph = &file.graph;
    assert_eq!(edges(graph), "source.main -> parse\nparse.main -> filter\nfilter.main -> aggregate\naggregate.main -> sink");
    assert_eq!((graph.settings.id.as_str(), graph.settings.name.as_str()), ("user-etl-job", "User Data ETL"));
    assert_eq!(graph.settings.job_type, JobType::Streaming);
    assert_eq!(graph.settings.resources.parallelism, Some(8));
    assert_eq!(graph.settings.resources.memory.unwrap().0, 4 << 30);
    assert_eq!(
        options(graph, "source"),
        ("kafka", &json!({ "bootstrapServers": "localhost:9092", "topics": ["user-events"], "groupId": "etl-consumer" }))
    );
    assert_eq!(node(graph, "aggregate").parallelism, Some(4));
    assert_eq!(options(graph, "aggregate"), ("window-aggregate", &json!({ "window": { "type": "tumbling", "size": "5m" } })));
    assert_eq!(options(graph, "sink").1["batchSize"], 100);
    let Some(Schedule::Cron { expression, timezone, .. }) = &file.schedule else { panic!() };
    assert_eq!((expression.as_str(), timezone.as_deref()), ("0 0 * * * ?", Some("Asia/Shanghai")));
    assert!(file.warnings.items()[0].message.contains("`schedule` has no effect on `karez run`"));
}

#[test]
fn a_graph_names_what_each_node_reads() {
    let file = parse(
        "
job:
  name: flights
  sources:
    - { name: planes, connector: file, config: { path: p.csv } }
    - name: trips
      connector: file
      config: { path: t.csv }
      schema: { at: timestamp(3), dep: bigint }
      eventTime: { column: at, maxOutOfOrderness: 1d, order: none }
      overflow: DROP
      rateLimit: 1000
  operators:
    flown: { type: split, inputs: [trips], routes: { cancelled: dep is null } }
    both: { type: union, inputs: [flown, { from: planes, exchange: { hash: [id] } }] }
  sinks:
    out: { connector: file, inputs: both }
    cancelled: { connector: file, inputs: [flown.cancelled, { from: flown, port: late, exchange: Rebalance }] }
",
    );
    assert_eq!(
        edges(&file.graph),
        "trips.main -> flown\nflown.main -> both\nplanes.main -> both\nboth.main -> out\nflown.cancelled -> cancelled\nflown.late -> cancelled"
    );
    assert_eq!(file.graph.edges[2].exchange, Some(RequestedExchange::Hash(vec!["id".into()])));
    assert_eq!(file.graph.edges[5].exchange, Some(RequestedExchange::Rebalance));
    let NodeKind::Source { schema, event_time, overflow, rate_limit, .. } = &node(&file.graph, "trips").kind else { panic!() };
    assert_eq!(
        schema.as_ref().unwrap(),
        &[("at".to_owned(), "timestamp(3)".to_owned()), ("dep".to_owned(), "bigint".to_owned())],
        "columns keep their order"
    );
    assert_eq!(event_time.as_ref().unwrap().order, Order::None);
    assert_eq!((format!("{overflow:?}"), *rate_limit), ("Drop".into(), Some(1000)));
    assert_eq!(file.graph.settings.id, "flights");
}

#[test]
fn in_a_graph_every_node_says_what_it_reads() {
    let text = "job:\n  name: x\n  sources: [{ name: a, connector: f }, { name: b, connector: f }]\n  operators: [{ type: union }]\n  sink: { connector: f, inputs: [union] }\n";
    assert_eq!(
        problems(text),
        "4:23 `union` does not say what it reads | add `inputs: [name]`: only a job of one source and one sink where no node has `inputs` is read as a line"
    );
}

#[test]
fn dead_letters_of_all_nodes_go_to_the_jobs_sink_for_them() {
    let file = parse(
        "
job:
  name: x
  deadLetter: { connector: file, config: { path: bad.json } }
  sources: { in: { connector: file, onError: dead-letter } }
  operators:
    - { name: f, type: filter, onError: DEAD_LETTER, inputs: [in] }
    - { name: g, type: filter, onError: skip, inputs: [f] }
  sinks:
    out: { connector: file, inputs: [g], onError: dead-letter }
    mine: { connector: file, inputs: [out.errors] }
",
    );
    assert_eq!(edges(&file.graph), "in.main -> f\nf.main -> g\ng.main -> out\nout.errors -> mine\nin.errors -> dead-letter\nf.errors -> dead-letter");
    assert_eq!(node(&file.graph, "g").on_error, OnError::Skip);
}

#[test]
fn a_line_may_have_a_sink_for_dead_letters_and_one_without_letters_is_a_warning() {
    let line = |on_error: &str| {
        parse(&format!(
            "job: {{ name: x, source: {{ connector: f, onError: {on_error} }}, sink: {{ connector: f }}, deadLetter: {{ connector: f }} }}"
        ))
    };
    assert_eq!(edges(&line("dead-letter").graph), "source.main -> sink\nsource.errors -> dead-letter");
    let idle = line("fail");
    assert_eq!(edges(&idle.graph), "source.main -> sink");
    assert!(idle.warnings.items()[0].message.contains("`deadLetter` gets no letters"));
}

#[test]
fn an_operator_is_named_by_its_type_unless_it_has_a_name() {
    let text = "job:\n  name: x\n  source: { connector: f }\n  operators:\n    - type: filter\n    - type: filter\n  sink: { connector: f }\n";
    assert!(problems(text).contains("two nodes are named `filter`"), "{}", problems(text));
}

#[test]
fn the_id_is_made_from_the_name() {
    for (name, id) in [("Spend per User!", "spend-per-user"), ("用户 数据", "用户-数据"), ("--", "job")] {
        let file = parse(&format!("job: {{ name: \"{name}\", source: {{ connector: f }}, sink: {{ connector: f }} }}"));
        assert_eq!(file.graph.settings.id, id);
    }
}

#[test]
fn the_example_of_the_repository_is_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/flights/delays.yaml");
    let file = karez_job::JobFile::load(path).unwrap_or_else(|e| panic!("{e}"));
    assert!(edges(&file.graph).contains("left.cancelled -> cancelled"));
    assert!(file.warnings.is_empty(), "{}", file.warnings);
}
