//! One socket's bytes to another: both ways with the ends passed on, or a known number of them one
//! way.
//!
//! Bytes that were received before are sent first; from then on nothing is received ahead, and the
//! bytes go from socket to socket through a pooled pipe, inside the kernel. A pipe is held while
//! bytes are in it and given back before every wait for more, so that idle relays need none. Where
//! no pipe is to be had, or splicing is refused, the receive buffers themselves are sent on.

use super::TransferMethod;
use super::lease::PipeLease;
use crate::net::{ReadHalf, TcpStream, WriteHalf};
use crate::time::Timer;
use crate::worker::Worker;
use ringway_kernel::{Buffer, Interest, Outgoing, SocketKey};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What one relay may move before the others have their turn.
const TURN_BYTES: u64 = 4 << 20;
/// What was received ahead is sent in pieces of about this size.
const JOINED_BYTES: usize = 64 << 10;

/// How to relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// [`TransferMethod::Copy`] sends on what was received; every other way is a splice, where that
    /// can be.
    pub method: TransferMethod,
    /// Ends the relay when no byte has moved either way for this long. Default: five minutes.
    pub idle_timeout: Duration,
}

impl Default for RelayOptions {
    fn default() -> RelayOptions {
        RelayOptions {
            method: TransferMethod::Auto,
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// What a relay has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayReport {
    /// Bytes from the first stream to the second.
    pub there_bytes: u64,
    /// Bytes from the second to the first.
    pub back_bytes: u64,
    /// How many of all of them never came to user memory.
    pub spliced_bytes: u64,
}

/// Moves bytes between two streams, both ways, until both have ended. The end of one is passed on to
/// the other as soon as everything before it was sent, while the other way goes on.
///
/// A side that doesn't read stops the other one: no more than a pipe of a mebibyte, or some receive
/// buffers, wait in between.
///
/// # Errors
/// Of either stream, or `TimedOut` when nothing has moved for too long. Then both are best reset.
pub async fn relay(
    first: &mut TcpStream,
    second: &mut TcpStream,
    options: RelayOptions,
) -> io::Result<RelayReport> {
    let worker = Rc::clone(&first.socket.worker);
    let (one, other) = (first.socket.key, second.socket.key);
    let mut there = Direction::new(&worker, one, other, options.method, None);
    let mut back = Direction::new(&worker, other, one, options.method, None);
    let timer = Timer::new(Rc::clone(&worker));
    let mut moved = (0, worker.now());
    poll_fn(|context| {
        let ways = [there.poll(context), back.poll(context)];
        let mut all_done = true;
        for way in ways {
            match way {
                Poll::Ready(done) => done?,
                Poll::Pending => all_done = false,
            }
        }
        if all_done {
            return Poll::Ready(Ok(()));
        }
        poll_idle(
            &timer,
            &worker,
            &mut moved,
            there.bytes + back.bytes,
            options,
            context,
        )
    })
    .await?;
    Ok(RelayReport {
        there_bytes: there.bytes,
        back_bytes: back.bytes,
        spliced_bytes: there.spliced_bytes + back.spliced_bytes,
    })
}

/// Ready when no byte has moved for too long.
fn poll_idle(
    timer: &Timer,
    worker: &Worker,
    (last_bytes, since): &mut (u64, Instant),
    bytes: u64,
    options: RelayOptions,
    context: &Context<'_>,
) -> Poll<io::Result<()>> {
    if bytes > *last_bytes {
        (*last_bytes, *since) = (bytes, worker.now());
    }
    ready!(timer.poll_until(*since + options.idle_timeout, context));
    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
}

/// How to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardOptions {
    /// As [`RelayOptions::method`].
    pub method: TransferMethod,
    /// How long the source may take for [`source_bytes`](ForwardOptions::source_bytes) while it is
    /// waited for. Until the destination takes more isn't its time.
    pub source_timeout: Duration,
    /// So many bytes the source has to send in each such time; at least 1.
    pub source_bytes: u64,
    /// How long the destination may take nothing while it is waited for.
    pub destination_timeout: Duration,
}

/// What was forwarded.
#[derive(Debug)]
pub struct Forwarded {
    /// How many of the bytes never came to user memory.
    pub spliced_bytes: u64,
    /// What was received behind the last of them.
    pub rest: Option<Buffer>,
}

/// Why bytes can't be forwarded, by whose fault.
#[derive(Debug)]
pub enum ForwardError {
    /// The source failed, ended too early (`UnexpectedEof`) or was silent for too long
    /// (`TimedOut`).
    Source(io::Error),
    /// The destination failed, or took nothing for too long (`TimedOut`).
    Destination(io::Error),
}

impl fmt::Display for ForwardError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardError::Source(error) => write!(out, "the source: {error}"),
            ForwardError::Destination(error) => write!(out, "the destination: {error}"),
        }
    }
}

