//! `cargo xtask services`: the real servers that tests need, installed and started on loopback by the scripts in `dev/services`.
//!
//! What is printed on standard output are `NAME=value` lines alone, for `export $(cargo xtask services up)`. A service whose first variable is in the
//! environment already runs somewhere else: it is used as it is, and neither started nor stopped.

use std::env;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::workspace::{Outcome, root};

struct Service {
    name: &'static str,
    /// Its script, in `dev/services`.
    script: &'static str,
    /// The script's `KAFKA_PROFILE`; others do not read it.
    profile: &'static str,
    /// What it prints; the first says that it is there.
    variables: &'static [&'static str],
}

/// In the order of how long they take on a new machine, so that the longest begins first.
const SERVICES: [Service; 7] = [
    Service { name: "mysql", script: "mysql.sh", profile: "", variables: &["MYSQL_URL", "MYSQL_CA"] },
    Service { name: "kafka", script: "kafka.sh", profile: "plain", variables: &["KAFKA_BOOTSTRAP"] },
    Service { name: "mariadb", script: "mariadb.sh", profile: "", variables: &["MARIADB_URL", "MARIADB_CA"] },
    Service { name: "postgres", script: "postgres.sh", profile: "", variables: &["POSTGRES_URL", "POSTGRES_CA"] },
    Service { name: "schema-registry", script: "schema-registry.sh", profile: "", variables: &["SCHEMA_REGISTRY_URL"] },
    Service {
        name: "kafka-secure",
        script: "kafka.sh",
        profile: "secure",
        variables: &["KAFKA_SASL", "KAFKA_SASL_SSL", "KAFKA_MTLS", "KAFKA_CLIENTS", "KAFKA_CA", "KAFKA_CLIENT_CERTIFICATE", "KAFKA_CLIENT_KEY"],
    },
    Service { name: "kafka-cluster", script: "kafka.sh", profile: "cluster", variables: &["KAFKA_CLUSTER"] },
];

/// An address, or what a client needs besides: the name of the variable and its value.
type Address = (String, String);

impl Service {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(root().join("dev/services").join(self.script));
        command.arg(verb).env("KAFKA_PROFILE", self.profile).stdin(Stdio::null());
        command
    }

    /// What the environment says of one that runs somewhere else.
    fn given(&self) -> Option<Vec<Address>> {
        env::var_os(self.variables.first()?).filter(|v| !v.is_empty())?;
        Some(self.variables.iter().filter_map(|v| Some(((*v).to_owned(), env::var(v).ok()?))).collect())
    }

    /// Runs the script; what it prints are addresses.
    fn ask(&self, verb: &str) -> Result<Vec<Address>, String> {
        let done = self.command(verb).stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", self.script))?;
        if !done.status.success() {
            return Err(format!("{}: `{verb}` failed, see above", self.name));
        }
        let printed = String::from_utf8_lossy(&done.stdout);
        Ok(printed.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn up(&self) -> Result<Vec<Address>, String> {
        let since = Instant::now();
        let addresses = self.ask("up")?;
        eprintln!("xtask: {} is up, after {:.1} s", self.name, since.elapsed().as_secs_f32());
        Ok(addresses)
    }
}

/// `up | down | status | crash | wipe [NAME…]`; without a name all.
pub(crate) fn by_hand(arguments: &[&str]) -> Outcome {
    let Some((verb, names)) = arguments.split_first() else { return Err(usage()) };
    let services = named(names)?;
    match *verb {
        "up" => print(&in_parallel(&services, |s| s.given().map_or_else(|| s.up(), Ok))?),
        "status" => status(&services)?,
        "down" | "crash" | "wipe" => drop(in_parallel(&services, |s| s.ask(verb))?),
        _ => return Err(usage()),
    }
    Ok(())
}

fn usage() -> String {
    let names: Vec<_> = SERVICES.iter().map(|s| s.name).collect();
    format!(
        "usage: cargo xtask services up|down|status|crash|wipe [NAME…]\n  up: installs and starts; down: stops; crash: kill -9, data stays; wipe: stops and removes the data\n  NAME: {}",
        names.join(", ")
    )
}

fn named(names: &[&str]) -> Result<Vec<&'static Service>, String> {
    if names.is_empty() {
        return Ok(SERVICES.iter().collect());
    }
    names.iter().map(|name| SERVICES.iter().find(|s| s.name == *name).ok_or_else(|| format!("there is no service `{name}`\n{}", usage()))).collect()
}

