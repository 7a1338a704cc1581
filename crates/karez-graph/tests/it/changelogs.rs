use karez_graph::{JobSettings, OnError, RequestedExchange, StreamGraph, StreamGraphBuilder};
use serde_json::{Value, json};

use crate::bench::{op, plan, refusal, settings, shape, sink, source};

/// An unbounded count by `id`: a changelog keyed by `id`.
fn counted(parallelism: usize, to: Value) -> StreamGraphBuilder {
    StreamGraph::builder(JobSettings { parallelism, ..settings() })
        .add_source("in", source(json!({ "unbounded": true })))
        .add_operator("n", op("count", json!({ "keyBy": ["id"] })))
        .add_sink("out", sink(to))
        .connect("in", "n")
        .connect("n", "out")
}

#[test]
fn a_sink_that_only_appends_refuses_a_changelog_and_both_nodes_are_named() {
    assert_eq!(
        refusal(&counted(1, json!({}))),
        "`out`, `inputs[0]`: sink `out` only appends, but `n` corrects its results as further rows of an unbounded input come in: its output is a changelog; \
         write to a sink with a key (one that upserts and deletes), use a window without allowed lateness, or make the job `type: batch`"
    );
}

#[test]
fn a_bounded_input_gives_final_rows_that_any_sink_takes() {
    let g = StreamGraph::builder(settings()).add_source("in", source(json!({}))).add_operator("n", op("count", json!({ "keyBy": ["id"] })));
    assert!(plan(&g.add_sink("out", sink(json!({}))).connect("in", "n").connect("n", "out")).is_ok());
}

#[test]
fn a_sink_with_the_key_of_the_changelog_chains_behind_it() {
    assert_eq!(shape(&plan(&counted(2, json!({ "key": ["id"] }))).unwrap()), "in x2\nn -> out x2\nin.Output(0) => n -> out[0] Hash([0])");
}

#[test]
fn a_sink_with_another_key_is_refused_unless_one_subtask_gives_the_changes() {
    assert_eq!(
        refusal(&counted(2, json!({ "key": ["n"] }))),
        "`out`, `inputs[0]`: the rows of `n` are identified by (id), sink `out` writes by (n): changes from 2 subtasks could overtake each other; \
         let the sink's key be that of its input, or give `n` a `parallelism` of 1"
    );
    assert_eq!(shape(&plan(&counted(1, json!({ "key": ["n"] }))).unwrap()), "in -> n -> out x1");
}

#[test]
fn rows_that_only_grow_are_hashed_by_the_key_of_the_sink() {
    let g = StreamGraph::builder(JobSettings { parallelism: 2, ..settings() })
        .add_source("in", source(json!({})))
        .add_sink("out", sink(json!({ "key": ["note"] })));
    assert_eq!(shape(&plan(&g.connect("in", "out")).unwrap()).lines().last().unwrap(), "in.Output(0) => out[0] Hash([3])");
}

#[test]
fn a_changelog_keeps_its_order_where_parallelism_changes_and_is_never_rebalanced() {
    let filtered = |exchange: Option<RequestedExchange>| {
        let g = StreamGraph::builder(JobSettings { parallelism: 2, ..settings() })
            .add_source("in", source(json!({ "unbounded": true })))
            .add_operator("n", op("count", json!({ "keyBy": ["id"] })))
            .add_operator("f", op("filter", json!({ "where": "true" })))
            .parallelism(3)
            .add_sink("out", sink(json!({ "key": ["id"] })))
            .parallelism(3)
            .connect("in", "n")
            .connect("f", "out")
            .connect("n", "f");
        match exchange {
            Some(e) => g.exchange(e),
            None => g,
        }
    };
    assert!(shape(&plan(&filtered(None)).unwrap()).ends_with("n.Output(0) => f -> out[0] Hash([0])"));
    assert_eq!(
        refusal(&filtered(Some(RequestedExchange::Rebalance))),
        "`f`, `inputs[0]`: `n` gives a changelog, and spreading it in turn would bring the changes to one row out of order; \
         give `n` and `f` the same `parallelism`, or ask for `exchange: global`"
    );
}

#[test]
fn that_letters_of_a_node_in_a_changelog_cannot_be_replayed_is_noted_and_of_others_is_not() {
    let job = |sink_keeps: OnError| {
        StreamGraph::builder(settings())
            .add_source("in", source(json!({ "unbounded": true })))
            .on_error(OnError::DeadLetter)
            .add_operator("n", op("count", json!({ "keyBy": ["id"] })))
            .on_error(OnError::DeadLetter)
            .add_sink("out", sink(json!({ "key": ["id"] })))
            .on_error(sink_keeps)
            .add_sink("letters", sink(json!({})))
            .connect("in", "n")
            .connect("n", "out")
            .connect_port("in", "errors", "letters")
            .connect_port("n", "errors", "letters")
    };
    let noted = |graph: &StreamGraphBuilder| plan(graph).unwrap().notes;
    assert_eq!(noted(&job(OnError::Skip)), [""; 0]);
    assert_eq!(
        noted(&job(OnError::DeadLetter).connect_port("out", "errors", "letters")),
        [
            "the dead letters of `out` can be looked at, not replayed: `out` is in a changelog: a change that is fed later would undo newer ones of its key"
        ]
    );
}
