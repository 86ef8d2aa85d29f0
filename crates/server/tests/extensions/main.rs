//! Services and hooks of a program's own, on both drivers: the two examples, and whatever a service
//! can do wrong.

#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

mod hooks;
mod program;
mod services;

#[path = "../../examples/tenants.rs"]
#[allow(dead_code, reason = "the program's own main")]
mod tenants;
#[path = "../../examples/word_count.rs"]
#[allow(dead_code, reason = "the program's own main")]
mod word_count;
