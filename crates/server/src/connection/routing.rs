//! From a request to who answers it, by the listener's routes, and what a route does beside that.

use super::{Connection, End, Entered, Flow, LogLine, Work};
use crate::answer::{self, Answer, Frame};
use crate::files::{First, Moment};
use crate::route::rewrite::{edited, fixed, redirect, relocated};
use crate::route::{Action, Rule, Values, emit_fields, retargeted};
use ringway_http::StatusCode;
use ringway_http::head::{HeadScan, RequestHead, parse_head};
use ringway_http::target::{Target, TargetError};
use std::rc::Rc;

/// What a route does to the fields of an answer that isn't there yet.
#[derive(Debug)]
pub(crate) struct ResponseEdits {
    /// Which of the configuration's routes.
    pub(crate) route: usize,
    /// The fields that it sets and adds, as lines: what they say comes from the request.
    pub(crate) lines: Vec<u8>,
    /// Whether its prefix was taken off the path, and is missing where a root sends the client to
    /// another of its paths.
    is_stripped: bool,
}

/// A request with all that was found out about it.
#[derive(Clone, Copy)]
pub(super) struct Routed<'r> {
    pub(super) head: &'r RequestHead<'r>,
    pub(super) raw: &'r [u8],
    pub(super) rule: &'r Rule,
    /// Which of the configuration's routes the rule is of; `None` for what the listener names.
    pub(super) route: Option<usize>,
    pub(super) values: Values<'r>,
    pub(super) frame: Frame,
    pub(super) moment: Moment<'r>,
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
            let (work, user) = self.enter_root(root, head, raw, keep_alive, moment);
            return Entered {
                work,
                user,
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
                return Entered::answer(answer::brief(
                    error.status(),
                    frame,
                    moment.clock,
                    moment.now,
                ));
            }
        };
        let route = table.find_route(head, &target);
        let rule = match route {
            Some(route) => &self.worker.config.routes[route].rule,
            None => table.last(),
        };
        let routed = Routed {
            head,
            raw,
            rule,
            route,
            values: Values::of(head, &target, self.peer),
            frame,
            moment,
        };
        let (clock, now) = (moment.clock, moment.now);
        match &rule.action {
            Action::Files(root) => {
                let (work, user) = self.route_to_root(*root, &routed);
                let edits = routed.response_edits().map(Box::new);
                Entered { work, user, edits }
            }
            Action::Proxy(upstream) => Entered {
                work: self.pass_on(*upstream, &routed),
                user: None,
                edits: None,
            },
            Action::Redirect(to) => {
                Entered::answer(redirect(to, rule, &routed.values, frame, clock, now))
            }
            Action::Status(answer) => {
                Entered::answer(fixed(answer, rule, &routed.values, frame, clock, now))
            }
        }
    }

    /// A root, with the target that the route makes of the request's.
    fn route_to_root(&self, root: usize, routed: &Routed<'_>) -> (Work, Option<Rc<str>>) {
        let Routed {
            head,
            raw,
            frame,
            moment,
            ..
        } = *routed;
        let Some(target) = routed.changed_target() else {
            return self.enter_root(root, head, raw, frame.keep_alive, moment);
        };
        let raw = retargeted(raw, head, &target);
        let mut scan = HeadScan::default();
        let error = match parse_head(&raw, &mut scan, &self.worker.head_limits) {
            Ok(Some((head, _))) => {
                return self.enter_root(root, &head, &raw, frame.keep_alive, moment);
            }
            // A rewritten target can be longer than a target may be.
            Err(error) => error.status(),
            Ok(None) => StatusCode::URI_TOO_LONG,
        };
        let answer = answer::brief(error, frame, moment.clock, moment.now);
        (Work::Root(root, First::Answer(answer)), None)
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

impl Routed<'_> {
    /// The target that the request goes on with, if the rule changes it.
    pub(super) fn changed_target(&self) -> Option<Vec<u8>> {
        if !self.rule.changes_target() {
            return None;
        }
        let mut target = Vec::with_capacity(self.head.target.len() + 64);
        self.rule.emit_target(&self.values, &mut target);
        Some(target)
    }

    /// What the route does to the answer, if anything.
    pub(super) fn response_edits(&self) -> Option<ResponseEdits> {
        let rule = self.rule;
        let is_stripped = matches!(rule.action, Action::Files(_))
            && rule.stripped(self.values.path) != self.values.path;
        let has_some = is_stripped || !rule.response_headers.is_empty();
        let route = self.route.filter(|_| has_some)?;
        let mut lines = Vec::new();
        emit_fields(&rule.response_headers, &self.values, &mut lines);
        Some(ResponseEdits {
            route,
            lines,
            is_stripped,
        })
    }
}

impl Entered {
    /// An answer that needs nobody else.
    fn answer(answer: Answer) -> Entered {
        Entered {
            work: Work::Root(0, First::Answer(answer)),
            user: None,
            edits: None,
        }
    }
}
