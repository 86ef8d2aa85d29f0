//! The runtime on the real kernel: every test runs on io_uring and on epoll, with the same
//! expectation.
//!
//! Where io_uring is refused, its half says SKIP and why. Waits are for conditions, with a generous
//! bound; nothing depends on how fast the machine is. What counts descriptors or lowers limits runs
//! in a process of its own ([`harness::Case::alone`]).

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

#[macro_use]
mod harness;

mod closing;
mod examples;
mod files;
mod forwards;
mod handover;
mod listeners;
mod overflow;
mod relays;
mod slots;
mod starvation;
mod streams;
mod tasks;
mod teardown;
mod threads;
mod timers;
mod transfers;
