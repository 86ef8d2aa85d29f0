//! The control thread: what isn't asked by any request, and may wait for the network all the same.
//!
//! It answers the admin listener (`admin`, with `metrics` and `status`), asks servers whether they are
//! well (`checks`, with `probe`), and looks their names up (`names`). It runs on tokio, in a thread of
//! its own, and only where there is something of that to do. Workers never wait for it: what it finds
//! goes down by the main thread's mail or into atomics, what it tells it reads from atomics.

mod admin;
mod checks;
mod load;
mod metrics;
mod names;
mod probe;
mod socket;
mod status;

use crate::config::{self, Config};
use crate::proxy::{KnownServer, SharedUpstream};
use crate::stats::WorkerStats;
use crate::worker::{Refused, Started};
use names::Names;
use ringway_host::placement::{Placement, WorkerPlace};
use ringway_runtime::{DriverChoice, SteeringChoice};
use socket::AdminSocket;
use std::cell::RefCell;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

/// tokio's own: an epoll instance, an event, and what name servers are asked with.
const OWN_DESCRIPTORS: u64 = 12;

/// What the process is made of, as the control thread may tell it. The main thread keeps it up to
/// date.
pub(crate) struct Facts {
    pub(crate) config: Arc<Config>,
    pub(crate) started: Instant,
    pub(crate) started_at: SystemTime,
    /// Every bound address, with the index of its listener.
    pub(crate) bound: Vec<(SocketAddr, usize)>,
    /// Where the workers are; they are bound to their places if the configuration says so.
    pub(crate) placement: Placement,
    pub(crate) stats: Vec<Arc<WorkerStats>>,
    /// Ways to send that are refused here, as workers find out.
    pub(crate) refused: Arc<Refused>,
    /// How connections find their worker.
    steering: Mutex<SteeringChoice>,
    /// What each worker found when it started; `None` while it doesn't run.
    started_as: Box<[Mutex<Option<Started>>]>,
    is_draining: AtomicBool,
}

