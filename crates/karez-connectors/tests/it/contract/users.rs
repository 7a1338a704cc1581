//! What holds of every system with users and rights.

use serde_json::Value;

use super::process::plan_sink;
use super::reader::plan_source;
use super::{Guarded, WRONG_PASSWORD, rows_schema};

/// What the source of a configuration says when it is planned and checked.
async fn check_source<E: Guarded>(end: &E, config: &Value) -> Result<(), String> {
    plan_source(end, config)?.check().await.map_err(|e| e.to_string())
}

pub async fn a_wrong_password_is_said_and_not_shown<E: Guarded>() {
    let end = E::fresh().await;
    end.create().await;
    let sink = plan_sink(end.connector().as_ref(), &end.with_wrong_password(end.sink()), &rows_schema());
    let error = sink.check().await.unwrap_err();
    assert!(!error.is_retryable(), "a wrong password does not become right: {error}");
    let of_source = check_source(&end, &end.with_wrong_password(end.source())).await.unwrap_err();
    for said in [format!("{error} {error:?}"), of_source] {
        let lower = said.to_lowercase();
        assert!(["password", "authenticat", "access denied", "credentials"].iter().any(|word| lower.contains(word)), "{said}");
        assert!(!said.contains(WRONG_PASSWORD), "the password is shown: {said}");
    }
}

pub async fn a_missing_right_is_said<E: Guarded>() {
    let end = E::fresh().await;
    end.create().await;
    let said = |e: String| {
        let lower = e.to_lowercase();
        assert!(["permission", "denied", "authoriz", "privilege", "right"].iter().any(|word| lower.contains(word)), "{e}");
    };
    let config = end.without_rights(end.source());
    let of_source = match plan_source(&end, &config) {
        Err(e) => Err(e),
        Ok(source) => read_through(source.as_ref()).await.map_err(|e| e.to_string()),
    };
    said(of_source.expect_err("the source needs the right to read"));
    let config = end.without_rights(end.sink());
    let connector = end.connector();
    let error = plan_sink(connector.as_ref(), &config, &rows_schema()).check().await.expect_err("the sink needs the right to write");
    assert!(!error.is_retryable(), "a right does not come by itself: {error}");
    said(error.to_string());
}

async fn read_through(source: &dyn karez_core::Source) -> karez_core::Result<usize> {
    source.check().await?;
    Ok(super::reader::read_all(source, 100).await?.iter().map(|b| b.num_rows()).sum())
}
