//! One worker: what its connections share, and its life from start to drain.

#[cfg(any(debug_assertions, feature = "fault-injection"))]
mod faults;
mod refused;
#[cfg(test)]
mod tests;
mod throttled;

use crate::admission::{Admission, Refusal, Ticket};
use crate::auth::{Gate, Passwords};
use crate::clock::Clock;
use crate::config::{self, Config, TransferOptions};
use crate::connection::{Connection, End};
use crate::control;
use crate::extensions::{Extensions, Own};
use crate::files::{self, CacheLimits, FileLimits, Moment, Root};
use crate::limits::Limits;
use crate::log::{Entry, WorkerLog};
use crate::proxy::{ServerFault, SharedUpstream, Upstream};
use crate::route::{Action, Table};
use crate::stats::{Counter, WorkerStats};
pub(crate) use refused::Refused;
use ringway_http::body::BodyLimits;
use ringway_http::head::HeadLimits;
use ringway_runtime::{
    BlockingPool, Counters, Directory, DriverChoice, JoinHandle, ListenSocket, MemoryReport,
    Policy, Receiver, Runtime, RuntimeOptions, TcpListener, TcpStream, cpu, numa, sleep, spawn,
    yield_now,
};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use throttled::Throttled;

/// How long accepting rests when the process is out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often the access log's buffer is handed over, however little is in it.
const TICK: Duration = Duration::from_secs(1);
/// Turns in which what the kernel has by then is taken from it before a drain: one to be told of it,
/// one to act.
const GRACE_TURNS: usize = 2;

/// Everything that a worker is given when it starts. It is all its own, or shared without locks.
pub(crate) struct Spec {
    pub(crate) index: usize,
    /// The CPU to keep to.
    pub(crate) cpu: Option<usize>,
    pub(crate) config: Arc<Config>,
    /// What the program has of its own.
    pub(crate) extensions: Extensions,
    /// An open directory for each root of the configuration.
    pub(crate) directories: Vec<Directory>,
    pub(crate) files: Arc<files::Shared>,
    /// The users of each root, if it has some.
    pub(crate) passwords: Vec<Option<Arc<Passwords>>>,
    /// What the workers share of each upstream.
    pub(crate) upstreams: Vec<Arc<SharedUpstream>>,
    /// Its own socket of each address, and which of the configuration's listeners that is for.
    pub(crate) listeners: Sockets,
    pub(crate) options: RuntimeOptions,
    pub(crate) admission: Arc<Admission>,
    pub(crate) log: Option<WorkerLog>,
    pub(crate) stats: Arc<WorkerStats>,
}

/// What a worker is told while it runs.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// The path of a root, by its index, leads to this directory now.
    Replace(usize, Directory),
    /// An upstream, by its index, has these servers now.
    Servers(usize, Arc<SharedUpstream>),
    /// Accept nothing more, finish what is under way within this time, and end. A second one: at once.
    Drain(Duration),
}

/// How a worker ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It was told to.
    Drained(Drained),
    /// Its driver failed, or it had none to begin with.
    Failed(io::Error),
    /// It panicked, outside of any connection's task.
    Panicked,
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Drained(_) => out.write_str("it ended"),
            Ending::Failed(error) => error.fmt(out),
            Ending::Panicked => out.write_str("it panicked"),
        }
    }
}

/// What became of the connections that were open when a worker was told to end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    /// Waited for a request, and were closed at once.
    pub(crate) idle: usize,
    /// Had a request under way.
    pub(crate) busy: usize,
    /// Of the busy ones: how many didn't finish in time.
    pub(crate) cut: usize,
}

impl AddAssign for Drained {
    fn add_assign(&mut self, other: Drained) {
        self.idle += other.idle;
        self.busy += other.busy;
        self.cut += other.cut;
    }
}

/// A worker's sockets, and which of the configuration's listeners each is for.
type Sockets = Vec<(ListenSocket, usize)>;

