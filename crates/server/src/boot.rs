//! From a configuration to running workers: bind, open, start. What is said of it is in
//! [`announce`], what happens from then on in [`supervise`].

mod announce;
mod back_off;
mod places;
mod steer;
mod supervise;
mod untold;

use crate::admission::{Admission, Bound};
use crate::auth::{self, Passwords};
use crate::config::{self, Address, Config, HugePages, Listener};
use crate::control::{self, Control, ControlError, Facts, Prepared};
use crate::extensions::Extensions;
use crate::files::{self, Watches};
use crate::log::{self, LogThread};
use crate::placement;
use crate::proxy::SharedUpstream;
use crate::worker::{self, Ending, Order, Spec};
use back_off::BackOff;
use ringway_runtime::process::{Signals, raise_descriptor_limit_to};
use ringway_runtime::{
    BlockingPool, Directory, DriverChoice, Io, Keepalive, ListenOptions, ListenSocket,
    MemoryOptions, Pages, RuntimeOptions, Sender, SocketOptions, SteeringChoice, mailbox,
};
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;
use supervise::Event;
use untold::Untold;

/// Descriptors of the process whatever it does: standard ones, logs, and some that it inherits.
const OWN_DESCRIPTORS: u64 = 12;
/// Those of a worker beside its listeners: ring or epoll instance, event, timer, a spare one.
const WORKER_DESCRIPTORS: u64 = 4;
/// A connection with its file, and one that is refused meanwhile.
const FEWEST_DESCRIPTORS: u64 = 3;

/// Why the server didn't start, or had to end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// An address can't be listened on.
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// A root directory can't be opened.
    Root {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// The access log can't be opened.
    AccessLog(io::Error),
    /// The admin listener's address can't be listened on; the error names it.
    Admin(io::Error),
    /// A server of an upstream can't be found.
    Upstream {
        /// The NAME of its table.
        name: String,
        /// The system's reason.
        error: io::Error,
    },
    /// The users of a root can't be read.
    Users(io::Error),
    /// The configuration asks for a service or hooks that the program lacks, or has twice.
    Extension(String),
    /// A worker can't run.
    Worker {
        /// Its number, from 0.
        index: usize,
        /// Why, and what helps.
        reason: String,
    },
    /// None of the workers could be kept running.
    Workers {
        /// Why the last of them failed.
        reason: String,
    },
    /// No thread can be started.
    Thread(io::Error),
    /// The process may not have the descriptors without which there is nothing to serve with.
    Descriptors {
        /// How many it may have.
        limit: u64,
        /// How many it needs at least.
        needed: u64,
    },
    /// The process's signals or limits can't be set up.
    Process(io::Error),
    /// A second signal ended it before what was under way had finished.
    Cut {
        /// Connections that were open still.
        connections: u64,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Listen { address, error } => {
                write!(
                    out,
                    "can't listen on {address}: {error}{}",
                    advice(*address, error)
                )
            }
            ServerError::Root { path, error } => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => "; this user may not enter it",
                    _ => "",
                };
                let path = path.display();
                write!(out, "can't open the root directory {path}: {error}{hint}")
            }
            ServerError::Upstream { name, error } => {
                write!(
                    out,
                    "can't find a server of [upstream.{name}]: {error}; check how the name is \
                     written, and whom its key `resolver` asks (by default, /etc/resolv.conf says)"
                )
            }
            ServerError::Users(error) => write!(out, "can't read who may come in: {error}"),
            ServerError::Extension(message) => out.write_str(message),
            ServerError::Admin(error) => write!(out, "can't listen for [admin] on {error}"),
            ServerError::AccessLog(error) => write!(out, "can't open the access log: {error}"),
            ServerError::Worker { index, reason } => {
                write!(out, "worker {index} can't run: {reason}")
            }
            ServerError::Workers { reason } => {
                write!(out, "no worker can be kept running: {reason}")
            }
            ServerError::Thread(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        "; there may be no more threads (ulimit -u, TasksMax=, the pids limit of a \
                         container)"
                    }
                    _ => "",
                };
                write!(out, "can't start a thread: {error}{hint}")
            }
            ServerError::Descriptors { limit, needed } => write!(
                out,
                "can't start with {limit} descriptors: it takes {needed}; raise the hard limit \
                 (ulimit -Hn, LimitNOFILE=), or take fewer workers"
            ),
            ServerError::Process(error) => write!(out, "can't start: {error}"),
            ServerError::Cut { connections } => write!(
                out,
                "ended at once by a second signal: connections cut: {connections}"
            ),
        }
    }
}

