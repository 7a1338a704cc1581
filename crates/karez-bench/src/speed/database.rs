//! Databases: a job beside the database's own client, which moves the same rows, by the time on the wall: most of the work is the server's.
//!
//! The servers are those of `POSTGRES_URL` and `MARIADB_URL`, the clients `psql` and `mariadb`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use karez_testkit::{Database, unique};

use super::figure::{Figure, median};
use super::work::{Work, run_job};

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Case {
    /// Rows into a table of PostgreSQL at least once, against `\copy`.
    PostgresAppend,
    /// The same exactly once.
    PostgresExactlyOnce,
    /// A table of PostgreSQL, against `COPY TO`.
    PostgresRead,
    /// Rows into a table of MariaDB at least once, against `LOAD DATA LOCAL`.
    MariadbAppend,
    /// A table of MariaDB, against a `SELECT` of its client.
    MariadbRead,
}

impl Case {
    pub(super) const ALL: [Self; 5] = [Self::PostgresAppend, Self::PostgresExactlyOnce, Self::PostgresRead, Self::MariadbAppend, Self::MariadbRead];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PostgresAppend => "postgres-append",
            Self::PostgresExactlyOnce => "postgres-exactly-once",
            Self::PostgresRead => "postgres-read",
            Self::MariadbAppend => "mariadb-append",
            Self::MariadbRead => "mariadb-read",
        }
    }

    const fn database(self) -> Database {
        match self {
            Self::PostgresAppend | Self::PostgresExactlyOnce | Self::PostgresRead => Database::Postgres,
            Self::MariadbAppend | Self::MariadbRead => Database::Mariadb,
        }
    }

    const fn reads(self) -> bool {
        matches!(self, Self::PostgresRead | Self::MariadbRead)
    }

    const fn against(self) -> &'static str {
        match self {
            Self::PostgresAppend | Self::PostgresExactlyOnce => "copy",
            Self::PostgresRead => "copy-to",
            Self::MariadbAppend => "load-data",
            Self::MariadbRead => "select",
        }
    }
}

const COLUMNS: &str = "(auction bigint NOT NULL, bidder bigint NOT NULL, price bigint NOT NULL, channel varchar(100), url varchar(300), date_time timestamp(3) NULL, extra varchar(300))";

