//! Who answers requests: the trait [`Service`], which files, proxy, redirects and fixed answers
//! implement as a program's own services do.
//!
//! A request lies in a buffer that many connections share, so it is looked at twice. First where it
//! lies, without a wait ([`Service::look`]): what can be answered from memory is, and of the others
//! what is needed is kept. Then, if need be, at leisure ([`Service::answer`]), with an [`Exchange`]
//! through which the body comes and the answer goes. That there was one answer, and a whole one, is
//! proved by the result: [`Completed`] comes from the exchange alone.
//!
//! ```
//! use ringway_server::service::{Completed, Exchange, Failure, Look, Reply, Request, Service, StatusCode};
//!
//! /// Says how many bytes it was sent.
//! struct Counting;
//!
//! impl Service for Counting {
//!     /// Nothing of the head is needed for the answer.
//!     type Kept = ();
//!
//!     fn look(&self, request: &Request<'_>) -> Look<()> {
//!         match request.has_body() {
//!             true => Look::Later(()),
//!             false => Reply::new(StatusCode::OK).text("0\n").into(),
//!         }
//!     }
//!
//!     async fn answer<'e>(&self, _: (), mut exchange: Exchange<'e>) -> Result<Completed<'e>, Failure> {
//!         let mut count = 0;
//!         while let Some(piece) = exchange.receive().await? {
//!             count += piece.len();
//!         }
//!         Ok(exchange.reply(Reply::new(StatusCode::OK).text(format!("{count}\n"))).await?)
//!     }
//! }
//! ```
//!
//! What a service of one's own sends is in its memory, whole or piece by piece. It can't send a file as
//! the built-in service does: what that knows of a file (its tag, its codings, whether it changes under
//! way, that no path leads out of the root) holds for a root of the configuration and for bytes that
//! go out as they lie there. A service that decides which file it is sends its client there, by a
//! redirect.
//!
//! What is built in is known at compile time (`builtin`, `files`), what a program adds is boxed
//! ([`extensions`](crate::extensions)); how a request gets to either is in `connection/routing.rs`.

mod builtin;
mod files;
mod hooked;
mod reply;
mod request;

pub use crate::connection::{BodyWriter, Completed, Exchange, ExchangeError};
pub(crate) use builtin::Proxy;
pub(crate) use files::{Files, KeptFile};
pub(crate) use hooked::{Hooked, KeptHooked};
pub(crate) use reply::has_no_content;
pub use reply::{InvalidMessage, Reply, check_field};
pub use request::{OwnedRequest, Request};
pub use ringway_http::StatusCode;
pub use ringway_http::head::Method;

use crate::answer::Answer;

/// Why a service has no answer. Whatever is an error becomes one by `?`; the client gets a 500, or
/// is cut off where its answer has begun, and an event tells of it.
pub type Failure = Box<dyn std::error::Error>;

/// Answers requests. One is made for each worker, and stays there: neither it nor its futures need
/// be `Send`.
///
/// A panic ends the connection that it happened on, and no other. How long a service may wait for
/// others than its client is its own to bound ([`ringway_runtime::timeout`]).
pub trait Service {
    /// What is kept of a request from its first sight to its answer: what the answer depends on, or
    /// all of it ([`Request::to_owned`]).
    type Kept: 'static;

    /// Looks at a request where it lies. What can be answered at once, without waiting for anything,
    /// is: that costs no more than the answer itself. A body is thrown away then.
    fn look(&self, request: &Request<'_>) -> Look<Self::Kept>;

    /// Answers what [`Service::look`] has left for later.
    ///
    /// # Errors
    /// Whatever is in the way. What goes wrong with the client comes from the exchange, and has its
    /// own answer.
    #[expect(
        async_fn_in_trait,
        reason = "a worker's futures stay on it, so no bound is missing"
    )]
    async fn answer<'e>(
        &self,
        kept: Self::Kept,
        exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure>;
}

/// What comes of a first look at a request.
pub enum Look<Kept> {
    /// Its answer.
    Answer(Ready),
    /// What its answer needs of it.
    Later(Kept),
}

/// An answer that waits for nothing: a [`Reply`], or a built-in service's own.
pub struct Ready(pub(crate) Prepared);

pub(crate) enum Prepared {
    Answer(Answer),
    Reply(Reply),
}

impl<Kept> Look<Kept> {
    /// A built-in service's answer.
    #[inline]
    pub(crate) fn answer(answer: Answer) -> Look<Kept> {
        Look::Answer(Ready(Prepared::Answer(answer)))
    }
}

impl<Kept> From<Reply> for Look<Kept> {
    fn from(reply: Reply) -> Look<Kept> {
        Look::Answer(Ready(Prepared::Reply(reply)))
    }
}
