//! The reverse proxy: how a request reaches a server, and the answer its client.
//!
//! In the order of a request: `balance` says which server, by what `health` knows of them; `pool`
//! has a connection to it or a place for a new one; `retry` decides what may be tried again.

#[allow(dead_code, unused_imports, reason = "the data path comes next")]
pub(crate) mod balance;
#[allow(dead_code, unused_imports, reason = "the data path comes next")]
pub(crate) mod health;
#[allow(dead_code, unused_imports, reason = "the data path comes next")]
pub(crate) mod pool;
#[allow(dead_code, unused_imports, reason = "the data path comes next")]
pub(crate) mod retry;