/// What the connections of a worker share.
pub(crate) struct Worker {
    /// How files that are sent from disk go.
    pub(crate) transfer: TransferOptions,
    #[cfg(any(debug_assertions, feature = "fault-injection"))]
    faults: faults::Faults,
    pub(crate) limits: Limits,
    pub(crate) config: Arc<Config>,
    /// The routes of each listener.
    pub(crate) tables: Vec<Table>,
    /// For each listener, the root that every request goes to as it is: without routes, users or
    /// origins that may read the answers.
    pub(crate) straight: Vec<Option<usize>>,
    pub(crate) roots: Vec<Root>,
    /// The program's own services and hooks.
    pub(crate) own: Own,
    /// As their servers are now. Requests keep what was there when they came.
    upstreams: Vec<RefCell<Rc<Upstream>>>,
    /// What is before each root.
    pub(crate) gates: Vec<Option<Gate>>,
    pub(crate) clock: Clock,
    pub(crate) head_limits: HeadLimits,
    pub(crate) body_limits: BodyLimits,
    pub(crate) stats: Arc<WorkerStats>,
    /// The CPU that it is bound to.
    cpu: Option<usize>,
    admission: Arc<Admission>,
    log: RefCell<Option<WorkerLog>>,
    throttled: RefCell<Throttled>,
    /// What was told of ways to send that are refused here.
    files: Arc<files::Shared>,
    /// What the runtime had counted when it was looked at last.
    counted: Cell<Counters>,
    is_draining: Cell<bool>,
    open_count: Cell<usize>,
    /// Who waits for the last connection's end.
    emptied: RefCell<Option<Waker>>,
}

/// What each root of each worker may take.
fn file_limits(config: &Config, head: HeadLimits) -> FileLimits {
    let limits = &config.limits;
    // The cache's bounds are those of the process: each root of each worker has its share.
    let shares = config.workers * config.roots.len().max(1);
    // A share of something is something.
    let share = |count: usize| count.div_ceil(shares);
    FileLimits {
        head,
        cache: CacheLimits {
            bytes: limits.cache_bytes / shares as u64,
            entries: share(limits.cache_entries),
            descriptors: share(limits.cache_descriptors),
        },
        cache_file_bytes: limits.cache_file_bytes,
        absent_entries: share(limits.cache_absent_entries),
        ranges: limits.ranges,
        listing_entries: limits.listing_entries,
        timeout: limits.file_timeout,
        compress_file_bytes: limits.compress_file_bytes,
        compress_jobs: limits.compress_jobs,
    }
}

/// The root that a listener's requests all go to as they are.
fn straight_root(
    table: &Table,
    roots: &[Root],
    passwords: &[Option<Arc<Passwords>>],
) -> Option<usize> {
    let Action::Files(root) = table.only()?.action else {
        return None;
    };
    let is_open = passwords[root].is_none() && !roots[root].depends_on_origin();
    is_open.then_some(root)
}

/// A connection's place among the worker's and the process's; given back when dropped.
pub(crate) struct Place {
    worker: Rc<Worker>,
    is_counted: bool,
    _ticket: Ticket,
}

impl Place {
    /// Counts the connection out, by whose fault it ended.
    pub(crate) fn count_end(&mut self, end: End) {
        self.is_counted = true;
        self.worker.count_end(end);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_counted {
            self.worker.count_cut();
        }
        let open = self.worker.open_count.get() - 1;
        self.worker.open_count.set(open);
        self.worker.stats.set(Counter::Open, open as u64);
        if open == 0
            && let Some(waker) = self.worker.emptied.take()
        {
            waker.wake();
        }
    }
}

/// What a worker found when it started.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) driver: DriverChoice,
    /// Where its receive buffers are.
    pub(crate) memory: MemoryReport,
    /// Where what it allocates goes.
    pub(crate) heap: Policy,
}

/// Keeps this thread to its CPU, and sends what it allocates to that one's node.
fn settle(spec: &Spec) -> Policy {
    if let Some(cpu) = spec.cpu
        && let Err(error) = cpu::pin_current_thread(cpu)
    {
        tracing::warn!(worker = spec.index, cpu, %error, "not pinned to its CPU");
    }
    // Before anything is allocated that lives as long as the worker.
    match spec
        .options
        .memory
        .node
        .map(|node| (node, numa::prefer_node(node)))
    {
        None => Policy::FirstTouch,
        Some((node, Ok(()))) => Policy::Preferred(node),
        Some((_, Err(error))) => Policy::Refused(numa::explain("set_mempolicy", &error)),
    }
}

