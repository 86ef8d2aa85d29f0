//! The reverse proxy: how a request reaches a server, and the answer its client.
//!
//! In the order of a request: it is written anew as the servers are to see it (`request`, `outbound`); an
//! `upstream` says which of its servers (`known`) gets it (`balance`, by what `health` knows of them) and has a
//! connection to it or a place for a new one (`pool`); `exchange` sends the request and passes the
//! answer on (`response`, `content`); `retry` decides what may be tried again when that fails
//! (`fault`). The connection puts these together (`connection/proxied.rs`).

pub(crate) mod balance;
mod content;
mod exchange;
mod fault;
#[doc(hidden)]
pub mod fuzzed;
pub(crate) mod health;
mod known;
mod link;
mod outbound;
pub(crate) mod pool;
mod request;
mod response;
pub(crate) mod retry;
mod upstream;

pub(crate) use content::Sink;
pub(crate) use exchange::{Answered, Exchange, Failure, Trouble, Watch};
pub(crate) use fault::{FaultKind, ServerFault};
pub(crate) use health::Check;
pub(crate) use known::{KnownServer, ServiceTarget, host_of, without_repeats};
pub(crate) use outbound::Outbound;
pub(crate) use request::{Passage, asks_for_upgrade, max_forwards, write};
pub(crate) use retry::{Verdict, is_idempotent};
pub(crate) use upstream::{Attempts, Chosen, ServerView, SharedUpstream, Upstream};

/// A connection to a server in the hands of a request.
pub(crate) type Lease = pool::Lease<link::Link>;

/// A connection to a server that is still to be made.
pub(crate) type Opening = pool::Opening<link::Link>;
