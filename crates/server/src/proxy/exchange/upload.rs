//! The client's side of an exchange: its request's body on the way to the server, and that it still
//! waits for the answer.
//!
//! The answer may come before all of the body was sent, and then goes on whatever becomes of the rest.

use super::{Course, Trouble, server_trouble};
use crate::connection::End;
use crate::input::Input;
use crate::proxy::content::{Content, ContentError, Sink, Source};
use crate::proxy::fault::ServerFault;
use ringway_runtime::{ReadHalf, TcpStream, now};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// What a client may send ahead while it waits for an answer; then it isn't read any further.
const AHEAD_BYTES: usize = 16 << 10;

/// Where the request's body stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    Running,
    /// All of it came from the client, and some of it is still on its way to the server.
    Taken,
    Done,
    /// Nothing more of it goes on: the server doesn't take it, or the client has stopped.
    Failed,
}

impl Upload {
    /// Whether it is known where the client's next request begins.
    pub(super) fn is_taken(self) -> bool {
        matches!(self, Upload::Taken | Upload::Done)
    }

    /// Whether something is still on its way.
    pub(super) fn is_under_way(self) -> bool {
        matches!(self, Upload::Running | Upload::Taken)
    }
}

impl Course<'_> {
    /// Sends a request and its body, and looks at the client as long as that only waits. What it ends
    /// with isn't the end of the exchange in every case: see [`Course::go_on_without`].
    pub(super) async fn upload(
        &self,
        body: &mut Content,
        mut source: Source<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Infallible, ContentError> {
        let head = self.outbound.written.bytes.clone();
        let sent = sink.send(head, now()).await;
        sent.map_err(ContentError::Destination)?;
        self.is_sent.set(true);
        self.is_spent.set(true);
        body.pass(&mut source, sink, Vec::new().into()).await?;
        self.upload.set(Upload::Taken);
        let flushed = sink.flush(now()).await;
        flushed.map_err(ContentError::Destination)?;
        self.upload.set(Upload::Done);
        self.outbound.sent_at.set(now());
        let Source {
            mut half, input, ..
        } = source;
        half.set_deadline(None);
        let mut watch = Watch::new(half, input);
        let gone = poll_fn(|context| watch.poll_gone(context)).await;
        Err(ContentError::Source(gone))
    }

    /// Whether it matters what the client does on its side of a request with a body: until that has been
    /// sent, and then as long as it waits.
    pub(super) fn is_client_heard(&self) -> bool {
        match self.upload.get() {
            Upload::Running | Upload::Taken => true,
            Upload::Done => !self.outbound.is_answered.get(),
            Upload::Failed => false,
        }
    }

    /// Goes on without the rest of a body, where its end doesn't end everything.
    pub(super) fn go_on_without(&self, error: ContentError) -> Result<(), Trouble> {
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
pub(super) async fn send_rest(
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

fn upload_trouble(error: ContentError) -> Trouble {
    match error {
        ContentError::Source(error) if error.kind() == io::ErrorKind::TimedOut => Trouble::SlowBody,
        ContentError::Source(_) => Trouble::Client(End::Broken),
        ContentError::Destination(error) => Trouble::Server(ServerFault::of_connection(error)),
        ContentError::Malformed(error) => Trouble::Body(error),
    }
}

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