/// Runs a worker on this thread until it is told to end, or can't go on. `ready` hears once what it
/// found.
pub(crate) fn run(
    spec: Spec,
    orders: Receiver<Order>,
    ready: impl FnOnce(Started) + 'static,
) -> Ending {
    let heap = settle(&spec);
    let mut runtime = match Runtime::new(&spec.options) {
        Ok(runtime) => runtime,
        Err(error) => return Ending::Failed(error),
    };
    let started = runtime.driver().cloned().map(|driver| Started {
        driver,
        memory: runtime.memory(),
        heap,
    });
    let ready = move || {
        if let Some(started) = started {
            ready(started);
        }
    };
    // Caught here, so that the connections don't end in the middle of unwinding: one that does has
    // itself panicked.
    let served = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(serve(spec, orders, ready))
    }));
    match served {
        Ok(Ok(Ok(drained))) => Ending::Drained(drained),
        Ok(Ok(Err(error)) | Err(error)) => Ending::Failed(error),
        Err(_) => Ending::Panicked,
    }
}

/// What [`serve_on`] has started.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it counts.
    pub stats: Arc<WorkerStats>,
}

/// Serves a configuration's first listener on a runtime of the caller's: another program's worker,
/// or a simulated one. The tasks end with the runtime.
///
/// There is no control thread: names of servers are looked up once, before this returns, and nobody
/// asks servers whether they are well.
///
/// # Errors
/// When a root can't be opened, no server of an upstream is known, or the address can't be bound.
pub fn serve_on(runtime: &Runtime, config: Config) -> io::Result<Served> {
    Extensions::new().serve_on(runtime, config)
}

/// The same on several runtimes, with extensions that were checked: workers that share what workers
/// share.
pub(crate) fn serve_on_each<'r>(
    runtimes: impl ExactSizeIterator<Item = &'r Runtime>,
    mut config: Config,
    extensions: &Extensions,
) -> io::Result<Vec<Served>> {
    config.workers = runtimes.len();
    let config = Arc::new(config);
    let open = |root| files::open(root, &config.limits);
    let connections = match config.limits.connections {
        0 => u32::MAX,
        limit => limit,
    };
    let mut runtimes = runtimes.peekable();
    let now = match runtimes.peek() {
        Some(first) => {
            let _turn = first.enter();
            ringway_runtime::now()
        }
        None => Instant::now(),
    };
    let directories = config.roots.iter().map(open).collect::<io::Result<_>>()?;
    let mut spec = Spec {
        index: 0,
        cpu: None,
        extensions: extensions.clone(),
        directories,
        files: Arc::default(),
        passwords: open_passwords(&config)?,
        upstreams: control::look_up_once(&config, [0; 32], now)?,
        listeners: Vec::new(),
        options: RuntimeOptions::default(),
        admission: Admission::new(connections, config.limits.connections_per_address),
        log: None,
        stats: Arc::default(),
        config,
    };
    let serve = |runtime: &Runtime| {
        let own = spec.another();
        spec.index += 1;
        serve_one(runtime, own)
    };
    runtimes.map(serve).collect()
}

fn serve_one(runtime: &Runtime, spec: Spec) -> io::Result<Served> {
    let address = spec.config.listeners[0].addresses[0].socket;
    let _turn = runtime.enter();
    let (worker, _) = Worker::new(spec)?;
    let listener = TcpListener::bind(address, &ringway_runtime::ListenOptions::default())?;
    let address = listener.local_address()?;
    let stats = Arc::clone(&worker.stats);
    drop(spawn(worker.accept_all(listener, 0)));
    Ok(Served { address, stats })
}

impl Spec {
    /// What another worker beside this one is given: the same, but for listeners, logs and counts.
    fn another(&self) -> Spec {
        Spec {
            index: self.index,
            cpu: None,
            config: Arc::clone(&self.config),
            extensions: self.extensions.clone(),
            directories: self.directories.clone(),
            files: Arc::clone(&self.files),
            passwords: self.passwords.clone(),
            upstreams: self.upstreams.clone(),
            listeners: Vec::new(),
            options: RuntimeOptions::default(),
            admission: Arc::clone(&self.admission),
            log: None,
            stats: Arc::default(),
        }
    }
}

/// The users of each root.
///
/// # Errors
/// A password file can't be read or isn't one.
pub(crate) fn open_passwords(config: &Config) -> io::Result<Vec<Option<Arc<Passwords>>>> {
    let limits = config.limits;
    let pool = BlockingPool::new(limits.password_threads, limits.password_queue);
    let open = |root| Passwords::open(root, limits.password_cache_entries, &pool);
    config.roots.iter().map(open).collect()
}

