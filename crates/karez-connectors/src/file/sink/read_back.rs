//! The options by which the file source reads what the file sink wrote.

use karez_core::config::ConfigErrors;
use karez_core::{ReadBack, SinkContext, dead_letter};
use serde_json::{Map, Value, json};

use super::options::Plan;
use crate::file::format::Format;
use crate::file::source::any_file;

/// Reads back the files of a sink of dead letters with these options.
pub(in crate::file) fn read_back(sink: &Value) -> Result<ReadBack, ConfigErrors> {
    let input = dead_letter::stream_schema();
    let plan = Plan::new(SinkContext { node: "", config: sink, input: &input, exactly_once: false })?;
    let mut path = plan.template.pattern();
    if !plan.fixed {
        path = format!("{}/*.{}", path.trim_end_matches('/'), plan.extension());
    }
    let mut config = Map::from_iter([("path".to_owned(), json!(path)), ("format".to_owned(), json!(plan.format.to_string()))]);
    if plan.format == Format::Csv {
        // As the sink has them, its defaults included.
        let character = |byte: u8| json!(char::from(byte).to_string());
        config.insert("delimiter".to_owned(), character(plan.csv.delimiter));
        config.insert("quote".to_owned(), character(plan.csv.quote));
        config.insert("header".to_owned(), json!(plan.csv.header));
        config.insert("nullValue".to_owned(), json!(plan.csv.null_marker));
    }
    Ok(ReadBack { nothing_yet: !any_file(&path)?, config: Value::Object(config), binary_as_hex: plan.format == Format::Csv })
}
