//! Named steps at which the crash tests stop the process.

use karez_core::Result;

/// A step at which the crash tests make the process die (`return(kill)`) or fail (feature `failpoints`).
pub(crate) fn point(name: &str) -> Result<()> {
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("kill") {
            std::process::abort();
        }
        Err(karez_core::Error::connection(format!("fail point {name}: {}", action.unwrap_or_default())))
    });
    let _ = name;
    Ok(())
}
