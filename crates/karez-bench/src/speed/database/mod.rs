//! Databases: a job beside the database's own client, which moves the same rows into and out of tables of the same shape, in turn.
//!
//! What counts is the time on the wall, since most of the work is the server's: of a whole process on either side, so connecting, planning and the last
//! commit are in it. Both sides speak TLS, unless the URL says that there is none. The servers are those of `POSTGRES_URL`, `MARIADB_URL` and `MYSQL_URL`,
//! the clients `psql` and `mariadb`.

mod client;
mod orders;

use std::path::Path;
use std::time::Instant;

use karez_testkit::{Database, unique};

use self::client::Client;
use self::orders::Orders;
use super::figure::{Figure, median, spread};
use super::work::{Measured, Work};

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) bench: &'static str,
    database: Database,
    way: Way,
    /// Whether the table has a primary key.
    keyed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Rows into an empty table at least once, against the load of a file.
    Append,
    /// The same exactly once.
    ExactlyOnce,
    /// Rows into a table that holds every second of their keys, at least once, against the load of a file into an empty table.
    Upsert,
    /// All rows of a table, against a plain read of it.
    Read,
    /// The same in so many parts at a time.
    ReadParts(usize),
}

/// The cases, by bench.
pub(super) const CASES: [Case; 18] = {
    use Database::{Mariadb, Mysql, Postgres};
    const fn case(bench: &'static str, database: Database, way: Way) -> Case {
        Case { bench, database, way, keyed: true }
    }
    [
        case("postgres-append", Postgres, Way::Append),
        case("postgres-exactly-once", Postgres, Way::ExactlyOnce),
        case("postgres-upsert", Postgres, Way::Upsert),
        case("postgres-read", Postgres, Way::Read),
        case("postgres-read-parts", Postgres, Way::ReadParts(2)),
        Case { keyed: false, ..case("postgres-append-keyless", Postgres, Way::Append) },
        Case { keyed: false, ..case("postgres-exactly-once-keyless", Postgres, Way::ExactlyOnce) },
        Case { keyed: false, ..case("postgres-read-keyless", Postgres, Way::Read) },
        case("mariadb-append", Mariadb, Way::Append),
        case("mariadb-exactly-once", Mariadb, Way::ExactlyOnce),
        case("mariadb-upsert", Mariadb, Way::Upsert),
        case("mariadb-read", Mariadb, Way::Read),
        case("mariadb-read-parts", Mariadb, Way::ReadParts(2)),
        case("mysql-append", Mysql, Way::Append),
        case("mysql-exactly-once", Mysql, Way::ExactlyOnce),
        case("mysql-upsert", Mysql, Way::Upsert),
        case("mysql-read", Mysql, Way::Read),
        case("mysql-read-parts", Mysql, Way::ReadParts(2)),
    ]
};

impl Case {
    const fn reads(self) -> bool {
        matches!(self.way, Way::Read | Way::ReadParts(_))
    }

