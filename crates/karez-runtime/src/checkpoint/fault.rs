//! Fail points: named steps at which a test makes the process fail or die (cargo feature `failpoints`; without it nothing is compiled in).
//!
//! `FAILPOINTS="checkpoint-before-manifest=3*off->return(kill)"` dies at the fourth manifest without unwinding or flushing anything, as after
//! `kill -9`; `return(REASON)` fails the step with an error instead. The binary must call `fail::FailScenario::setup()` for the variable to be read.

use karez_core::Result;

/// Before a manifest is written: all state files are there, the checkpoint is not.
pub const BEFORE_MANIFEST: &str = "checkpoint-before-manifest";
/// After a manifest has been written and before anything is committed.
pub const AFTER_MANIFEST: &str = "checkpoint-after-manifest";
/// Between two deletions of retention.
pub const RETENTION: &str = "checkpoint-retention";
/// Before recovery replays the commits of the restored manifest.
pub const RECOVERY_BEFORE_COMMIT: &str = "recovery-before-commit";
/// After recovery has replayed the commits of the restored manifest.
pub const RECOVERY_AFTER_COMMIT: &str = "recovery-after-commit";

/// A step that a test can make fail.
#[cfg(feature = "failpoints")]
pub fn point(name: &str) -> Result<()> {
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("kill") {
            std::process::abort();
        }
        Err(karez_core::Error::external(format!("fail point {name}: {}", action.unwrap_or_default())))
    });
    Ok(())
}

/// A step that a test can make fail; here it cannot.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn point(name: &str) -> Result<()> {
    let _ = name;
    Ok(())
}

#[cfg(all(test, feature = "failpoints"))]
#[allow(clippy::unwrap_used)]
mod tests {
    #[test]
    fn a_step_fails_with_the_reason_it_was_given() {
        fail::cfg("a step of this test", "1*off->return(no luck)").unwrap();
        assert!(super::point("a step of this test").is_ok());
        let error = super::point("a step of this test").unwrap_err().to_string();
        assert!(error.contains("a step of this test") && error.contains("no luck"), "{error}");
        fail::remove("a step of this test");
    }
}
