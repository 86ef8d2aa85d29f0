//! One request and its answer, over one connection to a server.
//!
//! The request's head is sent, and its body while the answer may already come: both directions go
//! on at once, and neither waits for the other. What comes is parsed and written anew for the
//! client. Which server, whether it is tried again and what the client hears when it fails is decided
//! by the caller.

use super::balance::Wanted;
use super::content::{Content, ContentError, Sink, Source};
use super::fault::ServerFault;
use super::request::Written;
use super::response::{self, Delimited};
use super::upstream::Upstream;
use crate::answer::Frame;
use crate::connection::{End, LogLine, Passing, ResponseEdits};
use crate::hooks::{Active, Edits};
use crate::input::Input;
use crate::service;
use crate::worker::Worker;
use ringway_http::body::BodyError;
use ringway_http::head::{Framing, HeadScan, Method};
use ringway_http::received::{
    ReceivedError, ReceivedFraming, ReceivedHead, ReceivedLimits, parse_received,
};
use ringway_http::response::InvalidHeader;
use ringway_runtime::{Buffer, Outgoing, ReadHalf, TcpStream, now};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Interim answers to one request; nobody sends more than a few.
const INTERIM_ANSWERS: u32 = 16;

/// What a client may send ahead while it waits for an answer; then it isn't read any further.
const AHEAD_BYTES: usize = 16 << 10;

/// A request that is ready to be sent to any server of its upstream.
pub(crate) struct Outbound {
    /// Who is asked: the upstream as it was when the request came.
    pub(crate) upstream: Rc<Upstream>,
    /// The head, and the body if all of it was at hand.
    pub(crate) written: Written,
    /// The body that is still to come from the client.
    pub(crate) framing: Framing,
    pub(crate) expects_continue: bool,
    pub(crate) is_upgrade: bool,
    /// Whether doing it twice is doing it once (RFC 9110 §9.2.2).
    pub(crate) is_idempotent: bool,
    /// How the client has to be answered.
    pub(crate) frame: Frame,
    /// Which server it should get.
    pub(crate) wanted: Wanted,
    /// What its route does to the answer's fields.
    pub(crate) edits: Option<ResponseEdits>,
    /// The program's own hooks that look at the answer.
    pub(crate) hooks: Option<Rc<dyn Active>>,
    /// The cookie that keeps the client with the server it got, as a value of `Set-Cookie`.
    pub(crate) set_cookie: Option<Vec<u8>>,
    /// When all of it had been sent, as far as it will be.
    pub(crate) sent_at: Cell<Instant>,
    /// When the first byte of an answer had come.
    pub(crate) heard_at: Cell<Option<Instant>>,
    /// Whether the client got some of an answer, for whoever ends the exchange from outside.
    pub(crate) is_answered: Cell<bool>,
    /// The status of that answer; 0 where there is none yet.
    pub(crate) status: Cell<u16>,
    /// Bytes of that answer's content that were handed over, where not all of it was at hand.
    pub(crate) passed_bytes: Cell<u64>,
    /// How long the last attempt waited for its connection; `None` where one was there.
    pub(crate) connected_after: Cell<Option<Duration>>,
    /// What the access log will want of it.
    pub(crate) log: Option<LogLine>,
}

impl Outbound {
    /// From the end of the request to the first byte of the answer, if there was one.
    pub(crate) fn first_byte_after(&self) -> Option<Duration> {
        let heard_at = self.heard_at.get()?;
        Some(heard_at.saturating_duration_since(self.sent_at.get()))
    }

    fn passing(&mut self) -> Option<&mut Passing> {
        self.log.as_mut()?.passing.as_mut()
    }

    /// This server is asked: what the access log will want of an attempt isn't the one's before.
    pub(crate) fn note_attempt(&mut self, server: usize) {
        self.connected_after.set(None);
        self.heard_at.set(None);
        self.status.set(0);
        if let Some(passing) = self.passing() {
            passing.server = Some(server);
            passing.attempts += 1;
        }
    }

