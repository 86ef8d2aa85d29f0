//! The reactor: every socket, listener and file request of one worker, in slots, over one driver.
//!
//! This is where the soundness rules are kept, once for all drivers. A slot owns the bytes and the
//! descriptor of its operations until their last completion; a descriptor is closed only when
//! nothing in flight names it; receives that found no buffer wait in line for one; and no foreign
//! code runs in here: wakers are handed out by [`Reactor::turn`] for the executor to call.
//!
//! The parts: the way in from outside in `cell`, streams in `sockets`, listeners and file requests in `requests`, what the driver's
//! answers do in `completions`, connections that change workers in `handover`, the end in `teardown`.

mod cell;
mod completions;
mod handover;
mod requests;
mod sockets;
mod teardown;
mod transfer;

use crate::buffers::BufferPool;
use crate::driver::probe::{self, DriverChoice, Io};
use crate::driver::sim::SimWorld;
use crate::driver::{Completion, Driver, DriverKind};
use crate::numa::{MemoryOptions, MemoryReport};
use crate::pool::BlockingPool;
use crate::slots::{SlotKey, Slots};
use crate::wake::WakeHandle;
use cell::Place;
pub use cell::{ReactorCell, Waiter};
pub use handover::DetachedSocket;
use requests::{Listener, Request};
use sockets::Socket;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use transfer::Transfers;
pub use transfer::{PipeKey, WARM_BYTES};

/// Names a connection of this reactor; stale, and harmless, once the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketKey(SlotKey);

/// Names a listener of this reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey(SlotKey);

/// Names a file request (an open or a read) of this reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(SlotKey);

/// What a reactor is made of.
#[derive(Clone, Debug)]
pub struct ReactorOptions {
    /// Which driver, or the choice left to the probe.
    pub io: Io,
    /// Receive buffers for all connections together. Default: 256; at most 32,768.
    ///
    /// They are used in turn, so all of them should fit the processor's second-level cache.
    pub receive_buffers: u16,
    /// Bytes in each. Default: 4,096.
    pub receive_buffer_bytes: usize,
    /// Submission queue entries of the ring. Default: 1,024; the kernel rounds up to a power of 2.
    pub ring_entries: u32,
    /// Completion queue entries of the ring. Default: 8,192; rounded up likewise. An overflow
    /// costs time, not completions.
    pub completion_entries: u32,
    /// Threads that the kernel may run for the ring, of each of its two kinds (`io-wq`: bounded, for
    /// files; unbounded, for what may never end), for what it can't do at once; 0 leaves that to the
    /// kernel. Default: 0.
    pub ring_threads: u32,
    /// The CPUs that those threads may use. Default: none named, which is all.
    pub ring_thread_cpus: Vec<usize>,
    /// Where its memory is, and in which pages. Default: on the node of whoever touches it first.
    pub memory: MemoryOptions,
    /// Where the epoll driver sends file work that has to wait for a disk.
    pub blocking: BlockingPool,
}

impl Default for ReactorOptions {
    fn default() -> ReactorOptions {
        ReactorOptions {
            io: Io::Auto,
            receive_buffers: 256,
            receive_buffer_bytes: 4096,
            ring_entries: 1024,
            completion_entries: 8192,
            ring_threads: 0,
            ring_thread_cpus: Vec::new(),
            memory: MemoryOptions::default(),
            blocking: BlockingPool::new(8, 1024),
        }
    }
}

/// One worker's I/O, entered through its [`ReactorCell`].
pub struct Reactor {
    driver: Box<dyn Driver>,
    buffers: Rc<BufferPool>,
    sockets: Slots<Socket>,
    listeners: Slots<Listener>,
    requests: Slots<Request>,
    /// Sockets whose receive found no buffer, first come first served.
    parked: VecDeque<SocketKey>,
    completions: Vec<Completion>,
    /// To be called by the executor, outside of every borrow.
    woken: Vec<Waker>,
    now: Instant,
    counters: Counters,
    transfers: Transfers,
    memory: MemoryOptions,
}

