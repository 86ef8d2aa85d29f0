//! The server's side of an exchange: its answer, read and written anew for the client.
//!
//! The usual answer is at hand as a whole, and leaves with one call and without a wait. What is left of
//! the others is passed on by [`Content`].

use super::upload::{Upload, Watch};
use super::{Answered, Course, Trouble, client_trouble};
use crate::answer::Frame;
use crate::hooks::Edits;
use crate::proxy::content::{Content, ContentError, Sink, Source};
use crate::proxy::fault::ServerFault;
use crate::proxy::response::{self, Delimited};
use ringway_http::head::{HeadScan, Method};
use ringway_http::received::{
    ReceivedError, ReceivedFraming, ReceivedHead, ReceivedLimits, parse_received,
};
use ringway_http::response::InvalidHeader;
use ringway_runtime::{Buffer, Outgoing, now};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

/// Interim answers to one request; nobody sends more than a few.
const INTERIM_ANSWERS: u32 = 16;

/// What a head that is written anew may have more than it came with, usually.
const ADDED_BYTES: usize = 256;

fn answer_trouble(error: ContentError) -> Trouble {
    match error {
        ContentError::Source(error) => Trouble::Server(ServerFault::of_connection(error)),
        ContentError::Destination(error) => client_trouble(&error),
        ContentError::Malformed(error) => Trouble::Server(ServerFault::MalformedBody(error)),
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
    pub(super) async fn answer(
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
