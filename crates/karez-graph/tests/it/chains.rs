use karez_graph::{JobSettings, OnError, Overflow, RequestedExchange, StreamGraph, StreamGraphBuilder};
use serde_json::json;

use crate::bench::{graph, none, op, plan, refusal, settings, shape, sink, source};

fn parallel(parallelism: usize) -> StreamGraphBuilder {
    StreamGraph::builder(JobSettings { parallelism, ..settings() })
}

fn keep() -> karez_graph::Implementation<dyn karez_core::OperatorSpec> {
    op("filter", json!({ "where": "true" }))
}

#[test]
fn a_stateless_job_of_equal_parallelism_is_one_vertex() {
    let g = parallel(2)
        .add_source("in", source(none()))
        .add_operator("f", keep())
        .add_operator("m", op("map", json!({ "select": ["id"] })))
        .add_sink("out", sink(none()));
    let job = plan(&g.connect("in", "f").connect("f", "m").connect("m", "out")).unwrap();
    assert_eq!(shape(&job), "in -> f -> m -> out x2");
    assert!(job.vertices[0].source.is_some() && job.vertices[0].operators.len() == 2 && job.vertices[0].sink.is_some());
}

#[test]
fn a_keyed_operator_is_reached_by_hash_and_chains_only_when_alone() {
    let keyed = |p| {
        let g =
            parallel(p).add_source("in", source(none())).add_operator("n", op("count", json!({ "keyBy": ["note"] }))).add_sink("out", sink(none()));
        shape(&plan(&g.connect("in", "n").connect("n", "out")).unwrap())
    };
    assert_eq!(keyed(2), "in x2\nn -> out x2\nin.Output(0) => n -> out[0] Hash([3])");
    assert_eq!(keyed(1), "in -> n -> out x1");
}

#[test]
fn another_parallelism_cuts_the_chain() {
    let g = graph()
        .add_source("in", source(none()))
        .add_operator("f", keep())
        .parallelism(3)
        .add_sink("out", sink(none()))
        .connect("in", "f")
        .connect("f", "out");
    assert_eq!(shape(&plan(&g).unwrap()), "in x1\nf x3\nout x1\nin.Output(0) => f[0] Rebalance\nf.Output(0) => out[0] Global");
}

#[test]
fn two_readers_of_the_main_output_cut_the_chain() {
    let g = graph().add_source("in", source(none())).add_sink("a", sink(none())).add_sink("b", sink(none())).connect("in", "a").connect("in", "b");
    assert_eq!(shape(&plan(&g).unwrap()), "in x1\na x1\nb x1\nin.Output(0) => a[0] Forward\nin.Output(0) => b[0] Forward");
}

#[test]
fn a_consumer_of_two_inputs_begins_a_chain() {
    let g =
        graph().add_source("a", source(none())).add_source("b", source(none())).add_operator("u", op("union", none())).add_sink("out", sink(none()));
    let g = g.connect("a", "u").connect("b", "u").connect("u", "out");
    assert_eq!(shape(&plan(&g).unwrap()), "a x1\nb x1\nu -> out x1\na.Output(0) => u -> out[0] Forward\nb.Output(0) => u -> out[1] Forward");
}

#[test]
fn several_edges_feed_the_one_input_of_a_sink() {
    let g =
        graph().add_source("a", source(none())).add_source("b", source(none())).add_sink("out", sink(none())).connect("a", "out").connect("b", "out");
    assert_eq!(shape(&plan(&g).unwrap()), "a x1\nb x1\nout x1\na.Output(0) => out[0] Forward\nb.Output(0) => out[0] Forward");
}

