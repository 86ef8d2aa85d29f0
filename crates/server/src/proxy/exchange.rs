//! One request and its answer, over one connection to a server.
//!
//! The request's head is sent, and its body while the answer may already come: both directions go
//! on at once, and neither waits for the other (`upload`, `answer`). Which server, whether it is tried
//! again and what the client hears when it fails is decided by the caller.

mod answer;
mod upload;

use super::content::{Content, Sink, Source};
use super::fault::ServerFault;
use super::outbound::Outbound;
use super::upstream::Upstream;
use crate::connection::End;
use crate::input::Input;
use crate::service;
use crate::worker::Worker;
use ringway_http::body::BodyError;
use ringway_http::head::Framing;
use ringway_runtime::{TcpStream, now};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use upload::{Upload, send_rest};

pub(crate) use upload::Watch;

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

/// What the two directions know of each other.
struct Course<'e> {
    outbound: &'e Outbound,
    upstream: &'e Upstream,
    worker: &'e Worker,
    upload: Cell<Upload>,
    /// Whether some of the request may have reached the server.
    is_sent: Cell<bool>,
    /// Whether some of the body was used up.
    is_spent: Cell<bool>,
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
            is_spent: Cell::new(false),
        };
        let ran = if has_body {
            Box::pin(self.run_both(&course)).await
        } else {
            self.run_answer(&course).await
        };
        ran.map_err(|trouble| Failure {
            trouble,
            is_answered: outbound.is_answered.get(),
            has_heard: outbound.heard_at.get().is_some(),
            is_sent: course.is_sent.get(),
            is_spent: course.is_spent.get(),
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
        sent.map_err(server_trouble)?;
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
    async fn run_both(&mut self, course: &Course<'_>) -> Result<Answered, Trouble> {
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
        let source = Source {
            half: client_reader,
            input: self.input,
            pace_bytes: limits.body_stall_bytes,
            // A client that asks leave to send waits for the server's word.
            timeout: match outbound.expects_continue {
                true => body_timeout.max(timeouts.first_byte_timeout),
                false => body_timeout,
            },
        };
        let mut upload = pin!(course.upload(&mut body, source, &mut server_sink));
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

fn server_trouble(error: io::Error) -> Trouble {
    Trouble::Server(ServerFault::of_connection(error))
}

fn client_trouble(error: &io::Error) -> Trouble {
    Trouble::Client(match error.kind() {
        io::ErrorKind::TimedOut => End::WriteStall,
        _ => End::Broken,
    })
}
