//! The proxy with hooks of the program's own before it, as a service.

use super::{Completed, Exchange, Failure, Look, Prepared, Ready, Reply, Request, Service};
use crate::connection::{Passing, pass_on};
use crate::hooks::{Active, Choice, Denial, Outcome};
use crate::proxy::Outbound;
use crate::route::Values;
use ringway_http::StatusCode;
use ringway_http::head::{HeadScan, parse_head};
use ringway_http::target::Target;
use std::cell::RefCell;
use std::rc::Rc;

/// The upstream of this index, where the hooks of the other don't say something else.
#[derive(Clone, Copy)]
pub(crate) struct Hooked {
    pub(crate) upstream: usize,
    pub(crate) hooks: usize,
    /// The route that says so.
    pub(crate) route: usize,
}

/// A request whose hooks have begun.
pub(crate) struct KeptHooked {
    active: Rc<dyn Active>,
    /// The request's head as it was sent.
    head: Box<[u8]>,
}

/// What the hooks have made of a request.
enum Decided {
    /// A server is asked.
    Pass(Box<Outbound>),
    /// It is answered here.
    Answer(Ready),
}

impl Service for Hooked {
    type Kept = Box<KeptHooked>;

    fn look(&self, request: &Request<'_>) -> Look<Box<KeptHooked>> {
        Look::Later(Box::new(KeptHooked {
            active: request.worker.own.hooks[self.hooks].begin(request),
            head: request.raw.into(),
        }))
    }

    async fn answer<'e>(
        &self,
        kept: Box<KeptHooked>,
        mut exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        let active = &kept.active;
        let note = |exchange: &mut Exchange<'_>, status: StatusCode| {
            let outcome = Outcome {
                status: Some(status.as_u16()),
                body_bytes: 0,
            };
            let noted = active.log(&outcome);
            if let Some(line) = exchange.log() {
                line.note = noted;
            }
        };
        match self.decide(&kept, &exchange).await {
            Ok(Decided::Pass(mut outbound)) => {
                outbound.log = exchange.log().take();
                if let Some(line) = &mut outbound.log {
                    line.passing = Some(Passing::new(&outbound.upstream));
                }
                let forwarded = exchange.forward(outbound).await;
                // Of a client that has gone nobody has told it.
                active.log(&Outcome {
                    status: None,
                    body_bytes: 0,
                });
                forwarded
            }
            Ok(Decided::Answer(Ready(Prepared::Reply(reply)))) => {
                note(&mut exchange, reply.status());
                Ok(exchange.reply(reply).await?)
            }
            Ok(Decided::Answer(Ready(prepared))) => {
                if let Prepared::Answer(answer) = &prepared {
                    note(&mut exchange, answer.status);
                }
                Ok(exchange.conclude_prepared(prepared).await?)
            }
            Err(failure) => {
                note(&mut exchange, StatusCode::INTERNAL_SERVER_ERROR);
                Err(failure)
            }
        }
    }
}

impl Hooked {
    /// Asks the hooks about the request and about who is to get it.
    async fn decide(&self, kept: &KeptHooked, exchange: &Exchange<'_>) -> Result<Decided, Failure> {
        let worker = Rc::clone(exchange.worker());
        let mut scan = HeadScan::default();
        let parsed = parse_head(&kept.head, &mut scan, &worker.head_limits)?;
        let (head, _) = parsed.ok_or("a head that was whole")?;
        let target = Target::parse(head.method, head.target)?;
        let request = Request {
            worker: &worker,
            peer: exchange.peer(),
            head: &head,
            raw: &kept.head,
            frame: exchange.frame(),
            moment: worker.moment(ringway_runtime::now()),
            rule: &worker.config.routes[self.route].rule,
            route: Some(self.route),
            values: Values::of(&head, &target, exchange.peer()),
            user: RefCell::default(),
        };
        let edits = match kept.active.request(&request).await {
            Ok(edits) => edits,
            Err(Denial::Reply(reply)) => return Ok(Decided::from(reply)),
            Err(Denial::Failed(failure)) => return Err(failure),
        };
        let Choice { upstream, server } = kept.active.upstream(&request);
        let upstream = worker.upstream(upstream.map_or(self.upstream, |chosen| chosen.0));
        let edits = edits.over(&request.rule.request_headers);
        match pass_on(&request, Rc::clone(&upstream), &edits) {
            Look::Answer(ready) => Ok(Decided::Answer(ready)),
            Look::Later(mut outbound) => {
                if let Some(server) = server {
                    let found = upstream.position(&server);
                    let name = &upstream.config.name;
                    let found = found.ok_or_else(|| {
                        format!("the hooks chose {server:?}, which [upstream.{name}] lacks")
                    })?;
                    outbound.wanted.bound_to = Some(found);
                }
                outbound.hooks = Some(Rc::clone(&kept.active));
                Ok(Decided::Pass(outbound))
            }
        }
    }
}

impl From<Reply> for Decided {
    fn from(reply: Reply) -> Decided {
        Decided::Answer(Ready(Prepared::Reply(reply)))
    }
}
