//! An upstream: its servers, which of them gets a request, and the connections to them.
//!
//! Each worker has its own [`Upstream`], with its own idle connections, counts and latencies; what
//! they share is in [`SharedUpstream`], without locks.

use super::balance::{Balancer, Method, Outcome, ServerOptions, Sticky, Wanted, key_of};
use super::exchange::{Failure, Outbound, Trouble};
use super::fault::ServerFault;
use super::health::{Board, Health, HealthLimits};
use super::link::Link;
use super::pool::{Keeper, Lease, Leased, Local, PoolLimits, Shared};
use super::retry::{Budget, Failed, Progress, Verdict, Why, judge};
use crate::boot::socket_options;
use crate::config::{self, Balance, HashBy, ServerAddress};
use crate::route::Values;
use ringway_http::head::RequestHead;
use ringway_runtime::{
    Destination, DetachedSocket, SocketOptions, TcpStream, now, sleep, spawn, timeout,
};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Retries in a second that are allowed whatever there is.
const RETRIES_PER_SECOND: u32 = 3;

/// Idle connections that one request may find dead before that counts against the server.
const STALE_MAX: u32 = 4;

/// What the workers share of an upstream.
#[derive(Debug)]
pub(crate) struct SharedUpstream {
    servers: Vec<SharedServer>,
    board: Arc<Board>,
    sticky: Option<Sticky>,
}

#[derive(Debug)]
struct SharedServer {
    pool: Arc<Shared<DetachedSocket>>,
    /// Where it is, by what was known at the start.
    destinations: Vec<Destination>,
}

impl SharedUpstream {
    /// Of an upstream of the configuration, for so many workers. `secret` is what the values of
    /// sticky cookies are made with.
    ///
    /// # Errors
    /// A server's name leads nowhere.
    pub(crate) fn new(
        config: &config::Upstream,
        workers: usize,
        secret: &[u8; 32],
    ) -> io::Result<SharedUpstream> {
        let pool = config.pool;
        let limits = PoolLimits {
            connections: pool.max_connections.unwrap_or(u32::MAX),
            idle_per_worker: (pool.idle_connections as usize).div_ceil(workers),
            exchange: (pool.idle_connections as usize).max(1),
            idle_timeout: pool.idle_timeout,
            lifetime: pool.lifetime,
            waiting: pool.queue,
        };
        let nodes = vec![0; workers];
        let server = |server: &config::Server| {
            Ok(SharedServer {
                pool: Shared::new(limits, &nodes, Instant::now()),
                destinations: resolve(&server.address)?,
            })
        };
        let names: Vec<String> = config.servers.iter().map(address_of).collect();
        Ok(SharedUpstream {
            servers: config
                .servers
                .iter()
                .map(server)
                .collect::<io::Result<_>>()?,
            board: Board::new(config.servers.len(), workers),
            sticky: config
                .sticky_cookie
                .is_some()
                .then(|| Sticky::new(secret, names.iter().map(String::as_str))),
        })
    }
}

fn address_of(server: &config::Server) -> String {
    server.address.to_string()
}

/// Where a server is, as far as the system's resolver knows.
fn resolve(address: &ServerAddress) -> io::Result<Vec<Destination>> {
    Ok(match address {
        ServerAddress::Socket(socket) => vec![(*socket).into()],
        ServerAddress::Unix(path) => vec![Destination::Unix(path.clone())],
        ServerAddress::Name(name, port) => {
            let found = (name.as_str(), *port).to_socket_addrs()?;
            found.map(SocketAddr::into).collect()
        }
        ServerAddress::Service(name) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("srv:{name} can't be looked up yet"),
            ));
        }
    })
}

/// An upstream, as one worker has it.
pub(crate) struct Upstream {
    pub(crate) config: config::Upstream,
    shared: Arc<SharedUpstream>,
    socket: SocketOptions,
    servers: Vec<Server>,
    state: RefCell<State>,
}

/// One of its servers.
struct Server {
    pool: Local<Link>,
    destinations: RefCell<Vec<Destination>>,
    /// What it is called in `Host`, where it is to hear its own name.
    name: Box<[u8]>,
}

/// What a worker knows about the servers.
struct State {
    balancer: Balancer,
    health: Health,
    budget: Budget,
}

/// A server that was chosen for a request, which is under way there until this is dropped.
pub(crate) struct Chosen<'u> {
    upstream: &'u Upstream,
    server: usize,
    outcome: Cell<Outcome>,
}

/// How often a request was tried.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: u32,
    stale: u32,
}

