//! The benchmark: load on a server, and what became of it.
//!
//! [`load`] is the load generator. It runs on the same runtime as the server, on threads of its own.
//! With it
//! [`scenarios`] measure what is claimed of servers: each runs [`comparison`]s of
//! [`contestant`]s, which are [`server`]s started one after the other, in a [`setting`] that is the
//! same for all. [`report`] tells what came of it.
//!
//! Two things are kept apart everywhere, because confusing them is how benchmarks lie: a *closed*
//! loop asks again when it was answered, so a slow server is asked less; an *open* loop asks by the
//! clock, and latency counts from when a request was due (Tene, "How NOT to Measure Latency", 2013).

#![forbid(unsafe_code)]

pub mod campaign;
pub mod comparison;
pub mod contestant;
pub mod load;
pub mod outcome;
pub mod peers;
pub mod report;
pub mod scenarios;
pub mod server;
pub mod setting;
pub mod statistics;

pub use ringway_kernel::yardstick;
