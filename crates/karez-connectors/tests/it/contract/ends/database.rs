//! A table of a database server.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::Connector;
use karez_testkit::{Database, Proxy, unique};
use serde_json::{Value, json};

use super::super::{End, Guarded, Remote, WRONG_PASSWORD};
use super::{BEFORE_THE_EPOCH_MS, common_types};

/// A table that nobody else has.
struct Table {
    database: Database,
    url: String,
    name: String,
}

impl Table {
    fn fresh(database: Database, url: String) -> Self {
        Self { database, url, name: unique("contract") }
    }

    async fn run(&self, sql: &str) -> Vec<Vec<String>> {
        self.database.run(&self.url, sql).await.unwrap_or_else(|e| panic!("{sql:.200}: {e}"))
    }

    fn config(&self) -> Value {
        json!({ "url": self.url, "table": self.name })
    }

    async fn create(&self) {
        let text = if self.database == Database::Postgres { "text" } else { "longtext" };
        self.run(&format!("CREATE TABLE {} (id bigint NOT NULL PRIMARY KEY, name {text})", self.name)).await;
    }

    async fn insert(&self, rows: &[(i64, Option<&str>)]) {
        let values: Vec<_> = rows.iter().map(|(id, name)| format!("({id},{})", self.database.literal(*name))).collect();
        self.run(&format!("INSERT INTO {} VALUES {}", self.name, values.join(","))).await;
    }

    async fn visible(&self) -> Vec<String> {
        let found = self.run(&format!("SELECT count(*) FROM information_schema.tables WHERE table_name = '{}'", self.name)).await;
        if found[0][0] == "0" {
            return Vec::new();
        }
        self.run(&format!("SELECT id, name FROM {} ORDER BY id", self.name)).await.into_iter().map(|row| row.join("|")).collect()
    }

    /// `config` with this user in its URL.
    fn with_user(mut config: Value, user: &str, password: &str) -> Value {
        let url = config["url"].as_str().unwrap().to_owned();
        let (scheme, rest) = url.split_once("://").unwrap();
        let (_, address) = rest.rsplit_once('@').unwrap();
        config["url"] = format!("{scheme}://{user}:{password}@{address}").into();
        config
    }
}

macro_rules! database_end {
    ($name:ident, $about:literal, since $least_instant_ms:expr) => {
        #[doc = $about]
        pub struct $name(Table);

        #[async_trait]
        impl End for $name {
            async fn fresh() -> Self {
                Self(Table::fresh(Database::$name, Database::$name.url()))
            }

            fn connector(&self) -> Box<dyn Connector> {
                Box::new(JdbcConnector)
            }

            fn sink(&self) -> Value {
                let mut config = self.0.config();
                config["createTable"] = true.into();
                config
            }

            fn source(&self) -> Value {
                self.0.config()
            }

            async fn create(&self) {
                self.0.create().await;
            }

            async fn insert(&self, rows: &[(i64, Option<&str>)]) {
                self.0.insert(rows).await;
            }

            async fn visible(&self) -> Vec<String> {
                self.0.visible().await
            }

            fn every_type(&self) -> RecordBatch {
                common_types(&[], $least_instant_ms)
            }
        }

        #[async_trait]
        impl Remote for $name {
            async fn at(address: &str) -> Self {
                Self(Table::fresh(Database::$name, address.to_owned()))
            }

            fn through(&self, mut config: Value) -> (Value, Arc<Proxy>) {
                let address = self.0.url.rsplit_once('@').unwrap().1;
                let proxy = Arc::new(Proxy::to(address.split(['/', '?']).next().unwrap()));
                config["url"] = proxy.url(&self.0.url).into();
                (config, proxy)
            }
        }

        impl Guarded for $name {
            fn with_wrong_password(&self, config: Value) -> Value {
                Table::with_user(config, "karez", WRONG_PASSWORD)
            }

            fn without_rights(&self, config: Value) -> Value {
                Table::with_user(config, "plain", "plain")
            }
        }
    };
}

/// Where the range of `TIMESTAMP` begins: one second behind the epoch.
const FIRST_TIMESTAMP_MS: i64 = 1_000;

database_end!(Postgres, "A table in PostgreSQL.", since BEFORE_THE_EPOCH_MS);
database_end!(Mysql, "A table in MySQL 8.", since FIRST_TIMESTAMP_MS);
database_end!(Mariadb, "A table in MariaDB.", since FIRST_TIMESTAMP_MS);
