//! What any text is answered with. Shared with the fuzz target `job_yaml`.

use karez_core::Registry;
use karez_job::{Diagnostics, JobFile};

/// Reads and plans `text` as `karez check` and `karez explain` do: asserts that there is a plan that can be shown, or diagnostics with places in the text.
pub(super) fn assert_answered(text: &str, registry: &Registry) {
    if let Err(diagnostics) = JobFile::parse("job.yaml", text) {
        assert_complains(&diagnostics, text);
    }
    match JobFile::parse_and_plan("job.yaml", text, registry) {
        Ok((file, job)) => {
            assert_shown(&file.warnings, text);
            let explanation = karez_graph::explain(&file.graph, &job, registry);
            assert!(!explanation.to_string().is_empty());
            assert!(!explanation.mermaid().is_empty());
            serde_json::to_string(&explanation).unwrap();
        }
        Err(diagnostics) => assert_complains(&diagnostics, text),
    }
}

fn assert_complains(diagnostics: &Diagnostics, text: &str) {
    assert!(!diagnostics.is_empty());
    assert_shown(diagnostics, text);
}

fn assert_shown(diagnostics: &Diagnostics, text: &str) {
    for item in diagnostics.items() {
        assert!(!item.message.is_empty());
        for (span, _) in &item.labels {
            assert!(text.get(span.clone()).is_some(), "{span:?} is no place in {text:?}: {}", item.message);
        }
        assert_eq!(diagnostics.line_column(item).is_some(), !item.labels.is_empty());
    }
    assert_eq!(diagnostics.render(false).is_empty(), diagnostics.is_empty());
}
