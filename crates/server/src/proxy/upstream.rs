//! An upstream: its servers, which of them gets a request, and the connections to them.
//!
//! Each worker has its own [`Upstream`], with its own idle connections, counts and latencies; what
//! they share is in [`SharedUpstream`], without locks.

use super::balance::{Balancer, Method, Outcome, ServerOptions, Sticky, Wanted, key_of};
use super::exchange::{Failure, Trouble};
use super::fault::{FaultCounts, KIND_COUNT, ServerFault};
use super::health::{Board, Health, HealthLimits, ServerHealth};
use super::known::KnownServer;
use super::link::Link;
use super::outbound::Outbound;
use super::pool::{Keeper, Lease, Leased, Local, Opening, PoolLimits, PoolStats, Shared};
use super::response::Scratch;
use super::retry::{Budget, Failed, Progress, Verdict, Why, judge};
use crate::boot::socket_options;
use crate::config::{self, Balance, HashBy};
use crate::log::Throttle;
use crate::route::Values;
use ringway_http::head::RequestHead;
use ringway_runtime::{
    Destination, DetachedSocket, JoinHandle, SocketOptions, TcpStream, now, sleep, spawn, timeout,
};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Retries in a second that are allowed whatever there is.
const RETRIES_PER_SECOND: u32 = 3;

/// Idle connections that one request may find dead before that counts against the server.
const STALE_MAX: u32 = 4;

/// How often a worker tells that a server fails.
const FAILURES_INTERVAL: Duration = Duration::from_secs(10);

/// What the workers share of an upstream, as its servers are now.
#[derive(Debug)]
pub(crate) struct SharedUpstream {
    servers: Vec<SharedServer>,
    board: Arc<Board>,
    sticky: Option<Sticky>,
    /// Requests that nobody answered, for each worker.
    unanswered: Arc<[FaultCounts]>,
}

#[derive(Debug)]
struct SharedServer {
    known: KnownServer,
    pool: Arc<Shared<DetachedSocket>>,
    /// What it has done wrong, for each worker.
    faults: Arc<[FaultCounts]>,
}

/// What there is to tell of one server.
#[derive(Debug)]
pub(crate) struct ServerView<'s> {
    pub(crate) known: &'s KnownServer,
    pub(crate) health: ServerHealth,
    pub(crate) pool: PoolStats,
    /// How often it has failed a request, in the order of [`FaultKind::ALL`].
    pub(crate) faults: [u64; KIND_COUNT],
}

impl SharedUpstream {
    /// Of an upstream of the configuration with these servers, for so many workers. `secret` is what
    /// the values of sticky cookies are made with.
    ///
    /// Servers that `before` has as well go on as they were, with their connections and counts.
    ///
    /// # Panics
    /// When there is no server.
    pub(crate) fn new(
        config: &config::Upstream,
        servers: Vec<KnownServer>,
        workers: usize,
        secret: &[u8; 32],
        now: Instant,
        before: Option<&SharedUpstream>,
    ) -> SharedUpstream {
        let find = |known: &KnownServer| {
            let before = before?;
            Some((before, before.position(&known.label)?))
        };
        let found: Vec<_> = servers.iter().map(find).collect();
        let boards = found
            .iter()
            .map(|found| found.map(|(before, at)| (&*before.board, at)));
        let board = Board::carrying_on(boards, workers);
        let sticky = config
            .sticky_cookie
            .is_some()
            .then(|| Sticky::new(secret, servers.iter().map(|known| known.label.as_str())));
        let server = |(known, found): (KnownServer, Option<(&SharedUpstream, usize)>)| {
            let kept = found.map(|(before, at)| &before.servers[at]);
            SharedServer {
                known,
                pool: match kept {
                    Some(kept) => Arc::clone(&kept.pool),
                    None => Shared::new(pool_limits(config, workers), &vec![0; workers], now),
                },
                faults: kept.map_or_else(|| counts(workers), |kept| Arc::clone(&kept.faults)),
            }
        };
        SharedUpstream {
            board,
            sticky,
            servers: std::iter::zip(servers, found).map(server).collect(),
            unanswered: before
                .map_or_else(|| counts(workers), |before| Arc::clone(&before.unanswered)),
        }
    }