/// Takes a measurement over so many bids; files are kept in `folder`.
pub(super) fn measure(case: Case, folder: &Path, bids: &Path, rows: u64, rounds: usize) -> Result<Figure, String> {
    let database = case.database();
    let url = database.url();
    let (parquet, csv) = (converted(folder, bids, rows, "parquet")?, converted(folder, bids, rows, "csv")?);
    let run = |sql: &str| database.run_blocking(&url, sql).map_err(|e| format!("{sql}: {e}"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let names = [unique("bench"), unique("bench")];
        for name in &names {
            run(&format!("CREATE TABLE {name} {COLUMNS}"))?;
        }
        if case.reads() {
            client(database, &url, &load(database, &names[0], &csv))?;
            // What a server does behind a load is not to fall into what is measured.
            run(&if database == Database::Postgres { format!("ANALYZE {}", names[0]) } else { format!("ANALYZE TABLE {}", names[0]) })?;
        }
        let done = Work::Karez { job: job(case, &url, &names[0], &parquet), threads: 1 }.elsewhere()?;
        if done.rows_out != rows {
            return Err(format!("{}: {} rows of {rows}", case.name(), done.rows_out));
        }
        ours.push(done);
        let begin = Instant::now();
        client(database, &url, &if case.reads() { unload(database, &names[0]) } else { load(database, &names[1], &csv) })?;
        theirs.push(begin.elapsed().as_secs_f64());
        for name in &names {
            run(&format!("DROP TABLE {name}"))?;
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let rows = rows as f64;
    let figure = Figure {
        against: Some(case.against().into()),
        ratio: Some(median(theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours.wall_s).collect())),
        rows_per_cpu_second: Some(median(ours.iter().map(|m| rows / m.cpu_s).collect())),
        peak_mb: Some(ours.iter().map(|m| m.peak_mb).fold(0.0, f64::max)),
        ..Figure::new(case.name())
    };
    Ok(figure
        .with("rows_per_second", median(ours.iter().map(|m| rows / m.wall_s).collect()))
        .with("against_rows_per_second", median(theirs.iter().map(|s| rows / s).collect())))
}

fn job(case: Case, url: &str, table: &str, parquet: &Path) -> String {
    let (source, sink) = if case.reads() {
        (format!(r#"connector: jdbc, config: {{ url: "{url}", table: {table} }}"#), "connector: blackhole".to_owned())
    } else {
        let guarantee = if matches!(case, Case::PostgresExactlyOnce) { "transactional" } else { "at-least-once" };
        (
            format!("connector: file, config: {{ path: {parquet:?}, format: parquet }}"),
            format!(r#"connector: jdbc, config: {{ url: "{url}", table: {table}, guarantee: {guarantee} }}"#),
        )
    };
    format!(
        "job:
  id: bench
  name: Bench
  type: batch
  parallelism: 1
  checkpoint: {{ interval: 10s }}
  source: {{ {source} }}
  sink: {{ name: out, {sink} }}
"
    )
}

/// The bids in another format; written where they are not there.
fn converted(folder: &Path, bids: &Path, rows: u64, format: &str) -> Result<PathBuf, String> {
    let file = folder.join(format!("bids-{rows}.{format}"));
    if !file.exists() {
        run_job(
            &format!(
                "job:
  id: convert
  name: Convert
  type: batch
  parallelism: 1
  source:
    connector: file
    config: {{ path: {bids:?}, format: ndjson }}
    schema: {{ auction: bigint, bidder: bigint, price: bigint, channel: string, url: string, date_time: timestamp(3), extra: string }}
  operators:
    - {{ name: columns, type: map, columns: [auction, bidder, price, channel, url, \"{time} AS date_time\", extra] }}
  sink: {{ name: out, connector: file, config: {{ path: {file:?}, format: {format}, ifExists: fail }} }}
",
                // MariaDB reads no zone and no `T`.
                time = if format == "csv" { "to_char(date_time, '%Y-%m-%d %H:%M:%S%.3f')" } else { "date_time" },
            ),
            1,
        )?;
    }
    Ok(file)
}

/// What loads a CSV file with the database's own client.
fn load(database: Database, table: &str, csv: &Path) -> String {
    match database {
        Database::Postgres => format!("\\copy {table} from {} with (format csv, header)", csv.display()),
        Database::Mysql | Database::Mariadb => format!(
            "LOAD DATA LOCAL INFILE '{}' INTO TABLE {table} CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES",
            csv.display()
        ),
    }
}

/// What reads a table with the database's own client.
fn unload(database: Database, table: &str) -> String {
    if database == Database::Postgres { format!("COPY {table} TO STDOUT") } else { format!("SELECT * FROM {table}") }
}

/// Runs a statement by the database's own client; what that prints is thrown away.
fn client(database: Database, url: &str, statement: &str) -> Result<(), String> {
    let mut command = if database == Database::Postgres {
        let mut command = Command::new("psql");
        command.args(["-qX", "-v", "ON_ERROR_STOP=1", url, "-c", statement]);
        command
    } else {
        let (user, rest) = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).ok_or("a URL with user and password")?;
        let (user, password) = user.split_once(':').ok_or("a URL with a password")?;
        let (address, name) = rest.split_once('/').ok_or("a URL with a database")?;
        let (host, port) = address.split_once(':').unwrap_or((address, "3306"));
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", host, "-P", port, "-u", user, "--local-infile=1", "--quick", "--batch", name, "-e", statement]);
        command.env("MYSQL_PWD", password);
        command
    };
    let status = command.stdout(Stdio::null()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{statement}: {status}")) }
}
