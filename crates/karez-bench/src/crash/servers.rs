//! The servers that jobs read and write, and how they are killed.

use std::sync::{Mutex, PoisonError};

use karez_testkit::{OwnServer, Server, Topic, create_topic, service};

/// A server beside the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// A broker.
    Kafka,
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
}

impl System {
    /// All of them.
    const ALL: [Self; 3] = [Self::Kafka, Self::Postgres, Self::Mysql];

    /// The variable in which `cargo xtask services` gives the address of the shared one.
    const fn variable(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_BOOTSTRAP",
            Self::Postgres => "POSTGRES_URL",
            Self::Mysql => "MYSQL_URL",
        }
    }

    const fn kind(self) -> Server {
        match self {
            Self::Kafka => Server::Kafka,
            Self::Postgres => Server::Postgres,
            Self::Mysql => Server::Mysql,
        }
    }
}

/// The servers of some jobs.
pub struct Servers(Vec<(System, Place)>);

enum Place {
    /// Others use it too: it is never killed.
    Shared(String),
    /// This harness's own.
    Own { address: String, server: Mutex<OwnServer> },
}

impl Servers {
    /// Starts servers of the harness's own, on ports of their own: those that the jobs need.
    ///
    /// # Errors
    /// One that cannot be installed or started.
    pub fn start(needed: &[System]) -> Result<Self, String> {
        let wanted: Vec<System> = System::ALL.into_iter().filter(|s| needed.contains(s)).collect();
        let started: Vec<Result<OwnServer, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = wanted.iter().map(|s| scope.spawn(|| OwnServer::start(s.kind()))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
        });
        let place = |(system, server): (System, Result<OwnServer, String>)| {
            let server = server?;
            Ok((system, Place::Own { address: server.address().to_owned(), server: Mutex::new(server) }))
        };
        wanted.into_iter().zip(started).map(place).collect::<Result<_, String>>().map(Self)
    }

    /// The servers that `cargo xtask services` has started, which are not killed.
    ///
    /// # Panics
    /// Where the address of one is not in the environment.
    #[must_use]
    pub fn shared(needed: &[System]) -> Self {
        Self(needed.iter().map(|s| (*s, Place::Shared(service(s.variable())))).collect())
    }

    /// The address of Kafka, the URL of a database.
    ///
    /// # Errors
    /// It is not among those that were started.
    pub(super) fn address(&self, system: System) -> Result<&str, String> {
        let place = self.0.iter().find(|(s, _)| *s == system).map(|(_, place)| place);
        match place.ok_or_else(|| format!("{system:?} has not been started"))? {
            Place::Shared(address) | Place::Own { address, .. } => Ok(address),
        }
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// The broker does not.
    pub(super) fn make_topic(&self, name: &str) -> Result<(), String> {
        create_topic(self.address(System::Kafka)?, name, 3, &[]).map_err(|e| e.to_string())
    }

    pub(super) fn topic(&self, name: &str) -> Result<Topic, String> {
        Ok(Topic { bootstrap: self.address(System::Kafka)?.to_owned(), name: name.to_owned() })
    }

    /// `kill -9`, and up again on its data.
    ///
    /// # Errors
    /// It is shared, or does not start again.
    pub(super) fn crash(&self, system: System) -> Result<(), String> {
        match self.0.iter().find(|(s, _)| *s == system) {
            Some((_, Place::Own { server, .. })) => {
                let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
                server.crash()?;
                server.up()
            }
            _ => Err(format!("{system:?} is not ours to kill")),
        }
    }
}
