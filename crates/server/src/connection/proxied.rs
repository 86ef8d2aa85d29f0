//! Requests that a server of an upstream answers: passed on, tried again where that is safe, and
//! explained to the client where it fails.

use super::end::Refusal;
use super::underway::{Tell, Underway, client_left, server_ended};
use super::{Connection, End, Flow};
use crate::answer::{self, Answer, Frame};
use crate::hooks::Outcome;
use crate::input::Input;
use crate::proxy::{
    Answered, Attempts, Chosen, Exchange, Failure, Lease, Opening, Outbound, Passage, ServerFault,
    Sink, Trouble, Upstream, Verdict, Watch, asks_for_upgrade, is_idempotent, max_forwards, write,
};
use crate::route::HeaderEdit;
use crate::service::{Look, Request};
use ringway_http::StatusCode;
use ringway_http::body::BodyError;
use ringway_http::head::{Framing, Method};
use ringway_http::hop::HopByHop;
use ringway_http::target::origin_form;
use ringway_runtime::{RelayOptions, TcpStream, TransferMethod, relay, sleep};
use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Bodies up to this size that came with their head are sent with it, in one piece.
const BODY_AT_HAND_BYTES: u64 = 64 << 10;

/// A request on its way to an upstream, or what stands against it. `edits` are what is done to its
/// fields.
pub(crate) fn pass_on(
    request: &Request<'_>,
    upstream: Rc<Upstream>,
    edits: &[HeaderEdit],
) -> Look<Box<Outbound>> {
    let head = request.head;
    let hop = HopByHop::of_request(head);
    let max_forwards = match max_forwards(head) {
        Some(0) => return Look::answer(answer_last_hop(request)),
        count => count.map(|count| count - 1),
    };
    if head.method == Method::Connect {
        // No tunnels to anywhere from here.
        return Look::answer(not_allowed(request));
    }
    let changed = request.changed_target();
    let origin = origin_form(head.method, head.target);
    let passage = Passage {
        peer: request.peer,
        target: changed.as_deref().unwrap_or(&origin),
        host: request.values.host,
        forward: &upstream.config.forward,
        is_upgrade: asks_for_upgrade(head, &hop),
        max_forwards,
        edits,
        values: &request.values,
    };
    Look::Later(Box::new(Outbound {
        written: write(head, &hop, passage),
        framing: head.framing,
        expects_continue: head.expect_continue,
        is_upgrade: passage.is_upgrade,
        is_idempotent: is_idempotent(head.method.as_str().as_bytes()),
        frame: request.frame,
        wanted: upstream.wanted(head, &request.values, request.moment.now),
        upstream,
        edits: request.response_edits(),
        hooks: None,
        set_cookie: None,
        sent_at: Cell::new(request.moment.now),
        heard_at: Cell::new(None),
        is_answered: Cell::new(false),
        status: Cell::new(0),
        passed_bytes: Cell::new(0),
        connected_after: Cell::new(None),
        log: None,
    }))
}

/// RFC 9110 §7.6.2: a request that may be passed on no further is answered here.
fn answer_last_hop(request: &Request<'_>) -> Answer {
    let (frame, moment) = (request.frame, request.moment);
    match request.head.method {
        Method::Options => answer::options(frame, moment.clock, moment.now, |head| head),
        // A trace would show what a browser's scripts aren't to see.
        _ => not_allowed(request),
    }
}

fn not_allowed(request: &Request<'_>) -> Answer {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let (frame, moment) = (request.frame_of(status), request.moment);
    answer::brief(status, frame, moment.clock, moment.now)
}

/// A request that is passed on, until that has come to an end of its own.
struct Forwarding(Option<Box<Outbound>>);

impl Tell for Forwarding {
    /// Nobody waits for it any more: the time of a drain is up, or the server has to end at once.
    fn tell(&mut self, connection: &Connection) {
        if let Some(outbound) = &mut self.0 {
            outbound.note_failure(None);
            match outbound.is_answered.get() {
                true => connection.log_cut(outbound),
                false => connection.log_unanswered(outbound, server_ended()),
            }
        }
    }
}

