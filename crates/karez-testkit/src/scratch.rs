//! A place of one's own on a shared database server, which leaves nothing behind.

use crate::{Database, TextRows, unique};

/// A schema of PostgreSQL, a database of MySQL or MariaDB: removed with everything in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    database: Database,
    /// Of the server.
    server: String,
    name: String,
}

impl Scratch {
    /// Makes one on the shared server.
    ///
    /// # Panics
    /// Where the server does not make it.
    #[must_use]
    #[track_caller]
    pub fn new(database: Database) -> Self {
        Self::at(database, &database.url())
    }

    /// The same on the server of this address.
    ///
    /// # Panics
    /// Where the server does not make it.
    #[must_use]
    #[track_caller]
    pub fn at(database: Database, server: &str) -> Self {
        let own = Self { database, server: server.to_owned(), name: unique("scratch") };
        let kind = own.kind();
        database.run_blocking(server, &format!("CREATE {kind} {}", own.name)).unwrap_or_else(|e| panic!("{database:?} makes no {kind}: {e}"));
        own
    }

    /// Its address for Karez: tables without a schema are in it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(&self.server)
    }

    /// The same behind another address of the server, such as that of a [`crate::Proxy`].
    #[must_use]
    pub fn url_at(&self, server: &str) -> String {
        match self.database {
            Database::Postgres => format!("{server}?currentSchema={}", self.name),
            Database::Mysql | Database::Mariadb => format!("{}/{}", server.rsplit_once('/').map_or(server, |(before, _)| before), self.name),
        }
    }

    /// Runs statements in it (MySQL: one); answers the rows of the last that has some.
    ///
    /// # Errors
    /// What the server says.
    pub fn run(&self, sql: &str) -> Result<TextRows, String> {
        match self.database {
            Database::Postgres => self.database.run_blocking(&self.server, &format!("SET search_path = {}; {sql}", self.name)),
            Database::Mysql | Database::Mariadb => self.database.run_blocking(&self.url(), sql),
        }
    }

    const fn kind(&self) -> &'static str {
        match self.database {
            Database::Postgres => "SCHEMA",
            Database::Mysql | Database::Mariadb => "DATABASE",
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (limit, cascade) = match self.database {
            Database::Postgres => ("SET lock_timeout = '10s'; ", " CASCADE"),
            Database::Mysql | Database::Mariadb => ("", ""),
        };
        let (database, server) = (self.database, self.server.clone());
        let sql = format!("{limit}DROP {} {}{cascade}", self.kind(), self.name);
        // A server that the test has killed keeps nothing. Within a runtime nothing may block, so not on this thread.
        let _ = std::thread::spawn(move || database.run_blocking(&server, &sql)).join();
    }
}
