//! The host crate on generated trees: facts, placement, checks, plans, and their undoing.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod fixture;

mod capture;
mod doctor;
mod documentation;
mod facts;
mod matrix;
mod persist;
mod placement;
mod queues;
mod server;
mod tune;
mod vectors;
