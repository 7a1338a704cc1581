use karez_graph::PlanErrors;
use karez_job::JobFile;

use crate::kit::{lines, parse, plan_problems, registry};

#[test]
fn errors_of_the_file_and_of_the_plan_come_together() {
    let text = "job:
  name: x
  paralelism: 2
  source:
    connector: kafka
    config: { bootstrapServers: h, format: { delimeter: ';' } }
    eventTime: { column: at }
  operators:
    - { name: clean, type: fliter, where: a > 0 }
    - { name: more, type: filter, were: a > 0 }
  sink:
    connector: jdbc
    config: { url: u, bachSize: 3 }
";
    assert_eq!(
        plan_problems(text),
        "3:3 unknown key `paralelism` in a job | did you mean `parallelism`?\n\
         6:46 unknown key `delimeter` in `source` | did you mean `delimiter`?\n\
         9:28 `clean`: unknown operator type `fliter` | did you mean `filter`?\n\
         10:35 unknown key `were` in `more` | did you mean `where`?\n\
         13:23 unknown key `bachSize` in `sink` | did you mean `batchSize`?"
    );
}

#[test]
fn a_missing_option_points_at_the_options_and_a_wrong_one_at_its_value() {
    let text = "job:\n  name: x\n  source:\n    connector: kafka\n    config: { topics: [a] }\n  sink:\n    connector: jdbc\n    config: { url: u, batchSize: many }\n";
    assert_eq!(
        plan_problems(text),
        "5:5 `source`, `config`: missing: `bootstrapServers`\n8:34 `sink`, `config.batchSize`: found string \"many\", expected a whole number"
    );
}

#[test]
fn errors_about_edges_point_at_the_input() {
    let text = "job:\n  name: x\n  sources: { in: { connector: kafka, config: { bootstrapServers: h } } }\n  sinks:\n    out:\n      connector: jdbc\n      config: { url: u }\n      inputs: [in.lat]\n";
    assert_eq!(plan_problems(text), "8:16 `out`: `in` has no output `lat`; outputs: main, errors");
    let text = text.replace("in.lat", "inn");
    assert_eq!(
        plan_problems(&text),
        "3:14 nobody reads source `in` | add `in` to the `inputs` of another node, or remove it\n8:16 `out`: unknown input `inn` | did you mean `in`?"
    );
}

#[test]
fn a_node_that_cannot_be_read_hides_nothing_and_invents_nothing() {
    let text = "job:\n  name: x\n  sources: { in: { config: {} }, b: { connector: kafak } }\n  sinks: { out: { connector: jdbc, config: { url: u }, inputs: [in, b] } }\n";
    assert_eq!(
        plan_problems(text),
        "3:14 `in` has no connector | add `connector: file`, or another of `karez connectors`\n3:50 `b`: unknown connector `kafak` | did you mean `kafka`?"
    );
}

#[test]
fn what_follows_a_source_without_a_connector_is_checked_by_its_declared_schema() {
    let text = "job:
  name: x
  source:
    connector: kafak
    schema: { id: bigint, at: timestamp(3) }
    eventTime: { column: att }
  operators:
    - { name: clean, type: filter, were: id > 0 }
  sink: { connector: jdbc, config: { url: u, batchSize: many } }
";
    assert_eq!(
        plan_problems(text),
        "4:16 `source`: unknown connector `kafak` | did you mean `kafka`?\n\
         6:26 `source`, `eventTime.column`: there is no column `att` | did you mean `at`?\n\
         8:36 unknown key `were` in `clean` | did you mean `where`?\n\
         9:57 `sink`, `config.batchSize`: found string \"many\", expected a whole number"
    );
}

#[test]
fn a_bad_declaration_hides_nothing_about_the_connector() {
    let text = "job:\n  name: x\n  source: { connector: kafka, config: { topisc: [a] }, schema: { a: bigit } }\n  sink: { connector: jdbc, config: { url: u } }\n";
    assert_eq!(
        plan_problems(text),
        "3:41 unknown key `topisc` in `source` | did you mean `topics`?\n3:69 `source`, `schema.a`: unknown type `bigit` | did you mean `bigint`?"
    );
}

#[test]
fn a_declared_type_is_underlined_itself() {
    let text = "job:\n  name: x\n  source:\n    connector: kafka\n    config: { bootstrapServers: h }\n    schema: { a.b: bigit, at: timestamp(3) }\n    eventTime: { column: a.b }\n  sink: { connector: jdbc, config: { url: u } }\n";
    assert_eq!(plan_problems(text), "6:20 `source`, `schema.a.b`: unknown type `bigit` | did you mean `bigint`?");
    assert!(JobFile::parse_and_plan("job.yaml", &text.replace("bigit", "timestamp(3)"), &registry()).is_ok());
}

#[test]
fn a_plan_made_later_is_located_too() {
    let file = parse("job:\n  name: x\n  source: { connector: nope }\n  sink: { connector: jdbc, config: { url: u } }\n");
    let Err(errors): Result<_, PlanErrors> = karez_graph::plan(&file.graph, &registry()) else { panic!() };
    assert_eq!(lines(&file.locate(&errors)), "3:24 `source`: unknown connector `nope` | known: jdbc, kafka");
}