impl std::error::Error for ServerError {}

/// What to do about an address that can't be bound.
fn advice(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has that port: stop it, or choose another with --listen".to_owned()
        }
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => format!(
            "; ports below 1024 need the right CAP_NET_BIND_SERVICE: choose another, such as \
             {}, or give the program that right",
            8000 + u32::from(address.port())
        ),
        io::ErrorKind::AddrNotAvailable => "; no interface here has that address".to_owned(),
        _ => String::new(),
    }
}

/// Runs the server until it is told to stop by SIGINT or SIGTERM: then nothing more is accepted,
/// and what is under way is finished within the configured time. A second signal ends it at once.
///
/// A worker that fails or panics ends its own connections only. It is started anew after a pause,
/// which grows from 0.1 to 10 seconds while it fails again within a minute; the others go on
/// meanwhile.
///
/// To be called on the main thread before any other is started, because it takes the process's
/// signals.
///
/// # Errors
/// When it can't start, with everything undone; when no worker can be kept running, which is so
/// when none is and each has failed eight times in a row; or when a second signal cut connections.
pub fn run(config: Config) -> Result<(), ServerError> {
    Extensions::new().run(config)
}

/// The same with these extensions, which were checked.
pub(crate) fn run_with(mut config: Config, extensions: Extensions) -> Result<(), ServerError> {
    let signals = Signals::block().map_err(ServerError::Process)?;
    log::init_events(config.log.events);
    share_descriptors(&mut config)?;
    let config = Arc::new(config);
    let mut server = Server::start(&config, extensions)?;
    server.announce();
    server.tell_placement();
    server.tell_memory();
    server.start_control()?;
    server.watch()?;
    let events = server.events.0.clone();
    std::thread::Builder::new()
        .name("ringway-signals".to_owned())
        .spawn(move || {
            loop {
                // The receiver lives as long as the process.
                let _ = events.send(Event::Signal(signals.wait()));
            }
        })
        .map_err(ServerError::Thread)?;
    server.supervise()
}

/// One of the workers: its thread, or the lack of it.
struct Post {
    state: State,
    back_off: BackOff,
}

enum State {
    Running(Running),
    /// It has failed, and is started anew then.
    Resting(Instant),
    Ended,
}

struct Running {
    since: Instant,
    orders: Sender<Order>,
    untold: Untold,
    thread: JoinHandle<()>,
}

struct Server {
    config: Arc<Config>,
    extensions: Extensions,
    directories: Vec<Directory>,
    files: Arc<files::Shared>,
    passwords: Vec<Option<Arc<Passwords>>>,
    upstreams: Vec<Arc<SharedUpstream>>,
    /// How the connections of each address find their workers.
    groups: Vec<steer::Group>,
    facts: Arc<Facts>,
    /// Until it is started.
    prepared: Option<Prepared>,
    control: Option<Control>,
    blocking: BlockingPool,
    admission: Arc<Admission>,
    log: Option<LogThread>,
    workers: Vec<Post>,
    /// What they run on, and how many of them.
    drivers: Vec<(DriverChoice, usize)>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
}