impl std::error::Error for ForwardError {}

impl From<ForwardError> for io::Error {
    fn from(error: ForwardError) -> io::Error {
        match error {
            ForwardError::Source(error) | ForwardError::Destination(error) => error,
        }
    }
}

/// Moves exactly so many bytes from one stream to another, inside the kernel where that can be.
/// `progress` hears of each step how many bytes the destination has taken. The last bytes may still
/// be on their way when it returns ([`WriteHalf::flush`]).
///
/// Neither stream's own deadline counts here.
///
/// # Errors
/// See [`ForwardError`].
pub async fn forward(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    bytes: u64,
    options: ForwardOptions,
    mut progress: impl FnMut(u64),
) -> Result<Forwarded, ForwardError> {
    let worker = Rc::clone(&from.socket.worker);
    let (source, destination) = (from.socket.key, to.socket.key);
    let mut way = Direction::new(&worker, source, destination, options.method, Some(bytes));
    let mut patience = Patience::new(&worker, options);
    poll_fn(|context| {
        let before = way.bytes;
        let polled = way.poll(context);
        progress(way.bytes - before);
        match polled {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => patience.poll(&way, to, context),
        }
    })
    .await?;
    Ok(Forwarded {
        spliced_bytes: way.spliced_bytes,
        rest: way.rest,
    })
}

/// How long whoever is waited for may still take.
struct Patience {
    timer: Timer,
    options: ForwardOptions,
    /// When this was asked last, whether the destination was waited for then, and what had been moved.
    asked_at: Instant,
    was_full: bool,
    bytes: u64,
    /// Since when the destination has taken nothing, and what its kernel had acknowledged then, or when
    /// it was full for the first time: room comes long after the first byte.
    full_since: Instant,
    delivered_bytes: Option<u64>,
    /// When the source's time began, and what had been moved then.
    source_since: Instant,
    source_bytes: u64,
}

impl Patience {
    fn new(worker: &Rc<Worker>, options: ForwardOptions) -> Patience {
        let now = worker.now();
        Patience {
            timer: Timer::new(Rc::clone(worker)),
            options,
            asked_at: now,
            was_full: false,
            bytes: 0,
            full_since: now,
            delivered_bytes: None,
            source_since: now,
            source_bytes: 0,
        }
    }

    fn poll(
        &mut self,
        way: &Direction,
        to: &WriteHalf<'_>,
        context: &Context<'_>,
    ) -> Poll<Result<(), ForwardError>> {
        let now = way.worker.now();
        if self.was_full {
            // What the destination took its time for isn't the source's.
            self.source_since += now.saturating_duration_since(self.asked_at);
        }
        if !self.was_full || self.bytes != way.bytes {
            self.full_since = now;
        }
        (self.asked_at, self.was_full, self.bytes) = (now, way.is_full, way.bytes);
        match way.is_full {
            true => self.poll_destination(to, now, context),
            false => self.poll_source(now, context),
        }
    }

    fn poll_destination(
        &mut self,
        to: &WriteHalf<'_>,
        now: Instant,
        context: &Context<'_>,
    ) -> Poll<Result<(), ForwardError>> {
        let timeout = self.options.destination_timeout;
        // Not before: it is a system call, and most bodies find room.
        self.delivered_bytes
            .get_or_insert_with(|| to.delivered_bytes());
        while ready_at(&self.timer, self.full_since + timeout, context) {
            let delivered = to.delivered_bytes();
            if self.delivered_bytes == Some(delivered) {
                let error = io::ErrorKind::TimedOut.into();
                return Poll::Ready(Err(ForwardError::Destination(error)));
            }
            (self.delivered_bytes, self.full_since) = (Some(delivered), now);
        }
        Poll::Pending
    }

