//! Files as a service: past the root's gate if it has one, to what the root says of a request.

use super::{Completed, Exchange, Failure, Look, Prepared, Ready, Request, Service};
use crate::answer::{self, Answer, Frame};
use crate::auth::{Check, Sight, Verdict};
use crate::files::{First, Lookup, Moment};
use crate::route::retargeted;
use crate::worker::Worker;
use ringway_http::StatusCode;
use ringway_http::head::{HeadScan, RequestHead, parse_head};
use std::rc::Rc;

/// The root of this index.
#[derive(Clone, Copy)]
pub(crate) struct Files(pub(crate) usize);

/// A request whose answer isn't in memory.
pub(crate) enum KeptFile {
    /// First of all, a password has to be checked.
    Password(Box<Held>),
    /// The answer, from an open file.
    Open(Answer),
    /// A file has to be looked at.
    Lookup(Box<Lookup>),
}

/// A request whose password is being checked.
pub(crate) struct Held {
    check: Check,
    /// The request's head as it was sent.
    head: Box<[u8]>,
    keep_alive: bool,
}

/// A head as a root reads it: of the request, or with the target that its route makes of that.
#[derive(Clone, Copy)]
struct Asked<'r> {
    head: &'r RequestHead<'r>,
    raw: &'r [u8],
}

impl Service for Files {
    type Kept = KeptFile;

    #[inline]
    fn look(&self, request: &Request<'_>) -> Look<KeptFile> {
        let Some(target) = request.changed_target() else {
            let (head, raw) = (request.head, request.raw);
            return self.enter(request, Asked { head, raw });
        };
        let raw = &*retargeted(request.raw, request.head, &target);
        let mut scan = HeadScan::default();
        let error = match parse_head(raw, &mut scan, &request.worker.head_limits) {
            Ok(Some((head, _))) => return self.enter(request, Asked { head: &head, raw }),
            // A rewritten target can be longer than a target may be.
            Err(error) => error.status(),
            Ok(None) => StatusCode::URI_TOO_LONG,
        };
        let (frame, moment) = (request.frame_of(error), request.moment);
        Look::answer(answer::brief(error, frame, moment.clock, moment.now))
    }

    async fn answer<'e>(
        &self,
        kept: KeptFile,
        mut exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        let worker = Rc::clone(exchange.worker());
        let mut first = match kept {
            KeptFile::Open(answer) => First::Open(answer),
            KeptFile::Lookup(lookup) => First::Lookup(lookup),
            KeptFile::Password(held) => {
                let (first, user) = self.admit(&held, &worker).await;
                if let Some(line) = exchange.log() {
                    line.user = user;
                }
                first
            }
        };
        if exchange.expects_continue() {
            first = match self.foresee(first, &worker).await {
                Ok(refusal) => return Ok(exchange.conclude(refusal).await?),
                Err(undecided) => undecided,
            };
        }
        exchange.discard_body().await?;
        let answer = match first {
            First::Answer(answer) | First::Open(answer) => answer,
            First::Lookup(lookup) => worker.roots[self.0].look_up(&lookup, &worker.clock).await,
        };
        Ok(exchange.conclude(answer).await?)
    }
}

impl Files {
    /// What a root says of a request at first sight, if who asks is let in to have it.
    #[inline]
    fn enter(self, request: &Request<'_>, asked: Asked<'_>) -> Look<KeptFile> {
        let worker = request.worker;
        let keep_alive = request.frame.keep_alive;
        let verdict = match &worker.gates[self.0] {
            None => Verdict::Admitted(None),
            Some(gate) => match gate.look(asked.head, request.moment.now) {
                Sight::Decided(verdict) => verdict,
                Sight::Unknown(check) => {
                    let head = asked.raw.into();
                    let held = Held {
                        check,
                        head,
                        keep_alive,
                    };
                    return Look::Later(KeptFile::Password(Box::new(held)));
                }
            },
        };
        let first = self.ask(&verdict, asked, keep_alive, worker, request.moment);
        if let Verdict::Admitted(Some(user)) = verdict {
            request.user.replace(Some(user));
        }
        match first {
            First::Answer(answer) => Look::Answer(Ready(Prepared::Answer(answer))),
            First::Open(answer) => Look::Later(KeptFile::Open(answer)),
            First::Lookup(lookup) => Look::Later(KeptFile::Lookup(lookup)),
        }
    }

    /// The same for a request that has waited for the check of its password; and who was let in.
    async fn admit(self, held: &Held, worker: &Worker) -> (First, Option<Rc<str>>) {
        let verdict = match &worker.gates[self.0] {
            None => Verdict::Admitted(None),
            Some(gate) => gate.verify(&held.check).await,
        };
        let moment = worker.moment(ringway_runtime::now());
        let mut scan = HeadScan::default();
        let Ok(Some((head, _))) = parse_head(&held.head, &mut scan, &worker.head_limits) else {
            // The same bytes were accepted before.
            let (status, frame) = (StatusCode::INTERNAL_SERVER_ERROR, Frame::of_malformed());
            let answer = answer::brief(status, frame, moment.clock, moment.now);
            return (First::Answer(answer), None);
        };
        let asked = Asked {
            head: &head,
            raw: &held.head,
        };
        let first = self.ask(&verdict, asked, held.keep_alive, worker, moment);
        match verdict {
            Verdict::Admitted(user) => (first, user),
            _ => (first, None),
        }
    }

    fn ask(
        self,
        verdict: &Verdict,
        asked: Asked<'_>,
        keep_alive: bool,
        worker: &Worker,
        moment: Moment<'_>,
    ) -> First {
        let first = self.ask_once(verdict, asked, keep_alive, worker, moment);
        if asked.head.expect_continue && first.spares_body() {
            return self.ask_for_the_last(verdict, asked, worker, moment);
        }
        first
    }

    /// As [`Request::frame_of`] has it for answers without a body.
    #[cold]
    fn ask_for_the_last(
        self,
        verdict: &Verdict,
        asked: Asked<'_>,
        worker: &Worker,
        moment: Moment<'_>,
    ) -> First {
        self.ask_once(verdict, asked, false, worker, moment)
    }

    fn ask_once(
        self,
        verdict: &Verdict,
        asked: Asked<'_>,
        keep_alive: bool,
        worker: &Worker,
        moment: Moment<'_>,
    ) -> First {
        let Asked { head, raw } = asked;
        let root = &worker.roots[self.0];
        let status = match verdict {
            Verdict::Admitted(_) => return root.answer_now(head, raw, keep_alive, moment),
            Verdict::Refused => StatusCode::UNAUTHORIZED,
            Verdict::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Verdict::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        root.turn_away(status, head, raw, keep_alive, moment)
    }

    /// The answer to a request whose body the client asks leave to send, if it is clear from the
    /// head that it has none; the connection ends with it. Else what it was before.
    async fn foresee(self, first: First, worker: &Worker) -> Result<Answer, First> {
        let mut lookup = match first {
            First::Answer(answer) if answer.spares_body() => return Ok(answer),
            First::Answer(_) | First::Open(_) => return Err(first),
            First::Lookup(lookup) => lookup,
        };
        let keep_alive = std::mem::replace(&mut lookup.frame.keep_alive, false);
        let answer = worker.roots[self.0].look_up(&lookup, &worker.clock).await;
        if answer.spares_body() {
            return Ok(answer);
        }
        // The file isn't held while the body comes, which may take long.
        lookup.frame.keep_alive = keep_alive;
        Err(First::Lookup(lookup))
    }
}
