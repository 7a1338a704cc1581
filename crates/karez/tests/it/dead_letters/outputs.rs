//! What a real job writes to each kind of output is listed, shown, and fed again: to the job that runs, to one that was killed before a checkpoint knew
//! of it, and to one that was stopped.

use karez_testkit::{Database, Scratch, Topic, service, unique};
use serde_json::Value;

use super::{fed, letters, repair, start};
use crate::karez::{Bench, Logging, eventually};

/// What cannot be read stays at `numbers`, what is no number at `parsed`; what is good is counted by value.
const JOB: &str = r#"
job:
  id: numbers
  name: Numbers
  delivery: exactly-once
  checkpoint: { interval: INTERVAL }
  sources:
    - { name: numbers, SOURCE, schema: { n: bigint, text: string }, onError: dead-letter }
  operators:
    - { name: parsed, type: map, inputs: [numbers], columns: { n: n, value: "cast(text as int)" }, onError: dead-letter }
    - { name: count, type: aggregate, inputs: [parsed], keyBy: [value], aggregates: { rows: "count(*)" } }
  sinks:
    - name: out
      connector: jdbc
      inputs: [count]
      config: { url: "jdbc:sqlite:out.db", table: counts, key: [value], createTable: true }
  deadLetter: { OUTPUT }
"#;

