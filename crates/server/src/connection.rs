//! One connection: requests in, answers out, one after the other.
//!
//! The fast path is straight: a head is parsed in the buffer it was received in, answered from
//! memory, and sent with one call; then the connection waits for the next. Whatever else a request
//! needs (a body to be read, a file to be opened, bytes to be streamed) happens in boxed futures,
//! so that an idle connection's own stays small.
//!
//! In the order of a request: this file, [`routing`], [`exchange`] or [`proxied`], [`body`],
//! [`delivery`], [`underway`], [`end`].

mod body;
mod delivery;
mod end;
mod exchange;
mod proxied;
mod routing;
mod underway;

use end::Refusal;
use exchange::Course;
use underway::{Sending, Underway};

pub(crate) use end::End;
pub use exchange::{BodyWriter, Completed, Exchange, ExchangeError};
pub(crate) use proxied::pass_on;
pub(crate) use routing::ResponseEdits;

use crate::answer::{self, Answer, Frame};
use crate::extensions::Pending;
use crate::files::{Hit, Moment};
use crate::input::Input;
use crate::log::{Entry as LogEntry, Passed};
use crate::proxy::{FaultKind, Outbound, Upstream};
use crate::service::{Failure, Files, Hooked, KeptFile, KeptHooked, Prepared, Proxy, Service as _};
use crate::stats::Counter;
use crate::worker::{Place, Worker};
use ringway_http::StatusCode;
use ringway_http::head::{Framing, HeadScan, RequestHead, parse_head};
use ringway_runtime::{Buffer, Outgoing, TcpStream, yield_now};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// After so many requests, or parts of an answer, without a wait the others of the worker have a turn.
/// Each costs 2 to 10 µs when it is small; what is sent inside the kernel is bounded besides
/// (`turn_bytes`).
const TURN_REQUESTS: u32 = 32;

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
    /// Requests since it last waited for one.
    in_turn: u32,
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
    course: Course,
    work: Work,
}

/// What is left to be done for an answer: by which service, and what that has kept.
enum Work {
    /// It is there.
    Ready(Prepared),
    Files(Files, KeptFile),
    Proxy(Proxy, Box<Outbound>),
    Hooked(Hooked, Box<KeptHooked>),
    /// The program's own, of this index.
    Own(usize, Box<dyn Pending>),
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
    pub(crate) user: Option<Rc<str>>,
    /// What became of it with its upstream.
    pub(crate) passing: Option<Passing>,
    /// What hooks have to say.
    pub(crate) note: Option<String>,
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

/// What services say of a request for the access log.
#[derive(Clone, Copy, Default)]
struct Said<'s> {
    user: Option<&'s str>,
    passing: Option<&'s Passing>,
    note: Option<&'s str>,
}

