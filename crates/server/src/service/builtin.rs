//! The proxy, redirects and fixed answers as services.

use super::{Completed, Exchange, Failure, Look, Request, Service};
use crate::connection::pass_on;
use crate::proxy::Outbound;
use crate::route::rewrite::{fixed, redirect};
use crate::route::{FixedAnswer, Redirect};
use ringway_http::StatusCode;
use std::convert::Infallible;

/// The upstream of this index.
#[derive(Clone, Copy)]
pub(crate) struct Proxy(pub(crate) usize);

impl Service for Proxy {
    /// The request as it goes out.
    type Kept = Box<Outbound>;

    #[inline]
    fn look(&self, request: &Request<'_>) -> Look<Box<Outbound>> {
        let upstream = request.worker.upstream(self.0);
        pass_on(request, upstream, &request.rule.request_headers)
    }

    async fn answer<'e>(
        &self,
        kept: Box<Outbound>,
        exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        exchange.forward(kept).await
    }
}

impl Service for Redirect {
    /// All of them are answered at first sight.
    type Kept = Infallible;

    fn look(&self, request: &Request<'_>) -> Look<Infallible> {
        let (frame, moment) = (request.frame_of(StatusCode::FOUND), request.moment);
        let (rule, values) = (request.rule, &request.values);
        Look::answer(redirect(
            self,
            rule,
            values,
            frame,
            moment.clock,
            moment.now,
        ))
    }

    async fn answer<'e>(
        &self,
        kept: Infallible,
        _: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        match kept {}
    }
}

impl Service for FixedAnswer {
    /// All of them are answered at first sight.
    type Kept = Infallible;

    fn look(&self, request: &Request<'_>) -> Look<Infallible> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::NOT_FOUND);
        let (frame, moment) = (request.frame_of(status), request.moment);
        let (rule, values) = (request.rule, &request.values);
        Look::answer(fixed(self, rule, values, frame, moment.clock, moment.now))
    }

    async fn answer<'e>(
        &self,
        kept: Infallible,
        _: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        match kept {}
    }
}
