//! The simulated kernel: the driver of the tests.
//!
//! A [`SimWorld`] is one process on one network, under one seed and a virtual clock. Each of its
//! workers has a driver of its own and shares the descriptor table with the others; all run on
//! one thread. Whatever a kernel may do, it does at random: short reads and writes, late and
//! reordered completions, multishot operations that end for no reason, buffers after a cancel,
//! `ENOBUFS`, `EMFILE`, resets ([`SimOptions`] says how often). A seed replays exactly: chance comes
//! from one generator, and neither the real clock nor an address decides anything.
//!
//! A broken rule of the driver contract (a descriptor closed while an operation names it, two
//! operations under one token, bytes that change while they are sent) is a panic.
//!
//! Files are real, because their names are resolved by the kernel; only the time that they take,
//! and some errors, are simulated.
//!
//! # Time
//!
//! The clock stands still until someone moves it. With several workers that is whoever steps
//! them: let each worker take turns until none has anything to do, then go on to the earlier of
//! [`SimWorld::next_event`] and the workers' own timers by [`SimWorld::advance`]. A turn then never
//! waits, whatever it was asked for. A single worker can leave it to its turns instead, by
//! [`SimWorld::set_auto_advance`].
//!
//! A worker that is drained waits inside one call, where nobody else gets a turn. So one that has
//! asked to wait a hundred times in a row, while no other worker had a turn and the clock stood
//! still, moves it too.

mod attempt;
mod driver;
mod endpoint;
mod memory;
mod network;
mod operation;
mod options;
mod random;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod transfer;

pub use options::SimOptions;

use super::Driver;
use driver::SimDriver;
use state::State;
use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use table::Resource;

/// A simulated process and its network. Cheap to clone; every clone is the same world.
///
/// With `RINGWAY_SIM_TRACE` in the environment it tells on stderr what happens.
#[derive(Clone)]
pub struct SimWorld {
    seed: u64,
    /// Instant zero of the virtual clock. The only thing taken from the real one; nothing looks at
    /// it but the translation to and from `Instant`.
    epoch: Instant,
    state: Rc<RefCell<State>>,
}

/// What an open descriptor of a [`SimWorld`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimDescriptor {
    /// It listens on this address.
    Listener(SocketAddr),
    /// It is, or was, connected.
    Connection {
        /// This side.
        local: SocketAddr,
        /// The other side.
        remote: SocketAddr,
    },
    /// A stream socket that was never connected.
    Unconnected,
}

impl SimWorld {
    /// A moderately hostile world; see [`SimOptions::default`].
    pub fn new(seed: u64) -> SimWorld {
        SimWorld::with_options(seed, SimOptions::default())
    }

    /// A world as hostile as `options` say.
    pub fn with_options(seed: u64, options: SimOptions) -> SimWorld {
        let state = Rc::new(RefCell::new(State::new(seed, options)));
        SimWorld {
            seed,
            epoch: Instant::now(),
            state,
        }
    }

    /// What it was made from: enough to make it again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How hostile it is now.
    pub fn options(&self) -> SimOptions {
        self.state.borrow().options.clone()
    }

    /// Changes how hostile it is from here on: to let it calm down, or for one scripted fault.
    pub fn set_options(&self, options: SimOptions) {
        self.state.borrow_mut().options = options;
    }

    /// The virtual clock.
    pub fn now(&self) -> Instant {
        self.instant(self.state.borrow().now)
    }

    /// The virtual wall clock. It begins with the year 2100, later than the times of the real files
    /// that a simulated program reads, and goes on with [`SimWorld::now`].
    pub fn wall_clock(&self) -> SystemTime {
        let state = self.state.borrow();
        state.wall_epoch + Duration::from_nanos(state.now)
    }

    /// Sets the wall clock, forwards or back; the monotonic one doesn't notice.
    pub fn set_wall_clock(&self, time: SystemTime) {
        let mut state = self.state.borrow_mut();
        state.wall_epoch = time - Duration::from_nanos(state.now);
    }

    /// When something can next be seen to happen: now, when a worker has completions to take, was
    /// woken, or got something in its last turn (what it makes of that is submitted in the next
    /// one). `None`: never, unless a worker does something.
    pub fn next_event(&self) -> Option<Instant> {
        let next = self.state.borrow().next_event();
        next.map(|nanoseconds| self.instant(nanoseconds))
    }

    /// Moves the clock, with everything that happens on the way. An instant in the past changes
    /// nothing.
    pub fn advance(&self, to: Instant) {
        let to = nanoseconds(to.saturating_duration_since(self.epoch));
        let mut state = self.state.borrow_mut();
        if to > state.now {
            state.lone_turns = 0;
        }
        state.advance(to);
    }

    /// Moves the clock to the next event; false when there is none. It doesn't move while a worker
    /// has something to do now: give them turns in between.
    pub fn advance_to_next_event(&self) -> bool {
        let next = self.next_event();
        if let Some(next) = next {
            self.advance(next);
        }
        next.is_some()
    }

    /// Lets a turn that waits move the clock itself, to the earlier of its own end and the next
    /// event, and lets each turn cost [`SimOptions::turn_cost`]. Default: off.
    ///
    /// A turn that waits without a limit while nothing can ever happen then fails with
    /// [`std::io::ErrorKind::Deadlock`]. One that is asked to wait while another worker of the world
    /// has something to do returns at once, so that the other can.
    pub fn set_auto_advance(&self, is_on: bool) {
        self.state.borrow_mut().is_auto_advancing = is_on;
    }

    /// All open sockets and listeners, for a test to see that none is left.
    pub fn open_descriptors(&self) -> Vec<SimDescriptor> {
        self.state.borrow_mut().close_strays();
        let state = self.state.borrow();
        let describe = |resource: &Resource| match resource {
            Resource::Listener(listener) => SimDescriptor::Listener(listener.address),
            Resource::Stream(id) => {
                let addresses = state
                    .endpoints
                    .get(id)
                    .and_then(|end| Some((end.local, end.remote?)));
                addresses.map_or(SimDescriptor::Unconnected, |(local, remote)| {
                    SimDescriptor::Connection { local, remote }
                })
            }
        };
        state
            .table
            .iter()
            .map(|(_, descriptor)| describe(&descriptor.resource))
            .collect()
    }

    /// How many operations of all workers have not had their last completion delivered.
    pub fn operations_in_flight(&self) -> usize {
        self.state.borrow().operations.len()
    }

    /// Starts to keep a record of what happens.
    pub fn record_trace(&self) {
        self.state.borrow_mut().trace.record();
    }

    /// What has happened since [`SimWorld::record_trace`], a line for each event. Two runs of one
    /// program under one seed have the same.
    pub fn trace(&self) -> Vec<String> {
        self.state.borrow().trace.lines().to_vec()
    }

    /// The driver of one more worker, with a receive pool of its own.
    pub(crate) fn driver(&self, buffer_count: u16, buffer_bytes: usize) -> Box<dyn Driver> {
        Box::new(SimDriver::new(self.clone(), buffer_count, buffer_bytes))
    }

    fn instant(&self, nanoseconds: u64) -> Instant {
        self.epoch + Duration::from_nanos(nanoseconds)
    }
}

impl fmt::Debug for SimWorld {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SimWorld(seed {})", self.seed)
    }
}

/// As a simulated clock counts; 584 years are for ever.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A bug of the code above the driver was found.
fn violation(what: fmt::Arguments<'_>) -> ! {
    panic!("driver contract broken: {what}")
}
