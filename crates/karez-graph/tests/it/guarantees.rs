use karez_graph::settings::Delivery;
use karez_graph::{JobSettings, Overflow, StreamGraph, StreamGraphBuilder};
use serde_json::json;

use crate::bench::{graph, none, op, plan, refusal, settings, sink, source};

fn exactly_once() -> StreamGraphBuilder {
    StreamGraph::builder(JobSettings { delivery: Delivery::ExactlyOnce, ..settings() })
}

#[test]
fn exactly_once_needs_a_source_that_can_be_read_again() {
    let g =
        exactly_once().add_source("in", source(json!({ "once": true }))).add_sink("out", sink(json!({ "transactional": true }))).connect("in", "out");
    assert_eq!(
        refusal(&g),
        "`in`, `connector`: exactly-once cannot hold: source `in` cannot be read again from a position: rows are made up as they are read; \
         read from a source that can be replayed, or set `delivery: at-least-once`"
    );
}

#[test]
fn a_source_that_cannot_be_read_again_is_noted_in_any_job() {
    let job = plan(&graph().add_source("in", source(json!({ "once": true }))).add_sink("out", sink(none())).connect("in", "out")).unwrap();
    assert_eq!(
        job.notes,
        ["source `in` cannot be read again (rows are made up as they are read): rows since the last checkpoint are lost when the job restarts"]
    );
}

#[test]
fn exactly_once_and_dropped_rows_exclude_each_other() {
    for (policy, name) in [(Overflow::Drop, "DROP"), (Overflow::Latest, "LATEST")] {
        let g = exactly_once()
            .add_source("in", source(none()))
            .overflow(policy)
            .add_sink("out", sink(json!({ "transactional": true })))
            .connect("in", "out");
        assert_eq!(
            refusal(&g),
            format!(
                "`in`, `overflow`: exactly-once cannot hold: overflow {name} leaves rows of `in` out; use BUFFER or ERROR, or set `delivery: at-least-once`"
            )
        );
    }
}

#[test]
fn exactly_once_needs_a_sink_that_commits_or_upserts() {
    let g = exactly_once().add_source("in", source(none())).add_sink("out", sink(none())).connect("in", "out");
    assert_eq!(
        refusal(&g),
        "`out`, `connector`: exactly-once cannot hold: sink `out` writes the rows since the last checkpoint again after a crash; \
         use a sink that commits with the checkpoint or upserts by key, or set `delivery: at-least-once`"
    );
    for config in [json!({ "transactional": true }), json!({ "key": ["id"] })] {
        assert!(plan(&exactly_once().add_source("in", source(none())).add_sink("out", sink(config)).connect("in", "out")).is_ok());
    }
}

#[test]
fn an_idempotent_sink_is_exactly_once_behind_a_deterministic_path_only() {
    let dice = |to| {
        exactly_once()
            .add_source("in", source(none()))
            .add_operator("dice", op("map", json!({ "select": ["id"], "random": true })))
            .add_operator("f", op("filter", json!({ "where": "true" })))
            .add_sink("out", sink(to))
            .connect("in", "dice")
            .connect("dice", "f")
            .connect("f", "out")
    };
    assert_eq!(
        refusal(&dice(json!({ "key": ["id"] }))),
        "`out`, `connector`: exactly-once cannot hold: sink `out` upserts, and `dice` before it gives other rows when it runs again: it calls `random()`; \
         make `dice` deterministic, use a transactional sink, or set `delivery: at-least-once`"
    );
    assert!(plan(&dice(json!({ "transactional": true }))).is_ok());
}
