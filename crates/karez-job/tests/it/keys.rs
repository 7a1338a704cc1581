use karez_graph::settings::{Delivery, RestartStrategy, StateBackendKind};
use karez_graph::{NodeKind, Overflow};
use serde_json::json;

use crate::kit::{node, options, parse, problems};

fn job(keys: &str) -> String {
    format!("job:\n  name: x\n  source: {{ connector: f }}\n  sink: {{ connector: f }}\n{keys}")
}

#[test]
fn every_restart_strategy_of_the_design_document_is_read() {
    let restart = |text: &str| parse(&job(&format!("  restart:\n    strategy: {text}\n"))).graph.settings.restart;
    assert!(
        matches!(restart("fixed-delay\n    attempts: 3\n    delay: 10s"), RestartStrategy::FixedDelay { attempts: 3, delay } if delay.as_millis() == 10_000)
    );
    assert!(matches!(
        restart("exponential-backoff\n    initialDelay: 1s\n    maxDelay: 5m\n    multiplier: 2"),
        RestartStrategy::ExponentialBackoff { multiplier: 2.0, max_delay, .. } if max_delay.as_millis() == 300_000
    ));
    assert!(matches!(
        restart("failure-rate\n    maxFailuresPerInterval: 3\n    failureRateInterval: 5m\n    delay: 10s"),
        RestartStrategy::FailureRate { max_failures_per_interval: 3, .. }
    ));
    assert_eq!(restart("none"), RestartStrategy::None {});
}

