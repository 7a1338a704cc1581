//! Letters of results are looked at and not fed.

use super::{letters, start};
use crate::karez::Bench;

const JOB: &str = r#"
job:
  id: means
  checkpoint: { interval: 50ms }
  sources:
    - { name: numbers, connector: file, config: { path: in.ndjson, format: ndjson, follow: true }, schema: { k: int, n: bigint } }
  operators:
    - { name: mean, type: window-aggregate, inputs: [numbers], keyBy: [k], window: { type: count, size: 2 }, aggregates: { all: "sum(n)", share: "10 / sum(n)" }, onError: dead-letter }
  sinks: [ { name: out, connector: blackhole, inputs: [mean] } ]
  deadLetter: { connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms } }
"#;

#[test]
fn a_result_that_could_not_be_computed_is_shown_by_its_columns_and_refused_by_replay_however_it_is_repaired() {
    let bench = Bench::new();
    bench.file("in.ndjson", "{\"k\":1,\"n\":5}\n{\"k\":1,\"n\":-5}\n");
    bench.file("job.yaml", JOB);
    let running = start(&bench, "means", "job.yaml", "log");
    let letter = letters(&bench, "means", "open", 1).remove(0);
    bench.karez(&["stop", "means"]).with(0);
    running.end();
    assert_eq!((&letter["origin"], &letter["row"]), (&r#"node=mean key={"k":1}"#.into(), &serde_json::json!({ "k": 1, "all": 0 })));
    let why =
        "it is a result that `mean` could not compute, and no row that `mean` takes: correct the expression or the rows that it was computed of";
    let refused = bench.karez(&["dlq", "replay", "means", "--all"]).with(2).err;
    assert!(refused.contains(why), "{refused}");
    bench.file("repaired.ndjson", &serde_json::json!({ "id": letter["id"], "node": "mean", "row": { "k": 1, "n": 5 } }).to_string());
    let refused = bench.karez(&["dlq", "replay", "means", "--from", "repaired.ndjson"]).with(2).err;
    assert!(refused.contains(why), "{refused}");
    assert!(!bench.path().join("state/means/replays").exists(), "nothing is queued");
}