impl Passing {
    pub(crate) fn new(upstream: &Rc<Upstream>) -> Passing {
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
            in_turn: 0,
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
            if matches!(
                end,
                End::WriteStall | End::TunnelBroken | End::ServerFailed | End::ServiceFailed
            ) {
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
            self.in_turn += 1;
            if self.in_turn == TURN_REQUESTS {
                self.in_turn = 0;
                yield_now().await;
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
        let begun = worker.begin_log(moment.now);
        let is_over = self.requests == worker.limits.requests_per_connection;
        let keep_alive = head.keep_alive && !is_over && !worker.is_draining();
        let (mut message, flow) = match self.hit(head, keep_alive, moment) {
            Some(hit) => {
                worker.stats.count_answer(200, hit.body_bytes);
                if worker.has_log() {
                    let (status, bytes) = (StatusCode::OK, hit.body_bytes);
                    self.log(Some((head, begun)), Said::default(), status, bytes);
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
            Work::Ready(Prepared::Answer(answer))
                if head.framing == Framing::None && edits.is_none() =>
            {
                let (status, bytes) = (answer.status, answer.body_bytes);
                worker.stats.count_answer(status.as_u16(), bytes);
                if worker.has_log() {
                    let said = Said {
                        user: user.as_deref(),
                        ..Said::default()
                    };
                    self.log(Some((head, begun)), said, status, bytes);
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
                        Work::Proxy(_, outbound) => Some(Passing::new(&outbound.upstream)),
                        _ => None,
                    },
                    note: None,
                });
                Err(match work {
                    // What the service's own `answer` comes to, without an exchange around it: that
                    // would be a quarter of what is made for each request.
                    Work::Proxy(_, mut outbound) => {
                        outbound.log = log;
                        Step::Forward(outbound)
                    }
                    work => {
                        let frame = Frame::of(head, keep_alive);
                        let mut course = Course::new(head.framing, head.expect_continue, frame);
                        (course.edits, course.log) = (edits, log);
                        Step::Serve(Box::new(Special { course, work }))
                    }
                })
            }
        }
    }

    /// Answers what came in the place of a head; the connection ends with it.
    async fn refuse(&mut self, refusal: Refusal) -> Result<Flow, End> {
        let answer = self.refusal(refusal, false);
        let (status, stats) = (answer.status, &self.worker.stats);
        stats.count_answer(status.as_u16(), answer.body_bytes);
        self.log(None, Said::default(), status, 0);
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
        said: Said<'_>,
        status: StatusCode,
        body_bytes: u64,
    ) {
        self.worker.log(&LogEntry {
            peer: self.peer,
            time: self.worker.clock.wall(self.stream.now()),
            request: request.map(|(head, _)| head),
            user: said.user,
            status: status.as_u16(),
            body_bytes,
            duration: request.and_then(|(_, begun)| Some(begun?.elapsed())),
            passed: said.passing.map(Passing::passed),
            note: said.note,
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
                let received = self.stream.poll_receive(context);
                if received.is_ready() {
                    return received.map(Some);
                }
                self.in_turn = 0;
                // Asked so that the end of a send wakes this wait too.
                match self.worker.is_draining() && self.stream.poll_flush(context).is_ready() {
                    true => Poll::Ready(None),
                    false => Poll::Pending,
                }
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

    /// Has a service answer that needs more than a look.
    async fn serve_special(&mut self, special: Special) -> Result<Flow, End> {
        self.input.release_buffer();
        let Special { course, work } = special;
        let worker = Rc::clone(&self.worker);
        let mut underway = Underway::new(self, course);
        let (connection, course) = underway.parts();
        let exchange = Exchange::new(connection, course);
        let (served, name) = match work {
            Work::Ready(prepared) => {
                let concluded = exchange.conclude_prepared(prepared).await;
                (concluded.map_err(Failure::from), "route")
            }
            Work::Files(files, kept) => (files.answer(kept, exchange).await, "files"),
            Work::Proxy(proxy, kept) => (proxy.answer(kept, exchange).await, "proxy"),
            Work::Hooked(hooked, kept) => {
                let name = &*worker.config.hooks[hooked.hooks];
                (hooked.answer(kept, exchange).await, name)
            }
            Work::Own(index, pending) => {
                let name = &*worker.config.services[index];
                (pending.answer(exchange).await, name)
            }
        };
        let served = served.map(|completed| completed.flow);
        connection.settle(course, served, name).await
    }

    /// Sends the answer to a request, counts it, and writes it to the access log.
    async fn conclude(&mut self, answer: Answer, log: Option<LogLine>) -> Result<Flow, End> {
        let sending = Sending {
            status: answer.status,
            body_bytes: 0,
            log,
        };
        let mut underway = Underway::new(self, sending);
        let (connection, Sending { body_bytes, .. }) = underway.parts();
        match answer.file {
            None => {
                connection.send(answer.message).await?;
                *body_bytes = answer.body_bytes;
            }
            Some(part) => {
                // What goes before the first of several parts is in one message with the head.
                let opening_bytes = answer.body_bytes - part.byte_count();
                connection.begin_file(answer.message).await?;
                *body_bytes = opening_bytes;
                connection.stream(*part, body_bytes).await?;
            }
        }
        Ok(if answer.keep_alive {
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
            note,
        }) = log
        else {
            return;
        };
        let mut scan = HeadScan::default();
        // The same bytes were accepted before.
        if let Ok(Some((head, _))) = parse_head(&head, &mut scan, &self.worker.head_limits) {
            let said = Said {
                user: user.as_deref(),
                passing: passing.as_ref(),
                note: note.as_deref(),
            };
            self.log(Some((&head, begun)), said, status, body_bytes);
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
