use std::io::Write;

use karez_job::JobFile;

use crate::kit::{problems, registry};

#[test]
fn the_line_at_fault_is_shown_and_underlined() {
    let text = "job:\n  name: x\n  source: { connector: kafka, config: { bootstrapServers: h } }\n  operators:\n    - { name: clean, type: fliter }\n  sink: { connector: jdbc, config: { url: u } }\n";
    let Err(errors) = JobFile::parse_and_plan("job.yaml", text, &registry()) else { panic!() };
    insta::assert_snapshot!(errors.render(false), @r#"
  × `clean`: unknown operator type `fliter`
   ╭─[job.yaml:5:28]
 4 │   operators:
 5 │     - { name: clean, type: fliter }
   ·                            ──────
 6 │   sink: { connector: jdbc, config: { url: u } }
   ╰────
  help: did you mean `filter`?

1 error in job.yaml
"#);
    assert!(!errors.render(false).contains('\u{1b}') && errors.render(true).contains('\u{1b}'));
}

#[test]
fn a_key_that_stands_twice_shows_both_places() {
    let text = "job:\n  name: x\n  name: y\n  source: { connector: f }\n  sink: { connector: f }\n";
    assert_eq!(problems(text), "3:3 the key `name` stands twice | keep one of them");
    let Err(errors) = JobFile::parse("job.yaml", text) else { panic!() };
    assert!(errors.to_string().contains("first here"), "{errors}");
}

#[test]
fn what_is_no_yaml_is_said_with_its_place() {
    let text = problems("job:\n  name: [x\n  source: 3\n");
    assert!(text.starts_with("3:") || text.starts_with("2:"), "{text}");
    assert!(text.contains("this is no YAML"), "{text}");
}

#[test]
fn a_file_that_is_no_job_says_what_one_looks_like() {
    assert_eq!(problems(""), "1:1 the file is empty | a job file begins with `job:`");
    assert_eq!(problems("- a\n"), "1:1 a job file is a mapping, not a list | it begins with `job:`");
    assert_eq!(problems("name: x\nsource: {}\n"), "1:1 `name` stands outside of `job:` | put the job's keys under `job:`");
    assert_eq!(problems("jobs: {}\n"), "1:1 there is no `job:` in this file | a job file begins with `job:`");
    assert_eq!(problems("job: 3\n"), "1:6 `job` is a mapping, not the number `3` | write `job: { key: value }`");
    assert_eq!(
        problems("job: {}\nrestart: {}\n"),
        "1:6 the job has no name | give it a `name`\n\
         1:6 the job has no source | add `source: { connector: …, config: { … } }`\n\
         1:6 the job has no sink | add `sink: { connector: …, config: { … } }`\n\
         2:1 unknown key `restart` beside `job` | `restart` belongs under `job:`"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let Err(errors) = JobFile::load("/nowhere/job.yaml") else { panic!() };
    assert!(errors.to_string().contains("/nowhere/job.yaml: No such file or directory"), "{errors}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"job: \xff").unwrap();
    let Err(errors) = JobFile::load(file.path()) else { panic!() };
    assert!(errors.to_string().contains("not UTF-8 at byte 5"), "{errors}");
}

#[test]
fn columns_are_counted_in_characters() {
    assert_eq!(
        problems("job: { name: 作业, 来源: 1, source: { connector: f }, sink: { connector: f } }"),
        "1:18 unknown key `来源` in a job | known keys: id, name, type, parallelism, maxParallelism, delivery, checkpoint, restart, state, resources, \
         bufferTimeout, schedule, source, sources, operators, sink, sinks, deadLetter"
    );
}