impl Server {
    fn start(config: &Arc<Config>, extensions: Extensions) -> Result<Server, ServerError> {
        let open = |root: &config::Root| {
            // Opening a directory asks for no right to it; a look inside does.
            let entered = std::fs::metadata(root.root.join("."));
            let opened = entered.and_then(|_| files::open(root, &config.limits));
            opened.map_err(|error| ServerError::Root {
                path: root.root.clone(),
                error,
            })
        };
        let directories = config.roots.iter().map(open).collect::<Result<_, _>>()?;
        let passwords = worker::open_passwords(config).map_err(ServerError::Users)?;
        for weakness in config.roots.iter().flat_map(auth::weaknesses) {
            tracing::warn!("{weakness}: make a new hash with ringway hash-password");
        }
        let log = LogThread::open(&config.log).map_err(ServerError::AccessLog)?;
        let limits = config.limits;
        let (upstreams, prepared) = control::prepare(config, machine_secret())
            .map_err(|error| of_control(error, config))?;
        let (mut sockets, bound) = bind_all(config)?;
        let placement = placement::of_workers(config);
        let steering = steer::choose(config, &placement);
        let steer = |((group, _), (address, _)): (&(Vec<ListenSocket>, _), &(SocketAddr, _))| {
            match steer::is_steered(config, *address) {
                true => steer::Group::steer(group, &placement, &steering, *address),
                false => Ok(steer::Group::Hashed),
            }
        };
        let groups = sockets.iter().zip(&bound).map(steer);
        let groups = groups.collect::<Result<_, _>>()?;
        let stats = (0..config.workers).map(|_| Arc::default()).collect();
        let facts = Facts::new(config, bound, placement, steering, stats);
        let mut server = Server {
            config: Arc::clone(config),
            extensions,
            directories,
            files: Arc::new(files::Shared::new(
                watches(config),
                Arc::clone(&facts.refused),
            )),
            passwords,
            upstreams,
            groups,
            facts: Arc::new(facts),
            prepared,
            control: None,
            blocking: BlockingPool::new(limits.blocking_threads, limits.blocking_queue),
            admission: Admission::new(limits.connections, limits.connections_per_address),
            log,
            workers: Vec::new(),
            drivers: Vec::new(),
            events: mpsc::channel(),
        };
        for index in 0..config.workers {
            let listeners = sockets
                .iter_mut()
                .map(|(group, listener)| (group.remove(0), *listener));
            let listeners = listeners.collect();
            let running = server.spawn(index, listeners)?;
            server.workers.push(Post {
                state: State::Running(running),
                back_off: BackOff::default(),
            });
        }
        server.await_ready()?;
        Ok(server)
    }

    /// Starts the control thread, if there is to be one.
    fn start_control(&mut self) -> Result<(), ServerError> {
        let Some(prepared) = self.prepared.take() else {
            return Ok(());
        };
        let events = self.events.0.clone();
        let changed = move |upstream, shared| {
            // The main thread may have gone, and the process with it.
            let _ = events.send(Event::Servers(upstream, shared));
        };
        let control = prepared.start(&self.facts, Box::new(changed));
        self.control = Some(control.map_err(ServerError::Thread)?);
        Ok(())
    }

    fn spawn(
        &self,
        index: usize,
        listeners: Vec<(ListenSocket, usize)>,
    ) -> Result<Running, ServerError> {
        let (orders, mail) = mailbox(4);
        let spec = Spec {
            index,
            cpu: self.facts.cpu(index),
            config: Arc::clone(&self.config),
            extensions: self.extensions.clone(),
            directories: self.directories.clone(),
            files: Arc::clone(&self.files),
            passwords: self.passwords.clone(),
            upstreams: self.upstreams.clone(),
            listeners,
            options: self.runtime_options(index),
            admission: Arc::clone(&self.admission),
            log: self.log.as_ref().map(LogThread::handle),
            stats: Arc::clone(&self.facts.stats[index]),
        };
        let events = self.events.0.clone();
        let thread = std::thread::Builder::new()
            .name(format!("ringway-{index}"))
            .spawn(move || {
                let heard = events.clone();
                let ready = move |started| {
                    let _ = heard.send(Event::Ready(index, started));
                };
                let ran = catch_unwind(AssertUnwindSafe(|| worker::run(spec, mail, ready)));
                let ending = ran.unwrap_or(Ending::Panicked);
                // The control thread may have gone, and the process with it.
                let _ = events.send(Event::Ended(index, ending));
            })
            .map_err(ServerError::Thread)?;
        Ok(Running {
            since: Instant::now(),
            orders,
            untold: Untold::default(),
            thread,
        })
    }

    fn runtime_options(&self, worker: usize) -> RuntimeOptions {
        let limits = self.config.limits;
        let place = self.facts.place(worker);
        let node = place.and_then(|place| place.node);
        RuntimeOptions {
            io: match self.config.io {
                config::Io::Auto => Io::Auto,
                config::Io::Uring => Io::Uring,
                config::Io::Epoll => Io::Epoll,
            },
            receive_buffers: limits.receive_buffers.min(1 << 15) as u16,
            receive_buffer_bytes: limits.receive_buffer_bytes as usize,
            ring_entries: limits.ring_entries,
            completion_entries: limits.completion_entries,
            ring_threads: limits.ring_threads,
            ring_thread_cpus: node.map(placement::cpus_of_node).unwrap_or_default(),
            memory: MemoryOptions {
                node: place.and_then(|place| place.memory_node),
                pages: match self.config.huge_pages {
                    HugePages::Off => Pages::Ordinary,
                    HugePages::Transparent => Pages::Transparent,
                    HugePages::Reserved => Pages::Reserved,
                },
            },
            blocking: self.blocking.clone(),
        }
    }