/// What happened in this reactor since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Turns of the driver.
    pub turns: u64,
    /// Completions taken.
    pub completions: u64,
    /// Receives that found no buffer and were parked.
    pub parked: u64,
    /// Received buffers that were copied to the heap because buffers were scarce.
    pub spilled: u64,
    /// Turns that found the ring's completion queue overflowed: a larger one saves time (see
    /// [`ReactorOptions::completion_entries`]).
    pub overflows: u64,
    /// Completions that the kernel had no memory to keep; their operations never end.
    pub lost: u64,
}

impl Reactor {
    fn new(options: &ReactorOptions) -> io::Result<(Reactor, DriverChoice)> {
        let (driver, choice) = probe::choose(options)?;
        let mut reactor = Reactor::on(driver, options.memory);
        reactor.transfers.limit_pipes();
        Ok((reactor, choice))
    }

    fn simulated(world: &SimWorld, options: &ReactorOptions) -> Reactor {
        let driver = world.driver(options.receive_buffers, options.receive_buffer_bytes);
        Reactor::on(driver, MemoryOptions::default())
    }

    fn on(driver: Box<dyn Driver>, memory: MemoryOptions) -> Reactor {
        Reactor {
            buffers: Rc::clone(driver.buffers()),
            now: driver.now(),
            driver,
            sockets: Slots::new(),
            listeners: Slots::new(),
            requests: Slots::new(),
            parked: VecDeque::new(),
            completions: Vec::new(),
            woken: Vec::new(),
            counters: Counters::default(),
            transfers: Transfers::default(),
            memory,
        }
    }

    /// Submits what was asked for since the last turn, waits for answers until `wait` after
    /// [`Reactor::now`] (`None`: until something happens), and moves the wakers to be called into
    /// `woken`.
    ///
    /// # Errors
    /// When the driver itself fails: the worker can't go on.
    pub fn turn(&mut self, wait: Option<Duration>, woken: &mut Vec<Waker>) -> io::Result<()> {
        self.rearm_parked();
        self.wake_block_waiters();
        let lingers = self.expire_lingering();
        let wait = match (wait, lingers) {
            (Some(wait), Some(lingers)) => Some(wait.min(lingers)),
            (wait, lingers) => wait.or(lingers),
        };
        // Somebody is already waiting to be woken, or in line for a buffer that is free: one that
        // was served before may have nothing to put into it, and would let the others wait on.
        let is_hurried =
            !self.woken.is_empty() || (!self.parked.is_empty() && self.buffers.free_count() > 0);
        let wait = if is_hurried {
            Some(Duration::ZERO)
        } else {
            wait
        };
        let mut completions = std::mem::take(&mut self.completions);
        let turned = self.driver.turn(wait, &mut completions);
        self.now = self.driver.now();
        self.counters.turns += 1;
        self.counters.completions += completions.len() as u64;
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        woken.append(&mut self.woken);
        turned
    }

    /// The time of the last turn, by the driver's monotonic clock.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The wall clock, now: a call of the kernel's, unlike [`Reactor::now`].
    pub fn wall_clock(&self) -> SystemTime {
        self.driver.wall_clock()
    }

    /// Which driver runs.
    pub fn kind(&self) -> DriverKind {
        self.driver.kind()
    }

    /// Ends this reactor's wait from another thread.
    pub fn wake_handle(&self) -> WakeHandle {
        self.driver.wake_handle()
    }

    /// Where the receive buffers are.
    pub fn memory(&self) -> MemoryReport {
        self.buffers.memory()
    }

    /// What happened so far.
    pub fn counters(&mut self) -> Counters {
        let overflows = self.driver.overflows();
        Counters {
            overflows: overflows.turns,
            lost: overflows.lost.into(),
            ..self.counters
        }
    }

    /// Connections, listeners and file requests that are open or in flight.
    pub fn live_count(&self) -> usize {
        self.sockets.len() + self.listeners.len() + self.requests.len()
    }

    /// Receive buffers that are at home.
    pub fn free_buffer_count(&self) -> u16 {
        self.buffers.free_count()
    }
}

fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "Reactor({}, {} live)",
            self.driver.describe(),
            self.live_count()
        )
    }
}
