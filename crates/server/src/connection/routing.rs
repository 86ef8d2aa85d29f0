//! From a request to the service that answers it, by the listener's routes, and what a route does
//! beside that.

use super::{Connection, End, Entered, Flow, LogLine, Work};
use crate::answer::{self, Answer, Frame};
use crate::files::Moment;
use crate::route::rewrite::{edited, relocated};
use crate::route::{Action, Rule, Values};
use crate::service::{Files, Hooked, Look, Prepared, Proxy, Ready, Request, Service as _};
use ringway_http::head::RequestHead;
use ringway_http::target::{Target, TargetError};
use std::cell::RefCell;

/// What a route does to the fields of an answer that isn't there yet.
#[derive(Debug)]
pub(crate) struct ResponseEdits {
    /// Which of the configuration's routes.
    pub(crate) route: usize,
    /// The fields that it sets and adds, as lines: what they say comes from the request.
    pub(crate) lines: Vec<u8>,
    /// Whether its prefix was taken off the path, and is missing where a root sends the client to
    /// another of its paths.
    pub(crate) is_stripped: bool,
}

impl Connection {
    /// Decides who answers a request, and has that at first sight. `raw` is the head as it was sent.
    #[inline]
    pub(super) fn enter(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> Entered {
        let table = &self.worker.tables[self.listener];
        if let Some(rule) = table.only()
            && let Action::Files(root) = rule.action
        {
            // Such a rule looks at nothing of the target, and changes nothing.
            let values = Values {
                client_ip: self.peer,
                scheme: "http",
                host: b"",
                method: "",
                path: b"/",
                query: None,
                is_asterisk: false,
            };
            let request = Request {
                worker: &self.worker,
                peer: self.peer,
                head,
                raw,
                frame: Frame::of(head, keep_alive),
                moment,
                rule,
                route: None,
                values,
                user: RefCell::default(),
            };
            let work = Files(root)
                .look(&request)
                .into_work(Work::Files, Files(root));
            return Entered {
                work,
                user: request.user.into_inner(),
                edits: None,
            };
        }
        self.route(head, raw, keep_alive, moment)
    }

    /// The same where it has to be looked up, or isn't a root.
    fn route(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> Entered {
        let table = &self.worker.tables[self.listener];
        let frame = Frame::of(head, keep_alive);
        let target = match Target::parse(head.method, head.target) {
            Ok(target) => target,
            // A server may well have names with such in them, and no decision here depends on them.
            Err(TargetError::EncodedSlash | TargetError::Backslash)
                if table.only().is_some() && head.target.starts_with(b"/") =>
            {
                Target::Asterisk
            }
            Err(error) => {
                // Spares a body as any refusal does.
                let frame = Frame {
                    keep_alive: keep_alive && !head.expect_continue,
                    ..frame
                };
                let answer = answer::brief(error.status(), frame, moment.clock, moment.now);
                return Entered {
                    work: Work::Ready(Prepared::Answer(answer)),
                    user: None,
                    edits: None,
                };
            }
        };
        let route = table.find_route(head, &target);
        let rule: &Rule = match route {
            Some(route) => &self.worker.config.routes[route].rule,
            None => table.last(),
        };
        let request = Request {
            worker: &self.worker,
            peer: self.peer,
            head,
            raw,
            frame,
            moment,
            rule,
            route,
            values: Values::of(head, &target, self.peer),
            user: RefCell::default(),
        };
        self.look(&request)
    }

    /// Has the service of a request's rule look at it.
    fn look(&self, request: &Request<'_>) -> Entered {
        let work = match &request.rule.action {
            Action::Files(root) => {
                let files = Files(*root);
                files.look(request).into_work(Work::Files, files)
            }
            Action::Proxy(upstream) => match (request.rule.hooks, request.route) {
                (Some(hooks), Some(route)) => {
                    let hooked = Hooked {
                        upstream: *upstream,
                        hooks,
                        route,
                    };
                    hooked.look(request).into_work(Work::Hooked, hooked)
                }
                // The usual case. What its route does to the answer, the proxy has seen to.
                _ => {
                    let proxy = Proxy(*upstream);
                    return Entered {
                        work: proxy.look(request).into_work(Work::Proxy, proxy),
                        user: None,
                        edits: None,
                    };
                }
            },
            Action::Redirect(redirect) => redirect
                .look(request)
                .into_work(|_, never| match never {}, ()),
            Action::Status(answer) => answer
                .look(request)
                .into_work(|_, never| match never {}, ()),
            Action::Service(index) => {
                let service = &self.worker.own.services[*index];
                service.look(request).into_work(Work::Own, *index)
            }
        };
        // These have made the fields of their answers themselves.
        let is_edited = match request.rule.action {
            Action::Redirect(_) | Action::Status(_) => true,
            Action::Files(_) | Action::Proxy(_) | Action::Service(_) => false,
        };
        let edits = match is_edited {
            true => None,
            false => request.response_edits().map(Box::new),
        };
        Entered {
            work,
            user: request.user.take(),
            edits,
        }
    }

    /// Concludes a request with an answer that its route may change.
    pub(super) async fn conclude_edited(
        &mut self,
        mut answer: Answer,
        edits: Option<Box<ResponseEdits>>,
        log: Option<LogLine>,
    ) -> Result<Flow, End> {
        if let Some(edits) = edits.as_deref() {
            let rule = &self.worker.config.routes[edits.route].rule;
            let prefix = rule.strip_prefix.as_deref();
            let missing = prefix.filter(|_| edits.is_stripped && answer.status.is_redirection());
            if missing.is_some() || !rule.response_headers.is_empty() {
                let mut message = Vec::with_capacity(answer.message.byte_count());
                answer.message.append_to(&mut message);
                if let Some(prefix) = missing {
                    message = relocated(&message, prefix);
                }
                answer.message = edited(&message, &rule.response_headers, &edits.lines).into();
            }
        }
        self.conclude(answer, log).await
    }
}

impl<Kept> Look<Kept> {
    /// What is left to be done, by `service` if it has kept something.
    #[inline]
    fn into_work<S>(self, later: impl FnOnce(S, Kept) -> Work, service: S) -> Work {
        match self {
            Look::Answer(Ready(prepared)) => Work::Ready(prepared),
            Look::Later(kept) => later(service, kept),
        }
    }
}
