//! The options as a user writes them.

use karez_external::{ClientOptions, ExternalOptions};
use serde_json::{Value, json};

fn refused(options: &Value) -> String {
    let options: ExternalOptions = serde_json::from_value(options.clone()).unwrap();
    options.check().unwrap_err().to_string()
}

#[test]
fn nothing_is_needed() {
    let options: ExternalOptions = serde_json::from_value(json!({})).unwrap();
    options.check().unwrap();
    assert_eq!(options.timeout.to_string(), "30s");
    assert!(options.rate_limit.is_none());
}

#[test]
fn all_of_them_can_be_set() {
    let options: ExternalOptions = serde_json::from_value(json!({
        "timeout": "10s",
        "retry": { "attempts": 3, "initialDelay": "50ms", "maxDelay": "2s", "jitter": false },
        "rateLimit": { "calls": 100, "per": "1m", "burst": 5 },
        "circuitBreaker": { "failures": 5, "window": "10s", "openFor": "1s" },
        "maxConcurrency": 4,
    }))
    .unwrap();
    options.check().unwrap();
    assert_eq!(options.retry.attempts, 3);
    assert_eq!(options.circuit_breaker.open_for.to_string(), "1s");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_key() {
    assert_eq!(refused(&json!({ "timeout": 0 })), "`timeout`: must be more than 0");
    assert_eq!(refused(&json!({ "retry": { "attempts": 0 } })), "`retry.attempts`: must be at least 1");
    assert_eq!(refused(&json!({ "retry": { "initialDelay": "20s" } })), "`retry.initialDelay`: 20s is more than `maxDelay`, 10s");
    assert_eq!(refused(&json!({ "rateLimit": { "calls": 0 } })), "`rateLimit.calls`: must be at least 1");
    assert_eq!(refused(&json!({ "maxConcurrency": 0 })), "`maxConcurrency`: must be at least 1");
}

#[test]
fn a_client_that_retries_by_itself_has_no_limits_of_ours() {
    let e = serde_json::from_value::<ClientOptions>(json!({ "maxConcurrency": 4 })).unwrap_err().to_string();
    assert!(e.contains("unknown field `maxConcurrency`"), "{e}");
}