/// `ready` is called when it accepts.
async fn serve(
    spec: Spec,
    mut orders: Receiver<Order>,
    ready: impl FnOnce(),
) -> io::Result<Drained> {
    let (worker, sockets) = Worker::new(spec)?;
    let mut accepting = Vec::new();
    for (socket, index) in sockets {
        let listener = TcpListener::adopt(socket)?;
        accepting.push(spawn(Rc::clone(&worker).accept_all(listener, index)));
    }
    drop(spawn(Rc::clone(&worker).tick()));
    ready();
    let patience = loop {
        match worker.next_order(&mut orders).await? {
            Some(Order::Replace(root, directory)) => worker.roots[root].replace(directory),
            Some(Order::Servers(index, shared)) => worker.replace_servers(index, &shared),
            Some(Order::Drain(patience)) => break patience,
            // The control thread is gone: there is nothing to wait for either.
            None => break Duration::ZERO,
        }
    };
    let drained = worker.drain(accepting, &mut orders, patience).await;
    worker.count_overflows();
    worker
        .files
        .refused
        .tell(ringway_runtime::refused_transfers());
    worker.throttled.borrow_mut().tell(ringway_runtime::now());
    if let Some(log) = &mut *worker.log.borrow_mut() {
        log.flush();
    }
    Ok(drained)
}

/// Lets the other tasks have so many turns.
async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

impl Worker {
    /// On the worker's own thread, within its runtime.
    ///
    /// # Errors
    /// When a service or hooks of the program's own can't be made.
    fn new(spec: Spec) -> io::Result<(Rc<Worker>, Sockets)> {
        let limits = spec.config.limits;
        let head_limits = HeadLimits {
            head_bytes: limits.head_bytes,
            header_count: limits.header_count,
            target_bytes: limits.target_bytes,
        };
        let file_limits = file_limits(&spec.config, head_limits);
        let roots = std::iter::zip(&spec.config.roots, spec.directories).enumerate();
        let roots = roots
            .map(|(index, (config, directory))| {
                let shared = Arc::clone(&spec.files);
                Root::new(config.clone(), index, directory, file_limits, shared)
            })
            .collect::<Vec<_>>();
        let tables: Vec<_> = (0..spec.config.listeners.len())
            .map(|listener| Table::new(&spec.config, listener))
            .collect();
        let straight = tables
            .iter()
            .map(|table| straight_root(table, &roots, &spec.passwords));
        let upstream = |(config, shared): (&config::Upstream, &_)| {
            RefCell::new(Rc::new(Upstream::new(config.clone(), shared, spec.index)))
        };
        let upstreams = std::iter::zip(&spec.config.upstreams, &spec.upstreams).map(upstream);
        let worker = Worker {
            limits,
            straight: straight.collect(),
            tables,
            roots,
            own: spec.extensions.make(&spec.config, spec.index)?,
            upstreams: upstreams.collect(),
            gates: spec
                .passwords
                .into_iter()
                .map(|passwords| passwords.map(Gate::new))
                .collect(),
            clock: Clock::new(),
            head_limits,
            body_limits: BodyLimits {
                body_bytes: limits.body_bytes,
                extension_bytes: limits.chunk_extension_bytes,
                trailer_bytes: limits.trailer_bytes,
                trailer_count: limits.trailer_count,
            },
            stats: spec.stats,
            cpu: spec.cpu,
            admission: spec.admission,
            log: RefCell::new(spec.log),
            is_draining: Cell::new(false),
            open_count: Cell::new(0),
            emptied: RefCell::new(None),
            transfer: spec.config.transfer,
            #[cfg(any(debug_assertions, feature = "fault-injection"))]
            faults: faults::Faults::at(spec.config.panic_path.clone()),
            throttled: RefCell::default(),
            files: spec.files,
            counted: Cell::default(),
            config: spec.config,
        };
        Ok((Rc::new(worker), spec.listeners))
    }