    fn poll_source(
        &mut self,
        now: Instant,
        context: &Context<'_>,
    ) -> Poll<Result<(), ForwardError>> {
        if self.bytes - self.source_bytes >= self.options.source_bytes.max(1) {
            (self.source_bytes, self.source_since) = (self.bytes, now);
        }
        let deadline = self.source_since + self.options.source_timeout;
        if !ready_at(&self.timer, deadline, context) {
            return Poll::Pending;
        }
        let error = io::ErrorKind::TimedOut.into();
        Poll::Ready(Err(ForwardError::Source(error)))
    }
}

fn ready_at(timer: &Timer, deadline: Instant, context: &Context<'_>) -> bool {
    timer.poll_until(deadline, context).is_ready()
}

/// One way of a relay.
struct Direction {
    worker: Rc<Worker>,
    from: SocketKey,
    to: SocketKey,
    state: State,
    /// Bytes that may still be taken from the source.
    left: u64,
    /// An end of the source before that is too early.
    is_bounded: bool,
    /// Received, and not taken over by the other socket yet.
    outgoing: Option<Outgoing>,
    /// Received behind the last byte that may be taken.
    rest: Option<Buffer>,
    /// Held while bytes are in it.
    pipe: Option<PipeLease>,
    /// Whether the last wait was for the destination.
    is_full: bool,
    bytes: u64,
    spliced_bytes: u64,
}

enum State {
    /// What was received ahead is sent first.
    Draining,
    Splicing,
    Copying,
    /// The end has come, and follows what is still on its way.
    Ending,
    Done,
}

/// What one attempt to go on came to.
enum Went {
    On,
    /// Wait for the source.
    Empty,
    /// Wait for the destination.
    Full,
}

impl Direction {
    fn new(
        worker: &Rc<Worker>,
        from: SocketKey,
        to: SocketKey,
        method: TransferMethod,
        bound: Option<u64>,
    ) -> Direction {
        let splices =
            method != TransferMethod::Copy && !worker.transfers.is_refused(TransferMethod::Splice);
        Direction {
            worker: Rc::clone(worker),
            from,
            to,
            state: if splices {
                State::Draining
            } else {
                State::Copying
            },
            left: bound.unwrap_or(u64::MAX),
            is_bounded: bound.is_some(),
            outgoing: None,
            rest: None,
            pipe: None,
            is_full: false,
            bytes: 0,
            spliced_bytes: 0,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        let before = self.bytes;
        loop {
            if self.bytes - before >= TURN_BYTES {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.is_full = true;
            if self.outgoing.is_some() {
                ready!(self.poll_send(context)).map_err(ForwardError::Destination)?;
            }
            if self.left == 0 && self.pipe.is_none() {
                return Poll::Ready(Ok(()));
            }
            match self.state {
                State::Draining => ready!(self.poll_drain(context))?,
                State::Copying => ready!(self.poll_copy(context))?,
                State::Splicing => match self.splice()? {
                    Went::On => {}
                    Went::Empty => {
                        self.is_full = false;
                        ready!(self.poll_readable(context)).map_err(ForwardError::Source)?;
                    }
                    Went::Full => {
                        ready!(self.poll_writable(context)).map_err(ForwardError::Destination)?;
                    }
                },
                State::Ending if self.is_bounded => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Err(ForwardError::Source(error)));
                }
                State::Ending => {
                    let to = self.to;
                    let reactor = &self.worker.reactor;
                    ready!(reactor.poll(context.waker(), |reactor, waiter| {
                        reactor.poll_sent(to, waiter)
                    }))
                    .map_err(ForwardError::Destination)?;
                    // Who is gone already needs no end.
                    let _ = reactor.enter(|reactor| reactor.shutdown_write(to));
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_send(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let (to, outgoing) = (self.to, &mut self.outgoing);
        self.worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                reactor.poll_send(to, outgoing, waiter)
            })
    }

    /// Takes over what was received, as far as it may be.
    fn take(&mut self, mut buffer: Buffer) {
        if buffer.len() as u64 > self.left {
            let wanted = self.left as usize;
            self.outgoing = (wanted > 0).then(|| buffer[..wanted].to_vec().into());
            buffer.advance(wanted);
            self.rest = Some(buffer);
            self.bytes += self.left;
            self.left = 0;
            return;
        }
        self.bytes += buffer.len() as u64;
        self.left -= buffer.len() as u64;
        self.outgoing = Some(buffer.into());
    }

    /// Takes over what was received ahead, many buffers at once: with io_uring dozens of them may be
    /// there, and to send each by itself would cost more than to copy it.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        self.is_full = false;
        let mut joined = Vec::new();
        while self.left > 0 && joined.len() < JOINED_BYTES {
            match self.poll_ahead(context).map_err(ForwardError::Source)? {
                Poll::Pending if joined.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(buffer)) => {
                    self.take(buffer);
                    if let Some(taken) = self.outgoing.take() {
                        taken.append_to(&mut joined);
                    }
                }
                Poll::Ready(None) => {
                    self.state = State::Splicing;
                    break;
                }
            }
        }
        self.outgoing = (!joined.is_empty()).then(|| joined.into());
        Poll::Ready(Ok(()))
    }

