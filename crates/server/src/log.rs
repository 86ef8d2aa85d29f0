//! The two logs.
//!
//! The *access log* has a line for each request ([`Entry`]). A worker formats it into a buffer of
//! its own ([`WorkerLog`]) and hands full buffers to one thread ([`LogThread`]), which alone waits
//! for the disk or the pipe. What that thread can't keep up with is dropped and counted; serving
//! goes on.
//!
//! The *event log* is `tracing`, on standard error ([`init_events`]): start, stop, refused
//! connections, the server's own faults. Never something for each request, and what could come in
//! a flood goes through a [`Throttle`].

mod access;
mod events;
mod format;
mod line;

pub use access::{LogThread, WorkerLog};
pub use events::{Throttle, events_lost, init_events};
pub use format::Format;
pub(crate) use format::{WORDS as FORMAT_WORDS, variables};
pub use line::{Entry, Passed};