impl Upstream {
    /// A worker's own, and the tasks that look after its connections. To be called on the worker.
    pub(crate) fn new(
        config: config::Upstream,
        shared: &Arc<SharedUpstream>,
        worker: usize,
    ) -> Upstream {
        let pairs = std::iter::zip(&config.servers, &shared.servers);
        let servers = pairs.map(|(server, shared)| {
            let (pool, keeper) = Local::new(&shared.pool, worker);
            drop(spawn(keep(keeper)));
            Server {
                pool,
                destinations: RefCell::new(shared.destinations.clone()),
                name: name_of(&server.address),
            }
        });
        Upstream {
            servers: servers.collect(),
            socket: socket_options(&config.socket),
            shared: Arc::clone(shared),
            state: RefCell::new(State::new(&config, shared, worker)),
            config,
        }
    }

    /// What a request asks of the choice of a server. To be called once for each.
    pub(crate) fn wanted(&self, head: &RequestHead<'_>, values: &Values<'_>) -> Wanted {
        self.state.borrow_mut().budget.earn(now());
        let key = match &self.config.balance {
            Balance::Hash { by, .. } => key_of_request(by, head, values),
            _ => None,
        };
        let cookie = self.config.sticky_cookie.as_deref();
        let named = cookie.and_then(|name| cookie_of(head, name));
        let sticky = self.shared.sticky.as_ref();
        Wanted {
            key,
            bound_to: named.and_then(|value| sticky?.server(value)),
            ..Wanted::default()
        }
    }