impl Connection {
    /// Has a server answer, and passes its answer on.
    ///
    /// What isn't needed for a request without a body and an answer that comes whole is boxed, here
    /// and below: this future is made for each request.
    pub(super) async fn forward(&mut self, mut outbound: Box<Outbound>) -> Result<Flow, End> {
        if !self.gathered.is_empty() {
            Box::pin(self.flush_gathered()).await?;
        }
        if let Err(error) = self.take_body_at_hand(&mut outbound) {
            return Box::pin(self.refuse_body(&mut outbound, error.into())).await;
        }
        self.input.release_buffer();
        let upstream = &*Rc::clone(&outbound.upstream);
        let mut underway = Underway::new(self, Forwarding(Some(outbound)));
        let mut received = Input::default();
        let total_timeout = upstream.config.timeouts.total_timeout;
        let mut too_late = total_timeout.map(|limit| Box::pin(sleep(limit)));
        let asked = {
            let (connection, Forwarding(outbound)) = underway.parts();
            let outbound = outbound.as_deref_mut().expect("taken only below");
            let mut asking = pin!(connection.ask(upstream, outbound, &mut received));
            // Not `timeout`: without one, this is no more than what is waited for.
            poll_fn(|context| match asking.as_mut().poll(context) {
                Poll::Ready(asked) => Poll::Ready(Some(asked)),
                Poll::Pending => match &mut too_late {
                    Some(too_late) => too_late.as_mut().poll(context).map(|()| None),
                    None => Poll::Pending,
                },
            })
            .await
        };
        let (_, Forwarding(outbound)) = underway.parts();
        let mut outbound = outbound.take().expect("taken only here");
        drop(underway);
        match asked {
            Some(Ok((answered, None))) => Ok(self.conclude_proxied(answered, &mut outbound)),
            asked => Box::pin(self.end_unusually(asked, outbound, received)).await,
        }
    }

    /// The ends that have more to do than to count: an upgrade, no answer, and an answer too late.
    async fn end_unusually(
        &mut self,
        asked: Option<Result<(Answered, Option<Lease>), Failure>>,
        mut outbound: Box<Outbound>,
        received: Input,
    ) -> Result<Flow, End> {
        match asked {
            None => self.time_out(&mut outbound).await,
            Some(Err(failure)) => self.explain(&mut outbound, failure).await,
            Some(Ok((answered, server))) => {
                let flow = self.conclude_proxied(answered, &mut outbound);
                drop(outbound);
                match server {
                    Some(server) => Box::pin(self.tunnel(server, received)).await,
                    None => Ok(flow),
                }
            }
        }
    }

    /// Takes a body that came with its head, so that both are sent together, and can be again.
    fn take_body_at_hand(&mut self, outbound: &mut Outbound) -> Result<(), BodyError> {
        let limits = &self.worker.body_limits;
        let Framing::Length(bytes) = outbound.framing else {
            return Ok(());
        };
        if bytes > limits.body_bytes {
            return Err(BodyError::TooLarge);
        }
        let at_hand = self.input.bytes();
        if bytes > BODY_AT_HAND_BYTES || (at_hand.len() as u64) < bytes {
            return Ok(());
        }
        let bytes = bytes as usize;
        outbound.written.bytes.extend_from_slice(&at_hand[..bytes]);
        self.input.consume(bytes);
        outbound.framing = Framing::None;
        Ok(())
    }

    /// Asks one server after the other, as long as that is safe. With an upgrade comes the server's
    /// connection, which is a tunnel then.
    async fn ask(
        &mut self,
        upstream: &Upstream,
        outbound: &mut Outbound,
        received: &mut Input,
    ) -> Result<(Answered, Option<Lease>), Failure> {
        let mut attempts = Attempts::default();
        let Some(mut chosen) = upstream.choose(&outbound.wanted, self.stream.now()) else {
            return Err(Failure::before(ServerFault::NoServer));
        };
        loop {
            outbound.head_for(upstream, chosen.server());
            outbound.note_attempt(chosen.server());
            let leased = match upstream.try_lease(chosen.server(), self.stream.now()) {
                Ok(lease) => Ok(lease),
                Err(opening) => {
                    let waiting = self.wait_for_lease(upstream, &chosen, outbound, opening);
                    Box::pin(waiting).await
                }
            };
            let (failure, is_reused) = match leased {
                Err(trouble) => (Failure::unsent(trouble), false),
                Ok(mut lease) => {
                    let mut exchange = Exchange {
                        outbound,
                        client: &mut self.stream,
                        input: &mut self.input,
                        server: &mut lease,
                        received,
                        upstream,
                        worker: &self.worker,
                    };
                    match exchange.run().await {
                        Ok(answered) => {
                            return Ok(self.note_answered(answered, outbound, &chosen, lease));
                        }
                        Err(failure) => (failure, lease.is_reused()),
                    }
                }
            };
            *received = Input::default();
            match upstream.judge(chosen, &failure, outbound, is_reused, &mut attempts) {
                Verdict::Again | Verdict::Elsewhere => {}
                Verdict::No(_) => return Err(failure),
            }
            chosen = match upstream.choose(&outbound.wanted, self.stream.now()) {
                Some(chosen) => chosen,
                None => return Err(failure),
            };
        }
    }

