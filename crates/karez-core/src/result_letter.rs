//! Dead letters that hold a result which an aggregate could not compute, not a row that it was given.

use crate::{Letter, Watermark};

/// The origin of a result: its node, its key as JSON, and its window where there is one.
#[must_use]
pub fn origin(node: &str, key: &str, window: Option<(Watermark, Watermark)>) -> String {
    let window = window.map_or(String::new(), |(start, end)| format!(" window=[{start}, {end})"));
    format!("node={node} key={key}{window}")
}

/// Whether a letter is a result of its node: by its [`origin`].
#[must_use]
pub fn is_result(letter: &Letter) -> bool {
    let behind_node = letter.origin.as_deref().and_then(|o| o.strip_prefix("node=")?.strip_prefix(&*letter.node));
    behind_node.is_some_and(|rest| rest.starts_with(" key="))
}

/// Why results of a node are not fed again.
#[must_use]
pub fn of_results(node: &str) -> String {
    format!(
        "it is a result that `{node}` could not compute, and no row that `{node}` takes: correct the expression or the rows that it was computed of, and let \
         the job read these anew"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_told_from_a_row_that_its_node_was_given() {
        let letter = |origin: Option<String>| Letter { node: "sums".into(), origin, ..Letter::default() };
        for window in [None, Some((Watermark(0), Watermark(1_000)))] {
            assert!(is_result(&letter(Some(origin("sums", r#"{"k":1}"#, window)))));
            assert!(!is_result(&letter(Some(origin("sums before", r#"{"k":1}"#, window)))));
        }
        assert!(!is_result(&letter(Some("file=a offset=3".into()))));
        assert!(!is_result(&letter(None)));
    }
}