    /// The place of the server with this label.
    pub(crate) fn position(&self, label: &str) -> Option<usize> {
        let mut servers = self.servers.iter();
        servers.position(|server| server.known.label == label)
    }

    /// Where active checks put what they find, in the order of the servers.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The servers as they are known.
    pub(crate) fn known(&self) -> impl Iterator<Item = &KnownServer> {
        self.servers.iter().map(|server| &server.known)
    }

    /// What there is to tell of each server. Takes no lock; each number is right by itself.
    pub(crate) fn view(&self) -> Vec<ServerView<'_>> {
        let pairs = std::iter::zip(&self.servers, self.board.snapshot());
        let view = pairs.map(|(server, health)| ServerView {
            known: &server.known,
            health,
            pool: server.pool.stats(),
            faults: FaultCounts::sum(&server.faults),
        });
        view.collect()
    }

    /// How many requests nobody answered, by why, in the order of [`FaultKind::ALL`].
    pub(crate) fn unanswered(&self) -> [u64; KIND_COUNT] {
        FaultCounts::sum(&self.unanswered)
    }
}

fn counts(workers: usize) -> Arc<[FaultCounts]> {
    (0..workers).map(|_| FaultCounts::default()).collect()
}

fn pool_limits(config: &config::Upstream, workers: usize) -> PoolLimits {
    let pool = config.pool;
    PoolLimits {
        connections: pool.max_connections.unwrap_or(u32::MAX),
        idle_per_worker: (pool.idle_connections as usize).div_ceil(workers),
        exchange: pool.idle_connections as usize,
        idle_timeout: pool.idle_timeout,
        lifetime: pool.lifetime,
        waiting: pool.queue,
    }
}

/// An upstream, as one worker has it.
pub(crate) struct Upstream {
    pub(crate) config: config::Upstream,
    shared: Arc<SharedUpstream>,
    worker: usize,
    socket: SocketOptions,
    /// Goes on when the servers change: what is retried is bounded whoever they are.
    budget: Rc<RefCell<Budget>>,
    /// In the order of the shared ones.
    pools: Vec<Rc<Pool>>,
    state: RefCell<State>,
    /// What answers are written into.
    pub(crate) scratch: Scratch,
}

/// A worker's connections to a server, and the task that looks after them for as long.
struct Pool {
    local: Local<Link>,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.cancel();
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "Upstream({}, worker {})",
            self.config.name, self.worker
        )
    }
}

/// What a worker knows about the servers.
struct State {
    balancer: Balancer,
    health: Health,
    /// For each server, when its failures are worth an event: another one may answer in its place,
    /// and then nothing else tells of them.
    failures: Vec<Throttle>,
}

