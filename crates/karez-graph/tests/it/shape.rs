use karez_core::config::Span;
use karez_graph::settings::JobType;
use karez_graph::{EventTime, Implementation, JobSettings, OnError, StreamGraph};
use serde_json::json;

use crate::bench::{graph, none, op, plan, refusal, registry, settings, sink, source};

#[test]
fn all_errors_of_a_graph_are_reported_at_once() {
    let broken = graph()
        .add_source("in", source(json!({ "unbouned": true })))
        .add_operator("clean", op("fliter", json!({ "where": "true" })))
        .add_operator("wrong", op("filter", json!({ "were": "true" })))
        .add_sink("out", Implementation::named("memroy", none()))
        .connect("in", "clean")
        .connect("clean", "wrong")
        .connect("wrong", "out");
    assert_eq!(
        refusal(&broken),
        "`in`, `config.unbouned`: unknown key; did you mean `unbounded`?\n\
         `clean`, `type`: unknown operator type `fliter`; did you mean `filter`?\n\
         `wrong`, `were`: unknown key; did you mean `where`?\n\
         `out`, `connector`: unknown connector `memroy`; did you mean `memory`?"
    );
}

#[test]
fn an_unknown_input_gets_a_suggestion() {
    let g = graph().add_source("orders", source(none())).add_sink("out", sink(none())).connect("order", "out").connect("orders", "out");
    assert_eq!(refusal(&g), "`out`, `inputs[0]`: unknown input `order`; did you mean `orders`?");
}

#[test]
fn an_unknown_output_lists_those_there_are() {
    let g = graph()
        .add_source("in", source(none()))
        .event_time(EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), idle_timeout: None, order: Default::default() })
        .add_operator("hourly", op("window", json!({ "keyBy": ["id"] })))
        .add_sink("out", sink(none()))
        .add_sink("tardy", sink(none()))
        .connect("in", "hourly")
        .connect("hourly", "out")
        .connect_port("hourly", "lat", "tardy");
    assert_eq!(refusal(&g), "`tardy`, `inputs[0]`: `hourly` has no output `lat`; outputs: main, late, errors; did you mean `hourly.late`?");
}

#[test]
fn a_circle_is_named() {
    let g = graph()
        .add_source("in", source(none()))
        .add_operator("a", op("union", none()))
        .add_operator("b", op("filter", json!({ "where": "true" })))
        .add_sink("out", sink(none()))
        .connect("in", "a")
        .connect("a", "b")
        .connect("b", "a")
        .connect("b", "out");
    assert_eq!(
        refusal(&g),
        "`a`, `inputs`: the graph runs in a circle: `a` -> `b` -> `a`; rows flow from sources to sinks; remove one of these edges"
    );
}

#[test]
fn nodes_that_hang_in_the_air_are_refused() {
    let g = graph().add_source("in", source(none())).add_operator("lost", op("filter", json!({ "where": "true" }))).add_sink("out", sink(none()));
    assert_eq!(
        refusal(&g),
        "`in`: nobody reads source `in`; add `in` to the `inputs` of another node, or remove it\n\
         `lost`: operator `lost` has no input; give it `inputs: [name]`\n\
         `lost`: nobody reads operator `lost`; add `lost` to the `inputs` of another node, or remove it\n\
         `out`: sink `out` has no input; give it `inputs: [name]`"
    );
}

#[test]
fn names_are_unique_and_fit_into_file_names() {
    let g = graph().add_source("in.1", source(none())).add_sink("out", sink(none())).add_sink("out", sink(none())).connect("in.1", "out");
    let text = refusal(&g);
    assert!(text.contains("`in.1` cannot be a node's name; names hold letters, digits, `-` and `_`"), "{text}");
    assert!(text.contains("two nodes are named `out`; state, metrics and files are kept by name"), "{text}");
}

#[test]
fn a_sink_takes_inputs_that_look_alike_only() {
    let g = graph()
        .add_source("a", source(none()))
        .schema([("id", "bigint")])
        .add_source("b", source(none()))
        .schema([("id", "int")])
        .add_sink("out", sink(none()))
        .connect("a", "out")
        .connect("b", "out");
    assert_eq!(
        refusal(&g),
        "`out`, `inputs[1]`: `b` and `a` give different rows: column 1 is `id int` and `id bigint`; \
         bring them into one form with a `map`, or write them to two sinks"
    );
}

#[test]
fn a_declared_schema_is_sql() {
    let g =
        graph().add_source("in", source(none())).schema([("id", "bigit"), ("d", "decimal(3, 9)")]).add_sink("out", sink(none())).connect("in", "out");
    assert_eq!(
        refusal(&g),
        "`in`, `schema.id`: unknown type `bigit`; did you mean `bigint`?\n\
         `in`, `schema.d`: `decimal(3, 9)`: more digits behind the point (9) than digits (3)"
    );
}

fn time(column: &str) -> EventTime {
    EventTime { column: column.into(), max_out_of_orderness: Span::millis(0), idle_timeout: None, order: Default::default() }
}