fn print(addresses: &[Address]) {
    for (name, value) in addresses {
        println!("{name}={value}");
    }
}

fn status(services: &[&'static Service]) -> Outcome {
    let mut down = Vec::new();
    for service in services {
        match service.given() {
            Some(given) => {
                eprintln!("xtask: {} is given by the environment", service.name);
                print(&given);
            }
            None => match service.ask_quietly("status") {
                Some(addresses) => {
                    eprintln!("xtask: {} is up", service.name);
                    print(&addresses);
                }
                None => down.push(service.name),
            },
        }
    }
    if down.is_empty() { Ok(()) } else { Err(format!("down: {}", down.join(", "))) }
}

impl Service {
    fn ask_quietly(&self, verb: &str) -> Option<Vec<Address>> {
        let done = self.command(verb).stderr(Stdio::null()).output().ok().filter(|d| d.status.success())?;
        Some(String::from_utf8_lossy(&done.stdout).lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// The same for each at once; addresses in the order of the services, or all that went wrong.
fn in_parallel(services: &[&'static Service], act: impl Fn(&Service) -> Result<Vec<Address>, String> + Sync) -> Result<Vec<Address>, String> {
    let done: Vec<_> = thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = services.iter().map(|s| scope.spawn(move || act(s))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    if bad.is_empty() {
        Ok(good.into_iter().flatten().flatten().collect())
    } else {
        Err(bad.into_iter().filter_map(Result::err).collect::<Vec<_>>().join("; "))
    }
}

/// The servers of one run of the test command. Those that ran before go on running; those that it started are gone afterwards, with their data.
pub(crate) struct Servers {
    starting: Option<JoinHandle<Result<Vec<Address>, String>>>,
    /// Ends what was started once its standard input ends, so also when this process is interrupted or killed.
    ending: Option<Child>,
}

impl Servers {
    /// Begins to start them, beside whatever the caller does meanwhile. `names`: separated by commas; all by default.
    pub(crate) fn start(names: Option<&str>) -> Result<Self, String> {
        let services = match names {
            Some("none") => Vec::new(),
            Some(names) => named(&names.split(',').collect::<Vec<_>>())?,
            None => named(&[])?,
        };
        let mut addresses = Vec::new();
        let mut own = Vec::new();
        for service in services {
            match service.given().or_else(|| service.ask_quietly("status")) {
                Some(running) => addresses.extend(running),
                None => own.push(service),
            }
        }
        let ending = if own.is_empty() { None } else { Some(end_with_this_process(&own)?) };
        let starting = thread::spawn(move || {
            addresses.extend(in_parallel(&own, Service::up)?);
            Ok(addresses)
        });
        Ok(Self { starting: Some(starting), ending })
    }

    /// Waits until all answer.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>, String> {
        match self.starting.take() {
            Some(starting) => starting.join().unwrap_or_else(|_| Err("a thread panicked".into())),
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // One that is still starting is waited for by the script's lock.
        if let Some(mut ending) = self.ending.take() {
            drop(ending.stdin.take());
            let _ = ending.wait();
        }
    }
}

/// In a session of its own, which an interrupt from the terminal does not reach.
fn end_with_this_process(services: &[&Service]) -> Result<Child, String> {
    let wait = r#"cat >/dev/null; while [ $# -gt 0 ]; do KAFKA_PROFILE=$2 "$1" wipe >/dev/null 2>&1 & shift 2; done; wait"#;
    let mut command = Command::new("setsid");
    command.args(["bash", "-c", wait, "karez-services"]).stdin(Stdio::piped()).stdout(Stdio::null());
    for service in services {
        command.arg(root().join("dev/services").join(service.script)).arg(service.profile);
    }
    command.spawn().map_err(|e| format!("setsid: {e}"))
}