    fn against(self) -> &'static str {
        match (self.database == Database::Postgres, self.reads()) {
            (true, false) => "copy",
            (true, true) => "copy-to",
            (false, false) => "load-data",
            (false, true) => "select",
        }
    }

    /// A new table of the shape.
    fn create(self, client: &Client, name: &str) -> Result<(), String> {
        client.run(&format!("CREATE TABLE {name} {}", orders::columns(self.database, self.keyed))).map(drop)
    }

    fn job(self, client: &Client, table: &str, orders: &Orders) -> String {
        let url = client.url();
        let (parallelism, source, sink) = match self.way {
            Way::Read => (1, format!(r#"connector: jdbc, config: {{ url: "{url}", table: {table} }}"#), "connector: blackhole".to_owned()),
            Way::ReadParts(n) => {
                (n, format!(r#"connector: jdbc, config: {{ url: "{url}", table: {table}, numPartitions: {n} }}"#), "connector: blackhole".to_owned())
            }
            Way::Append | Way::ExactlyOnce | Way::Upsert => {
                let guarantee = if self.way == Way::ExactlyOnce { "transactional" } else { "at-least-once" };
                let key = if self.way == Way::Upsert { ", key: [id]" } else { "" };
                (
                    1,
                    format!("connector: file, config: {{ path: {:?}, format: parquet }}", orders.parquet),
                    format!(r#"connector: jdbc, config: {{ url: "{url}", table: {table}, guarantee: {guarantee}{key} }}"#),
                )
            }
        };
        format!(
            "job:
  id: bench
  name: Bench
  type: batch
  parallelism: {parallelism}
  checkpoint: {{ interval: 10s }}
  source: {{ {source} }}
  sink: {{ name: out, {sink} }}
"
        )
    }
}

/// What a side did in one round.
struct Round {
    ours: Measured,
    /// Seconds on the wall.
    theirs: f64,
}

/// Takes a measurement over so many orders; files are kept in `folder`.
pub(super) fn measure(case: Case, folder: &Path, rows: u64, rounds: usize) -> Result<Figure, String> {
    let (client, orders) = (Client::new(case.database)?, Orders::made(folder, rows)?);
    let mut all = Vec::new();
    if case.reads() {
        let table = unique("bench");
        case.create(&client, &table)?;
        client.load(&table, &orders)?;
        client.settle(&table)?;
        // Once before it counts: pages come into memory, and what a server does behind a load is done.
        client.unload(&table)?;
        for round in 0..rounds {
            all.push(turn(round, || karez(case, &client, &table, &orders), || client.unload(&table))?);
        }
        client.run(&format!("DROP TABLE {table}"))?;
    } else {
        for round in 0..rounds {
            let (ours, theirs) = (unique("bench"), unique("bench"));
            case.create(&client, &ours)?;
            case.create(&client, &theirs)?;
            if case.way == Way::Upsert {
                client.load(&ours, &orders)?;
                client.run(&format!("DELETE FROM {ours} WHERE id % 2 = 0"))?;
            }
            let both = turn(
                round,
                || client.checkpoint().and_then(|()| karez(case, &client, &ours, &orders)),
                || client.checkpoint().and_then(|()| client.load(&theirs, &orders)),
            )?;
            let (written, loaded) = (client.digest(&ours)?, client.digest(&theirs)?);
            if written != loaded {
                return Err(format!("{}: the job wrote {written:?}, the client {loaded:?}", case.bench));
            }
            all.push(both);
            client.run(&format!("DROP TABLE {ours}"))?;
            client.run(&format!("DROP TABLE {theirs}"))?;
        }
    }
    Ok(figure(case, rows, &all))
}

/// Both sides, in another order in every second round; what they do before the clock is theirs to do.
fn turn(round: usize, ours: impl FnOnce() -> Result<Measured, String>, theirs: impl FnOnce() -> Result<f64, String>) -> Result<Round, String> {
    if round.is_multiple_of(2) {
        let ours = ours()?;
        Ok(Round { ours, theirs: theirs()? })
    } else {
        let theirs = theirs()?;
        Ok(Round { ours: ours()?, theirs })
    }
}

fn karez(case: Case, client: &Client, table: &str, orders: &Orders) -> Result<Measured, String> {
    // As many threads as `karez run` has.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = Work::Karez { job: case.job(client, table, orders), threads };
    let begin = Instant::now();
    let done = work.elsewhere()?;
    let wall_s = begin.elapsed().as_secs_f64();
    if done.rows_out != orders.rows {
        return Err(format!("{}: {} rows of {}", case.bench, done.rows_out, orders.rows));
    }
    Ok(Measured { wall_s, ..done })
}

fn figure(case: Case, rows: u64, rounds: &[Round]) -> Figure {
    #[allow(clippy::cast_precision_loss)]
    let rows = rows as f64;
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let ratios = each(&|r| r.theirs / r.ours.wall_s);
    let (least, most) = spread(&ratios);
    let figure = Figure {
        against: Some(case.against().into()),
        ratio: Some(median(ratios)),
        rows_per_cpu_second: Some(median(each(&|r| rows / r.ours.cpu_s))),
        peak_mb: Some(each(&|r| r.ours.peak_mb).into_iter().fold(0.0, f64::max)),
        ..Figure::new(case.bench)
    };
    figure
        .with("ratio_least", least)
        .with("ratio_most", most)
        .with("rows_per_second", median(each(&|r| rows / r.ours.wall_s)))
        .with("against_rows_per_second", median(each(&|r| rows / r.theirs)))
}
