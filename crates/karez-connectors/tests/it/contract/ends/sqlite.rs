//! A table in a SQLite file.

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use karez_connectors::jdbc::JdbcConnector;
use karez_core::Connector;
use serde_json::{Value, json};

use super::super::End;
use super::{BEFORE_THE_EPOCH_MS, common_types};

pub struct Sqlite {
    folder: tempfile::TempDir,
}

impl Sqlite {
    fn open(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("test.db")).unwrap()
    }

    fn url(&self) -> String {
        format!("jdbc:sqlite:{}", self.folder.path().join("test.db").display())
    }
}

#[async_trait]
impl End for Sqlite {
    async fn fresh() -> Self {
        let end = Self { folder: tempfile::tempdir().unwrap() };
        // The file is there, its table is not.
        end.open().execute_batch("CREATE TABLE another (id BIGINT)").unwrap();
        end
    }

    fn connector(&self) -> Box<dyn Connector> {
        Box::new(JdbcConnector)
    }

    fn sink(&self) -> Value {
        json!({ "url": self.url(), "table": "target", "createTable": true })
    }

    fn source(&self) -> Value {
        json!({ "url": self.url(), "table": "target" })
    }

    async fn create(&self) {
        self.open().execute_batch("CREATE TABLE target (id BIGINT NOT NULL, name TEXT)").unwrap();
    }

    async fn insert(&self, rows: &[(i64, Option<&str>)]) {
        let mut connection = self.open();
        let transaction = connection.transaction().unwrap();
        for row in rows {
            transaction.execute("INSERT INTO target VALUES (?, ?)", *row).unwrap();
        }
        transaction.commit().unwrap();
    }

    async fn visible(&self) -> Vec<String> {
        let connection = self.open();
        // The table comes with the first rows, or before.
        let Ok(mut statement) = connection.prepare("SELECT id, name FROM target ORDER BY id") else { return Vec::new() };
        let row = |r: &rusqlite::Row<'_>| Ok(format!("{}|{}", r.get::<_, i64>(0)?, r.get::<_, Option<String>>(1)?.as_deref().unwrap_or("NULL")));
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn every_type(&self) -> RecordBatch {
        // Its floats are of 64 bits.
        common_types(&["real"], BEFORE_THE_EPOCH_MS)
    }
}
