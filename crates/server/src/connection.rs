//! One connection: requests in, answers out, one after the other.
//!
//! The fast path is straight: a head is parsed in the buffer it was received in, answered from
//! memory, and sent with one call; then the connection waits for the next. Whatever else a request
//! needs (a body to be read, a file to be opened, bytes to be streamed) happens in boxed futures,
//! so that an idle connection's own stays small.
//!
//! In the order of a request: this file, [`entrance`], [`body`], [`delivery`], [`end`].

mod body;
mod delivery;
mod end;
mod entrance;
mod proxied;
mod routing;

use end::Refusal;
use entrance::Held;

pub(crate) use end::End;
pub(crate) use routing::ResponseEdits;

use crate::answer::{self, Answer, Frame};
use crate::files::{First, Hit, Moment};
use crate::input::Input;
use crate::log::{Entry as LogEntry, Passed};
use crate::proxy::{FaultKind, Outbound, Upstream};
use crate::stats::Counter;
use crate::worker::{Place, Worker};
use ringway_http::StatusCode;
use ringway_http::head::{Framing, HeadScan, Method, RequestHead, parse_head};
use ringway_runtime::{Buffer, Outgoing, TcpStream};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// One client's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    worker: Rc<Worker>,
    /// Where it came in: which of the configuration's listeners.
    listener: usize,
    peer: IpAddr,
    input: Input,
    scan: HeadScan,
    /// Answers that wait for the input to be used up.
    gathered: Vec<u8>,
    requests: u32,
    place: Place,
}

/// Where a connection stands when a request has been dealt with.
enum Flow {
    /// Ready for the next.
    Continue,
    /// The client won't send anything more.
    Silence,
    /// That answer was the last, for this reason; the client may still be sending.
    Last(End),
}

/// What a connection has to wait for next.
enum Step {
    /// Nothing: the request at hand was dealt with.
    Done(Flow),
    /// That a message has its turn.
    Send(Box<Outgoing>, Flow),
    /// That this is said.
    Refuse(Refusal),
    /// The rest of a head.
    CompleteHead,
    /// Whatever a request needs.
    Serve(Box<Special>),
    /// The answer of an upstream's server.
    Forward(Box<Outbound>),
}

/// A request that can't be answered from memory alone.
struct Special {
    framing: Framing,
    expects_continue: bool,
    is_head: bool,
    work: Work,
    /// What the route does to the answer's fields.
    edits: Option<Box<ResponseEdits>>,
    log: Option<LogLine>,
}

/// What is left to be done for an answer.
enum Work {
    /// What the root of this index says, which may be the answer.
    Root(usize, First),
    /// First of all, a password has to be checked.
    Password(Box<Held>),
    /// A server of an upstream has to be asked.
    Proxy(Box<Outbound>),
}

/// A request that was looked at: what has to be done, who was let in, and what is done to the
/// answer.
struct Entered {
    work: Work,
    user: Option<Rc<str>>,
    edits: Option<Box<ResponseEdits>>,
}

/// What the access log will want of a request when its answer is known.
#[derive(Debug)]
pub(crate) struct LogLine {
    /// The head as it was sent: parsed again, which is cheaper than keeping its parts.
    head: Box<[u8]>,
    begun: Option<Instant>,
    /// Who was let in.
    user: Option<Rc<str>>,
    /// What became of it with its upstream.
    pub(crate) passing: Option<Passing>,
}

/// What the access log will want of a request that is passed on.
#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) upstream: Rc<Upstream>,
    /// The one that was asked last.
    pub(crate) server: Option<usize>,
    pub(crate) status: Option<u16>,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) fault: Option<FaultKind>,
    pub(crate) attempts: u32,
}

impl Passing {
    fn new(upstream: &Rc<Upstream>) -> Passing {
        Passing {
            upstream: Rc::clone(upstream),
            server: None,
            status: None,
            connect: None,
            first_byte: None,
            fault: None,
            attempts: 0,
        }
    }

    fn passed(&self) -> Passed<'_> {
        Passed {
            server: self.server.map(|server| self.upstream.label(server)),
            status: self.status,
            connect: self.connect,
            first_byte: self.first_byte,
            fault: self.fault.map(FaultKind::word),
            attempts: self.attempts,
        }
    }
}

impl Connection {
    pub(crate) fn new(
        stream: TcpStream,
        worker: Rc<Worker>,
        listener: usize,
        peer: IpAddr,
        place: Place,
    ) -> Connection {
        Connection {
            stream,
            worker,
            listener,
            peer,
            input: Input::default(),
            scan: HeadScan::default(),
            gathered: Vec::new(),
            requests: 0,
            place,
        }
    }

