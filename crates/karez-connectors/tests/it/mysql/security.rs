//! Who may in, over which line, and what is said to whom may not.

use karez_core::StreamSchema;
use karez_testkit::{Server, service};
use serde_json::{Value, json};

use super::{Base, on_both, write};
use crate::jdbc::{rows, try_sink, try_source, two_columns};

fn ca(base: &Base) -> String {
    service(if base.server == Server::Mysql { "MYSQL_CA" } else { "MARIADB_CA" })
}

async fn check(config: &Value) -> Result<(), karez_core::Error> {
    try_sink(config, &StreamSchema::append_only(two_columns())).map_err(karez_core::Error::user)?.check().await
}

/// The URL with another user.
fn as_user(base: &Base, user: &str, password: &str) -> String {
    let (_, rest) = base.url.split_once('@').unwrap();
    format!("mysql://{user}:{password}@{rest}")
}

/// Gives a user a right, from wherever it comes.
async fn grant(base: &Base, user: &str, right: &str) {
    for host in ["%", "localhost"] {
        base.sql(&format!("GRANT {right} ON {}.* TO '{user}'@'{host}'", base.name)).await;
    }
}

on_both! {
    async fn a_wrong_password_is_said_at_once_and_not_tried_again(base: &Base) {
        let error = check(&json!({ "url": as_user(base, "karez", "secret-but-wrong"), "table": "t", "createTable": true })).await.unwrap_err();
        assert!(error.message().contains("Access denied") && error.message().contains("check `username` and `password`"), "{error}");
        assert!(!error.is_retryable() && !error.to_string().contains("secret-but-wrong"), "{error}");
        let error = try_source(&json!({ "url": as_user(base, "karez", "secret-but-wrong"), "table": "t" }), None).err().unwrap();
        assert!(error.contains("Access denied") && !error.contains("secret-but-wrong"), "{error}");
    }

    async fn a_server_that_is_away_is_tried_again(base: &Base) {
        let url = format!("mysql://karez:karez@127.0.0.1:1/{}", base.name);
        let error = check(&json!({ "url": url, "table": "t", "createTable": true })).await.unwrap_err();
        assert!(error.is_retryable() && error.message().contains("127.0.0.1:1"), "{error}");
    }

    async fn a_missing_database_and_a_missing_table_are_named(base: &Base) {
        let (start, _) = base.url.rsplit_once('/').unwrap();
        let error = check(&json!({ "url": format!("{start}/no_such_base"), "table": "t" })).await.unwrap_err();
        assert!(error.message().contains("no_such_base") && !error.is_retryable(), "{error}");
        base.sql("CREATE TABLE orders (id BIGINT PRIMARY KEY, name TEXT)").await;
        let error = check(&base.sink(json!({ "table": "order" }))).await.unwrap_err();
        assert!(error.message().contains("did you mean `orders`?") && error.message().contains("createTable"), "{error}");
        let error = try_source(&base.sink(json!({ "table": "order" })), None).err().unwrap();
        assert!(error.contains("did you mean `orders`?"), "{error}");
    }

    async fn a_right_that_is_missing_is_named(base: &Base) {
        base.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT);\nINSERT INTO t VALUES (1, 'a')").await;
        let user = format!("r{}", base.name.chars().rev().take(12).collect::<String>());
        base.sql(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'reader';\nCREATE USER '{user}'@'localhost' IDENTIFIED BY 'reader'")).await;
        grant(base, &user, "SELECT").await;
        let url = as_user(base, &user, "reader");
        // It may read …
        let source = try_source(&json!({ "url": url, "table": "t" }), None).unwrap();
        source.check().await.unwrap();
        // … and not write.
        let sink = try_sink(&json!({ "url": url, "table": "t" }), &StreamSchema::append_only(two_columns())).unwrap();
        let told = |error: karez_core::Error, command: &str| {
            let words = ["rows cannot be written to `t`", command, "command denied", "GRANT"];
            assert!(words.iter().all(|w| error.message().contains(w)) && !error.is_retryable(), "{command}: {error}");
        };
        told(sink.check().await.unwrap_err(), "INSERT");
        let error = sink.prepare(&crate::jdbc::run(1), &[]).await.unwrap_err();
        assert!(error.message().contains("denied") && error.message().contains("GRANT") && !error.is_retryable(), "{error}");
        // What each right of an upsert with deletes is for.
        let changes = StreamSchema { change_mode: karez_core::ChangeMode::Changelog, ..StreamSchema::append_only(two_columns()) };
        // A connection keeps the rights it began with.
        let keyed = || try_sink(&json!({ "url": url, "table": "t", "key": ["id"] }), &changes).unwrap();
        for right in ["INSERT", "UPDATE", "DELETE"] {
            told(keyed().check().await.unwrap_err(), right);
            grant(base, &user, right).await;
        }
        let error = keyed().check().await.unwrap_err();
        assert!(error.message().contains("CREATE command denied") && error.message().contains("stagingSchema"), "{error}");
        let lossy = json!({ "url": url, "table": "t", "key": ["id"], "guarantee": "at-least-once" });
        let error = try_sink(&lossy, &changes).unwrap().check().await.unwrap_err();
        assert!(error.message().contains("temporary table") && error.message().contains("denied"), "{error}");
        let missing = json!({ "url": url, "table": "missing", "createTable": true });
        let missing = || try_sink(&missing, &StreamSchema::append_only(two_columns())).unwrap();
        let error = missing().check().await.unwrap_err();
        assert!(error.message().contains("createTable") && error.message().contains("CREATE command denied"), "{error}");
        grant(base, &user, "CREATE").await;
        keyed().check().await.unwrap();
        missing().check().await.unwrap();
        assert_eq!(base.rows("SHOW TABLES").await, ["t"]);
        base.sql(&format!("DROP USER '{user}'@'%';\nDROP USER '{user}'@'localhost'")).await;
    }

    async fn tls_is_verified_against_the_authority_that_is_named(base: &Base) {
        let ca = ca(base);
        let in_url = format!("{}?sslMode=VERIFY_IDENTITY&sslCa={ca}", base.url);
        for config in [
            json!({ "url": in_url, "table": "t", "createTable": true }),
            base.sink(json!({ "createTable": true, "tls": { "mode": "verify-full", "ca": ca } })),
            base.sink(json!({ "createTable": true, "tls": { "mode": "require" } })),
        ] {
            check(&config).await.unwrap();
        }
        assert_eq!(write(&base.sink(json!({ "createTable": true, "tls": { "ca": ca } })), &[rows(&[(1, "a")])]).await, []);
    }

    async fn a_certificate_of_an_unknown_authority_is_refused(base: &Base) {
        let config = base.sink(json!({ "createTable": true, "tls": { "mode": "verify-full" } }));
        let error = check(&config).await.unwrap_err();
        assert!(error.message().contains("TLS") && error.message().contains("tls.ca") && !error.is_retryable(), "{error}");
    }

    async fn a_user_may_come_without_tls(base: &Base) {
        check(&base.sink(json!({ "createTable": true, "tls": { "mode": "disable" } }))).await.unwrap();
    }

    async fn parameters_of_java_drivers_are_known_and_others_refused(base: &Base) {
        let with = |parameters: &str| json!({ "url": format!("jdbc:{}?{parameters}", base.url), "table": "t", "createTable": true });
        check(&with("useSSL=false&serverTimezone=UTC&rewriteBatchedStatements=true&allowPublicKeyRetrieval=true&characterEncoding=UTF-8&connectTimeout=5000")).await.unwrap();
        let error = check(&with("sslMod=REQUIRED")).await.unwrap_err();
        assert!(error.message().contains("did you mean `sslMode`?"), "{error}");
        let error = check(&with("characterEncoding=latin1")).await.unwrap_err();
        assert!(error.message().contains("utf8mb4"), "{error}");
    }
}

#[tokio::test]
async fn both_ways_of_mysql_to_prove_a_password_are_known() {
    let base = Base::new(Server::Mysql).await;
    let user = format!("n{}", base.name.chars().rev().take(12).collect::<String>());
    for plugin in ["mysql_native_password", "caching_sha2_password"] {
        base.sql(&format!("CREATE USER '{user}'@'%' IDENTIFIED WITH {plugin} BY 'p:w@%';\nGRANT ALL ON {}.* TO '{user}'@'%'", base.name)).await;
        // The first time without TLS: the password is encrypted with the server's key.
        for mode in ["disable", "require"] {
            let config = json!({ "url": as_user(&base, &user, "p%3Aw%40%25"), "table": "t", "createTable": true, "tls": { "mode": mode } });
            check(&config).await.unwrap_or_else(|e| panic!("{plugin} {mode}: {e}"));
        }
        base.sql(&format!("DROP USER '{user}'@'%'")).await;
    }
}
