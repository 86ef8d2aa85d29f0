//! The server: a configuration in, answers out.
//!
//! The life of a request, and of this crate, in reading order: [`config`] is read and checked
//! against [`limits`]; `boot` binds, opens and starts the workers; in each, `worker` accepts what
//! [`admission`] lets in, `connection` parses requests out of its `input`, finds their [`route`] and
//! sends what a [`service`] answers: `files`, where [`auth`] lets somebody have them, the `proxy`, past
//! [`hooks`] if it has some, or one of a program's own ([`extensions`]); `log` and [`stats`] tell of it.

#![forbid(unsafe_code)]

pub mod admission;
mod answer;
pub mod auth;
mod boot;
mod clock;
pub mod config;
mod connection;
mod control;
pub mod explain;
pub mod extensions;
mod files;
pub mod hooks;
mod input;
pub mod limits;
pub mod log;
mod placement;
mod proxy;
pub mod route;
pub mod service;
pub mod stats;
mod worker;

/// What the proxy's pool of connections costs beside simpler ones, for benchmarks.
pub mod pool_cost {
    pub use crate::proxy::pool::cost::{Kind, cost};
}

pub use boot::{ServerError, run};
#[doc(hidden)]
pub use proxy::fuzzed;
pub use ringway_runtime::describe_kernel;
pub use worker::{Served, serve_on};