    /// For the access log: there is no answer, or not all of it, and why, where that is the server's
    /// fault.
    pub(crate) fn note_failure(&mut self, fault: Option<&ServerFault>) {
        let connected_after = self.connected_after.get();
        let first_byte_after = self.first_byte_after();
        let status = self.status.get();
        if let Some(passing) = self.passing() {
            passing.connect = connected_after;
            passing.first_byte = first_byte_after;
            passing.status = (status != 0).then_some(status);
            passing.fault = fault.map(ServerFault::kind);
        }
    }
}

/// Everything that one exchange needs.
pub(crate) struct Exchange<'e> {
    pub(crate) outbound: &'e Outbound,
    pub(crate) client: &'e mut TcpStream,
    /// What was received of the client and not used yet.
    pub(crate) input: &'e mut Input,
    pub(crate) server: &'e mut TcpStream,
    /// What was received of the server and not used yet; of an upgraded connection, the first bytes
    /// of the tunnel.
    pub(crate) received: &'e mut Input,
    pub(crate) upstream: &'e Upstream,
    pub(crate) worker: &'e Worker,
}

/// What became of an exchange that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Bytes of content that the client was sent.
    pub(crate) body_bytes: u64,
    /// Whether the client's connection can go on: the head that it got says the same.
    pub(crate) keep_alive: bool,
    /// Whether the server's can.
    pub(crate) is_reusable: bool,
    /// Both are a tunnel from now on.
    pub(crate) is_upgraded: bool,
}

/// Why an exchange was cut short.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The client failed, or was too slow: its connection ends.
    Client(End),
    /// The request's body isn't one, or is too much.
    Body(BodyError),
    /// The request's body came too slowly.
    SlowBody,
    /// The server failed.
    Server(ServerFault),
    /// The program's own hooks failed.
    Hooks(service::Failure),
}

impl From<BodyError> for Trouble {
    fn from(error: BodyError) -> Trouble {
        Trouble::Body(error)
    }
}

/// An exchange that was cut short, and how far it had come.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) trouble: Trouble,
    /// Whether the client got some of an answer.
    pub(crate) is_answered: bool,
    /// Whether the server had begun to answer.
    pub(crate) has_heard: bool,
    /// Whether some of the request may have reached it.
    pub(crate) is_sent: bool,
    /// Whether some of the body was used up, so that the request can't be sent again.
    pub(crate) is_spent: bool,
    /// Whether all of the body was taken from the client.
    pub(crate) is_body_read: bool,
}

impl Failure {
    /// Before anything was sent.
    pub(crate) fn before(fault: ServerFault) -> Failure {
        Failure::unsent(Trouble::Server(fault))
    }

    /// The same for any trouble.
    pub(crate) fn unsent(trouble: Trouble) -> Failure {
        Failure {
            trouble,
            is_answered: false,
            has_heard: false,
            is_sent: false,
            is_spent: false,
            is_body_read: false,
        }
    }
}

/// Where the request's body stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upload {
    Running,
    /// All of it came from the client, and some of it is still on its way to the server.
    Taken,
    Done,
    /// The server doesn't take any more of it.
    Failed,
}

impl Upload {
    /// Whether it is known where the client's next request begins.
    fn is_taken(self) -> bool {
        matches!(self, Upload::Taken | Upload::Done)
    }

    /// Whether something is still on its way.
    fn is_under_way(self) -> bool {
        matches!(self, Upload::Running | Upload::Taken)
    }
}

/// What the two directions know of each other.
struct Course<'e> {
    outbound: &'e Outbound,
    upstream: &'e Upstream,
    worker: &'e Worker,
    upload: Cell<Upload>,
    is_sent: Cell<bool>,
}