    async fn accept_all(self: Rc<Worker>, listener: TcpListener, index: usize) {
        loop {
            match listener.accept().await {
                Ok(stream) => self.welcome(stream, index),
                Err(error) => {
                    self.stats.count(Counter::AcceptErrors);
                    self.tell_accept_error(&error);
                    self.roots.iter().for_each(Root::release_descriptors);
                    // Out of descriptors, most likely. The connection waits in the backlog until
                    // others have ended; trying at once would only spin.
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn tell_accept_error(&self, error: &io::Error) {
        let now = ringway_runtime::now();
        self.throttled.borrow_mut().add_accept_error(error, now);
    }

    /// Serves a connection, unless a bound is reached.
    fn welcome(self: &Rc<Worker>, stream: TcpStream, listener: usize) {
        // It fails when the client is gone already.
        let Ok(peer) = stream.peer_address().as_ref().map(SocketAddr::ip) else {
            return;
        };
        let ticket = match self.admission.admit(peer) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                self.stats.count_refusal(refusal);
                let mut throttled = self.throttled.borrow_mut();
                match refusal {
                    Refusal::Total => throttled.refused_total.add(1),
                    Refusal::Address => throttled.refused_address.add(1),
                }
                throttled.tell(stream.now());
                drop(throttled);
                return stream.reset();
            }
        };
        self.stats.count(Counter::Accepted);
        self.count_arrival(&stream);
        self.open_count.set(self.open_count.get() + 1);
        self.stats.set(Counter::Open, self.open_count.get() as u64);
        let place = Place {
            worker: Rc::clone(self),
            is_counted: false,
            _ticket: ticket,
        };
        drop(spawn(
            Connection::new(stream, Rc::clone(self), listener, peer, place).run(),
        ));
    }

    /// Counts whether a new connection came in on the CPU of this worker, if that has one.
    fn count_arrival(&self, stream: &TcpStream) {
        let Some(cpu) = self.cpu else { return };
        if let Ok(arrival) = stream.incoming_cpu() {
            self.stats.count(match arrival as usize == cpu {
                true => Counter::ArrivedOwn,
                false => Counter::ArrivedOther,
            });
        }
    }

    /// The next order; `None` when nobody is left who could give one.
    ///
    /// # Errors
    /// A failure that was asked for, in builds that have such.
    async fn next_order(&self, orders: &mut Receiver<Order>) -> io::Result<Option<Order>> {
        poll_fn(|context| {
            #[cfg(any(debug_assertions, feature = "fault-injection"))]
            if let Some(failure) = self.faults.take(context.waker()) {
                return Poll::Ready(Err(failure));
            }
            orders.poll_receive(context).map(Ok)
        })
        .await
    }

    /// Ends the connections: idle ones at once, the others when they are done, `patience` is over, or
    /// `orders` say that it is.
    ///
    /// What has reached this machine by then counts as under way: connections that wait to be accepted,
    /// and requests that wait to be read.
    async fn drain(
        &self,
        accepting: Vec<JoinHandle<()>>,
        orders: &mut Receiver<Order>,
        patience: Duration,
    ) -> Drained {
        turns(GRACE_TURNS).await;
        accepting.into_iter().for_each(JoinHandle::cancel);
        turns(GRACE_TURNS).await;
        let open = self.open_count.get();
        self.is_draining.set(true);
        ringway_runtime::wake_receivers();
        // In the next turn they are woken, in the one after that they have run.
        turns(2).await;
        let busy = self.open_count.get();
        // Whichever of its ends it comes to, what is open says which.
        let _ = ringway_runtime::timeout(patience, self.is_empty_or_told(orders)).await;
        Drained {
            idle: open - busy,
            busy,
            cut: self.open_count.get(),
        }
    }

    /// Until the last connection has ended, or an order says that this takes too long.
    async fn is_empty_or_told(&self, orders: &mut Receiver<Order>) {
        poll_fn(|context| {
            if self.open_count.get() == 0 {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(context.waker().clone());
            loop {
                match orders.poll_receive(context) {
                    Poll::Ready(Some(Order::Drain(_)) | None) => return Poll::Ready(()),
                    // It goes on with what it has.
                    Poll::Ready(Some(Order::Replace(..) | Order::Servers(..))) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// What is done once a second, whatever the load.
    async fn tick(self: Rc<Worker>) {
        loop {
            sleep(TICK).await;
            self.count_overflows();
            self.files
                .refused
                .tell(ringway_runtime::refused_transfers());
            let now = ringway_runtime::now();
            self.throttled.borrow_mut().tell(now);
            self.roots.iter().for_each(|root| root.tell_unreadable(now));
            if let Some(log) = &mut *self.log.borrow_mut() {
                log.flush();
            }
        }
    }

    /// Takes over what the runtime has counted of completions that came late, or not at all.
    fn count_overflows(&self) {
        let now = ringway_runtime::counters();
        let before = self.counted.replace(now);
        let overflows = now.overflows - before.overflows;
        let lost = now.lost - before.lost;
        self.stats.add(Counter::CompletionOverflows, overflows);
        self.stats.add(Counter::CompletionsLost, lost);
        let mut throttled = self.throttled.borrow_mut();
        throttled.completion_overflows.add(overflows);
        throttled.completions_lost.add(lost);
    }

    /// The upstream of this index in the configuration, as it is now.
    pub(crate) fn upstream(&self, index: usize) -> Rc<Upstream> {
        Rc::clone(&self.upstreams[index].borrow())
    }

    /// Counts a request that no server answered, and tells of it.
    pub(crate) fn count_unanswered(&self, upstream: &Upstream, fault: &ServerFault) {
        upstream.count_unanswered(fault);
        let mut throttled = self.throttled.borrow_mut();
        throttled.add_unanswered(&upstream.config.name, fault, ringway_runtime::now());
    }

    /// Tells that a service or hooks of the program's own failed a request.
    pub(crate) fn tell_failure(&self, name: &str, failure: &dyn std::error::Error) {
        let mut throttled = self.throttled.borrow_mut();
        throttled.add_failed(name, failure, ringway_runtime::now());
    }

    /// Goes on with other servers. The old ones' connections end with the requests that use them.
    fn replace_servers(&self, index: usize, shared: &Arc<SharedUpstream>) {
        let new = Rc::new(self.upstream(index).with_servers(shared));
        // What was there is dropped outside of the borrow.
        let _old = self.upstreams[index].replace(new);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    pub(crate) fn moment(&self, now: Instant) -> Moment<'_> {
        Moment {
            now,
            clock: &self.clock,
        }
    }

    /// Counts a connection out that didn't come to its end.
    fn count_cut(&self) {
        if std::thread::panicking() {
            self.stats.count(Counter::Panics);
            self.stats.count(Counter::ClosedUs);
            // A second panic would end the process.
            if let Ok(mut throttled) = self.throttled.try_borrow_mut() {
                throttled.panics.add(1);
                throttled.tell(ringway_runtime::now());
            }
        } else if self.is_draining() {
            self.count_end(End::Shutdown);
        } else {
            // The worker can't go on.
            self.stats.count(Counter::ClosedUs);
        }
    }

    fn count_end(&self, end: End) {
        let (fault, timeout) = match end {
            End::Orderly => (Counter::ClosedOrderly, None),
            End::Broken | End::TunnelBroken | End::Malformed => (Counter::ClosedClient, None),
            End::Limit => (Counter::ClosedLimit, None),
            End::Idle => (Counter::ClosedDeadline, Some(Counter::TimeoutIdle)),
            End::SlowHead => (Counter::ClosedDeadline, Some(Counter::TimeoutHead)),
            End::SlowBody => (Counter::ClosedDeadline, Some(Counter::TimeoutBodyStall)),
            End::WriteStall => (Counter::ClosedDeadline, Some(Counter::TimeoutWriteStall)),
            End::FileChanged | End::FileFailed | End::ServiceFailed => (Counter::ClosedUs, None),
            End::ServerFailed => (Counter::ClosedUpstream, None),
            End::Shutdown => (Counter::ClosedShutdown, None),
        };
        self.stats.count(fault);
        if let Some(timeout) = timeout {
            self.stats.count(timeout);
        }
    }

    pub(crate) fn has_log(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// When a request begins, if the access log is to say how long it took.
    pub(crate) fn begin_log(&self, at: Instant) -> Option<Instant> {
        self.log.borrow().as_ref()?.begin(at)
    }

    /// Writes a line of the access log, if there is one.
    pub(crate) fn log(&self, entry: &Entry<'_>) {
        if let Some(log) = &mut *self.log.borrow_mut() {
            log.record(entry);
        }
    }

    /// Goes wrong if this target is one that tests have named for it.
    pub(crate) fn inject_fault(&self, target: &[u8]) {
        #[cfg(any(debug_assertions, feature = "fault-injection"))]
        self.faults.inject(target);
        let _ = target;
    }
}
