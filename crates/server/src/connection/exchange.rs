//! What a service answers a request with: the body comes out of it, the answer goes into it.
//!
//! It knows what was promised: a length that is not kept to is an error before a byte too many has
//! left, and an answer that isn't complete ends its connection by a cut. Deadlines are those of all
//! connections.

use super::body::BodyReader;
use super::end::Refusal;
use super::underway::{Tell, client_left, server_ended};
use super::{Connection, End, Flow, LogLine, ResponseEdits};
use crate::answer::{Answer, Frame};
use crate::proxy::Outbound;
use crate::route::rewrite::edited;
use crate::service::{Failure, InvalidMessage, Prepared, Reply, has_no_content};
use crate::worker::Worker;
use ringway_http::StatusCode;
use ringway_http::body::push_chunk_size;
use ringway_http::head::{Framing, Version};
use ringway_http::response::name;
use ringway_runtime::Outgoing;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

/// The most that is taken of a body at once, about.
const PIECE_BYTES: usize = 64 << 10;

/// One request's body, and the place for its answer.
pub struct Exchange<'e> {
    connection: &'e mut Connection,
    course: &'e mut Course,
    brand: Brand<'e>,
}

/// Ties what is proved to the exchange that proves it: two of them never fit each other.
type Brand<'e> = PhantomData<Cell<&'e ()>>;

/// The proof that a request was answered, once and whole.
pub struct Completed<'e> {
    pub(super) flow: Flow,
    brand: Brand<'e>,
}

/// An answer's body on its way out; made by [`Exchange::begin`].
pub struct BodyWriter<'e> {
    exchange: Exchange<'e>,
    left: Left,
    frame: Frame,
}

/// How the rest of a body is delimited.
enum Left {
    /// So many bytes are still promised.
    Bytes(u64),
    Chunks,
    /// By the end of the connection: for HTTP/1.0, where no length is known.
    Close,
}

/// Why an exchange doesn't go on. As a service's failure, it gets the answer that fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The client has gone, or takes nothing.
    Client,
    /// The request's body isn't one, is larger than bodies may be, or came too slowly.
    Body,
    /// The request's body is larger than this service takes.
    TooLarge,
    /// More content than was promised; the bytes that would have been too many were not sent.
    TooLong,
    /// Less content than was promised.
    TooShort,
    /// The reply can't be sent.
    Invalid(InvalidMessage),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ExchangeError::Client => "the client has gone, or takes nothing",
            ExchangeError::Body => "the request's body was refused",
            ExchangeError::TooLarge => "the request's body is larger than the service takes",
            ExchangeError::TooLong => "more content than the length that was promised",
            ExchangeError::TooShort => "less content than the length that was promised",
            ExchangeError::Invalid(problem) => return problem.fmt(out),
        })
    }
}

impl std::error::Error for ExchangeError {}

impl From<InvalidMessage> for ExchangeError {
    fn from(problem: InvalidMessage) -> ExchangeError {
        ExchangeError::Invalid(problem)
    }
}

/// How far a request has come, for whoever has to end it.
pub(super) struct Course {
    pub(super) framing: Framing,
    /// Whether the client still waits for leave to send its body.
    pub(super) expects_continue: bool,
    pub(super) frame: Frame,
    /// What the route does to the answer's fields.
    pub(super) edits: Option<Box<ResponseEdits>>,
    pub(super) log: Option<LogLine>,
    /// The body, once it is being read.
    pub(super) reader: Option<BodyReader>,
    /// What is wrong on the client's side.
    pub(super) trouble: Option<Trouble>,
    /// The status that the client was sent.
    pub(super) status: Option<StatusCode>,
    /// Bytes of content that followed.
    pub(super) body_bytes: u64,
    /// Whether somebody else counts and logs it, or has.
    is_told: bool,
}

/// What is wrong on the client's side.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    End(End),
    Refusal(Refusal),
}

impl Course {
    pub(super) fn new(framing: Framing, expects_continue: bool, frame: Frame) -> Course {
        Course {
            framing,
            expects_continue,
            frame,
            edits: None,
            log: None,
            reader: None,
            trouble: None,
            status: None,
            body_bytes: 0,
            is_told: false,
        }
    }

    /// For whoever tells of the request from now on.
    fn take_log(&mut self) -> Option<LogLine> {
        self.is_told = true;
        self.log.take()
    }