    /// What is still to come of what was received ahead; `None` when that is all.
    fn poll_ahead(&mut self, context: &Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        let from = self.from;
        self.worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                reactor.poll_stop_receiving(from, waiter)
            })
    }

    fn poll_copy(&mut self, context: &Context<'_>) -> Poll<Result<(), ForwardError>> {
        let (from, to) = (self.from, self.to);
        let reactor = &self.worker.reactor;
        // Not before the last bytes are out: a reader that is behind stops the sender.
        ready!(reactor.poll(context.waker(), |reactor, waiter| {
            reactor.poll_sent(to, waiter)
        }))
        .map_err(ForwardError::Destination)?;
        self.is_full = false;
        let received = reactor.poll(context.waker(), |reactor, waiter| {
            reactor.poll_receive(from, waiter)
        });
        match ready!(received).map_err(ForwardError::Source)? {
            Some(buffer) => self.take(buffer),
            None => self.state = State::Ending,
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes into the pipe, or out of it.
    fn splice(&mut self) -> Result<Went, ForwardError> {
        if self.pipe.is_none() {
            self.pipe = PipeLease::new(&self.worker);
        }
        let Some(pipe) = self.pipe.as_ref().map(|lease| lease.key) else {
            self.state = State::Copying;
            return Ok(Went::On);
        };
        let (from, to, left) = (self.from, self.to, self.left);
        let (held, moved) = self.worker.reactor.enter(|reactor| {
            let (held, _) = reactor.pipe_bytes(pipe);
            let moved = match held {
                0 => reactor.splice_in(pipe, from, left),
                _ => reactor.splice_out(pipe, to),
            };
            (held, moved)
        });
        match moved {
            Ok(0) if held == 0 => {
                self.pipe = None;
                self.state = State::Ending;
            }
            Ok(count) if held > 0 => {
                self.bytes += count as u64;
                self.spliced_bytes += count as u64;
                if count == held && self.left == 0 {
                    self.pipe = None;
                }
            }
            Ok(count) => self.left -= count as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && held == 0 => {
                self.pipe = None;
                return Ok(Went::Empty);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Went::Full),
            Err(error) => {
                let experience = &self.worker.transfers;
                // Only into an empty pipe: nothing is lost then.
                if held > 0 {
                    return Err(ForwardError::Destination(error));
                }
                if !experience.note_refusal(TransferMethod::Splice, &error) {
                    return Err(ForwardError::Source(error));
                }
                self.pipe = None;
                self.state = State::Copying;
            }
        }
        Ok(Went::On)
    }

    fn poll_readable(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let from = self.from;
        self.worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                reactor.poll_readable(from, waiter)
            })
    }

    fn poll_writable(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let to = self.to;
        self.worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                if reactor.is_sending(to) {
                    return reactor.poll_sent(to, waiter);
                }
                reactor.poll_ready(to, Interest::Writable, waiter)
            })
    }
}