#[test]
fn side_outputs_and_dead_letters_leave_a_chain_in_its_middle() {
    let g = graph()
        .add_source("in", source(none()))
        .add_operator("s", op("split", none()))
        .on_error(OnError::DeadLetter)
        .add_sink("out", sink(none()))
        .add_sink("rest", sink(none()))
        .add_sink("bad", sink(none()))
        .connect("in", "s")
        .connect("s", "out")
        .connect_port("s", "rest", "rest")
        .connect_port("s", "errors", "bad");
    let job = plan(&g).unwrap();
    assert_eq!(shape(&job), "in -> s -> out x1\nrest x1\nbad x1\ns.Output(1) => rest[0] Forward\ns.Errors => bad[0] Forward");
    let source = job.vertices[0].source.as_ref().unwrap();
    assert!(source.with_origin);
    assert_eq!(source.schema.arrow.fields().last().unwrap().name(), "__karez_origin");
}

#[test]
fn rows_carry_no_origin_where_nobody_writes_dead_letters() {
    let g = graph()
        .add_source("in", source(none()))
        .add_source("other", source(none()))
        .on_error(OnError::DeadLetter)
        .add_sink("out", sink(none()))
        .add_sink("out2", sink(none()))
        .add_sink("bad", sink(none()))
        .connect("in", "out")
        .connect("other", "out2")
        .connect_port("other", "errors", "bad");
    let job = plan(&g).unwrap();
    let origin = |n: usize| job.vertices[n].source.as_ref().unwrap().with_origin;
    assert!(!origin(0) && origin(1));
}

#[test]
fn a_source_that_does_not_wait_keeps_a_queue_behind_it() {
    for (policy, one) in [(Overflow::Buffer, true), (Overflow::Drop, false), (Overflow::Latest, false), (Overflow::Error, false)] {
        let g = graph().add_source("in", source(none())).overflow(policy).add_operator("f", keep()).add_sink("out", sink(none()));
        let job = plan(&g.connect("in", "f").connect("f", "out")).unwrap();
        assert_eq!(job.vertices.len() == 1, one, "{policy:?}");
    }
}

#[test]
fn an_exchange_that_was_asked_for_is_kept_or_refused() {
    let asked = |exchange| {
        graph()
            .add_source("in", source(none()))
            .add_operator("f", keep())
            .add_sink("out", sink(none()))
            .connect("in", "f")
            .exchange(exchange)
            .connect("f", "out")
    };
    assert_eq!(shape(&plan(&asked(RequestedExchange::Rebalance)).unwrap()), "in x1\nf -> out x1\nin.Output(0) => f -> out[0] Rebalance");
    assert_eq!(
        shape(&plan(&asked(RequestedExchange::Hash(vec!["note".into()]))).unwrap()).lines().last().unwrap(),
        "in.Output(0) => f -> out[0] Hash([3])"
    );
    assert_eq!(refusal(&asked(RequestedExchange::Hash(vec!["nope".into()]))), "`f`, `inputs[0]`: `in` has no column `nope` to spread rows by");
    let keyed = parallel(2)
        .add_source("in", source(none()))
        .add_operator("n", op("count", json!({ "keyBy": ["id"] })))
        .add_sink("out", sink(none()))
        .connect("in", "n")
        .exchange(RequestedExchange::Rebalance)
        .connect("n", "out");
    assert_eq!(
        refusal(&keyed),
        "`n`, `inputs[0]`: operator `n` needs rows of equal (id) in one subtask, which the requested exchange does not give; leave the exchange out"
    );
}

#[test]
fn an_operator_that_needs_all_rows_runs_alone() {
    let g = parallel(3)
        .add_source("in", source(none()))
        .add_operator("t", op("top", none()))
        .add_sink("out", sink(none()))
        .connect("in", "t")
        .connect("t", "out");
    assert_eq!(shape(&plan(&g).unwrap()), "in x3\nt x1\nout x3\nin.Output(0) => t[0] Global\nt.Output(0) => out[0] Rebalance");
}

#[test]
fn vertices_come_before_those_they_feed() {
    let g = graph()
        .add_sink("out", sink(none()))
        .add_operator("u", op("union", none()))
        .add_operator("f", keep())
        .add_source("in", source(none()))
        .connect("u", "out")
        .connect("in", "u")
        .connect("f", "u")
        .connect("in", "f");
    let job = plan(&g).unwrap();
    assert!(job.edges.iter().all(|e| e.from < e.to), "{}", shape(&job));
}