    /// Whether the next request is all that can come.
    pub(super) fn is_read(&self) -> bool {
        self.framing == Framing::None || self.reader.as_ref().is_some_and(BodyReader::is_done)
    }
}

impl Tell for Course {
    fn tell(&mut self, connection: &Connection) {
        if self.is_told {
            return;
        }
        let log = self.take_log();
        match (self.status, self.trouble) {
            (Some(status), _) => connection.count_answered(log, status, self.body_bytes),
            (None, Some(_)) => connection.write_log(log, client_left(), 0),
            (None, None) => connection.write_log(log, server_ended(), 0),
        }
    }
}

impl<'e> Exchange<'e> {
    pub(super) fn new(connection: &'e mut Connection, course: &'e mut Course) -> Exchange<'e> {
        Exchange {
            connection,
            course,
            brand: PhantomData,
        }
    }

    /// The next bytes of the request's body, as they come; `None` at its end. A client that asks
    /// leave to send it gets that with the first call.
    ///
    /// # Errors
    /// The client's. What is returned then has the answer that fits it.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, ExchangeError> {
        let mut content = Vec::new();
        self.read(Some(&mut content)).await?;
        self.connection.input.release_buffer();
        Ok((!content.is_empty()).then_some(content))
    }

    /// The whole of the request's body, of up to so many bytes.
    ///
    /// # Errors
    /// As [`Exchange::receive`], and [`ExchangeError::TooLarge`], which is a 413.
    pub async fn receive_all(&mut self, limit_bytes: usize) -> Result<Vec<u8>, ExchangeError> {
        let mut all = Vec::new();
        while let Some(piece) = self.receive().await? {
            if piece.len() > limit_bytes - all.len() {
                self.course.trouble = Some(Trouble::Refusal(Refusal::LARGE_BODY));
                return Err(ExchangeError::TooLarge);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// Answers. What of the request's body wasn't received is thrown away.
    ///
    /// # Errors
    /// [`ExchangeError::Invalid`] and [`ExchangeError::Client`].
    pub async fn reply(self, reply: Reply) -> Result<Completed<'e>, ExchangeError> {
        let now = self.connection.stream.now();
        let frame = self.answer_frame();
        let answer = reply.answer(frame, &self.connection.worker.clock, now)?;
        self.conclude(answer).await
    }

    /// Begins an answer whose body comes piece by piece, `length` bytes in all if that is known.
    /// What the reply has for a body is the first piece.
    ///
    /// # Errors
    /// As [`Exchange::reply`], and [`ExchangeError::TooLong`] for the first piece.
    pub async fn begin(
        self,
        reply: Reply,
        length: Option<u64>,
    ) -> Result<BodyWriter<'e>, ExchangeError> {
        let mut frame = self.answer_frame();
        let is_empty = has_no_content(reply.status());
        let left = match (length, frame.version) {
            _ if is_empty => Left::Bytes(0),
            (Some(bytes), _) => Left::Bytes(bytes),
            (None, Version::Http11) => Left::Chunks,
            (None, Version::Http10) => Left::Close,
        };
        frame.keep_alive &= !matches!(left, Left::Close);
        let mut out = Vec::with_capacity(512);
        let now = self.connection.stream.now();
        reply.emit_head(
            &mut out,
            frame,
            &self.connection.worker.clock,
            now,
            |head| match left {
                Left::Bytes(bytes) if !is_empty => head.content_length(bytes),
                Left::Chunks => head.header(name::TRANSFER_ENCODING, b"chunked"),
                _ => head,
            },
        )?;
        let (status, first) = (reply.status(), reply.into_body());
        let mut writer = BodyWriter {
            exchange: self,
            left,
            frame,
        };
        let piece = writer.delimit(first)?;
        let Exchange {
            connection, course, ..
        } = &mut writer.exchange;
        if let Some(edits) = course.edits.take() {
            let rule = &connection.worker.config.routes[edits.route].rule;
            out = edited(&out, &rule.response_headers, &edits.lines);
        }
        out.extend_from_slice(&piece);
        course.status = Some(status);
        if matches!(writer.left, Left::Close) && !frame.is_head {
            connection.cut_by_reset();
        }
        let flushed = connection.flush_gathered().await;
        let sent = match flushed {
            Ok(()) => connection.submit(Outgoing::from(out)).await,
            Err(end) => Err(end),
        };
        sent.map_err(|end| writer.exchange.end(end))?;
        Ok(writer)
    }

    /// How an answer that goes out now is framed.
    fn answer_frame(&self) -> Frame {
        let Course {
            frame,
            expects_continue,
            trouble,
            ..
        } = &*self.course;
        // Whether a body follows that the client has no leave to send is up to the client, so
        // nobody knows where the next request begins. And a drain may have begun meanwhile.
        let is_draining = self.connection.worker.is_draining();
        let is_last = *expects_continue || trouble.is_some() || is_draining;
        Frame {
            keep_alive: frame.keep_alive && !is_last,
            ..*frame
        }
    }

    /// Reads on in the body: to its end if nobody wants it.
    async fn read(&mut self, content: Option<&mut Vec<u8>>) -> Result<(), ExchangeError> {
        if self.course.is_read() {
            return Ok(());
        }
        if let Some(trouble) = self.course.trouble {
            return Err(self.trouble(trouble));
        }
        let read = self.connection.read_body(self.course, content).await;
        match read {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(self.trouble(Trouble::Refusal(refusal))),
            Err(end) => Err(self.end(end)),
        }
    }

    fn trouble(&mut self, trouble: Trouble) -> ExchangeError {
        self.course.trouble = Some(trouble);
        match trouble {
            Trouble::End(_) => ExchangeError::Client,
            Trouble::Refusal(_) => ExchangeError::Body,
        }
    }

    fn end(&mut self, end: End) -> ExchangeError {
        self.trouble(Trouble::End(end))
    }

    fn completed(flow: Flow) -> Completed<'e> {
        Completed {
            flow,
            brand: PhantomData,
        }
    }
}