    /// Serves the connection to its end.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice, as given and as used (rust-lang/rust#62958)"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> {
        async move {
            let served = self.serve().await;
            let ended = match served {
                Ok(flow) => Box::pin(self.finish(flow)).await,
                Err(end) => Err(end),
            };
            let end = ended.err().unwrap_or(End::Orderly);
            self.place.count_end(end);
            // Or the kernel would keep what nobody takes; and a cut must not look like an end.
            if matches!(end, End::WriteStall | End::ServerFailed) {
                self.stream.reset();
            }
        }
    }

    /// `Ok` when everything was answered; `Err` when the connection is to be cut.
    async fn serve(&mut self) -> Result<Flow, End> {
        loop {
            if self.input.is_empty() {
                if !self.gathered.is_empty() {
                    self.flush_gathered().await?;
                }
                let Some(buffer) = self.next_bytes().await? else {
                    return Ok(Flow::Silence);
                };
                self.input.push(buffer);
            }
            let flow = match self.step()? {
                Step::Done(flow) => flow,
                Step::Send(message, flow) => {
                    Box::pin(self.send(*message)).await?;
                    flow
                }
                Step::Refuse(refusal) => Box::pin(self.refuse(refusal)).await?,
                Step::CompleteHead => Box::pin(self.complete_head()).await?,
                Step::Forward(outbound) => Box::pin(self.forward(outbound)).await?,
                Step::Serve(special) => Box::pin(self.serve_special(*special)).await?,
            };
            if !matches!(flow, Flow::Continue) {
                return Ok(flow);
            }
        }
    }

    /// Deals with one request as far as that needs no wait. In a function of its own, because what
    /// it has in hand would be part of every idle connection's future.
    ///
    /// The way of a hit is straight, and everything on it part of this function; the other ways
    /// begin with a call. A head, an answer, a message are looked at where they are: handing each on
    /// by value took some 200 instructions of a request's 3,000.
    fn step(&mut self) -> Result<Step, End> {
        let worker = &*self.worker;
        let moment = worker.moment(self.stream.now());
        let bytes = self.input.bytes();
        let parsed = parse_head(bytes, &mut self.scan, &worker.head_limits);
        let (head, length) = match &parsed {
            Ok(Some((head, length))) => (head, *length),
            Ok(None) => return Ok(Step::CompleteHead),
            Err(error) => return Ok(Step::Refuse((*error).into())),
        };
        self.scan = HeadScan::default();
        self.requests += 1;
        worker.stats.count(Counter::Requests);
        worker.inject_fault(head.target);
        let begun = worker.begin_log();
        let is_over = self.requests == worker.limits.requests_per_connection;
        let keep_alive = head.keep_alive && !is_over && !worker.is_draining();
        let (mut message, flow) = match self.hit(head, keep_alive, moment) {
            Some(hit) => {
                worker.stats.count_answer(200, hit.body_bytes);
                if worker.has_log() {
                    let (status, bytes) = (StatusCode::OK, hit.body_bytes);
                    self.log(Some((head, begun)), None, None, status, bytes);
                }
                (Some(hit.message), Flow::Continue)
            }
            None => match self.answer(head, &bytes[..length], keep_alive, moment, begun) {
                Ok((message, flow)) => (Some(message), flow),
                Err(step) => {
                    self.input.consume(length);
                    return Ok(step);
                }
            },
        };
        self.input.consume(length);
        self.send_now(&mut message)?;
        Ok(match message {
            None => Step::Done(flow),
            Some(message) => Step::Send(Box::new(message), flow),
        })
    }

    /// The usual answer to the usual request: a file as it lies in memory.
    #[inline(always)]
    fn hit(&self, head: &RequestHead<'_>, keep_alive: bool, moment: Moment<'_>) -> Option<Hit> {
        if !keep_alive || head.framing != Framing::None {
            return None;
        }
        let root = self.worker.straight[self.listener]?;
        self.worker.roots[root].hit(head, moment)
    }

    /// Answers any other request from memory, or says what has to be done for it.
    #[inline(never)]
    fn answer(
        &self,
        head: &RequestHead<'_>,
        raw: &[u8],
        keep_alive: bool,
        moment: Moment<'_>,
        begun: Option<Instant>,
    ) -> Result<(Outgoing, Flow), Step> {
        let worker = &*self.worker;
        let Entered { work, user, edits } = self.enter(head, raw, keep_alive, moment);
        match work {
            Work::Root(_, First::Answer(answer))
                if head.framing == Framing::None && edits.is_none() =>
            {
                let (status, bytes) = (answer.status, answer.body_bytes);
                worker.stats.count_answer(status.as_u16(), bytes);
                if worker.has_log() {
                    self.log(Some((head, begun)), user.as_deref(), None, status, bytes);
                }
                let flow = match answer.keep_alive {
                    true => Flow::Continue,
                    false => Flow::Last(End::Orderly),
                };
                Ok((answer.message, flow))
            }
            work => {
                let log = worker.has_log().then(|| LogLine {
                    head: raw.into(),
                    begun,
                    user,
                    passing: match &work {
                        Work::Proxy(outbound) => Some(Passing::new(&outbound.upstream)),
                        _ => None,
                    },
                });
                Err(match work {
                    Work::Proxy(mut outbound) => {
                        outbound.log = log;
                        Step::Forward(outbound)
                    }
                    work => Step::Serve(Box::new(Special {
                        framing: head.framing,
                        expects_continue: head.expect_continue,
                        is_head: head.method == Method::Head,
                        work,
                        edits,
                        log,
                    })),
                })
            }
        }
    }

    /// Answers what came in the place of a head; the connection ends with it.
    async fn refuse(&mut self, refusal: Refusal) -> Result<Flow, End> {
        let answer = self.refusal(refusal, false);
        let (status, stats) = (answer.status, &self.worker.stats);
        stats.count_answer(status.as_u16(), answer.body_bytes);
        self.log(None, None, None, status, 0);
        self.send(answer.message).await?;
        Ok(Flow::Last(refusal.end))
    }

    /// The answer that says why nothing else is answered.
    fn refusal(&self, refusal: Refusal, is_head: bool) -> Answer {
        let Refusal {
            status,
            reason,
            end,
        } = refusal;
        if end == End::Malformed {
            self.worker.stats.count(Counter::Malformed);
        }
        tracing::debug!(peer = %self.peer, status = status.as_u16(), reason, "refused a request");
        let frame = Frame {
            is_head,
            ..Frame::of_malformed()
        };
        answer::brief(status, frame, &self.worker.clock, self.stream.now())
    }

    /// Writes a line of the access log: about a request and when it began, or about what was none.
    fn log(
        &self,
        request: Option<(&RequestHead<'_>, Option<Instant>)>,
        user: Option<&str>,
        passing: Option<&Passing>,
        status: StatusCode,
        body_bytes: u64,
    ) {
        self.worker.log(&LogEntry {
            peer: self.peer,
            time: self.worker.clock.wall(self.stream.now()),
            request: request.map(|(head, _)| head),
            user,
            status: status.as_u16(),
            body_bytes,
            duration: request.and_then(|(_, begun)| Some(begun?.elapsed())),
            passed: passing.map(Passing::passed),
        });
    }

    /// Waits for the first bytes of a request; `None` when the client is done.
    async fn next_bytes(&mut self) -> Result<Option<Buffer>, End> {
        let limits = &self.worker.limits;
        let mut now = self.stream.now();
        let mut idle_until = now + limits.idle_timeout;
        // Bytes that have left when an answer is still on its way, and when that must go on.
        let mut sending = None;
        loop {
            let mut deadline = idle_until;
            if self.stream.is_sending() {
                let (_, stall_at) = *sending.get_or_insert_with(|| {
                    let stall_at = now + limits.write_stall_timeout;
                    (self.stream.delivered_bytes(), stall_at)
                });
                deadline = stall_at.min(idle_until);
            }
            self.stream.set_deadline(Some(deadline));
            let received = poll_fn(|context| {
                // Asked so that the end of a send wakes this wait too.
                if self.worker.is_draining()
                    && let Poll::Ready(Ok(())) = self.stream.poll_flush(context)
                {
                    return Poll::Ready(None);
                }
                self.stream.poll_receive(context).map(Some)
            })
            .await;
            match received.ok_or(End::Shutdown)? {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    now = self.stream.now();
                    if self.stream.is_sending() {
                        // Whoever is still being answered isn't idle, but may have stalled.
                        match sending {
                            Some((sent, _)) if self.stream.delivered_bytes() > sent => {
                                sending = None
                            }
                            Some((_, stall_at)) if now >= stall_at => return Err(End::WriteStall),
                            _ => {}
                        }
                        idle_until = now + limits.idle_timeout;
                    } else if now >= idle_until {
                        return Err(End::Idle);
                    }
                }
                Err(_) => return Err(End::Broken),
                Ok(received) => return Ok(received),
            }
        }
    }

    /// Receives until the head at hand is whole, or answers that its time was up.
    async fn complete_head(&mut self) -> Result<Flow, End> {
        self.input.release_buffer();
        self.flush_gathered().await?;
        let limits = self.worker.limits;
        let deadline = self.stream.now() + limits.head_deadline;
        loop {
            self.stream.set_deadline(Some(deadline));
            match self.stream.receive().await {
                Ok(Some(buffer)) => self.input.push(buffer),
                // Cut off in the middle of a head: nothing to answer but what was asked before.
                Ok(None) => {
                    self.flush().await?;
                    return Err(End::Broken);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return self.refuse(Refusal::SLOW_HEAD).await;
                }
                Err(_) => return Err(End::Broken),
            }
            let scan = &mut self.scan;
            if !matches!(
                parse_head(self.input.bytes(), scan, &self.worker.head_limits),
                Ok(None)
            ) {
                // Whole, or hopeless: the caller parses it once more, and answers.
                *scan = HeadScan::default();
                return Ok(Flow::Continue);
            }
        }
    }

    /// Reads a body, looks a file up, streams it: whatever the request needs.
    async fn serve_special(&mut self, special: Special) -> Result<Flow, End> {
        self.input.release_buffer();
        let Special {
            framing,
            expects_continue,
            is_head,
            work,
            edits,
            mut log,
        } = special;
        let (root, mut first) = match work {
            Work::Root(root, first) => (root, first),
            Work::Password(held) => {
                let (first, user) = self.admit(&held).await;
                log.iter_mut().for_each(|line| line.user.clone_from(&user));
                (held.root(), first)
            }
            Work::Proxy(outbound) => return Box::pin(self.forward(outbound)).await,
        };
        if expects_continue {
            first = match self.foresee(root, first).await {
                Ok(refusal) => return self.conclude_edited(refusal, edits, log).await,
                Err(undecided) => undecided,
            };
        }
        if framing != Framing::None
            && let Err(refusal) = self.discard_body(framing, expects_continue).await?
        {
            let answer = self.refusal(refusal, is_head);
            self.conclude(answer, log).await?;
            return Ok(Flow::Last(refusal.end));
        }
        // With the end of the body the next request may have come.
        self.input.release_buffer();
        let answer = match first {
            First::Answer(answer) | First::Open(answer) => answer,
            First::Lookup(lookup) => {
                let root = &self.worker.roots[root];
                root.look_up(&lookup, &self.worker.clock).await
            }
        };
        self.conclude_edited(answer, edits, log).await
    }

    /// The answer to a request whose body the client asks leave to send, if it is clear from the
    /// head that it has none; the connection ends with it. Else what it was before.
    async fn foresee(&self, root: usize, first: First) -> Result<Answer, First> {
        let mut lookup = match first {
            First::Answer(answer) if answer.spares_body() => return Ok(answer),
            First::Answer(_) | First::Open(_) => return Err(first),
            First::Lookup(lookup) => lookup,
        };
        let keep_alive = std::mem::replace(&mut lookup.frame.keep_alive, false);
        let root = &self.worker.roots[root];
        let answer = root.look_up(&lookup, &self.worker.clock).await;
        if answer.spares_body() {
            return Ok(answer);
        }
        // The file isn't held while the body comes, which may take long.
        lookup.frame.keep_alive = keep_alive;
        Err(First::Lookup(lookup))
    }

    /// Sends the answer to a request, counts it, and writes it to the access log.
    async fn conclude(&mut self, answer: Answer, log: Option<LogLine>) -> Result<Flow, End> {
        let worker = Rc::clone(&self.worker);
        let keep_alive = answer.keep_alive;
        let (status, planned) = (answer.status, answer.body_bytes);
        let sent = match answer.file {
            None => self.send(answer.message).await.map(|()| planned),
            Some(part) => self.stream(answer.message, *part).await.map(|()| planned),
        };
        let body_bytes = sent.unwrap_or_default();
        worker.stats.count_answer(status.as_u16(), body_bytes);
        self.write_log(log, status, body_bytes);
        sent?;
        Ok(if keep_alive {
            Flow::Continue
        } else {
            Flow::Last(End::Orderly)
        })
    }

    /// Writes the line that a request was to get.
    fn write_log(&self, log: Option<LogLine>, status: StatusCode, body_bytes: u64) {
        let Some(LogLine {
            head,
            begun,
            user,
            passing,
        }) = log
        else {
            return;
        };
        let mut scan = HeadScan::default();
        // The same bytes were accepted before.
        if let Ok(Some((head, _))) = parse_head(&head, &mut scan, &self.worker.head_limits) {
            self.log(
                Some((&head, begun)),
                user.as_deref(),
                passing.as_ref(),
                status,
                body_bytes,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million idle connections are a million of these; the rarer states are boxed. With what its
    /// task adds it has to fit the allocator's class of 640 bytes: the next is 768.
    #[test]
    fn an_idle_connection_is_small() {
        fn size_of_future<F: Future>(_: impl FnOnce(Connection) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Connection::run);
        assert!(bytes <= 560, "{bytes} bytes");
    }
}
