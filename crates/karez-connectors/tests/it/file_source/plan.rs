//! Options, globs and inferred schemas.

use karez_core::sql_type::to_sql;
use serde_json::{Value, json};

use super::job::*;

fn inferred(config: &Value) -> Vec<String> {
    source(config, None).unwrap().schema().arrow.fields().iter().map(|f| format!("{} {}", f.name(), to_sql(f.data_type()))).collect()
}

fn refused(config: &Value) -> String {
    source(config, None).err().unwrap().to_string()
}

#[test]
fn csv_types_are_inferred_and_null_markers_do_not_count() {
    let folder = Folder::new();
    folder.write("a.csv", "n,s,t,d\nNA,x,2013-01-01T10:00:00Z,1.5\n1,y,NA,2\n2,NA,2013-01-01T11:00:00Z,NA\n");
    let config = folder.config("*.csv", "csv", json!({ "nullValue": ["NA", ""] }));
    assert_eq!(inferred(&config), ["n bigint", "s string", "t timestamp(3)", "d double"]);
    assert_eq!(Job::start(&config, None).settle()[0], "|x|2013-01-01T10:00:00|1.5");
}

#[test]
fn json_types_are_inferred_in_the_order_of_the_first_record() {
    let folder = Folder::new();
    folder.write("a.json", "{\"zeta\":1,\"alpha\":\"x\",\"none\":null}\nnot json\n{\"zeta\":2.5,\"alpha\":\"y\",\"late\":true}\n");
    let config = folder.config("a.json", "json", json!({}));
    assert_eq!(inferred(&config), ["zeta double", "alpha string", "none string", "late boolean"]);
}

#[test]
fn whole_json_numbers_beyond_64_bits_are_inferred_as_decimals() {
    let folder = Folder::new();
    folder.write(
        "a.json",
        "{\"id\":9223372036854775808,\"in\":{\"list\":[1,100000000000000000000000000001]},\"x\":1e300,\"y\":18446744073709551616}\n{\"y\":0.5}\n",
    );
    let config = folder.config("a.json", "json", json!({}));
    assert_eq!(inferred(&config), ["id decimal(38, 0)", "in row<list array<decimal(38, 0)>>", "x double", "y double"]);
    let rows = Job::start(&folder.config("a.json", "json", json!({})), None).settle();
    assert!(rows[0].contains("9223372036854775808") && rows[0].contains("100000000000000000000000000001"), "{rows:?}");
}

#[test]
fn why_no_json_record_can_be_inferred_from_is_said() {
    let folder = Folder::new();
    for (text, why) in [("\n[1,2]\n5\n", "it is no object"), ("{\"a\":1e400}\n", "number out of range"), ("\n \n", "no record to infer")] {
        folder.write("a.json", text);
        let error = refused(&folder.config("a.json", "json", json!({})));
        assert!(error.contains(why) && error.contains("schema:"), "{error}");
    }
}

#[test]
fn globs_match_within_and_over_folders_in_the_order_of_paths() {
    let folder = Folder::new();
    for name in ["b.log", "a.log", "x/c.log", "x/y/d.log", ".hidden.log", "a.txt", "x/.part.log"] {
        folder.write(name, format!("{name}\n"));
    }
    let read = |glob: &str| Job::start(&folder.config(glob, "text", json!({})), None).settle();
    assert_eq!(read("*.log"), ["a.log", "b.log"]);
    assert_eq!(read("**/*.log"), ["a.log", "b.log", "x/c.log", "x/y/d.log"]);
    assert_eq!(read("x/*/{d,e}.log"), ["x/y/d.log"]);
    assert_eq!(read(".*.log"), [".hidden.log"]);
    let several = json!({ "path": [folder.text("b.log"), folder.text("*.log"), folder.text("missing.log")], "format": "text" });
    assert_eq!(Job::start(&several, None).settle(), ["a.log", "b.log"]);
}

#[test]
fn what_cannot_be_planned_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.write("a.csv", "id,dep_time\n1,2\n").write("x/b.csv", "");
    let csv = |more| folder.config("a.csv", "csv", more);
    assert!(refused(&folder.config("*.log", "text", json!({}))).contains("no file matches"));
    assert!(refused(&folder.config("missing.log", "text", json!({}))).contains("missing.log"));
    assert!(refused(&folder.config("x", "text", json!({}))).contains("is a folder; write"));
    assert!(refused(&csv(json!({ "foramt": 1 }))).contains("did you mean `format`"));
    assert!(refused(&csv(json!({ "delimeter": ";" }))).contains("did you mean `delimiter`?"));
    assert!(refused(&csv(json!({ "quote": "," }))).contains("quote and delimiter are the same"));
    for bare in [json!(null), json!(["NA", null])] {
        assert!(refused(&csv(json!({ "nullValue": bare }))).contains("write it in quotes"));
    }
    assert!(refused(&csv(json!({ "splitSize": 0 }))).contains("splitSize"));
    assert!(refused(&folder.config("a.csv", "parquet", json!({ "follow": true }))).contains("cannot be followed"));
    assert!(refused(&folder.config("x/b.csv", "csv", json!({}))).contains("declare one with `schema:`"));
    assert!(refused(&folder.config("a.csv", "parquet", json!({}))).contains("is not Parquet"));
    let declared = schema(&[("id", BIGINT), ("dep_tim", TEXT)]);
    let error = source(&csv(json!({})), Some(&declared)).err().unwrap().to_string();
    assert!(error.contains("a.csv") && error.contains("did you mean `dep_time`?"), "{error}");
}

#[test]
fn options_of_another_format_are_refused_all_at_once() {
    let folder = Folder::new();
    folder.write("a.json", "{\"a\":1}\n");
    let config = folder.config("a.json", "ndjson", json!({ "delimiter": ";", "nullValue": "NA", "textColumn": "line" }));
    let only_csv = |key: &str| format!("`{key}`: only with `format: csv`, and this is `format: ndjson`; leave it out\n");
    let text = "`textColumn`: only with `format: text`, and this is `format: ndjson`; leave it out";
    assert_eq!(refused(&config), format!("{}{}{text}", only_csv("delimiter"), only_csv("nullValue")));
    let parquet = refused(&folder.config("a.json", "parquet", json!({ "compression": "gzip" })));
    assert!(parquet.starts_with("`compression`: only with `format: csv`, `format: ndjson`, `format: text`, and this is"), "{parquet}");
}

#[test]
fn following_may_begin_before_there_is_a_file() {
    let folder = Folder::new();
    let config = folder.config("*.log", "text", json!({ "follow": true }));
    let mut job = Job::start(&config, None);
    assert_eq!(job.settle(), Vec::<String>::new());
    folder.write("a.log", "1\n");
    assert_eq!(job.settle(), ["1"]);
}

#[test]
fn every_option_is_documented_in_the_schema() {
    use karez_core::Connector;
    let options = serde_json::to_value(karez_connectors::file::FileConnector.source_options().unwrap()).unwrap();
    for (name, option) in options["properties"].as_object().unwrap() {
        assert!(option["description"].is_string(), "{name}");
    }
}
