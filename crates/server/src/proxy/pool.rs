//! Connections to a server that are open, and how many there may be.
//!
//! Two levels. Each worker keeps the connections that it used last, on a stack of its own, without
//! an atomic operation ([`Local`]). What it has beyond its bound, or what another worker waits for,
//! goes through an exchange between workers: a lock-free queue for each NUMA node ([`Shared`]). So
//! that no worker opens what another has idle when the server is at its limit, and none keeps
//! from another what it doesn't use.
//!
//! Every open connection holds a [`Place`], from before it is connected until after it is closed,
//! whatever ends it. Where neither an idle connection nor a place is left, a request waits in a
//! bounded line ([`Wait`]): first come, first served in its worker, and between workers those who
//! have waited longest. [`demand`] argues why no wake-up is lost, and the tests walk through it.
//!
//! Nothing here connects, knows a socket or reads a clock: `C` is whatever [`Connection`] says, and
//! callers say what time it is.

mod bounded;
pub(crate) mod cost;
mod demand;
mod lease;
mod local;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod waits;

/// What the pool is made of: its own module, so that the tests can give it loom's atomics.
mod parts {
    pub(super) use crossbeam_queue::ArrayQueue as Queue;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

pub(crate) use lease::{Lease, Leased, Opening};
pub(crate) use local::{Keeper, Local};
pub(crate) use shared::{Connection, PoolLimits, Shared};
pub(crate) use stats::PoolStats;
