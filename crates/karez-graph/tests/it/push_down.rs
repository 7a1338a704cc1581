use karez_core::config::Span;
use karez_graph::settings::JobType;
use karez_graph::{EventTime, JobGraph, JobSettings, OnError, StreamGraph, StreamGraphBuilder};
use serde_json::{Value, json};

use crate::bench::{graph, none, op, plan, settings, shape, sink, source};

fn pushed(job: &JobGraph, vertex: usize) -> Option<Vec<String>> {
    job.vertices[vertex].source.as_ref().unwrap().pushed.columns.clone()
}

fn columns(job: &JobGraph, vertex: usize) -> Vec<String> {
    job.vertices[vertex].source.as_ref().unwrap().schema.arrow.fields().iter().map(|f| f.name().clone()).collect()
}

/// in -> filter(reads) -> map(select) -> out
fn line(from: Value, filter: Value, select: &[&str]) -> StreamGraphBuilder {
    graph()
        .add_source("in", source(from))
        .add_operator("f", op("filter", filter))
        .add_operator("m", op("map", json!({ "select": select })))
        .add_sink("out", sink(none()))
        .connect("in", "f")
        .connect("f", "m")
        .connect("m", "out")
}

#[test]
fn columns_that_nobody_reads_are_not_read() {
    let job = plan(&line(json!({ "projects": true }), json!({ "where": "amount > 0", "reads": ["amount"] }), &["id"])).unwrap();
    assert_eq!(pushed(&job, 0).unwrap(), ["id", "amount"]);
    let filter = &job.vertices[0].operators[0];
    assert_eq!(filter.inputs[0].arrow.fields().len(), 2, "operators are planned against the narrower rows");
}

#[test]
fn a_sink_reads_all_columns() {
    let job = plan(&graph().add_source("in", source(json!({ "projects": true }))).add_sink("out", sink(none())).connect("in", "out")).unwrap();
    assert_eq!(pushed(&job, 0), None);
}

#[test]
fn a_source_that_cannot_project_is_left_alone() {
    let job = plan(&line(none(), json!({ "where": "amount > 0", "reads": ["amount"] }), &["id"])).unwrap();
    assert_eq!(pushed(&job, 0), None);
    assert_eq!(columns(&job, 0).len(), 4);
}

#[test]
fn event_time_and_what_any_reader_needs_is_read() {
    let g = graph()
        .add_source("in", source(json!({ "projects": true })))
        .event_time(EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), idle_timeout: None, order: Default::default() })
        .add_operator("a", op("map", json!({ "select": ["id"] })))
        .add_operator("b", op("map", json!({ "select": ["amount"] })))
        .add_sink("x", sink(none()))
        .add_sink("y", sink(none()))
        .connect("in", "a")
        .connect("in", "b")
        .connect("a", "x")
        .connect("b", "y");
    assert_eq!(pushed(&plan(&g).unwrap(), 0).unwrap(), ["id", "amount", "ts"]);
}

#[test]
fn rows_without_columns_still_count() {
    let g = line(json!({ "projects": true }), json!({ "where": "true" }), &[]);
    assert_eq!(columns(&plan(&g).unwrap(), 0), ["id"]);
}

#[test]
fn inputs_that_must_look_alike_stay_alike() {
    let g = graph()
        .add_source("a", source(json!({ "projects": true })))
        .add_source("b", source(none()))
        .add_operator("u", op("union", none()))
        .add_operator("m", op("map", json!({ "select": ["id"] })))
        .add_sink("out", sink(none()))
        .connect("a", "u")
        .connect("b", "u")
        .connect("u", "m")
        .connect("m", "out");
    let job = plan(&g).unwrap();
    assert_eq!(columns(&job, 0), columns(&job, 1));
    assert!(job.notes.is_empty(), "{:?}", job.notes);
}

#[test]
fn the_origin_column_stays_behind_the_projected_ones() {
    let g = graph()
        .add_source("in", source(json!({ "projects": true })))
        .add_operator("m", op("map", json!({ "select": ["id"] })))
        .on_error(OnError::DeadLetter)
        .add_sink("out", sink(none()))
        .add_sink("bad", sink(none()))
        .connect("in", "m")
        .connect("m", "out")
        .connect_port("m", "errors", "bad");
    assert_eq!(columns(&plan(&g).unwrap(), 0), ["id", "__karez_origin"]);
}

#[test]
fn filters_behind_a_source_that_takes_them_leave_the_graph() {
    let g = graph()
        .add_source("in", source(json!({ "filters": true, "projects": true })))
        .add_operator("f", op("filter", json!({ "where": "amount > 0", "reads": ["amount"] })))
        .add_operator("g", op("filter", json!({ "where": "id > 7", "reads": ["id"] })))
        .add_operator("m", op("map", json!({ "select": ["note"] })))
        .add_sink("out", sink(none()))
        .connect("in", "f")
        .connect("f", "g")
        .connect("g", "m")
        .connect("m", "out");
    let job = plan(&g).unwrap();
    assert_eq!(shape(&job), "in -> m -> out x1");
    let pushed = &job.vertices[0].source.as_ref().unwrap().pushed;
    assert_eq!(pushed.filters, [("f".into(), "amount > 0".into()), ("g".into(), "id > 7".into())]);
    assert_eq!(pushed.columns.as_deref().unwrap(), ["id", "amount", "note"], "the source compiles the filters against what it reads");
}

#[test]
fn a_filter_stays_where_its_effect_could_be_seen() {
    let time = EventTime { column: "ts".into(), max_out_of_orderness: Span::millis(0), idle_timeout: None, order: Default::default() };
    let filters = || source(json!({ "filters": true }));
    let f = || op("filter", json!({ "where": "amount > 0" }));
    let timed = |s: JobSettings| {
        let g = StreamGraph::builder(s).add_source("in", filters()).event_time(time.clone());
        shape(&plan(&g.add_operator("f", f()).add_sink("out", sink(none())).connect("in", "f").connect("f", "out")).unwrap())
    };
    assert_eq!(timed(settings()), "in -> f -> out x1", "dropped rows move event time on");
    assert_eq!(timed(JobSettings { job_type: JobType::Batch, ..settings() }), "in -> out x1", "the watermark comes at the end");
    let limited = graph().add_source("in", filters()).rate_limit(5).add_operator("f", f()).add_sink("out", sink(none()));
    assert_eq!(shape(&plan(&limited.connect("in", "f").connect("f", "out")).unwrap()), "in -> f -> out x1");
    let unlike = graph().add_source("in", filters()).add_operator("f", f()).on_error(OnError::Skip).add_sink("out", sink(none()));
    assert_eq!(shape(&plan(&unlike.connect("in", "f").connect("f", "out")).unwrap()), "in -> f -> out x1");
    let shared = graph().add_source("in", filters()).add_operator("f", f()).add_sink("out", sink(none())).add_sink("all", sink(none()));
    assert!(shape(&plan(&shared.connect("in", "f").connect("f", "out").connect("in", "all")).unwrap()).contains("f -> out x1"));
}