impl Exchange<'_> {
    /// Sends the request and passes the answer on.
    pub(crate) async fn run(&mut self) -> Result<Answered, Failure> {
        let outbound = self.outbound;
        outbound.sent_at.set(self.client.now());
        let has_body = outbound.framing != Framing::None;
        let course = Course {
            outbound,
            upstream: self.upstream,
            worker: self.worker,
            upload: Cell::new(if has_body {
                Upload::Running
            } else {
                Upload::Done
            }),
            is_sent: Cell::new(false),
        };
        let spent = Cell::new(false);
        let ran = if has_body {
            Box::pin(self.run_both(&course, &spent)).await
        } else {
            self.run_answer(&course).await
        };
        ran.map_err(|trouble| Failure {
            trouble,
            is_answered: outbound.is_answered.get(),
            has_heard: outbound.heard_at.get().is_some(),
            is_sent: course.is_sent.get(),
            is_spent: spent.get(),
            is_body_read: course.upload.get().is_taken(),
        })
    }

    /// The usual case: the request is whole, and only the answer has to be waited for.
    async fn run_answer(&mut self, course: &Course<'_>) -> Result<Answered, Trouble> {
        let request = &self.outbound.written.bytes;
        let sent = match self.server.send_now(request, false) {
            Ok(count) if count == request.len() => {
                course.is_sent.set(true);
                Ok(())
            }
            sent => Box::pin(send_rest(self.server, request, sent, course)).await,
        };
        sent.map_err(|error| Trouble::Server(ServerFault::of_connection(error)))?;
        course.outbound.sent_at.set(self.client.now());
        let (mut half, writer) = self.client.split();
        // Whoever only waits for an answer may do so for as long as that takes.
        half.set_deadline(None);
        let mut client = Sink::new(writer, self.worker.limits.write_stall_timeout);
        let mut server = Source {
            half: self.server.split().0,
            input: self.received,
            pace_bytes: 1,
            timeout: course.upstream.config.timeouts.between_bytes_timeout,
        };
        let mut watch = Some(Watch::new(half, self.input));
        course.answer(&mut server, &mut client, &mut watch).await
    }

    /// The request's body goes one way while the answer may come the other.
    async fn run_both(
        &mut self,
        course: &Course<'_>,
        spent: &Cell<bool>,
    ) -> Result<Answered, Trouble> {
        let outbound = self.outbound;
        let (limits, config) = (self.worker.limits, &self.upstream.config);
        let timeouts = &config.timeouts;
        let body_limits = &self.worker.body_limits;
        let mut body = Content::of_request(outbound.framing, body_limits, config.splice)?;
        let (client_reader, client_writer) = self.client.split();
        let (server_reader, server_writer) = self.server.split();
        let mut client = Sink::new(client_writer, limits.write_stall_timeout);
        let mut server_sink = Sink::new(server_writer, timeouts.between_bytes_timeout);
        let mut server = Source {
            half: server_reader,
            input: self.received,
            pace_bytes: 1,
            timeout: timeouts.between_bytes_timeout,
        };
        let body_timeout = limits.body_stall_timeout;
        let mut source = Source {
            half: client_reader,
            input: self.input,
            pace_bytes: limits.body_stall_bytes,
            // A client that asks leave to send waits for the server's word.
            timeout: match outbound.expects_continue {
                true => body_timeout.max(timeouts.first_byte_timeout),
                false => body_timeout,
            },
        };
        let mut upload = pin!(async {
            let head = outbound.written.bytes.clone();
            let sent = server_sink.send(head, now()).await;
            sent.map_err(ContentError::Destination)?;
            course.is_sent.set(true);
            spent.set(true);
            let nothing = Vec::new().into();
            body.pass(&mut source, &mut server_sink, nothing).await?;
            course.upload.set(Upload::Taken);
            let flushed = server_sink.flush(now()).await;
            flushed.map_err(ContentError::Destination)?;
            course.upload.set(Upload::Done);
            outbound.sent_at.set(now());
            let Source {
                mut half, input, ..
            } = source;
            half.set_deadline(None);
            let mut watch = Watch::new(half, input);
            let gone = poll_fn(|context| watch.poll_gone(context)).await;
            Err::<Infallible, _>(ContentError::Source(gone))
        });
        let mut no_watch = None;
        let mut answer = pin!(course.answer(&mut server, &mut client, &mut no_watch));
        poll_fn(|context| {
            if course.is_client_heard()
                && let Poll::Ready(Err(error)) = upload.as_mut().poll(context)
            {
                outbound.sent_at.set(now());
                course.go_on_without(error)?;
            }
            answer.as_mut().poll(context)
        })
        .await
    }
}

