//! A server that belongs to one test, on its own ports and data, which may be killed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Proxy, unique};

/// The kinds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // They name themselves.
pub enum Server {
    Kafka,
    /// Three members, each of which may be killed.
    KafkaCluster,
    Postgres,
    Mysql,
    Mariadb,
}

impl Server {
    /// Its script, the variable that sets its first port, and how many ports it takes.
    fn script(self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Kafka => ("kafka.sh", "KAFKA_PORT", 2),
            Self::KafkaCluster => ("kafka.sh", "KAFKA_PORT", 6),
            Self::Postgres => ("postgres.sh", "POSTGRES_PORT", 1),
            Self::Mysql => ("mysql.sh", "MYSQL_PORT", 1),
            Self::Mariadb => ("mariadb.sh", "MARIADB_PORT", 1),
        }
    }
}

/// A running server, stopped and its data removed when dropped.
#[derive(Debug)]
pub struct OwnServer {
    server: Server,
    folder: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    address: String,
}

impl OwnServer {
    /// Installs it where that is needed, starts it, and waits until it answers.
    ///
    /// # Errors
    /// What its script says.
    pub fn start(server: Server) -> Result<Self, String> {
        Self::start_with(server, &[])
    }

    /// The same with variables for its script, such as `KAFKA_EXTRA` or `KAFKA_TRANSACTION_VERSION`.
    ///
    /// # Errors
    /// What its script says.
    pub fn start_with(server: Server, settings: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_at(server, Self::free_port(server)?, settings)
    }

    /// A port that it can be started at, for who must know it before.
    ///
    /// # Errors
    /// There is none.
    pub fn free_port(server: Server) -> Result<u16, String> {
        free_ports(server.script().2)
    }

    /// The same at a port from [`OwnServer::free_port`].
    ///
    /// # Errors
    /// What its script says.
    pub fn start_at(server: Server, port: u16, settings: &[(&str, &str)]) -> Result<Self, String> {
        // Not a folder for temporary files of this user alone: servers run as users of their own.
        let folder = services().join("own").join(unique("s"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let settings = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut own = Self { server, folder, port, settings, address: String::new() };
        own.up()?;
        Ok(own)
    }

    /// A Kafka broker, and the network that it tells its clients to come through: they go on with the address that it advertises.
    ///
    /// # Errors
    /// What its script says.
    pub fn kafka_behind_proxy() -> Result<(Self, Proxy), String> {
        let port = Self::free_port(Server::Kafka)?;
        let proxy = Proxy::to(("127.0.0.1", port));
        let extra = format!("advertised.listeners=PLAINTEXT://{}", proxy.address());
        Ok((Self::start_at(Server::Kafka, port, &[("KAFKA_EXTRA", &extra)])?, proxy))
    }

    /// Its address: of Kafka `host:port`, of a cluster three of them with commas between, of a database its URL.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`; its data stays.
    ///
    /// # Errors
    /// What its script says.
    pub fn crash(&self) -> Result<(), String> {
        self.script(&["crash"]).map(drop)
    }

    /// The same of one member of a cluster, from 1.
    ///
    /// # Errors
    /// What its script says.
    pub fn crash_member(&self, member: u32) -> Result<(), String> {
        self.script(&["crash", &member.to_string()]).map(drop)
    }

    /// Starts it, or those of its members that do not run, again on its data, after a crash; waits until it answers.
    ///
    /// # Errors
    /// What its script says.
    pub fn up(&mut self) -> Result<(), String> {
        let printed = self.script(&["up"])?;
        let address = printed.lines().find_map(|l| l.split_once('=')).map(|(_, value)| value.to_owned());
        self.address = address.ok_or_else(|| format!("{:?} printed no address: {printed}", self.server))?;
        Ok(())
    }

    /// Its own client: `psql`, `sql` or, for Kafka, `tool CLASS`; answers what that prints.
    ///
    /// # Errors
    /// What the client says.
    pub fn client(&self, arguments: &[&str]) -> Result<String, String> {
        let verb = match self.server {
            Server::Kafka | Server::KafkaCluster => "tool",
            Server::Postgres => "psql",
            Server::Mysql | Server::Mariadb => "sql",
        };
        self.script(&[&[verb], arguments].concat())
    }

    fn script(&self, arguments: &[&str]) -> Result<String, String> {
        let (script, port, _) = self.server.script();
        let mut command = Command::new(scripts().join(script));
        command.args(arguments).env("KAREZ_SERVICES_DIR", &self.folder).env(port, self.port.to_string());
        command.env("KAREZ_SERVICES_TLS", services().join("tls")).env_remove("KAFKA_PROFILE");
        if self.server == Server::KafkaCluster {
            command.env("KAFKA_PROFILE", "cluster");
        }
        command.envs(self.settings.iter().map(|(k, v)| (k, v)));
        let done = command.stdin(Stdio::null()).output().map_err(|e| format!("{script}: {e}"))?;
        if !done.status.success() {
            return Err(format!("{script} {arguments:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Killed at once: nobody reads its data again.
        let _ = self.script(&["crash"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where `cargo xtask services` keeps the servers' data; the scripts have the same default.
fn services() -> PathBuf {
    let own = std::env::var_os("KAREZ_SERVICES_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| match current_user() {
        Some(user) if user != "0" => PathBuf::from(format!("/tmp/karez-services-{user}")),
        _ => PathBuf::from("/tmp/karez-services"),
    })
}

fn current_user() -> Option<String> {
    let done = Command::new("id").arg("-u").output().ok()?;
    Some(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/services")
}

/// `count` ports in a row that nobody listens on. They lie below those that the system hands out by itself, so that none of them becomes the local end of a
/// connection while a killed server is away; each process begins at another place.
fn free_ports(count: u16) -> Result<u16, String> {
    const FIRST: u32 = 20_000;
    const PLACES: u32 = 1_200;
    let start = std::process::id().wrapping_mul(2_654_435_761) >> 8;
    for place in 0..PLACES {
        let first = u16::try_from(FIRST + (start + place) % PLACES * 10).map_err(|e| e.to_string())?;
        // Held together for a moment, so that two callers in one process differ.
        let held: Result<Vec<_>, _> = (first..first + count).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if held.is_ok() && claim(first) {
            return Ok(first);
        }
    }
    Err("no free ports between 20000 and 32000".into())
}

/// Whether no other server of this process has the place.
fn claim(first: u16) -> bool {
    static CLAIMED: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let mut claimed = CLAIMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let free = !claimed.contains(&first);
    if free {
        claimed.push(first);
    }
    free
}