/// For the services that are built in.
impl<'e> Exchange<'e> {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.connection.worker
    }

    pub(crate) fn peer(&self) -> std::net::IpAddr {
        self.connection.peer
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.course.expects_continue
    }

    /// How the client has to be answered.
    pub(crate) fn frame(&self) -> Frame {
        self.course.frame
    }

    /// For the access log.
    pub(crate) fn log(&mut self) -> &mut Option<LogLine> {
        &mut self.course.log
    }

    /// Reads the body to where the next request begins, and throws it away.
    pub(crate) async fn discard_body(&mut self) -> Result<(), ExchangeError> {
        self.read(None).await?;
        // With the end of the body the next request may have come.
        self.connection.input.release_buffer();
        Ok(())
    }

    /// Sends an answer as it is, but for what its route does to it.
    pub(crate) async fn conclude(mut self, answer: Answer) -> Result<Completed<'e>, ExchangeError> {
        let (edits, log) = (self.course.edits.take(), self.course.take_log());
        self.course.status = Some(answer.status);
        let concluded = self.connection.conclude_edited(answer, edits, log).await;
        concluded
            .map(Exchange::completed)
            .map_err(|end| self.end(end))
    }

    /// Sends an answer that is there already, behind a body that nobody wants, or in its stead.
    pub(crate) async fn conclude_prepared(
        mut self,
        prepared: Prepared,
    ) -> Result<Completed<'e>, ExchangeError> {
        match prepared {
            Prepared::Reply(reply) => {
                if !self.course.expects_continue {
                    self.discard_body().await?;
                }
                self.reply(reply).await
            }
            Prepared::Answer(answer) => {
                if !(self.course.expects_continue && answer.spares_body()) {
                    self.discard_body().await?;
                }
                self.conclude(answer).await
            }
        }
    }

    /// Has a server answer.
    pub(crate) async fn forward(
        mut self,
        outbound: Box<Outbound>,
    ) -> Result<Completed<'e>, Failure> {
        // It tells of the request itself.
        self.course.is_told = true;
        let forwarded = self.connection.forward(outbound).await;
        match forwarded {
            Ok(flow) => {
                // The proxy has seen to the body, too.
                self.course.framing = Framing::None;
                Ok(Exchange::completed(flow))
            }
            Err(end) => Err(self.end(end).into()),
        }
    }
}