impl Facts {
    /// Of a process that has just started, and whose workers don't run yet.
    pub(crate) fn new(
        config: &Arc<Config>,
        bound: Vec<(SocketAddr, usize)>,
        placement: Placement,
        steering: SteeringChoice,
        stats: Vec<Arc<WorkerStats>>,
    ) -> Facts {
        Facts {
            config: Arc::clone(config),
            started: Instant::now(),
            started_at: SystemTime::now(),
            bound,
            placement,
            steering: Mutex::new(steering),
            started_as: stats.iter().map(|_| Mutex::new(None)).collect(),
            stats,
            refused: Arc::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// The place of a worker that is bound to one.
    pub(crate) fn place(&self, worker: usize) -> Option<&WorkerPlace> {
        let places = &self.placement.workers;
        self.config.pin.then(|| places.get(worker)).flatten()
    }

    /// The CPU that a worker is bound to.
    pub(crate) fn cpu(&self, worker: usize) -> Option<usize> {
        Some(self.place(worker)?.cpu as usize)
    }

    /// How connections find their worker.
    pub(crate) fn steering(&self) -> SteeringChoice {
        let place = self.steering.lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on connections find their worker so.
    pub(crate) fn set_steering(&self, steering: SteeringChoice) {
        *self.steering.lock().unwrap_or_else(PoisonError::into_inner) = steering;
    }

    /// A worker runs, and has found this; or it doesn't run.
    pub(crate) fn set_started(&self, worker: usize, started: Option<Started>) {
        // Between this thread and the control thread alone; no worker takes it.
        let mut place = self.started_as[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = started;
    }

    /// What a worker runs on, if it runs.
    pub(crate) fn driver(&self, worker: usize) -> Option<DriverChoice> {
        self.started(worker).map(|started| started.driver)
    }

    /// What a worker found when it started, if it runs.
    pub(crate) fn started(&self, worker: usize) -> Option<Started> {
        let place = self.started_as[worker].lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nothing more is accepted.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Facts({} workers)", self.stats.len())
    }
}

/// Why the control thread couldn't be prepared.
#[derive(Debug)]
pub(crate) enum ControlError {
    /// The admin listener's address can't be listened on.
    Listen(io::Error),
    /// No server of the upstream with this index is known.
    Names(usize, io::Error),
    /// There is no runtime, for want of descriptors or memory.
    Runtime(io::Error),
}

/// The control thread before it runs: what it listens on, and what it has looked up.
pub(crate) struct Prepared {
    runtime: Runtime,
    socket: Option<AdminSocket>,
    names: Names,
}

/// What a control thread hears of: an upstream, by its index, has these servers now.
pub(crate) type Changed = Box<dyn Fn(usize, Arc<SharedUpstream>) + Send>;

/// Binds what has to be bound and looks up what has to be known before the first request: the
/// upstreams, and the control thread if there is something to control.
///
/// # Errors
/// See [`ControlError`]. A name that isn't found is one only where its upstream has no other server.
pub(crate) fn prepare(
    config: &Arc<Config>,
    secret: [u8; 32],
) -> Result<(Vec<Arc<SharedUpstream>>, Option<Prepared>), ControlError> {
    let mut names = Names::new(config, secret, Instant::now());
    if !has_something(config) {
        return Ok((names.upstreams(), None));
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Runtime)?;
    let bind = |admin: &config::Admin| AdminSocket::bind(&admin.address);
    let socket = config.admin.as_ref().map(bind).transpose();
    let socket = socket.map_err(ControlError::Listen)?;
    let looked_up = runtime.block_on(names.look_up_all());
    looked_up.map_err(|(upstream, error)| ControlError::Names(upstream, error))?;
    let upstreams = names.upstreams();
    let prepared = Prepared {
        runtime,
        socket,
        names,
    };
    Ok((upstreams, Some(prepared)))
}

/// The upstreams of a configuration whose names nobody looks up again: for a worker without a control
/// thread. It waits for the name servers.
///
/// # Errors
/// An upstream has no server that is known, or there is no runtime to look it up with.
pub(crate) fn look_up_once(
    config: &Arc<Config>,
    secret: [u8; 32],
    now: Instant,
) -> io::Result<Vec<Arc<SharedUpstream>>> {
    let mut names = Names::new(config, secret, now);
    if names.has_some() {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let looked_up = runtime.block_on(names.look_up_all());
        looked_up.map_err(|(_, error)| error)?;
    }
    Ok(names.upstreams())
}

/// Whether there is something to control.
fn has_something(config: &Config) -> bool {
    let is_name = |server: &config::Server| KnownServer::fixed(0, server).is_none();
    let has_some = |one: &config::Upstream| one.health.is_some() || one.servers.iter().any(is_name);
    config.admin.is_some() || config.upstreams.iter().any(has_some)
}

/// Descriptors that the control thread takes at most; 0 where there is none.
pub(crate) fn descriptors(config: &Config) -> u64 {
    if !has_something(config) {
        return 0;
    }
    let servers = |one: &config::Upstream| one.health.as_ref().map_or(0, |_| one.servers.len());
    let checks: usize = config.upstreams.iter().map(servers).sum();
    let admin = config.admin.as_ref().map_or(0, |_| admin::CONNECTIONS + 1);
    OWN_DESCRIPTORS + checks as u64 + admin as u64
}

/// The control thread, in the hands of the main thread.
pub(crate) struct Control {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prepared {
    /// Where the admin listener is, as one can reach it.
    pub(crate) fn admin_address(&self) -> Option<String> {
        Some(self.socket.as_ref()?.shown())
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(self, facts: &Arc<Facts>, changed: Changed) -> io::Result<Control> {
        let (stop, stopped) = oneshot::channel();
        let facts = Arc::clone(facts);
        let thread = std::thread::Builder::new()
            .name("ringway-control".to_owned())
            .spawn(move || self.run(facts, changed, stopped))?;
        Ok(Control {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn run(self, facts: Arc<Facts>, changed: Changed, stopped: oneshot::Receiver<()>) {
        let Prepared {
            runtime,
            socket,
            names,
        } = self;
        let state = Rc::new(State {
            facts,
            upstreams: RefCell::new(names.upstreams()),
            changed,
            changes: watch::Sender::new(()),
        });
        let tasks = LocalSet::new();
        let running = tasks.run_until(async {
            if let Some(socket) = socket {
                tokio::task::spawn_local(admin::serve(socket, Rc::clone(&state)));
            }
            checks::start(&state);
            names.watch(&state);
            // An error is the main thread's end, which is the same.
            let _ = stopped.await;
        });
        runtime.block_on(running);
        // With the tasks the admin socket goes, and its file.
        drop(tasks);
        runtime.shutdown_background();
    }
}

impl Control {
    /// Ends the thread, and waits for that: it holds nothing that could take long.
    pub(crate) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the tasks of the control thread share.
struct State {
    facts: Arc<Facts>,
    /// As their servers are now.
    upstreams: RefCell<Vec<Arc<SharedUpstream>>>,
    changed: Changed,
    /// Tells the tasks that the servers of some upstream have changed.
    changes: watch::Sender<()>,
}

impl State {
    fn upstream(&self, index: usize) -> Arc<SharedUpstream> {
        Arc::clone(&self.upstreams.borrow()[index])
    }

    /// From now on the upstream has these servers.
    fn replace(&self, index: usize, upstream: Arc<SharedUpstream>) {
        self.upstreams.borrow_mut()[index] = Arc::clone(&upstream);
        (self.changed)(index, upstream);
        self.changes.send_replace(());
    }
}

/// A random part of `time`, so that what is done again and again isn't done by all at once.
fn part_of(time: Duration) -> Duration {
    // Its keys are new ones each time.
    let random = RandomState::new().hash_one(0) >> 11;
    time.mul_f64(random as f64 / (1_u64 << 53) as f64)
}