#[test]
fn resources_of_the_design_document_are_honoured_or_refused_with_a_reason() {
    let text = job("  resources:
    jvm:
      heap: 4g
      metaspace: 512m
      gc: G1GC
    threadPool:
      io:
        coreSize: 20
        maxSize: 100
      compute:
        coreSize: 8
        maxSize: 16
    buffer:
      sourceBuffer: 1000
      sinkBuffer: 500
");
    assert_eq!(
        problems(&text),
        "6:5 `resources.jvm`: Karez has no JVM: there is no heap to size and no garbage collector to choose | limit state and queues with `resources.memory`\n\
         12:9 `resources.threadPool.io.coreSize`: threads for blocking work are started when they are needed and none is kept waiting | limit them with `resources.threadPool.io.maxSize`\n\
         16:9 `resources.threadPool.compute.maxSize`: the number of threads that run tasks does not change while a job runs | set it with `resources.threadPool.compute.coreSize`"
    );
    let honoured = job(
        "  resources:\n    threadPool: { io: { maxSize: 100 }, compute: { coreSize: 8 } }\n    buffer: { sourceBuffer: 1000, sinkBuffer: 500 }\n",
    );
    let resources = parse(&honoured).graph.settings.resources;
    assert_eq!((resources.thread_pool.io.max_size, resources.thread_pool.compute.core_size), (Some(100), Some(8)));
    assert_eq!((resources.buffer.source_buffer, resources.buffer.sink_buffer), (1000, 500));
}

#[test]
fn the_batch_of_a_sink_may_stand_beside_its_options() {
    let beside =
        parse("job: { name: x, source: { connector: f }, sink: { connector: jdbc, batchSize: 100, flushInterval: 5s, config: { url: u } } }");
    assert_eq!(options(&beside.graph, "sink").1, &json!({ "url": "u", "batchSize": 100, "flushInterval": "5s" }));
    assert_eq!(
        problems("job: { name: x, source: { connector: f }, sink: { connector: jdbc, batchSize: 100, config: { batchSize: 7 } } }"),
        "1:68 `batchSize` is set beside `config` and in it | keep one of them"
    );
}

#[test]
fn overflow_is_written_in_any_case_and_under_two_names() {
    for (text, expected) in [("BUFFER", Overflow::Buffer), ("Drop", Overflow::Drop), ("latest", Overflow::Latest), ("ERROR", Overflow::Error)] {
        for key in ["overflow", "backpressure"] {
            let file = parse(&format!("job: {{ name: x, source: {{ connector: f, {key}: {text} }}, sink: {{ connector: f }} }}"));
            assert!(matches!(&node(&file.graph, "source").kind, NodeKind::Source { overflow, .. } if *overflow == expected));
        }
    }
    assert_eq!(
        problems("job:\n  name: x\n  source: { connector: f, overflow: DORP }\n  sink: { connector: f }\n"),
        "3:37 `overflow`: `dorp` is none of the choices | did you mean `drop`?"
    );
}

#[test]
fn settings_have_their_defaults_and_take_references_to_the_environment() {
    let s =
        parse(&job("  parallelism: ${KAREZ_TEST_UNSET:-3}\n  delivery: EXACTLY_ONCE\n  state: { backend: disk }\n  checkpoint:\n")).graph.settings;
    assert_eq!((s.parallelism, s.max_parallelism, s.delivery, s.state.backend), (3, 128, Delivery::ExactlyOnce, StateBackendKind::Disk));
    assert_eq!(
        problems(&job("  parallelism: ${KAREZ_TEST_UNSET}\n")),
        "5:16 the environment variable `KAREZ_TEST_UNSET` is not set; set it, or give a default: `${KAREZ_TEST_UNSET:-…}`"
    );
}

#[test]
fn references_in_options_stay_references() {
    let file = parse("job: { name: x, source: { connector: f, config: { password: \"${KAREZ_TEST_UNSET}\" } }, sink: { connector: f } }");
    assert_eq!(options(&file.graph, "source").1, &json!({ "password": "${KAREZ_TEST_UNSET}" }));
}

#[test]
fn all_wrong_settings_are_reported_at_once() {
    assert_eq!(
        problems(&job("  checkpoint: { intervall: 1s, timeout: soon, retained: 0 }\n  parallelism: many\n  typ: batch\n  delivery: exactly\n")),
        "5:17 unknown key `intervall` | did you mean `interval`?\n\
         5:41 `checkpoint.timeout`: `soon` is no duration (expected number at 0); write it like `500ms`, `10s`, `5m`, `1h 30m`\n\
         5:57 `checkpoint.retained`: must be more than 0\n\
         6:16 `parallelism`: found string \"many\", expected a whole number\n\
         7:3 unknown key `typ` in a job | did you mean `type`?\n\
         8:13 `delivery`: `exactly` is none of the choices | choices: at-least-once, exactly-once"
    );
}

#[test]
fn how_an_object_store_is_called_is_said_with_its_checkpoints_and_in_the_words_of_every_call() {
    let file = parse(&job("  checkpoint: { storage: \"s3://bucket/x\", external: { timeout: 10s, retry: { attempts: 3 } } }\n"));
    let external = file.graph.settings.checkpoint.external.unwrap();
    assert_eq!((external.timeout.to_string(), external.retry.attempts), ("10s".to_owned(), 3));
    let of = |external: &str| problems(&job(&format!("  checkpoint: {{ external: {{ {external} }} }}\n")));
    assert!(of("maxConcurrency: 4").contains("unknown key `maxConcurrency`"), "{}", of("maxConcurrency: 4"));
    assert!(of("retry: { attempts: 0 }").contains("`checkpoint.external.retry.attempts`: must be at least 1"), "{}", of("retry: { attempts: 0 }"));
    assert!(of("retry: { jitter: false }").contains("waits with jitter, always"), "{}", of("retry: { jitter: false }"));
}

#[test]
fn a_backend_that_is_not_built_in_is_named() {
    assert_eq!(
        problems(&job("  state: { backend: rocksdb }\n")),
        "5:21 this build has no RocksDB backend | use `backend: disk`, which also keeps state larger than memory on local disk"
    );
}

#[test]
fn a_schedule_is_checked() {
    let schedule = |text: &str| problems(&job(&format!("  schedule: {text}\n")));
    assert_eq!(
        schedule("{ policy: cron, expression: every hour, timezone: Asia/Shangai }"),
        "5:41 `every hour` is no cron expression: it has 2 fields, not 5 to 7 | write it like `0 0 * * * ?` (second minute hour day month weekday)\n\
         5:63 there is no time zone `Asia/Shangai` | did you mean `Asia/Shanghai`?"
    );
    assert!(schedule("{ policy: crom, expression: \"0 0 * * *\" }").contains("`crom` is none of the choices | did you mean `cron`?"));
    for good in ["{ policy: immediate }", "{ policy: depends-on, job: upstream }", "{ policy: on-event, event: data-arrived }"] {
        assert!(parse(&job(&format!("  schedule: {good}\n"))).schedule.is_some(), "{good}");
    }
}

#[test]
fn a_sink_knows_its_keys_and_a_source_its_own() {
    assert_eq!(
        problems("job:\n  name: x\n  source: { connector: f, inputs: [a], eventTim: {} }\n  sink: { connecter: f, connector: f, type: g }\n"),
        "3:27 unknown key `inputs` in a source | known keys: name, connector, type, config, schema, eventTime, overflow, backpressure, rateLimit, onError, parallelism\n\
         3:40 unknown key `eventTim` in a source | did you mean `eventTime`?\n\
         4:11 unknown key `connecter` in a sink | did you mean `connector`?\n\
         4:45 `connector` names `f`, `type` names `g` | they mean the same: keep `connector`"
    );
}

#[test]
fn a_type_with_a_comma_needs_quotes_in_braces() {
    let text = "job:\n  name: x\n  source: { connector: f, schema: { a: decimal(10, 2), b: int } }\n  sink: { connector: f }\n";
    assert!(problems(text).contains("inside `{ … }` a type with a comma needs quotes: `\"decimal(10, 2)\"`"), "{}", problems(text));
}