    /// Notes how a server has answered. Its connection goes back to the pool, or ends, or becomes a
    /// tunnel.
    fn note_answered(
        &self,
        answered: Answered,
        outbound: &Outbound,
        chosen: &Chosen<'_>,
        lease: Lease,
    ) -> (Answered, Option<Lease>) {
        let now = self.stream.now();
        chosen.answered(answered.status, outbound, now);
        if answered.is_upgraded {
            return (answered, Some(lease));
        }
        if answered.is_reusable {
            lease.finish(now);
        }
        (answered, None)
    }

    /// A connection to the server, and how long that took. A client that leaves meanwhile makes room
    /// for the next in line.
    async fn wait_for_lease(
        &mut self,
        upstream: &Upstream,
        chosen: &Chosen<'_>,
        outbound: &Outbound,
        opening: Option<Opening>,
    ) -> Result<Lease, Trouble> {
        let began = self.stream.now();
        let leased = {
            let mut leasing = pin!(upstream.lease(chosen.server(), opening));
            let mut watch = Watch::new(self.stream.split().0, &mut self.input);
            poll_fn(|context| match leasing.as_mut().poll(context) {
                Poll::Ready(leased) => Poll::Ready(leased.map_err(Trouble::Server)),
                Poll::Pending => watch.poll(context).map(Err),
            })
            .await
        };
        let took = self.stream.now().saturating_duration_since(began);
        outbound.connected_after.set(Some(took));
        leased
    }

    /// Counts an answer, and says how the connection goes on.
    fn conclude_proxied(&self, answered: Answered, outbound: &mut Outbound) -> Flow {
        let Answered {
            status, body_bytes, ..
        } = answered;
        self.worker.stats.count_answer(status, body_bytes);
        end_hooks(outbound, Some(status), body_bytes);
        if let Some(mut log) = outbound.log.take() {
            let first_byte_after = outbound.first_byte_after();
            if let Some(passing) = &mut log.passing {
                passing.status = Some(status);
                passing.first_byte = first_byte_after;
                passing.connect = outbound.connected_after.get();
            }
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            self.write_log(Some(log), status, body_bytes);
        }
        if answered.keep_alive {
            Flow::Continue
        } else {
            Flow::Last(End::Orderly)
        }
    }