/// A server that was chosen for a request, which is under way there until this is dropped.
pub(crate) struct Chosen<'u> {
    upstream: &'u Upstream,
    server: usize,
    /// How it ended, and when that was known.
    outcome: Cell<(Outcome, Instant)>,
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
        Upstream::carrying_on(config, shared, worker, None)
    }

    /// The same upstream with other servers. Those that were there before go on with what they have;
    /// connections to the others end with the requests that use them.
    pub(crate) fn with_servers(&self, shared: &Arc<SharedUpstream>) -> Upstream {
        Upstream::carrying_on(self.config.clone(), shared, self.worker, Some(self))
    }

    fn carrying_on(
        config: config::Upstream,
        shared: &Arc<SharedUpstream>,
        worker: usize,
        before: Option<&Upstream>,
    ) -> Upstream {
        let find = |server: &SharedServer| {
            let before = before?;
            Some((before, before.shared.position(&server.known.label)?))
        };
        let found: Vec<_> = shared.servers.iter().map(find).collect();
        let mut state = State::new(&config, shared, worker);
        for (server, found) in found.iter().enumerate() {
            if let Some((before, from)) = *found {
                state.carry_on(server, &before.state.borrow(), from);
            }
        }
        let budget = match before {
            Some(before) => Rc::clone(&before.budget),
            None => {
                let percent = config.retries.retry_budget;
                Rc::new(RefCell::new(Budget::new(
                    percent,
                    RETRIES_PER_SECOND,
                    now(),
                )))
            }
        };
        let pairs = std::iter::zip(&shared.servers, found);
        let pools = pairs.map(|(server, found)| match found {
            Some((before, from)) => Rc::clone(&before.pools[from]),
            None => {
                let (local, keeper) = Local::new(&server.pool, worker);
                let keeper = Some(spawn(keep(keeper)));
                Rc::new(Pool { local, keeper })
            }
        });
        Upstream {
            pools: pools.collect(),
            socket: socket_options(&config.socket),
            shared: Arc::clone(shared),
            worker,
            budget,
            state: RefCell::new(state),
            scratch: Scratch::default(),
            config,
        }
    }

    /// What a request asks of the choice of a server. To be called once for each.
    pub(crate) fn wanted(
        &self,
        head: &RequestHead<'_>,
        values: &Values<'_>,
        now: Instant,
    ) -> Wanted {
        self.budget.borrow_mut().earn(now);
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
    pub(crate) fn choose(&self, wanted: &Wanted, now: Instant) -> Option<Chosen<'_>> {
        let state = &mut *self.state.borrow_mut();
        let conditions = state.health.conditions(now);
        let server = state.balancer.pick(wanted, conditions, now)?;
        state.balancer.begin(server);
        Some(Chosen {
            upstream: self,
            server,
            outcome: Cell::new((Outcome::GivenUp, now)),
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
        let verdict = judge(&failed, retries, &mut self.budget.borrow_mut(), now);
        if verdict == Verdict::Again {
            attempts.stale += 1;
            return verdict;
        }
        attempts.failed += 1;
        outbound.wanted.tried.add(server);
        self.shared.servers[server].faults[self.worker].count(fault.kind());
        if fault.is_failure_of_server() {
            chosen.outcome.set((Outcome::Failed, now));
            self.fail(server, fault);
        }
        verdict
    }

    fn fail(&self, server: usize, fault: &ServerFault) {
        let (now, state) = (now(), &mut *self.state.borrow_mut());
        let failures = &mut state.failures[server];
        failures.add(1);
        let count = failures.due(now);
        let is_left_out = state.health.fail(server, now);
        let (upstream, server) = (&self.config.name, self.label(server));
        if is_left_out {
            tracing::warn!(upstream, server, last = %fault, "left out for its failures");
        } else if let Some(count) = count {
            tracing::warn!(upstream, server, count, last = %fault, "a server fails");
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

    /// The place of the server that logs call so.
    pub(crate) fn position(&self, label: &str) -> Option<usize> {
        self.shared.position(label)
    }

    /// What `server` is called in `Host`.
    pub(crate) fn name(&self, server: usize) -> &[u8] {
        self.shared.servers[server].known.host.as_bytes()
    }

    /// What `server` is called in logs: its address.
    pub(crate) fn label(&self, server: usize) -> &str {
        &self.shared.servers[server].known.label
    }

    /// Counts a request that nobody answered.
    pub(crate) fn count_unanswered(&self, fault: &ServerFault) {
        self.shared.unanswered[self.worker].count(fault.kind());
    }

    /// A connection to a server that is idle; else perhaps the right to open one, for
    /// [`Upstream::lease`].
    pub(crate) fn try_lease(
        &self,
        server: usize,
        now: Instant,
    ) -> Result<Lease<Link>, Option<Opening<Link>>> {
        match self.pools[server].local.try_lease(now) {
            Some(Leased::Reused(lease)) => Ok(lease),
            Some(Leased::Open(opening)) => Err(Some(opening)),
            None => Err(None),
        }
    }

    /// A new connection to a server, or the first that is given back.
    pub(crate) async fn lease(
        &self,
        server: usize,
        opening: Option<Opening<Link>>,
    ) -> Result<Lease<Link>, ServerFault> {
        let opening = match opening {
            Some(opening) => opening,
            None => match self.wait(&self.pools[server].local).await? {
                Leased::Reused(lease) => return Ok(lease),
                Leased::Open(opening) => opening,
            },
        };
        let connecting = self.connect(&self.shared.servers[server].known.destinations);
        match timeout(self.config.timeouts.connect_timeout, connecting).await {
            Err(_) => Err(ServerFault::ConnectTimeout),
            Ok(Err(error)) => Err(ServerFault::of_connecting(error)),
            Ok(Ok(stream)) => Ok(opening.opened(Link(stream), now())),
        }
    }

    async fn wait(&self, pool: &Local<Link>) -> Result<Leased<Link>, ServerFault> {
        let mut wait = pool.wait();
        let leased = poll_fn(|context| pool.poll_lease(&mut wait, context, now()));
        match timeout(self.config.pool.queue_timeout, leased).await {
            Err(_) => Err(ServerFault::QueueTimeout),
            Ok(Err(_)) => Err(ServerFault::QueueFull),
            Ok(Ok(leased)) => Ok(leased),
        }
    }

    /// To the first of a server's addresses that answers.
    async fn connect(&self, destinations: &[Destination]) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for destination in destinations {
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
        let options = shared.known().map(|known| {
            let server = &config.servers[known.configured];
            ServerOptions {
                identity: key_of(known.label.as_bytes()),
                weight: known.weight,
                is_backup: known.is_backup,
                is_draining: server.drain,
                slow_start: server.slow_start,
            }
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
        let backups: Vec<bool> = shared.known().map(|known| known.is_backup).collect();
        let options: Vec<ServerOptions> = options.collect();
        // Workers begin with different servers.
        let seed = key_of(&(worker as u64).to_le_bytes());
        State {
            failures: vec![Throttle::new(FAILURES_INTERVAL); options.len()],
            balancer: Balancer::new(method, &options, seed),
            health: Health::new(limits, &shared.board, worker, &backups),
        }
    }
}

impl State {
    /// Goes on with what is known of a server, which `other` calls `from`.
    fn carry_on(&mut self, server: usize, other: &State, from: usize) {
        self.failures[server] = other.failures[from].clone();
        self.health.carry_on(server, &other.health, from);
        self.balancer.carry_on(server, &other.balancer, from);
    }
}

impl Chosen<'_> {
    pub(crate) fn server(&self) -> usize {
        self.server
    }

    /// The server has answered a request with this status.
    pub(crate) fn answered(&self, status: u16, outbound: &Outbound, now: Instant) {
        let mut state = self.upstream.state.borrow_mut();
        // Nobody else asks for it, and finding it out is a part of a request's work that shows.
        let after = match state.balancer.compares_latency() {
            true => outbound.first_byte_after().unwrap_or_default(),
            false => Duration::ZERO,
        };
        self.outcome.set((Outcome::Answered(after), now));
        if matches!(status, 502..=504) {
            state.health.fail(self.server, now);
        } else {
            state.health.succeed(self.server);
        }
    }
}

impl Drop for Chosen<'_> {
    fn drop(&mut self) {
        let mut state = self.upstream.state.borrow_mut();
        let (outcome, at) = self.outcome.get();
        state.balancer.end(self.server, outcome, at);
    }
}

impl Outbound {
    /// Makes it ready for this server.
    pub(crate) fn head_for(&mut self, upstream: &Upstream, server: usize) {
        self.written.name_server(upstream.name(server));
        self.set_cookie = upstream.cookie_for(server, &self.wanted);
    }
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

#[cfg(test)]
mod tests;
