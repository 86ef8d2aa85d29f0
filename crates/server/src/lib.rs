//! The server: a configuration in, answers out.
//!
//! The life of a request, and of this crate, in reading order: [`config`] is read and checked
//! against [`limits`]; `boot` binds, opens and starts the workers; in each, `worker` accepts what
//! [`admission`] lets in, `connection` parses requests out of its `input` and sends what `files` (or
//! `answer`, for errors) replies, where [`auth`] lets somebody have it; `log` and [`stats`] tell of it.

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
mod files;
mod input;
pub mod limits;
pub mod log;
mod proxy;
pub mod route;
pub mod stats;
mod worker;

pub use boot::{ServerError, run};
pub use ringway_runtime::describe_kernel;
pub use worker::{Served, serve_on};