impl Course<'_> {
    /// Whether it matters what the client does on its side of a request with a body: until that has been
    /// sent, and then as long as it waits.
    fn is_client_heard(&self) -> bool {
        match self.upload.get() {
            Upload::Running | Upload::Taken => true,
            Upload::Done => !self.outbound.is_answered.get(),
            Upload::Failed => false,
        }
    }

    /// Goes on without the rest of a body, where its end doesn't end everything.
    fn go_on_without(&self, error: ContentError) -> Result<(), Trouble> {
        let is_answered = self.outbound.is_answered.get();
        match error {
            // It takes no more, and says nothing either.
            ContentError::Destination(error)
                if error.kind() == io::ErrorKind::TimedOut && !is_answered =>
            {
                return Err(server_trouble(error));
            }
            // It may have answered before it stopped listening.
            ContentError::Destination(_) => {}
            // RFC 9112 §9.5: who sees an answer within its body should stop, and end its side.
            ContentError::Source(error) if is_answered && has_stopped(&error) => {}
            error => return Err(upload_trouble(error)),
        }
        self.upload.set(Upload::Failed);
        Ok(())
    }
}

/// Whether a client sends nothing more, and may read on.
fn has_stopped(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::UnexpectedEof
    )
}

/// Sends what of a whole request didn't go at once, which it nearly always does.
async fn send_rest(
    server: &mut TcpStream,
    bytes: &[u8],
    sent: io::Result<usize>,
    course: &Course<'_>,
) -> io::Result<()> {
    let sent = match sent {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    // Whatever fails from here on, the server may have all of it.
    course.is_sent.set(true);
    if sent == bytes.len() {
        return Ok(());
    }
    let rest = bytes[sent..].to_vec();
    let mut sink = Sink::new(
        server.split().1,
        course.upstream.config.timeouts.between_bytes_timeout,
    );
    sink.send(rest, now()).await?;
    sink.flush(now()).await
}

fn server_trouble(error: io::Error) -> Trouble {
    Trouble::Server(ServerFault::of_connection(error))
}

fn upload_trouble(error: ContentError) -> Trouble {
    match error {
        ContentError::Source(error) if error.kind() == io::ErrorKind::TimedOut => Trouble::SlowBody,
        ContentError::Source(_) => Trouble::Client(End::Broken),
        ContentError::Destination(error) => Trouble::Server(ServerFault::of_connection(error)),
        ContentError::Malformed(error) => Trouble::Body(error),
    }
}

fn answer_trouble(error: ContentError) -> Trouble {
    match error {
        ContentError::Source(error) => Trouble::Server(ServerFault::of_connection(error)),
        ContentError::Destination(error) => client_trouble(&error),
        ContentError::Malformed(error) => Trouble::Server(ServerFault::MalformedBody(error)),
    }
}

fn client_trouble(error: &io::Error) -> Trouble {
    Trouble::Client(match error.kind() {
        io::ErrorKind::TimedOut => End::WriteStall,
        _ => End::Broken,
    })
}

/// What a head that is written anew may have more than it came with, usually.
const ADDED_BYTES: usize = 256;

/// The client while it only waits: what it sends ahead is kept, and that it has gone is noticed.
pub(crate) struct Watch<'w> {
    half: ReadHalf<'w>,
    input: &'w mut Input,
    is_over: bool,
}

