//! The real program, driven from outside. One module a subject; this file only lists them.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

// What the tests are made with.
mod backend;
mod client;
mod fuse;
mod network;
mod peers;
mod server;
mod transfer;
mod tree;
mod upstream;

// The tests.
mod admin;
mod auth;
mod bench;
mod changes;
mod cli;
mod codings;
mod configuration;
mod denied;
mod deploy;
mod distant;
mod downloads;
mod drained;
mod examples;
mod explain;
mod faults;
mod files;
mod hash_password;
mod headers;
mod host;
mod interrupted;
mod lifecycle;
mod listing;
mod load;
mod log_formats;
mod malformed;
mod memory;
mod names;
mod passed;
mod paths;
mod proxy;
mod proxy_attacks;
mod proxy_faults;
mod proxy_memory;
mod proxy_network;
mod proxy_peers;
mod ranges;
mod requests;
mod rfc9110;
mod routes;
mod site;
mod slowness;
mod steering;
mod transfer_denied;
mod tuning;
mod unit;
mod usage;
mod varnishtest;
mod video;
mod websocket;
mod wire;
mod workers;
