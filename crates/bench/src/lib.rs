//! The benchmark: load on a server, and what became of it.
//!
//! [`load`] is the load generator. It runs on the same runtime as the server, on threads of its own.
//!
//! Two things are kept apart everywhere, because confusing them is how benchmarks lie: a *closed*
//! loop asks again when it was answered, so a slow server is asked less; an *open* loop asks by the
//! clock, and latency counts from when a request was due (Tene, "How NOT to Measure Latency", 2013).

#![forbid(unsafe_code)]

pub mod load;
