//! Ringway: server.

#![forbid(unsafe_code)]

pub mod admission;
pub mod config;
pub mod limits;
pub mod stats;
