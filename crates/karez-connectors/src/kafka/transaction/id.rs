//! The names of transactions: `PREFIX/NODE/RUN/SUBTASK/NUMBER`.
//!
//! The run keeps two runs of a job apart, the subtask its writers, and the number the transactions of one writer (see [`super::ledger`]). Everything below
//! `PREFIX/NODE/` belongs to one sink of one job, so that what an older run left open can be found.

use std::fmt;

use karez_core::sink::SinkRunContext;

/// Everything of one sink's transactional ids before the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka) struct SinkName(String);

/// Everything of one subtask's transactional ids before the number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::kafka) struct Base(String);

// ===== impl SinkName =====

impl SinkName {
    /// `prefix`: what the user gave; by default the job's name.
    pub(in crate::kafka) fn new(prefix: Option<&str>, context: &SinkRunContext) -> Self {
        match prefix {
            Some(prefix) => Self(format!("{prefix}/{}/", context.node)),
            None => Self(format!("karez/{}/{}/", context.job, context.node)),
        }
    }

    /// The ids of a subtask of a run.
    pub(in crate::kafka) fn base(&self, context: &SinkRunContext, subtask: usize) -> Base {
        Base(format!("{}{}/{subtask}/", self.0, context.run))
    }

    /// Whether an id is of this sink, of whatever run.
    pub(in crate::kafka) fn owns(&self, id: &str) -> bool {
        let Some(rest) = id.strip_prefix(&self.0) else { return false };
        let mut parts = rest.split('/');
        let run = parts.next().is_some_and(|run| !run.is_empty());
        let mut number = || parts.next().is_some_and(|n| n.parse::<usize>().is_ok());
        run && number() && number() && parts.next().is_none()
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// ===== impl Base =====

impl Base {
    /// As it stands in a checkpoint.
    pub(in crate::kafka) fn as_str(&self) -> &str {
        &self.0
    }

    /// From a checkpoint.
    pub(in crate::kafka) fn restored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A transactional id.
    pub(in crate::kafka) fn id(&self, number: usize) -> String {
        format!("{}{number}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use karez_core::{Generation, RunId};

    use super::*;

    fn context() -> SinkRunContext {
        SinkRunContext { run: RunId("0123456789ab".into()), generation: Generation(1), job: "spend".into(), node: "out".into(), scheduled_ms: 0 }
    }

    #[test]
    fn an_id_names_job_node_run_subtask_and_number() {
        let name = SinkName::new(None, &context());
        assert_eq!(name.base(&context(), 3).id(7), "karez/spend/out/0123456789ab/3/7");
        let named = SinkName::new(Some("team-a"), &context());
        assert_eq!(named.base(&context(), 0).id(0), "team-a/out/0123456789ab/0/0");
    }

    #[test]
    fn a_sink_owns_the_ids_of_all_its_runs_and_no_others() {
        let name = SinkName::new(None, &context());
        assert!(name.owns("karez/spend/out/ffffffffffff/11/2"));
        for other in ["karez/spend/out2/0123456789ab/0/0", "karez/spend/out/0123456789ab/0", "karez/spend/out/a/0/0/0", "karez/spend/out//0/0", "x"] {
            assert!(!name.owns(other), "{other}");
        }
    }
}
