//! What the client makes of answers that a healthy registry does not give, and how often it asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use karez_connectors::schema_registry::SchemaRegistry;
use karez_core::Whose;
use karez_formats::message::{SchemaId, SchemaKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with what `answer` makes of its text (status and body); gives the address, and how many there were.
async fn answering(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let (counted, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let counter = Arc::clone(&counted);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer(&String::from_utf8_lossy(&request));
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
            });
        }
    });
    (url, counted)
}

fn registry(url: &str, more: Value) -> SchemaRegistry {
    let mut all = json!({ "url": url, "external": { "retry": { "attempts": 1 } } });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    SchemaRegistry::new(&serde_json::from_value(all).unwrap()).unwrap()
}

fn schema(_: &str) -> (u16, String) {
    (200, json!({ "schema": "\"long\"" }).to_string())
}

#[tokio::test]
async fn one_id_is_asked_for_once_however_many_ask() {
    let (url, asked) = answering(schema).await;
    let registry = registry(&url, json!({}));
    let all = futures::future::join_all((0..50).map(|_| registry.schema(SchemaId(7)))).await;
    assert!(all.iter().all(|s| s.as_ref().unwrap().as_ref().unwrap().kind == SchemaKind::Avro));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_more_schemas_are_kept_than_there_is_room_for() {
    let (url, asked) = answering(schema).await;
    let registry = registry(&url, json!({ "cacheSize": 2 }));
    for id in [1, 2, 2, 1, 3, 3, 2, 1] {
        registry.schema(SchemaId(id)).await.unwrap().unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4, "1, 2, 3, and 1 again");
}

#[tokio::test]
async fn that_an_id_is_unknown_is_believed_for_a_while() {
    let (url, asked) = answering(|_| (404, json!({ "error_code": 40403, "message": "Schema not found" }).to_string())).await;
    let patient = registry(&url, json!({ "negativeCache": "1h" }));
    for _ in 0..3 {
        assert_eq!(patient.schema(SchemaId(1)).await.unwrap().unwrap_err(), "the schema registry does not have it: Schema not found");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let curious = registry(&url, json!({ "negativeCache": 0 }));
    for _ in 0..3 {
        curious.schema(SchemaId(1)).await.unwrap().unwrap_err();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn every_refusal_is_on_the_axes_of_errors() {
    for (status, body, whose, retryable, says) in [
        (401, "", Whose::External, false, "see `username`, `password`, `token`"),
        (403, r#"{"error_code":40301,"message":"denied"}"#, Whose::External, false, "denied"),
        (404, "<html>", Whose::User, false, "there is no registry with Confluent's API at this address"),
        (409, r#"{"error_code":409,"message":"incompatible"}"#, Whose::User, false, "is not compatible with the versions of its subject"),
        (422, r#"{"error_code":42201,"message":"Invalid schema"}"#, Whose::User, false, "Invalid schema"),
        (429, "", Whose::External, true, "429"),
        (500, r#"{"error_code":50001,"message":"store"}"#, Whose::External, true, "store"),
        (503, "", Whose::External, true, "503"),
        (302, "", Whose::External, false, "302"),
        (200, "hello", Whose::External, false, "the answer is not the API's"),
    ] {
        let (url, _) = answering(move |_| (status, body.to_owned())).await;
        let error = registry(&url, json!({})).schema(SchemaId(1)).await.unwrap_err();
        assert_eq!((error.whose(), error.is_retryable()), (whose, retryable), "{status}: {error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn the_job_says_who_it_is_and_no_error_tells_the_password() {
    let seen: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let (url, _) = answering(move |request| {
        sink.lock().unwrap().push(request.to_ascii_lowercase());
        (401, String::new())
    })
    .await;
    let user = registry(&url, json!({ "username": "u", "password": "secret" }));
    let error = user.check().await.unwrap_err();
    let token = registry(&url, json!({ "token": "secret" }));
    let shown = format!("{error} {error:?} {user:?} {token:?}");
    assert!(!shown.contains("secret"), "{shown}");
    token.check().await.unwrap_err();
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("get /base/schemas/types ") && seen[0].contains("authorization: basic dtpzzwnyzxq="), "{}", seen[0]);
    assert!(seen[1].contains("authorization: bearer secret"), "{}", seen[1]);
}

#[test]
fn options_that_cannot_be_meant_are_refused() {
    for (options, why) in [
        (json!({ "url": "registry:8081" }), "`url`: must begin with `http://` or `https://`"),
        (json!({ "url": "http://u:p@registry" }), "`url`: holds a user; give `username` and `password` instead, which are not printed"),
        (json!({ "url": "http://r", "password": "x" }), "`password`: is given without a `username`"),
        (json!({ "url": "http://r", "token": "x", "username": "u" }), "`token`: is given, and `username` too; leave one of them out"),
        (json!({ "url": "http://r", "ca": "/no/such" }), "`ca`: cannot read `/no/such`"),
        (json!({ "url": "http://r", "cacheSize": 0 }), "`cacheSize`: must be at least 1"),
        (json!({ "url": "http://r", "external": { "timeout": 0 } }), "`external.timeout`: must be more than 0"),
    ] {
        let error = SchemaRegistry::new(&serde_json::from_value(options).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}

#[tokio::test]
async fn who_checks_or_plans_a_job_is_told_at_once_that_the_registry_is_away_and_a_job_that_runs_asks_again() {
    let retry = |attempts: usize| json!({ "external": { "retry": { "attempts": attempts, "initialDelay": "1ms", "maxDelay": "1ms" } } });
    let (url, asked) = answering(|_| (503, String::new())).await;
    let away = registry(&url, retry(3));
    let error = away.check().await.unwrap_err().to_string();
    assert!(error.contains(&url) && error.contains("503"), "{error}");
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    let options = away.options().clone();
    tokio::task::spawn_blocking(move || SchemaRegistry::latest_blocking(&options, "subject").unwrap_err()).await.unwrap();
    assert_eq!(asked.swap(0, Ordering::SeqCst), 1);
    away.latest("subject").await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