    /// A server for a request; `None` when none can be used.
    pub(crate) fn choose(&self, wanted: &Wanted) -> Option<Chosen<'_>> {
        let state = &mut *self.state.borrow_mut();
        let now = now();
        let conditions = state.health.conditions(now);
        let server = state.balancer.pick(wanted, conditions, now)?;
        state.balancer.begin(server);
        Some(Chosen {
            upstream: self,
            server,
            outcome: Cell::new(Outcome::GivenUp),
        })
    }

    /// What may be done after a server has failed a request. It isn't `chosen` any more.
    pub(crate) fn judge(
        &self,
        chosen: Chosen<'_>,
        failure: &Failure,
        outbound: &mut Outbound,
        is_reused: bool,
        attempts: &mut Attempts,
    ) -> Verdict {
        let server = chosen.server;
        let Trouble::Server(fault) = &failure.trouble else {
            return Verdict::No(Why::Answering);
        };
        // A server that takes too long may be doing it all the same; another one would take as long.
        let is_slow = matches!(fault, ServerFault::FirstByteTimeout | ServerFault::Stalled);
        let is_gone = matches!(fault, ServerFault::Closed | ServerFault::Broken(_));
        let failed = Failed {
            is_idempotent: outbound.is_idempotent && !is_slow,
            progress: match failure {
                Failure {
                    has_heard: true, ..
                } => Progress::Answering,
                Failure { is_sent: true, .. } => Progress::Sent,
                _ => Progress::NothingSent,
            },
            has_body: !failure.is_spent,
            is_reused: is_reused && is_gone,
            attempts: attempts.failed + 1,
            stale_before: u32::from(attempts.stale >= STALE_MAX),
        };
        let (retries, now) = (self.config.retries.retries, now());
        let verdict = judge(&failed, retries, &mut self.state.borrow_mut().budget, now);
        if verdict == Verdict::Again {
            attempts.stale += 1;
            return verdict;
        }
        attempts.failed += 1;
        outbound.wanted.tried.add(server);
        if fault.is_failure_of_server() {
            chosen.outcome.set(Outcome::Failed);
            self.fail(server, fault);
        }
        verdict
    }

    fn fail(&self, server: usize, fault: &ServerFault) {
        if self.state.borrow_mut().health.fail(server, now()) {
            let (upstream, server) = (&self.config.name, &self.config.servers[server].address);
            tracing::warn!(upstream, %server, last = %fault, "left out for its failures");
        }
    }

    /// The cookie that keeps a client with `server`, unless it has that already; for `Set-Cookie`.
    pub(crate) fn cookie_for(&self, server: usize, wanted: &Wanted) -> Option<Vec<u8>> {
        let name = self.config.sticky_cookie.as_deref()?;
        let sticky = self.shared.sticky.as_ref()?;
        if wanted.bound_to == Some(server) {
            return None;
        }
        let value = sticky.value(server);
        Some(format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax").into_bytes())
    }

    /// What `server` is called in `Host`.
    pub(crate) fn name(&self, server: usize) -> &[u8] {
        &self.servers[server].name
    }

    /// A connection to a server: one that is idle, or a new one.
    pub(crate) async fn lease(&self, server: usize) -> Result<Lease<Link>, ServerFault> {
        let server = &self.servers[server];
        let leased = match server.pool.try_lease(now()) {
            Some(leased) => leased,
            None => self.wait(server).await?,
        };
        let opening = match leased {
            Leased::Reused(lease) => return Ok(lease),
            Leased::Open(opening) => opening,
        };
        let connecting = self.connect(server);
        match timeout(self.config.timeouts.connect_timeout, connecting).await {
            Err(_) => Err(ServerFault::ConnectTimeout),
            Ok(Err(error)) => Err(ServerFault::Connect(error)),
            Ok(Ok(stream)) => Ok(opening.opened(Link(stream), now())),
        }
    }

    async fn wait(&self, server: &Server) -> Result<Leased<Link>, ServerFault> {
        let mut wait = server.pool.wait();
        let leased = poll_fn(|context| server.pool.poll_lease(&mut wait, context, now()));
        match timeout(self.config.pool.queue_timeout, leased).await {
            Err(_) => Err(ServerFault::QueueTimeout),
            Ok(Err(_)) => Err(ServerFault::QueueFull),
            Ok(Ok(leased)) => Ok(leased),
        }
    }

    /// To the first of its addresses that answers.
    async fn connect(&self, server: &Server) -> io::Result<TcpStream> {
        let destinations = server.destinations.borrow().clone();
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for destination in &destinations {
            match TcpStream::connect_to(destination, &self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl State {
    fn new(config: &config::Upstream, shared: &SharedUpstream, worker: usize) -> State {
        let options = config.servers.iter().map(|server| ServerOptions {
            identity: key_of(address_of(server).as_bytes()),
            weight: server.weight,
            is_backup: server.backup,
            is_draining: server.drain,
            slow_start: server.slow_start,
        });
        let method = match config.balance {
            Balance::RoundRobin => Method::RoundRobin,
            Balance::LeastConnections => Method::LeastConnections,
            Balance::PowerOfTwo => Method::PowerOfTwo,
            Balance::Hash { load_percent, .. } => Method::Hash { load_percent },
        };
        let limits = HealthLimits {
            failures: config.passive.failures,
            ejection_time: config.passive.ejection_time,
            max_ejected_percent: config.passive.max_ejected,
            panic_percent: config.passive.panic_threshold,
        };
        let backups: Vec<bool> = config.servers.iter().map(|server| server.backup).collect();
        let options: Vec<ServerOptions> = options.collect();
        // Workers begin with different servers.
        let seed = key_of(&(worker as u64).to_le_bytes());
        State {
            balancer: Balancer::new(method, &options, seed),
            health: Health::new(limits, &shared.board, worker, &backups),
            budget: Budget::new(config.retries.retry_budget, RETRIES_PER_SECOND, now()),
        }
    }
}

impl Chosen<'_> {
    pub(crate) fn server(&self) -> usize {
        self.server
    }

    /// The server has answered with this status, after so long.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        self.outcome.set(Outcome::Answered(after));
        let mut state = self.upstream.state.borrow_mut();
        if matches!(status, 502..=504) {
            state.health.fail(self.server, now());
        } else {
            state.health.succeed(self.server);
        }
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        let mut state = self.upstream.state.borrow_mut();
        state.balancer.end(self.server, self.outcome.get(), now());
    }
}

impl Outbound {
    /// Makes it ready for this server.
    pub(crate) fn head_for(&mut self, upstream: &Upstream, server: usize) {
        self.written.name_server(upstream.name(server));
        self.set_cookie = upstream.cookie_for(server, &self.wanted);
    }
}

fn name_of(address: &ServerAddress) -> Box<[u8]> {
    let text = match address {
        ServerAddress::Name(name, 80) | ServerAddress::Service(name) => name.clone(),
        // There is no name of a machine in it.
        ServerAddress::Unix(_) => "localhost".to_owned(),
        ServerAddress::Socket(_) | ServerAddress::Name(..) => address.to_string(),
    };
    text.into_bytes().into()
}

/// What a request is hashed by.
fn key_of_request(by: &HashBy, head: &RequestHead<'_>, values: &Values<'_>) -> Option<u64> {
    match by {
        HashBy::Address => Some(match values.client_ip.to_canonical() {
            std::net::IpAddr::V4(v4) => key_of(&v4.octets()),
            std::net::IpAddr::V6(v6) => key_of(&v6.octets()),
        }),
        HashBy::Path => Some(key_of(values.path)),
        HashBy::Header(name) => head.header(name).next().map(key_of),
        HashBy::Cookie(name) => cookie_of(head, name).map(key_of),
    }
}

/// The value of a cookie (RFC 6265 §5.4).
fn cookie_of<'a>(head: &RequestHead<'a>, name: &str) -> Option<&'a [u8]> {
    let pairs = head
        .header("Cookie")
        .flat_map(|value| value.split(|&byte| byte == b';'));
    let mut named = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    });
    named.next()
}

/// Looks after a worker's connections to one server, for as long as the worker runs.
async fn keep(mut keeper: Keeper<Link>) {
    let mut alarm = Box::pin(sleep(Duration::ZERO));
    poll_fn(|context| {
        loop {
            let Some(next) = keeper.poll_keep(context, now()) else {
                return Poll::<()>::Pending;
            };
            alarm.set(sleep(next.saturating_duration_since(now())));
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