    /// Waits until every worker has its driver, or one has failed.
    fn await_ready(&mut self) -> Result<(), ServerError> {
        for _ in 0..self.config.workers {
            match self.next_event(None) {
                Some(Event::Ready(index, started)) => {
                    self.facts.set_started(index, Some(started.clone()));
                    match self.find_driver(&started.driver) {
                        Some((_, count)) => *count += 1,
                        None => self.drivers.push((started.driver, 1)),
                    }
                }
                Some(Event::Ended(index, ending)) => {
                    let hint = match self.config.io {
                        config::Io::Uring => "; --io auto takes the driver that can",
                        config::Io::Auto | config::Io::Epoll => "",
                    };
                    let reason = format!("{ending}{hint}");
                    return Err(ServerError::Worker { index, reason });
                }
                // Signals and changes aren't listened to yet.
                Some(Event::Signal(_) | Event::Replaced(..) | Event::Servers(..)) | None => {}
            }
        }
        Ok(())
    }

    fn find_driver(&mut self, choice: &DriverChoice) -> Option<&mut (DriverChoice, usize)> {
        self.drivers.iter_mut().find(|(known, _)| known == choice)
    }

    /// One more socket of each address, for the worker of this index that is started anew.
    fn rebind(&mut self, worker: usize) -> Result<Vec<(ListenSocket, usize)>, ServerError> {
        let is_running = |post: &Post| matches!(post.state, State::Running(_));
        let has_siblings = self.workers.iter().any(is_running);
        let (config, facts) = (Arc::clone(&self.config), Arc::clone(&self.facts));
        let mut bound = facts.bound.iter().enumerate();
        let mut sockets = Vec::new();
        for listener in &config.listeners {
            let options = listen_options(listener);
            for _ in &listener.addresses {
                let (group, (address, index)) = bound.next().expect("one for each address");
                // Without siblings the port is free, and may be another program's by now.
                let socket = if has_siblings {
                    ListenSocket::bind_sibling(*address, &options)
                } else {
                    ListenSocket::bind_first(*address, &options)
                };
                let socket = socket.map_err(|error| ServerError::Listen {
                    address: *address,
                    error,
                })?;
                self.steer_again(worker, &socket, group);
                sockets.push((socket, *index));
            }
        }
        Ok(sockets)
    }
}

impl Server {
    /// Steers connections to the new listener of a worker, as far as that goes on.
    fn steer_again(&mut self, worker: usize, listener: &ListenSocket, group: usize) {
        if !self.groups[group].add(listener, self.facts.cpu(worker)) {
            let steering = SteeringChoice::hash("a worker was started anew, which ended steering");
            tracing::warn!(%steering, "connections aren't steered to the CPU where they come in");
            self.facts.set_steering(steering);
        }
    }
}

/// A group of sockets for each address: one for each worker. And every bound address with its
/// listener.
#[expect(clippy::type_complexity, reason = "both are taken apart at once")]
fn bind_all(
    config: &Config,
) -> Result<(Vec<(Vec<ListenSocket>, usize)>, Vec<(SocketAddr, usize)>), ServerError> {
    let (mut groups, mut bound) = (Vec::new(), Vec::new());
    for (index, listener) in config.listeners.iter().enumerate() {
        for address in &listener.addresses {
            let group = bind(*address, listener, config.workers)?;
            let local = group[0].local_address();
            let local = local.map_err(|error| ServerError::Listen {
                address: address.socket,
                error,
            })?;
            bound.push((local, index));
            groups.push((group, index));
        }
    }
    Ok((groups, bound))
}

/// What couldn't be prepared for the control thread, as the whole server's error.
fn of_control(error: ControlError, config: &Config) -> ServerError {
    match error {
        ControlError::Listen(error) => ServerError::Admin(error),
        ControlError::Names(upstream, error) => ServerError::Upstream {
            name: config.upstreams[upstream].name.clone(),
            error,
        },
        ControlError::Runtime(error) => ServerError::Process(error),
    }
}

