//! The reverse proxy: how a request reaches a server, and the answer its client.
//!
//! In the order of a request: `balance` says which server, by what `health` knows of them; `pool`
//! has a connection to it or a place for a new one; `retry` decides what may be tried again.

pub(crate) mod balance;
pub(crate) mod health;
pub(crate) mod pool;
pub(crate) mod retry;
