//! What a pool counts: each worker for itself, without read-modify-write, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a server's pool stands, and what it has done since it was made; over all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PoolStats {
    /// Connections that are open or being opened.
    pub(crate) open: u32,
    /// Requests that wait for one.
    pub(crate) waiting: u32,
    /// Connections that nobody uses, with the workers and in the exchange.
    pub(crate) idle: u64,
    /// Connections that a request uses.
    pub(crate) leased: u64,
    /// Connections that were opened for a request.
    pub(crate) created: u64,
    /// Attempts to open one that failed or were given up.
    pub(crate) failed: u64,
    /// Requests that got a connection of their own worker.
    pub(crate) reused_local: u64,
    /// Requests that got a connection from the exchange.
    pub(crate) reused_exchange: u64,
    /// Connections given to the exchange.
    pub(crate) given: u64,
    /// Idle connections that turned out dead when they were wanted.
    pub(crate) dead: u64,
    /// Idle connections closed because they had been idle, or there, for too long.
    pub(crate) expired: u64,
    /// Idle connections closed because there was no room to keep them.
    pub(crate) surplus: u64,
    /// Requests refused because too many were waiting.
    pub(crate) refused: u64,
}

impl PoolStats {
    /// The share of requests that needed no new connection, from 0 to 1; `None` before the first.
    pub(crate) fn reuse_ratio(&self) -> Option<f64> {
        let reused = self.reused_local + self.reused_exchange;
        let all = reused + self.created;
        (all > 0).then(|| reused as f64 / all as f64)
    }
}

/// One of the numbers that a worker keeps.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Idle,
    Leased,
    Created,
    Failed,
    ReusedLocal,
    ReusedExchange,
    Given,
    Dead,
    Expired,
    Surplus,
    Refused,
}

const COUNT: usize = Count::Refused as usize + 1;

/// The numbers of one worker, which alone writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counts([AtomicU64; COUNT]);

impl Counts {
    /// Adds one.
    #[inline]
    pub(super) fn count(&self, count: Count) {
        let number = &self.0[count as usize];
        number.store(number.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// One connection less is leased.
    #[inline]
    pub(super) fn unlease(&self) {
        let number = &self.0[Count::Leased as usize];
        number.store(number.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// So many are idle.
    #[inline]
    pub(super) fn set_idle(&self, idle: usize) {
        self.0[Count::Idle as usize].store(idle as u64, Relaxed);
    }

    pub(super) fn add_to(&self, stats: &mut PoolStats) {
        let value = |count: Count| self.0[count as usize].load(Relaxed);
        stats.idle += value(Count::Idle);
        stats.leased += value(Count::Leased);
        stats.created += value(Count::Created);
        stats.failed += value(Count::Failed);
        stats.reused_local += value(Count::ReusedLocal);
        stats.reused_exchange += value(Count::ReusedExchange);
        stats.given += value(Count::Given);
        stats.dead += value(Count::Dead);
        stats.expired += value(Count::Expired);
        stats.surplus += value(Count::Surplus);
        stats.refused += value(Count::Refused);
    }
}
