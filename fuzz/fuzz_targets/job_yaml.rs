//! Any bytes as a job file: a plan that can be explained, or diagnostics with places in the file.
//!
//! Connectors are those that touch nothing outside, and those of the reader's own tests, which bring operators with them.
#![no_main]

use std::sync::LazyLock;

use karez_core::Registry;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/karez-job/tests/it/robust/answer.rs"]
mod answer;
#[allow(dead_code)]
#[path = "../../crates/karez-job/tests/it/kit.rs"]
mod kit;

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| karez_connectors::register(kit::registry()));

fuzz_target!(|data: &[u8]| {
    // Other bytes are refused before they are read as YAML; here they become text, so that none are wasted.
    answer::assert_answered(&String::from_utf8_lossy(data), &REGISTRY);
});