impl<'w> Watch<'w> {
    pub(crate) fn new(half: ReadHalf<'w>, input: &'w mut Input) -> Watch<'w> {
        Watch {
            half,
            input,
            is_over: false,
        }
    }

    /// Ready when the client has gone.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Trouble> {
        let gone = self.poll_gone(context);
        gone.map(|_| Trouble::Client(End::Broken))
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while !self.is_over && self.input.bytes().len() < AHEAD_BYTES {
            match self.half.poll_receive(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Some(buffer))) => {
                    self.input.push(buffer);
                    self.input.release_buffer();
                }
                // It sends nothing more, and may still want its answer (RFC 9112 §9.6).
                Poll::Ready(Ok(None)) => self.is_over = true,
                Poll::Ready(Err(error)) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }
}

/// What of a final head is needed behind it.
struct Final {
    status: u16,
    framing: ReceivedFraming,
    delimited: Delimited,
    keep_alive: bool,
    is_server_kept: bool,
}

/// What has to be done when what was at hand of an answer has been taken in.
enum Next {
    /// The rest of a head has to come.
    Receive,
    /// An interim head goes to the client.
    Interim(Vec<u8>),
    /// The head of an upgrade does.
    Upgrade(Vec<u8>),
    /// Nothing: all of it was passed on.
    Done(Answered),
    /// More of it has to come, or to be sent.
    Part(Box<Part>),
}

/// An answer in the middle.
struct Part {
    head: Final,
    content: Content,
    /// What is sent first.
    first: Outgoing,
}

/// Content whose count is known however it ends, be it that nobody waits for it any more.
struct Counted<'c> {
    content: Content,
    passed_bytes: &'c Cell<u64>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.passed_bytes.set(self.content.passed_bytes());
    }
}

/// What a head that was received amounts to.
enum Received {
    /// It isn't all there.
    Partial,
    /// Interim: so many bytes of it.
    Interim(usize),
    /// An upgrade.
    Upgrade(usize),
    Final(usize, Final),
}

