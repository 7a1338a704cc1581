//! Named steps at which the crash tests make the process die (`return(kill)`) or fail (feature `failpoints`).

use karez_core::{Error, Result};

pub(in crate::kafka) fn point(name: &str) -> Result<()> {
    fail::fail_point!(name, |action| {
        if action.as_deref() == Some("kill") {
            std::process::abort();
        }
        Err(Error::connection(format!("fail point {name}: {}", action.unwrap_or_default())))
    });
    let _ = name;
    Ok(())
}