#[test]
fn event_time_is_a_timestamp_that_exists() {
    let with = |c: &str| graph().add_source("in", source(none())).event_time(time(c)).add_sink("out", sink(none())).connect("in", "out");
    assert_eq!(refusal(&with("tss")), "`in`, `eventTime.column`: there is no column `tss`; did you mean `ts`?");
    assert_eq!(
        refusal(&with("id")),
        "`in`, `eventTime.column`: column `id` is of type bigint, event time is a timestamp; declare `id` as `timestamp(3)` in `schema`"
    );
    assert_eq!(plan(&with("ts")).unwrap().vertices[0].source.as_ref().unwrap().schema.event_time.as_deref(), Some("ts"));
}

#[test]
fn a_window_without_event_time_is_the_operators_own_error() {
    let g = graph().add_source("in", source(none())).add_operator("w", op("window", json!({ "keyBy": ["id"] }))).add_sink("out", sink(none()));
    assert_eq!(refusal(&g.connect("in", "w").connect("w", "out")), "`w`, `window`: the input has no event time; give its source an `eventTime`");
}

#[test]
fn a_batch_job_needs_bounded_sources() {
    let g = StreamGraph::builder(JobSettings { job_type: JobType::Batch, ..settings() })
        .add_source("in", source(json!({ "unbounded": true })))
        .add_sink("out", sink(none()))
        .connect("in", "out");
    assert_eq!(
        refusal(&g),
        "`in`, `connector`: the job is `type: batch`, but source `in` never ends; make the source bounded, or the job `type: streaming`"
    );
}

#[test]
fn parallelism_is_refused_where_it_was_asked_for_and_lowered_where_it_was_inherited() {
    let wide = || StreamGraph::builder(JobSettings { parallelism: 4, ..settings() });
    let inherited =
        wide().add_source("in", source(json!({ "maxParallelism": 2 }))).add_sink("out", sink(json!({ "maxParallelism": 1 }))).connect("in", "out");
    let job = plan(&inherited).unwrap();
    assert_eq!(job.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(job.notes[0], "`in` runs with a parallelism of 2 instead of the job's 4: its source gives no more parts to read at a time");
    let said = wide()
        .add_source("in", source(none()))
        .parallelism(200)
        .add_sink("out", sink(json!({ "maxParallelism": 1 })))
        .parallelism(3)
        .connect("in", "out");
    assert_eq!(
        refusal(&said),
        "`in`, `parallelism`: a parallelism of 200 is above the job's `maxParallelism` (128); lower it, or raise `maxParallelism`\n\
         `out`, `parallelism`: `out` can run with a parallelism of at most 1, not 3: its target takes no more writers; write 1, or leave it out"
    );
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let g = StreamGraph::builder(JobSettings { parallelism: 0, id: "a/b".into(), ..settings() })
        .add_source("in", source(none()))
        .add_sink("out", sink(none()));
    let text = refusal(&g.connect("in", "out"));
    assert!(text.contains("`id`: `a/b` cannot be a job's id"), "{text}");
    assert!(text.contains("`parallelism`: a parallelism of 0 runs nothing; write 1 or more"), "{text}");
}

#[test]
fn dead_letters_need_somewhere_to_go() {
    let g = graph().add_source("in", source(none())).on_error(OnError::DeadLetter).add_sink("out", sink(none())).connect("in", "out");
    assert_eq!(
        refusal(&g),
        "`in`, `onError`: the dead letters of `in` go nowhere; give the job a `deadLetter: { connector: …, config: … }`, or a sink with `inputs: [in.errors]`"
    );
    let g = graph()
        .add_source("in", source(none()))
        .add_sink("out", sink(none()))
        .add_sink("bad", sink(none()))
        .connect("in", "out")
        .connect_port("in", "errors", "bad");
    assert_eq!(refusal(&g), "`bad`, `inputs[0]`: `in` gives no dead letters: its bad records fail the job; set `onError: dead-letter` on `in`");
}

#[test]
fn a_graph_survives_json_and_a_node_in_code_says_why_it_does_not() {
    let g = graph()
        .add_source("in", source(none()))
        .schema([("id", "bigint")])
        .event_time(time("ts"))
        .add_sink("out", sink(none()))
        .connect("in", "out")
        .build()
        .unwrap();
    let text = serde_json::to_string(&g).unwrap();
    let back: StreamGraph = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let registry = registry();
    let spec = registry.operator("filter").unwrap().plan(karez_core::PlanContext {
        node: "f",
        config: &json!({ "where": "true" }),
        inputs: &[karez_core::dead_letter::stream_schema()],
        bounded: false,
        batch: false,
        registry: &registry,
    });
    let g = graph()
        .add_source("in", source(none()))
        .add_operator("f", spec.unwrap())
        .add_sink("out", sink(none()))
        .connect("in", "f")
        .connect("f", "out");
    let g = g.build().unwrap();
    assert!(serde_json::to_string(&g).unwrap_err().to_string().contains("a node given in code"));
}
