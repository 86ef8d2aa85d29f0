//! A connection, or the right to open one, in the hands of one request.

use super::bounded::Place;
use super::local::Inner;
use super::shared::{Connection, Link, Standing};
use super::stats::Count;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Instant;

/// What a request gets from the pool.
#[derive(Debug)]
pub(crate) enum Leased<C: Connection> {
    /// A connection that has been used before.
    Reused(Lease<C>),
    /// No idle one is left, but a place for a new one.
    Open(Opening<C>),
}

/// The right to open one connection.
///
/// Dropping it, when connecting has failed or isn't wanted any more, gives the place back.
#[must_use = "dropping it gives the place back"]
pub(crate) struct Opening<C: Connection> {
    /// `None` once it is a lease.
    place: Option<Place>,
    pool: Rc<Inner<C>>,
}

/// A connection in use by one request, and its place with it.
///
/// Dropping it closes the connection and gives its place back: so whatever cuts a request short, a
/// connection in the middle of something is never used again. [`Lease::finish`] says that it can be.
#[must_use = "dropping it closes the connection"]
pub(crate) struct Lease<C: Connection> {
    /// `None` once it is finished.
    link: Option<Box<Link<C>>>,
    pool: Rc<Inner<C>>,
}

impl<C: Connection> Opening<C> {
    pub(super) fn new(place: Place, pool: Rc<Inner<C>>) -> Opening<C> {
        Opening {
            place: Some(place),
            pool,
        }
    }

    /// The connection is there, since `now`.
    pub(crate) fn opened(mut self, connection: C, now: Instant) -> Lease<C> {
        let place = self.place.take().expect("taken only here");
        let link = Link {
            connection,
            is_reused: false,
            standing: Standing::new(self.pool.limits(), place, now),
        };
        self.pool.counts().count(Count::Created);
        Lease::new(Box::new(link), Rc::clone(&self.pool))
    }
}

impl<C: Connection> Drop for Opening<C> {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.pool.counts().count(Count::Failed);
        }
    }
}

impl<C: Connection> Lease<C> {
    #[inline]
    pub(super) fn new(link: Box<Link<C>>, pool: Rc<Inner<C>>) -> Lease<C> {
        pool.counts().count(Count::Leased);
        Lease {
            link: Some(link),
            pool,
        }
    }

    /// Whether it has been used before: if so, the peer may have closed it without our knowing yet.
    pub(crate) fn is_reused(&self) -> bool {
        self.link().is_reused
    }

    fn link(&self) -> &Link<C> {
        self.link.as_ref().expect("taken only by its end")
    }

    /// The request is over in good order at `now`, and the connection can carry another.
    #[inline]
    pub(crate) fn finish(mut self, now: Instant) {
        let link = self.link.take().expect("finished only here");
        self.pool.counts().unlease();
        self.pool.give_back(link, now);
    }
}

impl<C: Connection> Drop for Lease<C> {
    #[inline]
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.counts().unlease();
            drop(link);
        }
    }
}

impl<C: Connection> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self
            .link
            .as_ref()
            .expect("taken only by its end")
            .connection
    }
}

impl<C: Connection> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self
            .link
            .as_mut()
            .expect("taken only by its end")
            .connection
    }
}

impl<C: Connection> fmt::Debug for Opening<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Opening")
    }
}

impl<C: Connection> fmt::Debug for Lease<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Lease(reused: {})", self.link().is_reused)
    }
}
