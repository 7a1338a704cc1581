//! A network between client and server that fails on request: it delays, throttles, stalls, cuts, loses answers, or is gone.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that pass at once: small, so that what is changed shows at once.
const PIECE_BYTES: usize = 16 << 10;
/// How often a connection looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// A TCP proxy on 127.0.0.1. Everything set holds for connections that are there and for new ones; bytes are never changed.
///
/// A client that learns other addresses from the server, as Kafka's does, must be told the proxy's (`advertised.listeners`).
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct Shared {
    set: Mutex<Set>,
    changed: Condvar,
    stop: AtomicBool,
    connections: AtomicU64,
    to_server_bytes: AtomicU64,
    from_server_bytes: AtomicU64,
    to_client_bytes: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Set {
    gone: bool,
    stalled: bool,
    answers_held: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    /// A connection that began under another number is cut.
    generation: u64,
}

impl Proxy {
    /// Opens a port in front of `server`, such as `127.0.0.1:15432`.
    ///
    /// # Panics
    /// Where the address cannot be read or no port opened.
    #[must_use]
    pub fn to(server: impl ToSocketAddrs) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        Self::listening(listener, server)
    }

    /// The same on a port that is known before, for a server that must be told it.
    ///
    /// # Panics
    /// Where the address cannot be read or the port is taken.
    #[must_use]
    pub fn on(port: u16, server: impl ToSocketAddrs) -> Self {
        Self::listening(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"), server)
    }

    fn listening(listener: TcpListener, server: impl ToSocketAddrs) -> Self {
        let server = server.to_socket_addrs().expect("an address").next().expect("an address");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, server, &own));
        Self { shared, address }
    }

    /// Where clients connect: `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `url` with this proxy in place of the server's host and port: `postgres://u:p@127.0.0.1:15432/d` → `postgres://u:p@127.0.0.1:PORT/d`.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let user = authority.rfind('@').map_or("", |at| &authority[..=at]);
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
        format!("{scheme}{user}{}{path}", self.address)
    }

    /// The server is gone: what is open is cut, what is new is closed at once, until [`Proxy::back`].
    pub fn gone(&self) {
        self.change(|set| {
            set.gone = true;
            set.generation += 1;
        });
    }

    /// It is back, and nothing is held any more.
    pub fn back(&self) {
        self.change(|set| *set = Set { generation: set.generation, ..Set::default() });
    }

    /// Cuts what is open; new connections are taken.
    pub fn cut(&self) {
        self.change(|set| set.generation += 1);
    }

    /// Requests reach the server, answers stay here, until [`Proxy::back`]; a [`Proxy::cut`] then loses them.
    pub fn hold_answers(&self) {
        self.change(|set| set.answers_held = true);
    }

    /// Connections are taken and stay open, and nothing passes in either direction, until [`Proxy::back`]: what was sent passes then.
    pub fn stall(&self) {
        self.change(|set| set.stalled = true);
    }

    /// Every piece takes this much longer, in both directions.
    pub fn delay(&self, by: Duration) {
        self.change(|set| set.delay = by);
    }

    /// Each direction of a connection passes at most so many bytes a second.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.change(|set| set.bytes_per_second = Some(bytes_per_second.max(1)));
    }

    /// Connections taken so far, those that were refused while the server was gone included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes that have passed to the server.
    #[must_use]
    pub fn to_server_bytes(&self) -> u64 {
        self.shared.to_server_bytes.load(Ordering::SeqCst)
    }

    /// Bytes that the server has answered with, those that are held or lost included.
    #[must_use]
    pub fn from_server_bytes(&self) -> u64 {
        self.shared.from_server_bytes.load(Ordering::SeqCst)
    }

    /// Waits until something is so of what this has counted, at most for so long; whether it is. Blocks the thread.
    pub fn wait(&self, at_most: Duration, so: impl Fn(&Self) -> bool) -> bool {
        let until = Instant::now() + at_most;
        let mut set = self.shared.lock();
        while !so(self) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            set = self.shared.changed.wait_timeout(set, left.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Bytes that have passed to clients.
    #[must_use]
    pub fn to_client_bytes(&self) -> u64 {
        self.shared.to_client_bytes.load(Ordering::SeqCst)
    }

    fn change(&self, by: impl FnOnce(&mut Set)) {
        by(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.change(|set| set.generation += 1);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, what: &AtomicU64, more: usize) {
        what.fetch_add(more as u64, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Waits while `held` says so; whether the connection of `generation` is still to live.
    fn pass(&self, generation: u64, held: impl Fn(&Set) -> bool) -> bool {
        let mut set = self.lock();
        while set.generation == generation && held(&set) {
            set = self.changed.wait_timeout(set, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        set.generation == generation
    }

    /// Waits until then; whether the connection of `generation` is still to live.
    fn wait(&self, generation: u64, until: Instant) -> bool {
        let mut set = self.lock();
        while let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| set.generation == generation && !rest.is_zero()) {
            set = self.changed.wait_timeout(set, rest.min(LOOK)).unwrap_or_else(PoisonError::into_inner).0;
        }
        set.generation == generation
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.count(&shared.connections, 1);
        let set = *shared.lock();
        if set.gone {
            continue; // Dropped: closed.
        }
        let Ok(upstream) = TcpStream::connect(server) else { continue };
        for stream in [&client, &upstream] {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_read_timeout(Some(LOOK));
        }
        let (Ok(client_out), Ok(upstream_out)) = (client.try_clone(), upstream.try_clone()) else { continue };
        let own = Arc::clone(shared);
        thread::spawn(move || pump(client, upstream_out, &own, set.generation, Direction::ToServer));
        let own = Arc::clone(shared);
        thread::spawn(move || pump(upstream, client_out, &own, set.generation, Direction::ToClient));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

/// Carries bytes one way until either end closes or the connection is cut.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, generation: u64, direction: Direction) {
    let mut piece = [0; PIECE_BYTES];
    let mut next = Instant::now();
    while shared.pass(generation, |_| false) {
        let limit = shared.lock().bytes_per_second;
        // A tenth of a second's worth at once, so that a throttled connection flows evenly.
        let most = limit.map_or(PIECE_BYTES, |l| usize::try_from(l / 10).unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES));
        let n = match from.read(&mut piece[..most]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => continue,
            Err(_) => break,
        };
        if direction == Direction::ToClient {
            shared.count(&shared.from_server_bytes, n);
        }
        if !shared.pass(generation, |set| set.stalled || direction == Direction::ToClient && set.answers_held) {
            break;
        }
        let set = *shared.lock();
        if let Some(limit) = set.bytes_per_second {
            next = next.max(Instant::now()) + Duration::from_secs_f64(n as f64 / limit as f64);
        }
        let until = next.max(Instant::now() + set.delay);
        if !shared.wait(generation, until) || to.write_all(&piece[..n]).is_err() {
            break;
        }
        let passed = if direction == Direction::ToServer { &shared.to_server_bytes } else { &shared.to_client_bytes };
        shared.count(passed, n);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the same byte.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut from, mut to) = (stream.try_clone().expect("cloned"), stream);
                    let _ = std::io::copy(&mut from, &mut to);
                });
            }
        });
        address
    }

    fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_all(&[byte])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn bytes_pass_unchanged_and_a_server_that_is_gone_comes_back() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).expect("taken");
        assert_eq!(ask(&mut stream, 7).expect("answered"), 7);
        proxy.gone();
        assert!(ask(&mut stream, 8).is_err());
        let mut refused = TcpStream::connect(proxy.address()).expect("taken, and closed");
        assert!(ask(&mut refused, 9).is_err());
        proxy.back();
        let mut again = TcpStream::connect(proxy.address()).expect("taken");
        assert_eq!(ask(&mut again, 10).expect("answered"), 10);
        assert_eq!(proxy.connections(), 3);
    }

    #[test]
    fn an_answer_that_is_held_is_lost_by_a_cut() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).expect("taken");
        proxy.hold_answers();
        stream.write_all(&[1]).expect("sent");
        assert!(proxy.wait(Duration::from_secs(10), |p| p.from_server_bytes() == 1), "the server answers");
        proxy.cut();
        let mut answer = [0];
        assert!(matches!(stream.read(&mut answer), Ok(0) | Err(_)));
        assert_eq!(proxy.to_client_bytes(), 0);
    }

    #[test]
    fn a_stalled_network_takes_connections_and_passes_what_was_sent_when_it_is_back() {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).expect("taken");
        assert_eq!(ask(&mut stream, 7).expect("answered"), 7);
        proxy.stall();
        let passed = proxy.to_server_bytes();
        let mut another = TcpStream::connect(proxy.address()).expect("taken");
        for stream in [&mut stream, &mut another] {
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
            let unanswered = ask(stream, 8).expect_err("nothing passes");
            assert!(matches!(unanswered.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{unanswered}");
        }
        assert_eq!(proxy.to_server_bytes(), passed);
        proxy.back();
        for stream in [&mut stream, &mut another] {
            stream.set_read_timeout(None).expect("set");
            let mut answer = [0];
            stream.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, [8]);
        }
    }

    #[test]
    fn a_throttled_connection_passes_its_bytes_in_time() {
        let proxy = Proxy::to(echo());
        proxy.throttle(100_000);
        let mut stream = TcpStream::connect(proxy.address()).expect("taken");
        let since = Instant::now();
        stream.write_all(&[0; 20_000]).expect("sent");
        stream.read_exact(&mut [0; 20_000]).expect("answered");
        assert!(since.elapsed() >= Duration::from_millis(150), "{:?}", since.elapsed());
    }

    #[test]
    fn a_url_keeps_everything_but_the_address() {
        let proxy = Proxy::to(echo());
        let port = proxy.port();
        assert_eq!(proxy.url("postgres://k:k@127.0.0.1:15432/karez?x=1"), format!("postgres://k:k@127.0.0.1:{port}/karez?x=1"));
        assert_eq!(proxy.url("127.0.0.1:9092"), format!("127.0.0.1:{port}"));
    }
}