    /// Both connections carry another protocol from now on: whatever comes goes to the other side.
    ///
    /// Until both sides have ended, whatever ends the tunnel (a side that fails, silence, the end of the
    /// server) is a reset for both: so neither takes a cut for an end.
    async fn tunnel(&mut self, mut server: Lease, received: Input) -> Result<Flow, End> {
        let idle_timeout = self.worker.limits.tunnel_idle_timeout;
        let ahead = [self.input.bytes(), received.bytes()].map(<[u8]>::to_vec);
        self.input = Input::default();
        let [to_server, to_client] = ahead;
        let options = RelayOptions {
            method: TransferMethod::Auto,
            idle_timeout,
        };
        self.cut_by_reset();
        // On a socket that is gone nothing will look like anything.
        let _ = server.set_reset_on_drop(true);
        let relayed = async {
            send_ahead(&mut server, to_server, idle_timeout).await?;
            send_ahead(&mut self.stream, to_client, idle_timeout).await?;
            relay(&mut self.stream, &mut server, options).await
        };
        match relayed.await {
            Ok(_) => {
                let _ = server.set_reset_on_drop(false);
                Ok(Flow::Silence)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(End::Idle),
            Err(_) => Err(End::TunnelBroken),
        }
    }

    /// Tells the client why there is no answer, or cuts it off where there was some of one.
    async fn explain(&mut self, outbound: &mut Outbound, failure: Failure) -> Result<Flow, End> {
        let fault = match &failure.trouble {
            Trouble::Server(fault) => Some(fault),
            _ => None,
        };
        if let Some(fault) = fault {
            self.worker.count_unanswered(&outbound.upstream, fault);
        }
        outbound.note_failure(fault);
        if failure.is_answered {
            self.log_cut(outbound);
            return Err(self.end_of_cut(&failure.trouble));
        }
        let is_read = failure.is_body_read || outbound.framing == Framing::None;
        match failure.trouble {
            Trouble::Client(end) => {
                self.log_unanswered(outbound, client_left());
                Err(end)
            }
            Trouble::Body(error) => self.refuse_body(outbound, error.into()).await,
            Trouble::SlowBody => self.refuse_body(outbound, Refusal::SLOW_BODY).await,
            Trouble::Server(fault) => self.gateway_error(outbound, fault.status(), is_read).await,
            Trouble::Hooks(error) => {
                self.worker.tell_failure("hooks", &*error);
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                self.gateway_error(outbound, status, is_read).await
            }
        }
    }

    /// How the connection of a client ends that got a part of its answer.
    fn end_of_cut(&self, trouble: &Trouble) -> End {
        match trouble {
            Trouble::Client(end) => *end,
            Trouble::Body(error) => {
                tracing::debug!(peer = %self.peer, %error, "a request's body was cut off");
                End::Malformed
            }
            Trouble::SlowBody => End::SlowBody,
            Trouble::Server(_) => End::ServerFailed,
            Trouble::Hooks(error) => {
                self.worker.tell_failure("hooks", &**error);
                End::ServiceFailed
            }
        }
    }

    async fn time_out(&mut self, outbound: &mut Outbound) -> Result<Flow, End> {
        let fault = ServerFault::TotalTimeout;
        self.worker.count_unanswered(&outbound.upstream, &fault);
        outbound.note_failure(Some(&fault));
        if outbound.is_answered.get() {
            self.log_cut(outbound);
            return Err(End::ServerFailed);
        }
        if self.stream.is_sending() {
            // Whoever doesn't take what came before it takes no more.
            end_hooks(outbound, Some(fault.status().as_u16()), 0);
            self.write_log(outbound.log.take(), fault.status(), 0);
            return Err(End::ServerFailed);
        }
        let is_read = outbound.framing == Framing::None;
        self.gateway_error(outbound, fault.status(), is_read).await
    }

    /// Tells hooks and log of a request whose client got nothing; no answer has had this status.
    fn log_unanswered(&self, outbound: &mut Outbound, status: StatusCode) {
        end_hooks(outbound, None, 0);
        self.write_log(outbound.log.take(), status, 0);
    }

    /// Counts an answer that the client got a part of, and tells hooks and log of it: the status is
    /// what it saw, and the bytes are those that were handed over.
    fn log_cut(&self, outbound: &mut Outbound) {
        let (status, body_bytes) = (outbound.status.get(), outbound.passed_bytes.get());
        end_hooks(outbound, Some(status), body_bytes);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        self.count_answered(outbound.log.take(), status, body_bytes);
    }

    async fn gateway_error(
        &mut self,
        outbound: &mut Outbound,
        status: StatusCode,
        is_body_read: bool,
    ) -> Result<Flow, End> {
        let frame = Frame {
            keep_alive: outbound.frame.keep_alive && is_body_read && !self.worker.is_draining(),
            ..outbound.frame
        };
        let answer = answer::brief(status, frame, &self.worker.clock, self.stream.now());
        end_hooks(outbound, Some(status.as_u16()), answer.body_bytes);
        self.conclude(answer, outbound.log.take()).await
    }

    async fn refuse_body(
        &mut self,
        outbound: &mut Outbound,
        refusal: Refusal,
    ) -> Result<Flow, End> {
        let answer = self.refusal(refusal, outbound.frame.is_head);
        end_hooks(outbound, Some(refusal.status.as_u16()), answer.body_bytes);
        self.conclude(answer, outbound.log.take()).await?;
        Ok(Flow::Last(refusal.end))
    }
}

/// Sends what a tunnel's other side has sent before it was one, as long as this side takes it.
async fn send_ahead(
    stream: &mut TcpStream,
    bytes: Vec<u8>,
    idle_timeout: Duration,
) -> io::Result<()> {
    let now = stream.now();
    Sink::new(stream.split().1, idle_timeout)
        .send(bytes, now)
        .await
}

/// Tells a request's hooks how it has ended, and the log what they say of it.
#[inline]
fn end_hooks(outbound: &mut Outbound, status: Option<u16>, body_bytes: u64) {
    if let Some(hooks) = &outbound.hooks {
        let note = hooks.log(&Outcome { status, body_bytes });
        if let Some(line) = &mut outbound.log {
            line.note = note;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of these is made for each request that is passed on, and up to 1 KiB the allocator has
    /// at hand; the rarer states are boxed.
    #[test]
    fn passing_a_request_on_takes_little_memory() {
        fn size_of_future<F: Future>(
            _: impl FnOnce(&'static mut Connection, Box<Outbound>) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Connection::forward);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}
