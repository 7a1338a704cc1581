//! A database's own client.

use std::process::{Command, Stdio};
use std::time::Instant;

use karez_testkit::{Database, TextRows};

use super::orders::Orders;

pub(super) struct Client {
    database: Database,
    url: String,
}

impl Client {
    /// For the server whose URL is in the environment.
    pub(super) fn new(database: Database) -> Result<Self, String> {
        let variable = match database {
            Database::Postgres => "POSTGRES_URL",
            Database::Mariadb => "MARIADB_URL",
            Database::Mysql => "MYSQL_URL",
        };
        let url = std::env::var(variable).map_err(|_| format!("{variable} is not set: export $(cargo xtask services up)"))?;
        Ok(Self { database, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement beside what is measured.
    pub(super) fn run(&self, sql: &str) -> Result<TextRows, String> {
        let url = self.url.split('?').next().unwrap_or_default();
        self.database.run_blocking(url, sql).map_err(|e| format!("{sql}: {e}"))
    }

    /// Puts behind what earlier loads have left to be written.
    pub(super) fn checkpoint(&self) -> Result<(), String> {
        // MySQL and MariaDB forget it with the tables that are dropped.
        if self.database == Database::Postgres { self.run("CHECKPOINT").map(drop) } else { Ok(()) }
    }

    /// Brings a table that was loaded into the state that it stays in.
    pub(super) fn settle(&self, table: &str) -> Result<(), String> {
        if self.database == Database::Postgres {
            self.run(&format!("VACUUM ANALYZE {table}"))?;
            self.checkpoint()
        } else {
            self.run(&format!("ANALYZE TABLE {table}")).map(drop)
        }
    }

    /// What tells the rows of a table from others: how many, and sums over their columns.
    pub(super) fn digest(&self, table: &str) -> Result<TextRows, String> {
        let last = if self.database == Database::Postgres { "extract(epoch FROM max(placed))" } else { "unix_timestamp(max(placed))" };
        self.run(&format!(
            "SELECT count(*), sum(id), sum(customer), sum(pieces), sum(amount), count(score), max(score), min(status), {last}, count(note), \
             sum(length(note)), max(note) FROM {table}"
        ))
    }

    /// Loads the file into a table by the client; the seconds it took.
    pub(super) fn load(&self, table: &str, orders: &Orders) -> Result<f64, String> {
        let file = orders.tsv.display();
        self.timed(&match self.database {
            Database::Postgres => format!("\\copy {table} from '{file}'"),
            Database::Mysql | Database::Mariadb => format!("LOAD DATA LOCAL INFILE '{file}' INTO TABLE {table} CHARACTER SET utf8mb4"),
        })
    }

    /// Reads a table by the client, which throws it away; the seconds it took.
    pub(super) fn unload(&self, table: &str) -> Result<f64, String> {
        self.timed(&match self.database {
            Database::Postgres => format!("\\copy {table} to '/dev/null'"),
            Database::Mysql | Database::Mariadb => format!("SELECT * FROM {table}"),
        })
    }

    fn timed(&self, statement: &str) -> Result<f64, String> {
        let mut command = if self.database == Database::Postgres {
            let mut command = Command::new("psql");
            command.args(["-qX", "-v", "ON_ERROR_STOP=1", &self.url, "-c", statement]);
            command
        } else {
            mariadb(&self.url, statement)?
        };
        let begin = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|e| format!("{command:?}: {e}"))?;
        let took = begin.elapsed().as_secs_f64();
        if status.success() { Ok(took) } else { Err(format!("{statement}: {status}")) }
    }
}

fn mariadb(url: &str, statement: &str) -> Result<Command, String> {
    let (user, rest) = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).ok_or("a URL with user and password")?;
    let (user, password) = user.split_once(':').ok_or("a URL with a password")?;
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (address, name) = rest.split_once('/').ok_or("a URL with a database")?;
    let (host, port) = address.split_once(':').unwrap_or((address, "3306"));
    // A job encrypts where the server can, unless it is told not to.
    let tls = if parameters.to_ascii_lowercase().contains("sslmode=disable") { "--skip-ssl" } else { "--ssl" };
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "-h", host, "-P", port, "-u", user, tls, "--local-infile=1", "--quick", "--batch", name, "-e", statement]);
    command.env("MYSQL_PWD", password);
    Ok(command)
}