impl<'e> BodyWriter<'e> {
    /// Sends the next piece. It waits while the client takes nothing of the pieces before it.
    ///
    /// # Errors
    /// [`ExchangeError::TooLong`], and then nothing of the piece was sent; [`ExchangeError::Client`].
    pub async fn write(&mut self, piece: impl Into<Vec<u8>>) -> Result<(), ExchangeError> {
        let piece = self.delimit(piece.into())?;
        if piece.is_empty() {
            return Ok(());
        }
        let submitted = self.exchange.connection.submit(piece.into()).await;
        submitted.map_err(|end| self.exchange.end(end))
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`ExchangeError::TooShort`]: then the connection is cut, so that nobody takes a part for the
    /// whole; [`ExchangeError::Client`].
    pub async fn finish(mut self) -> Result<Completed<'e>, ExchangeError> {
        match self.left {
            Left::Bytes(0) | Left::Close => {}
            Left::Bytes(_) if self.frame.is_head => {}
            Left::Bytes(_) => return Err(ExchangeError::TooShort),
            Left::Chunks if self.frame.is_head => {}
            Left::Chunks => {
                let end = b"0\r\n\r\n".as_slice();
                let submitted = self.exchange.connection.submit(end.into()).await;
                submitted.map_err(|end| self.exchange.end(end))?;
            }
        }
        let Exchange {
            connection, course, ..
        } = self.exchange;
        course.tell(connection);
        Ok(Exchange::completed(match self.frame.keep_alive {
            true => Flow::Continue,
            false => Flow::Last(End::Orderly),
        }))
    }

    /// A piece as it is sent, which is nothing of it to whoever asked for the head alone.
    fn delimit(&mut self, piece: Vec<u8>) -> Result<Vec<u8>, ExchangeError> {
        let bytes = piece.len() as u64;
        // An empty chunk would be the end.
        if piece.is_empty() {
            return Ok(piece);
        }
        if let Left::Bytes(left) = &mut self.left {
            *left = left.checked_sub(bytes).ok_or(ExchangeError::TooLong)?;
        }
        if self.frame.is_head {
            return Ok(Vec::new());
        }
        self.exchange.course.body_bytes += bytes;
        Ok(match self.left {
            Left::Bytes(_) | Left::Close => piece,
            Left::Chunks => {
                let mut chunk = Vec::with_capacity(piece.len() + 20);
                push_chunk_size(&mut chunk, bytes);
                chunk.extend_from_slice(&piece);
                chunk.extend_from_slice(b"\r\n");
                chunk
            }
        })
    }
}

impl Connection {
    /// Reads on in a request's body, and puts some of it into `content`; to its end where there is
    /// none.
    async fn read_body(
        &mut self,
        course: &mut Course,
        content: Option<&mut Vec<u8>>,
    ) -> Result<Result<(), Refusal>, End> {
        if course.reader.is_none() {
            let asks = std::mem::take(&mut course.expects_continue);
            match self.begin_body(course.framing, asks).await? {
                Ok(reader) => course.reader = Some(reader),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        match &mut course.reader {
            Some(reader) => self.next_of_body(reader, content, PIECE_BYTES).await,
            None => Ok(Ok(())),
        }
    }

    /// Ends a request as its service has: by an answer, after which what nobody wanted of the body
    /// is thrown away; or by what kept it from one. `name` is the service's.
    pub(super) async fn settle(
        &mut self,
        course: &mut Course,
        served: Result<Flow, Failure>,
        name: &str,
    ) -> Result<Flow, End> {
        let failure = match served {
            Ok(Flow::Continue) if !course.is_read() => {
                return match self.read_body(course, None).await? {
                    Ok(()) => Ok(Flow::Continue),
                    // It has its answer.
                    Err(refusal) => Ok(Flow::Last(refusal.end)),
                };
            }
            Ok(flow) => return Ok(flow),
            Err(failure) => failure,
        };
        match (course.trouble, course.status) {
            (Some(Trouble::End(end)), _) => Err(end),
            (Some(Trouble::Refusal(refusal)), None) => {
                let answer = self.refusal(refusal, course.frame.is_head);
                self.conclude(answer, course.take_log()).await?;
                Ok(Flow::Last(refusal.end))
            }
            (Some(Trouble::Refusal(refusal)), Some(_)) => Err(refusal.end),
            (None, status) => {
                self.worker.tell_failure(name, &*failure);
                if status.is_some() {
                    return Err(End::ServiceFailed);
                }
                let answer = self.failed_answer(course);
                self.conclude(answer, course.take_log()).await
            }
        }
    }

    fn failed_answer(&self, course: &Course) -> Answer {
        let frame = Frame {
            keep_alive: course.frame.keep_alive && course.is_read(),
            ..course.frame
        };
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        crate::answer::brief(status, frame, &self.worker.clock, self.stream.now())
    }
}