const FIRST: [&str; 4] = [r#"{"n":1,"text":"1"}"#, r#"{"n":2,"text":"one"}"#, r#"{"n":3,"#, r#"{"n":4,"text":"1"}"#];
const SECOND: &str = r#"{"n":5,"text":"two"}"#;

/// Where the numbers come from.
enum Input {
    File,
    Topic(Topic),
}

struct Case {
    bench: Bench,
    input: Input,
    job: String,
    starts: usize,
}

impl Case {
    fn new(input: Input, output: &str) -> Self {
        let source = match &input {
            Input::File => r"connector: file, config: { path: in.ndjson, format: ndjson, follow: true }".to_owned(),
            Input::Topic(topic) => format!(
                r#"connector: kafka, config: {{ bootstrapServers: "{}", topics: [{}], startFrom: earliest, format: json }}"#,
                topic.bootstrap, topic.name
            ),
        };
        let case = Self { bench: Bench::new(), input, job: JOB.replace("SOURCE", &source).replace("OUTPUT", output), starts: 0 };
        case.write(&FIRST);
        case
    }

    fn write(&self, lines: &[&str]) {
        match &self.input {
            Input::File => self.bench.append("in.ndjson", &(lines.join("\n") + "\n")),
            Input::Topic(topic) => {
                let messages: Vec<_> = lines.iter().map(|l| (None, Some(l.as_bytes().to_vec()))).collect();
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                runtime.block_on(topic.produce(messages)).unwrap();
            }
        }
    }

    fn start(&mut self, interval: &str) -> Logging {
        self.starts += 1;
        self.bench.file("job.yaml", &self.job.replace("INTERVAL", interval));
        start(&self.bench, "numbers", "job.yaml", &format!("start-{}.log", self.starts))
    }

    fn stop(&self, running: Logging) {
        self.bench.karez(&["stop", "numbers"]).with(0);
        running.end();
    }

    fn letters(&self, status: &str, count: usize) -> Vec<Value> {
        letters(&self.bench, "numbers", status, count)
    }

    fn repair(&self, node: &str) -> String {
        let mend = |letter: &mut Value| match letter["node"].as_str().unwrap() {
            "numbers" => letter["raw"] = r#"{"n":3,"text":"7"}"#.into(),
            _ => letter["row"]["text"] = if letter["row"]["text"] == "one" { "1" } else { "7" }.into(),
        };
        repair(&self.bench, "numbers", node, mend).with(0).err
    }

    /// The table `counts`, as `value rows`.
    fn counts(&self) -> Vec<String> {
        let table = rusqlite::Connection::open(self.bench.path().join("out.db")).unwrap();
        let mut query = table.prepare("SELECT value, rows FROM counts ORDER BY value").unwrap();
        let text = |row: &rusqlite::Row<'_>| Ok(format!("{} {}", row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
        query.query_map([], text).unwrap().map(Result::unwrap).collect()
    }

    /// The whole way there and back.
    fn letters_go_out_and_come_back_once(mut self) {
        self.bench.file("job.yaml", &self.job.replace("INTERVAL", "100ms"));
        let none = self.bench.karez(&["dlq", "list", "job.yaml"]).with(0).out;
        assert!(none.contains("0 dead letters"), "{none}");

        let running = self.start("100ms");
        let open = self.letters("open", 2);
        let unread = open.iter().find(|l| l["node"] == "numbers").unwrap();
        let shown = self.bench.karez(&["dlq", "show", "numbers", unread["id"].as_str().unwrap()]).with(0).out;
        let origin = match &self.input {
            Input::File => "origin  file=in.ndjson offset=".to_owned(),
            Input::Topic(topic) => format!("origin  topic={} partition=0 offset=2", topic.name),
        };
        for text in ["status  open", &origin, r#"raw     {"n":3,"#, "node    numbers"] {
            assert!(shown.contains(text), "`{text}` is missing:\n{shown}");
        }
        self.stop(running);

        // Killed when the letter has been fed and no checkpoint knows of it.
        let running = self.start("10m");
        let given = self.repair("numbers");
        assert!(given.contains("1 letters given to the running job"), "{given}");
        eventually("the letter is fed", || (fed(&self.bench, "numbers", "numbers") == 1).then_some(()));
        running.kill();
        self.letters("queued", 1);
        self.letters("open", 1);

        // Into the job as it runs.
        let running = self.start("100ms");
        self.letters("replayed", 1);
        let given = self.repair("parsed");
        assert!(given.contains("1 letters given to the running job"), "{given}");
        self.letters("replayed", 2);
        self.write(&[SECOND]);
        self.letters("open", 1);
        self.stop(running);

        // For its next start.
        assert!(self.repair("parsed").contains("the job is not running, its next start feeds them"));
        let again = self.bench.karez(&["dlq", "replay", "numbers", "--from", "repaired.ndjson"]).with(1).err;
        assert!(again.contains("is queued already"), "{again}");
        let running = self.start("100ms");
        self.letters("replayed", 3);
        self.stop(running);
        assert_eq!(self.counts(), ["1 3", "7 2"]);
    }
}

fn topic() -> Topic {
    Topic::create(&service("KAFKA_BOOTSTRAP"), &unique("letters"), 1).unwrap()
}

fn in_a_topic(format: &str) {
    let letters = topic();
    let (servers, name) = (&letters.bootstrap, &letters.name);
    let output =
        format!(r#"connector: kafka, config: {{ bootstrapServers: "{servers}", topic: {name}, format: {format}, transactionalIdPrefix: {name} }}"#);
    Case::new(Input::Topic(topic()), &output).letters_go_out_and_come_back_once();
}

fn in_a_table_of(database: Database) {
    let scratch = Scratch::new(database);
    let output = format!(r#"connector: jdbc, config: {{ url: "{}", table: letters, createTable: true }}"#, scratch.url());
    Case::new(Input::File, &output).letters_go_out_and_come_back_once();
    assert_eq!(scratch.run("SELECT count(*), count(DISTINCT id) FROM letters").unwrap(), [["3", "3"]]);
}

/// Bytes that are no UTF-8, a text with a zero, a line longer than some columns: none may keep a letter out of its table, and so fail the job.
fn whatever_a_record_holds_its_letter_is_kept(database: Database) {
    let scratch = Scratch::new(database);
    let output = format!(r#"connector: jdbc, config: {{ url: "{}", table: letters, createTable: true }}"#, scratch.url());
    let mut case = Case::new(Input::File, &output);
    let long = format!(r#"{{"n":5,"text":"{}"}}"#, "äöü🦀".repeat(20_000));
    case.write(&[r#"{"n":6,"text":"a\u0000b"}"#, &long]);
    let path = case.bench.path().join("in.ndjson");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"\xff\x00\xfe\n");
    std::fs::write(path, &bytes).unwrap();
    let running = case.start("100ms");
    let letters = case.letters("open", 5);
    let of = |what: &str, value: &str| letters.iter().any(|l| l[what].as_str().is_some_and(|v| v == value));
    assert!(of("rawHex", "ff00fe0a") || of("rawHex", "ff00fe"), "{letters:?}");
    let texts: Vec<_> = letters.iter().filter_map(|l| l["row"]["text"].as_str()).collect();
    assert!(texts.contains(&"a\0b") && texts.iter().any(|t| t.len() > 100_000));
    case.stop(running);
}

#[test]
fn whatever_a_record_holds_its_letter_is_kept_by_postgres() {
    whatever_a_record_holds_its_letter_is_kept(Database::Postgres);
}

#[test]
fn whatever_a_record_holds_its_letter_is_kept_by_mysql() {
    whatever_a_record_holds_its_letter_is_kept(Database::Mysql);
}

#[test]
fn letters_in_a_topic_as_json_go_out_and_come_back_once() {
    in_a_topic("json");
}

#[test]
fn letters_in_a_topic_as_csv_go_out_and_come_back_once() {
    in_a_topic("csv");
}

#[test]
fn letters_in_a_table_of_postgres_go_out_and_come_back_once() {
    in_a_table_of(Database::Postgres);
}

#[test]
fn letters_in_a_table_of_mysql_go_out_and_come_back_once() {
    in_a_table_of(Database::Mysql);
}

#[test]
fn letters_in_a_table_of_mariadb_go_out_and_come_back_once() {
    in_a_table_of(Database::Mariadb);
}

#[test]
fn letters_in_a_table_of_sqlite_go_out_and_come_back_once() {
    let output = r#"connector: jdbc, config: { url: "jdbc:sqlite:letters.db", table: letters, createTable: true }"#;
    Case::new(Input::File, output).letters_go_out_and_come_back_once();
}

#[test]
fn letters_in_files_go_out_and_come_back_once() {
    Case::new(Input::File, "connector: file, config: { path: letters, format: ndjson, rollInterval: 50ms }").letters_go_out_and_come_back_once();
}

#[test]
fn an_output_that_cannot_be_read_back_is_refused_and_says_what_can() {
    let topics = format!(r#"connector: kafka, config: {{ bootstrapServers: "{}", topicColumn: node, format: json }}"#, service("KAFKA_BOOTSTRAP"));
    for (output, connector) in [("connector: stdout", "stdout"), ("connector: blackhole", "blackhole"), (topics.as_str(), "kafka")] {
        let case = Case::new(Input::File, output);
        case.bench.file("job.yaml", &case.job.replace("INTERVAL", "1s").replace("  delivery: exactly-once\n", ""));
        for command in [&["dlq", "list", "job.yaml"][..], &["dlq", "show", "job.yaml", "--export", "x"]] {
            let refused = case.bench.karez(command).with(2).err;
            for text in ["the dead letters in `dead-letter` cannot be read back", &format!("connector `{connector}`"), "send dead letters to"] {
                assert!(refused.contains(text), "`{text}` is missing:\n{refused}");
            }
        }
    }
}

#[test]
fn an_output_that_is_away_is_an_error_that_names_it() {
    let output = r#"connector: jdbc, config: { url: "postgres://karez:hush@127.0.0.1:1/karez", table: letters, createTable: true }"#;
    let case = Case::new(Input::File, output);
    case.bench.file("job.yaml", &case.job.replace("INTERVAL", "1s"));
    let away = case.bench.karez(&["dlq", "list", "job.yaml"]);
    assert!(away.code != 0 && away.err.contains("127.0.0.1:1") && !away.err.contains("hush"), "{away:?}");
}

#[test]
fn a_letter_in_a_changelog_is_noted_by_explain_and_refused_before_it_is_queued() {
    let case = Case::new(Input::File, "connector: file, config: { path: letters, format: ndjson }");
    let job = case.job.replace("INTERVAL", "100ms").replace("      inputs: [count]\n", "      inputs: [count]\n      onError: dead-letter\n");
    case.bench.file("job.yaml", &job);
    let explained = case.bench.karez(&["explain", "job.yaml"]).with(0).out;
    assert!(explained.contains("the dead letters of `out` can be looked at, not replayed"), "{explained}");
    let mut running = case.bench.start_logging(case.bench.command(&["run", "job.yaml"]), "log");
    running.until("CHECKPOINT_COMPLETED");
    case.bench.file("letters.ndjson", r#"{"id":"a","node":"out","row":{"value":1,"rows":7}}"#);
    let refused = case.bench.karez(&["dlq", "replay", "numbers", "--from", "letters.ndjson"]).with(2).err;
    assert!(refused.contains("`out` is in a changelog: a change that is fed later would undo newer ones of its key"), "{refused}");
    case.stop(running);
    assert!(!case.bench.path().join("state/numbers/replays").exists(), "nothing is queued");
}