impl Course<'_> {
    /// Receives the answer and passes it on.
    async fn answer(
        &self,
        server: &mut Source<'_>,
        client: &mut Sink<'_>,
        watch: &mut Option<Watch<'_>>,
    ) -> Result<Answered, Trouble> {
        let mut scan = HeadScan::default();
        let mut interim_count = 0;
        loop {
            let Some(buffer) = self.next_of_server(server, watch).await? else {
                return Err(Trouble::Server(ServerFault::Closed));
            };
            if self.outbound.heard_at.get().is_none() {
                self.outbound.heard_at.set(Some(server.half.now()));
            }
            server.input.push(buffer);
            while !server.input.is_empty() {
                // In a function of its own: what it has in hand would be part of this future.
                match self.take_in(&mut scan, server, client)? {
                    Next::Receive => break,
                    Next::Interim(out) => {
                        interim_count += 1;
                        if interim_count > INTERIM_ANSWERS {
                            return Err(Trouble::Server(ServerFault::InterimFlood));
                        }
                        Box::pin(self.send(client, out)).await?;
                    }
                    Next::Upgrade(out) => {
                        Box::pin(self.send(client, out)).await?;
                        return Ok(self.upgraded());
                    }
                    Next::Done(answered) => return Ok(answered),
                    Next::Part(part) => {
                        return Box::pin(self.pass_rest(*part, server, client)).await;
                    }
                }
            }
        }
    }

    /// Takes in what of the answer is at hand, as far as that needs no wait.
    fn take_in(
        &self,
        scan: &mut HeadScan,
        server: &mut Source<'_>,
        client: &mut Sink<'_>,
    ) -> Result<Next, Trouble> {
        let room_bytes = server.input.bytes().len() + ADDED_BYTES;
        let mut out = self.upstream.scratch.take(room_bytes);
        let at = server.half.now();
        let received = self.read_head(server.input.bytes(), scan, at, &mut out);
        match received? {
            Received::Partial => {
                self.upstream.scratch.put_back(out);
                server.input.release_buffer();
                Ok(Next::Receive)
            }
            Received::Interim(length) => {
                server.input.consume(length);
                Ok(Next::Interim(out))
            }
            Received::Upgrade(length) => {
                server.input.consume(length);
                self.outbound.is_answered.set(true);
                self.outbound.status.set(101);
                Ok(Next::Upgrade(out))
            }
            Received::Final(length, head) => {
                server.input.consume(length);
                self.outbound.status.set(head.status);
                self.pass_at_hand(head, out, server, client)
            }
        }
    }

    async fn send(&self, client: &mut Sink<'_>, out: Vec<u8>) -> Result<(), Trouble> {
        let sent = client.send(out, now()).await;
        sent.map_err(|error| client_trouble(&error))
    }

    /// The next bytes of the server, within the time that it has for them.
    async fn next_of_server(
        &self,
        server: &mut Source<'_>,
        watch: &mut Option<Watch<'_>>,
    ) -> Result<Option<Buffer>, Trouble> {
        poll_fn(|context| {
            // While the request is still being sent, that has its own deadlines.
            let waits = !self.upload.get().is_under_way();
            let deadline =
                self.outbound.sent_at.get() + self.upstream.config.timeouts.first_byte_timeout;
            server.half.set_deadline(waits.then_some(deadline));
            match server.half.poll_receive(context) {
                Poll::Ready(Ok(received)) => return Poll::Ready(Ok(received)),
                Poll::Ready(Err(error)) => {
                    let fault = match error.kind() {
                        io::ErrorKind::TimedOut => ServerFault::FirstByteTimeout,
                        _ => ServerFault::Broken(error),
                    };
                    return Poll::Ready(Err(Trouble::Server(fault)));
                }
                Poll::Pending => {}
            }
            match watch {
                Some(watch) => watch.poll(context).map(Err),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Reads one head and writes it for the client.
    fn read_head(
        &self,
        bytes: &[u8],
        scan: &mut HeadScan,
        at: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Received, Trouble> {
        let frame = self.outbound.frame;
        let method = if frame.is_head {
            Method::Head
        } else {
            Method::Get
        };
        let limits = ReceivedLimits::default();
        let malformed = |error| Trouble::Server(ServerFault::Malformed(error));
        let parsed = parse_received(bytes, scan, &limits, method).map_err(malformed)?;
        let Some((head, length)) = parsed else {
            return Ok(Received::Partial);
        };
        *scan = HeadScan::default();
        let invalid = |_| malformed(ReceivedError::Field);
        if head.status == 101 {
            if !self.outbound.is_upgrade {
                return Err(Trouble::Server(ServerFault::UnexpectedUpgrade));
            }
            response::write_interim(out, &head).map_err(invalid)?;
            return Ok(Received::Upgrade(length));
        }
        if head.is_interim() {
            if self.wants_interim(head.status) {
                response::write_interim(out, &head).map_err(invalid)?;
            }
            return Ok(Received::Interim(length));
        }
        let hooked = match &self.outbound.hooks {
            None => None,
            Some(hooks) => Some(hooks.response(&head).map_err(Trouble::Hooks)?),
        };
        let written = self.write_final(&head, hooked, at, out).map_err(invalid)?;
        Ok(Received::Final(length, written))
    }

    /// Whether the client understands it: HTTP/1.0 knows none, and 100 is for who asked for it (RFC
    /// 9110 §15.2).
    fn wants_interim(&self, status: u16) -> bool {
        let knows = self.outbound.frame.version == ringway_http::head::Version::Http11;
        knows && (status != 100 || self.outbound.expects_continue)
    }

    fn write_final(
        &self,
        head: &ReceivedHead<'_>,
        hooked: Option<Edits>,
        at: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Final, InvalidHeader> {
        let client = self.outbound.frame;
        let delimited = Delimited::of(head.framing, client.version);
        // Where its body would have gone on, nobody knows where the next request begins.
        let is_read = self.upload.get().is_taken();
        // A drain may have begun since the request came.
        let goes_on = is_read && !self.worker.is_draining();
        let frame = Frame {
            keep_alive: client.keep_alive && goes_on && delimited != Delimited::Close,
            ..client
        };
        let date = self.worker.clock.date(at);
        let edits = self.outbound.edits.as_ref();
        let edits = edits.map(|edits| {
            (
                &self.worker.config.routes[edits.route].rule.response_headers[..],
                &edits.lines[..],
            )
        });
        let cookie = self.outbound.set_cookie.as_deref();
        let both;
        let edits = match hooked {
            None => edits,
            Some(hooked) => {
                both = hooked.over_both(edits.unwrap_or_default());
                Some((&both.0[..], &both.1[..]))
            }
        };
        response::write(out, head, frame, &date, edits, cookie)?;
        Ok(Final {
            status: head.status,
            framing: head.framing,
            delimited,
            keep_alive: frame.keep_alive,
            is_server_kept: head.keep_alive,
        })
    }

    /// The usual case: all of the content is at hand, and leaves with its head, at once.
    fn pass_at_hand(
        &self,
        head: Final,
        mut out: Vec<u8>,
        server: &mut Source<'_>,
        client: &mut Sink<'_>,
    ) -> Result<Next, Trouble> {
        let in_chunks = head.delimited == Delimited::Chunks;
        let mut content =
            Content::of_response(head.framing, in_chunks, self.upstream.config.splice);
        let used = content.write(server.input.bytes(), &mut out);
        let used = used.map_err(|error| answer_trouble(ContentError::Malformed(error)))?;
        server.input.consume(used);
        // Not before: content that isn't any, at its beginning, can still be told by a 502.
        self.outbound.is_answered.set(true);
        if content.is_done() {
            let sent = client
                .send_now(&out)
                .map_err(|error| client_trouble(&error))?;
            if sent == out.len() {
                self.upstream.scratch.put_back(out);
                let body_bytes = content.passed_bytes();
                return Ok(Next::Done(self.answered(&head, server, body_bytes)));
            }
            out.drain(..sent);
        }
        if head.delimited == Delimited::Close {
            client.cut_by_reset();
        }
        let first = out.into();
        Ok(Next::Part(Box::new(Part {
            head,
            content,
            first,
        })))
    }

    /// Passes on what wasn't at hand, and what didn't leave at once.
    async fn pass_rest(
        &self,
        part: Part,
        server: &mut Source<'_>,
        client: &mut Sink<'_>,
    ) -> Result<Answered, Trouble> {
        let Part {
            head,
            content,
            first,
        } = part;
        let mut counted = Counted {
            content,
            passed_bytes: &self.outbound.passed_bytes,
        };
        let passed = counted.content.pass(server, client, first).await;
        passed.map_err(answer_trouble)?;
        Ok(self.answered(&head, server, counted.content.passed_bytes()))
    }

    fn answered(&self, head: &Final, server: &Source<'_>, body_bytes: u64) -> Answered {
        let is_read = self.upload.get() == Upload::Done;
        Answered {
            status: head.status,
            body_bytes,
            keep_alive: head.keep_alive,
            is_reusable: head.is_server_kept && is_read && server.input.is_empty(),
            is_upgraded: false,
        }
    }

    fn upgraded(&self) -> Answered {
        Answered {
            status: 101,
            body_bytes: 0,
            keep_alive: false,
            is_reusable: false,
            is_upgraded: true,
        }
    }
}
