//! What all workers share of a server's pool: the places, the exchange and the counts.

use super::bounded::Place;
use super::demand::Demand;
use super::parts::Queue;
use super::stats::{Counts, PoolStats};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the pool has to know about a connection.
///
/// The pool calls these outside of all its borrows; they may do what they like but wait.
pub(crate) trait Connection: Sized + 'static {
    /// The connection while it belongs to no worker.
    type Detached: Send;

    /// Takes the connection from its worker, so that another can have it. `then` gets it, at once or
    /// when what the worker had under way on it has been called back; or the reason why it can't
    /// leave any more: then it has been closed, and its place gets free.
    fn detach(self, then: impl FnOnce(io::Result<Self::Detached>) + 'static);

    /// Takes the connection into the worker that calls.
    ///
    /// # Errors
    /// When that isn't possible; then it is closed, and counts as one that was dead.
    fn attach(detached: Self::Detached) -> io::Result<Self>;

    /// Whether a request can still be sent on it: the peer hasn't closed it, nor sent anything that
    /// nobody asked for.
    fn is_alive(&mut self) -> bool;
}

/// The bounds of the pool of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolLimits {
    /// Connections that are open or being opened, in all workers; at least 1.
    pub(crate) connections: u32,
    /// Idle connections that a worker keeps for itself; 0 gives each to the exchange.
    pub(crate) idle_per_worker: usize,
    /// Idle connections in the exchange of a node. What doesn't fit is closed; with 0, what nobody
    /// waits for.
    pub(crate) exchange: usize,
    /// How long a connection may be idle and still be used again.
    pub(crate) idle_timeout: Duration,
    /// How old a connection may be and still be used again.
    pub(crate) lifetime: Duration,
    /// Requests that wait for a connection, in all workers; beyond it they are refused at once. 0
    /// lets nobody wait.
    pub(crate) waiting: u32,
}

/// One server's pool, as far as the workers share it. `D` is a detached connection.
pub(crate) struct Shared<D> {
    pub(super) limits: PoolLimits,
    pub(super) demand: Arc<Demand>,
    /// One for each NUMA node.
    pub(super) exchanges: Box<[Queue<Exchanged<D>>]>,
    /// The node of each worker.
    pub(super) nodes: Box<[usize]>,
    pub(super) counts: Box<[Counts]>,
    /// Where the pool's time begins.
    epoch: Instant,
}

/// An open connection in its worker. It lives in a box from when it is opened: what passes through
/// hands with every request is a pointer, however large a connection is.
pub(super) struct Link<C> {
    pub(super) connection: C,
    /// Whether a request has used it before the one that does, or will do, now.
    pub(super) is_reused: bool,
    pub(super) standing: Standing,
}

/// An idle connection on its way between workers.
pub(super) struct Exchanged<D> {
    pub(super) connection: D,
    pub(super) standing: Standing,
}

/// What comes with an open connection, whichever worker has it.
///
/// The times when it ends, not those when something began: so each use compares once.
pub(super) struct Standing {
    /// When it has been there for too long.
    pub(super) dies: Instant,
    /// When it has been idle, or there, for too long.
    pub(super) expires: Instant,
    // Last, so that a connection is closed before its place is free.
    pub(super) _place: Place,
}

impl Standing {
    /// Of a connection that is there since `now`.
    pub(super) fn new(limits: &PoolLimits, place: Place, now: Instant) -> Standing {
        let dies = later(now, limits.lifetime);
        Standing {
            dies,
            expires: dies,
            _place: place,
        }
    }

    /// It is idle since `now`. False when it is too old to be used again.
    pub(super) fn rest(&mut self, limits: &PoolLimits, now: Instant) -> bool {
        self.expires = self.dies.min(later(now, limits.idle_timeout));
        now < self.dies
    }

    /// Whether it may be used again.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.expires
    }
}

/// `now` and some time; where that can't be told as a time, one that nobody lives to see.
fn later(now: Instant, time: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(time).unwrap_or_else(|| now + AGES)
}

impl<D> Shared<D> {
    /// Nothing is open yet. `nodes` has the NUMA node of each worker, counted from 0; one exchange
    /// is made for each up to the highest.
    ///
    /// # Panics
    /// When there is no worker, or when a limit is 0 where that has no meaning.
    pub(crate) fn new(limits: PoolLimits, nodes: &[usize], now: Instant) -> Arc<Shared<D>> {
        assert!(limits.connections > 0, "a server without connections");
        let nodes_count = 1 + nodes.iter().max().expect("a pool without workers");
        // No more can be there than are open; and what somebody waits for goes through it always.
        let room = limits.exchange.clamp(1, limits.connections as usize);
        Arc::new(Shared {
            limits,
            demand: Arc::new(Demand::new(limits.connections, limits.waiting, nodes.len())),
            exchanges: (0..nodes_count).map(|_| Queue::new(room)).collect(),
            nodes: nodes.into(),
            counts: nodes.iter().map(|_| Counts::default()).collect(),
            epoch: now,
        })
    }

    /// What the pool has counted, and how it stands. Takes no lock; each number is right by itself.
    pub(crate) fn stats(&self) -> PoolStats {
        let mut stats = PoolStats {
            open: self.demand.places.count(),
            waiting: self.demand.waiting.count(),
            ..PoolStats::default()
        };
        for counts in &self.counts {
            counts.add_to(&mut stats);
        }
        let exchanged: usize = self.exchanges.iter().map(Queue::len).sum();
        stats.idle += exchanged as u64;
        stats
    }

    /// Whether there is something that a worker could take: a look, and no promise.
    pub(super) fn has_supply(&self) -> bool {
        self.demand.places.has_room() || self.exchanges.iter().any(|queue| !queue.is_empty())
    }

    /// `time` in nanoseconds of the pool's own.
    pub(super) fn nanoseconds(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.epoch);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<D> fmt::Debug for Shared<D> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Shared({:?})", self.stats())
    }
}