/// What the values of sticky cookies are made with: the same after a restart, and nobody else's.
/// Where the machine has no identity of its own it lasts as long as the process.
fn machine_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let identity = std::fs::read("/etc/machine-id").unwrap_or_default();
    let random = std::collections::hash_map::RandomState::new();
    let fallback = random.hash_one(0).to_le_bytes();
    let identity = match identity.trim_ascii() {
        [] => &fallback[..],
        identity => identity,
    };
    for (place, byte) in secret.iter_mut().zip(identity) {
        *place = *byte;
    }
    secret
}

/// Where changes of files are heard of, if they can be and are to be.
fn watches(config: &Config) -> Option<Arc<Watches>> {
    let limit = config.limits.watches;
    if limit == 0 || !config.roots.iter().any(|root| root.watch && root.cache) {
        return None;
    }
    match Watches::new(limit) {
        Ok(watches) => Some(Arc::new(watches)),
        Err(error) => {
            tracing::info!(%error, "no inotify: files are looked at each interval");
            None
        }
    }
}

/// Binds one address for all workers. "Every family" is both, or IPv4 where there is no IPv6.
fn bind(
    address: Address,
    listener: &Listener,
    count: usize,
) -> Result<Vec<ListenSocket>, ServerError> {
    let options = listen_options(listener);
    let bound = ListenSocket::bind_group(address.socket, count, &options);
    let bound = match bound {
        Err(error)
            if address.every_family
                && matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
                ) =>
        {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.socket.port()));
            ListenSocket::bind_group(v4, count, &options)
        }
        bound => bound,
    };
    bound.map_err(|error| ServerError::Listen {
        address: address.socket,
        error,
    })
}

fn listen_options(listener: &Listener) -> ListenOptions {
    let options = &listener.options;
    ListenOptions {
        backlog: options.backlog,
        only_v6: options.ipv6_only,
        fast_open: options.fast_open,
        defer_accept: options.defer_accept,
        socket: socket_options(&listener.socket),
    }
}

/// The options of connections' sockets as the runtime takes them.
pub(crate) fn socket_options(socket: &config::SocketOptions) -> SocketOptions {
    SocketOptions {
        nodelay: socket.nodelay,
        notsent_lowat: socket.notsent_lowat,
        keepalive: socket.keepalive.then_some(Keepalive {
            idle: socket.keepalive_idle,
            interval: socket.keepalive_interval,
            count: socket.keepalive_count,
        }),
        user_timeout: socket.user_timeout,
        congestion: socket.congestion.clone(),
        send_buffer: socket.send_buffer.map(|bytes| bytes as usize),
        receive_buffer: socket.receive_buffer.map(|bytes| bytes as usize),
    }
}

/// Sets the bounds of what takes descriptors by how many there may be: connections, and files that
/// are kept open. Says what is lowered.
fn share_descriptors(config: &mut Config) -> Result<(), ServerError> {
    let addresses: usize = config.listeners.iter().map(|one| one.addresses.len()).sum();
    // Where a program steers, each listener is held twice.
    let may_steer = config.workers > 1 && config.steer != config::Steer::Off;
    let listeners = addresses as u64 * if may_steer { 2 } else { 1 };
    let own = OWN_DESCRIPTORS
        + control::descriptors(config)
        + config.roots.len() as u64
        + config.workers as u64 * (WORKER_DESCRIPTORS + listeners);
    let limits = &mut config.limits;
    let (wanted, kept) = (limits.connections, limits.cache_descriptors as u64);
    let limit = raise_descriptor_limit_to(Bound::descriptors_for(wanted, own + kept))
        .map_err(ServerError::Process)?;
    let needed = own + FEWEST_DESCRIPTORS;
    if limit < needed {
        return Err(ServerError::Descriptors { limit, needed });
    }
    // A worker short of descriptors closes what it keeps open, but not what the others do.
    let kept = kept.min((limit - own) / 8);
    let bound = Bound::new(wanted, limit, own + kept);
    if let Some(advice) = bound.advice(wanted, limit) {
        tracing::warn!("{advice}");
    }
    limits.connections = bound.connections;
    limits.cache_descriptors = kept as usize;
    Ok(())
}
