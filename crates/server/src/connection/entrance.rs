//! From a request to what its root says of it, past the root's gate if it has one.

use super::{Connection, Work};
use crate::answer::{self, Frame};
use crate::auth::{Check, Sight, Verdict};
use crate::files::{First, Moment};
use ringway_http::StatusCode;
use ringway_http::head::{HeadScan, RequestHead, parse_head};
use std::rc::Rc;

/// A request whose password is being checked.
pub(super) struct Held {
    root: usize,
    check: Check,
    /// The request's head as it was sent.
    head: Box<[u8]>,
    keep_alive: bool,
}

impl Held {
    /// The root that it is for.
    pub(super) fn root(&self) -> usize {
        self.root
    }
}

impl Connection {
    /// What a root says of a request at first sight, and who is let in to have it. `raw` is the head
    /// as it was sent.
    pub(super) fn enter_root(
        &self,
        root: usize,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> (Work, Option<Rc<str>>) {
        let verdict = match &self.worker.gates[root] {
            None => Verdict::Admitted(None),
            Some(gate) => match gate.look(head, moment.now) {
                Sight::Decided(verdict) => verdict,
                Sight::Unknown(check) => {
                    let head = raw.into();
                    let held = Held {
                        root,
                        check,
                        head,
                        keep_alive,
                    };
                    return (Work::Password(Box::new(held)), None);
                }
            },
        };
        let (first, user) = self.ask_root(root, verdict, head, raw, keep_alive, moment);
        (Work::Root(root, first), user)
    }

    /// The same for a request that has waited for the check of its password.
    pub(super) async fn admit(&self, held: &Held) -> (First, Option<Rc<str>>) {
        let worker = &self.worker;
        let verdict = match &worker.gates[held.root] {
            None => Verdict::Admitted(None),
            Some(gate) => gate.verify(&held.check).await,
        };
        let moment = worker.moment(ringway_runtime::now());
        let mut scan = HeadScan::default();
        match parse_head(&held.head, &mut scan, &worker.head_limits) {
            Ok(Some((head, _))) => {
                let (raw, keep_alive) = (&held.head, held.keep_alive);
                self.ask_root(held.root, verdict, &head, raw, keep_alive, moment)
            }
            // The same bytes were accepted before.
            _ => {
                let (status, frame) = (StatusCode::INTERNAL_SERVER_ERROR, Frame::of_malformed());
                let answer = answer::brief(status, frame, moment.clock, moment.now);
                (First::Answer(answer), None)
            }
        }
    }

    fn ask_root(
        &self,
        root: usize,
        verdict: Verdict,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> (First, Option<Rc<str>>) {
        let mut first = self.ask_once(root, &verdict, head, raw, keep_alive, moment);
        if head.expect_continue && first.spares_body() {
            first = self.ask_for_the_last(root, &verdict, head, raw, moment);
        }
        match verdict {
            Verdict::Admitted(user) => (first, user),
            _ => (first, None),
        }
    }

    /// RFC 9110 §10.1.1: what spares the body goes out before it. Whether that follows is up to the
    /// client then, so nobody knows where the next request begins: the connection ends.
    #[cold]
    fn ask_for_the_last(
        &self,
        root: usize,
        verdict: &Verdict,
        head: &RequestHead<'_>,
        raw: &[u8],
        moment: Moment<'_>,
    ) -> First {
        self.ask_once(root, verdict, head, raw, false, moment)
    }

    fn ask_once(
        &self,
        root: usize,
        verdict: &Verdict,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
    ) -> First {
        let root = &self.worker.roots[root];
        let status = match verdict {
            Verdict::Admitted(_) => return root.answer_now(head, raw, keep_alive, moment),
            Verdict::Refused => StatusCode::UNAUTHORIZED,
            Verdict::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Verdict::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        root.turn_away(status, head, raw, keep_alive, moment)
    }
}
