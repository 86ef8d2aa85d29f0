//! One socket's bytes to another, both ways, with the ends passed on.
//!
//! Bytes that were received before are sent first; from then on nothing is received ahead, and the
//! bytes go from socket to socket through a pooled pipe, inside the kernel. A pipe is held while
//! bytes are in it and given back before every wait for more, so that idle relays need none. Where
//! no pipe is to be had, or splicing is refused, the receive buffers themselves are sent on.

use super::TransferMethod;
use super::file::PipeLease;
use crate::net::TcpStream;
use crate::time::Timer;
use crate::worker::Worker;
use ringway_kernel::{Interest, Outgoing, SocketKey};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What one relay may move before the others have their turn.
const TURN_BYTES: u64 = 4 << 20;

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
    let worker = Rc::clone(&first.worker);
    let mut there = Direction::new(&worker, first.key, second.key, options.method);
    let mut back = Direction::new(&worker, second.key, first.key, options.method);
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

/// One way of a relay.
struct Direction {
    worker: Rc<Worker>,
    from: SocketKey,
    to: SocketKey,
    state: State,
    /// Received, and not taken over by the other socket yet.
    outgoing: Option<Outgoing>,
    /// Held while bytes are in it.
    pipe: Option<PipeLease>,
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
            outgoing: None,
            pipe: None,
            bytes: 0,
            spliced_bytes: 0,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.bytes;
        loop {
            if self.bytes - before >= TURN_BYTES {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.outgoing.is_some() {
                ready!(self.poll_send(context))?;
            }
            match self.state {
                State::Draining => ready!(self.poll_drain(context))?,
                State::Copying => ready!(self.poll_copy(context))?,
                State::Splicing => match self.splice()? {
                    Went::On => {}
                    Went::Empty => ready!(self.poll_readable(context))?,
                    Went::Full => ready!(self.poll_writable(context))?,
                },
                State::Ending => {
                    let to = self.to;
                    let reactor = &self.worker.reactor;
                    ready!(reactor.poll(context.waker(), |reactor, waiter| {
                        reactor.poll_sent(to, waiter)
                    }))?;
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

    fn poll_drain(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let from = self.from;
        let received = self
            .worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                reactor.poll_stop_receiving(from, waiter)
            });
        match ready!(received)? {
            Some(buffer) => {
                self.bytes += buffer.len() as u64;
                self.outgoing = Some(buffer.into());
            }
            None => self.state = State::Splicing,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_copy(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let (from, to) = (self.from, self.to);
        let reactor = &self.worker.reactor;
        // Not before the last bytes are out: a reader that is behind stops the sender.
        ready!(reactor.poll(context.waker(), |reactor, waiter| {
            reactor.poll_sent(to, waiter)
        }))?;
        let received = reactor.poll(context.waker(), |reactor, waiter| {
            reactor.poll_receive(from, waiter)
        });
        match ready!(received)? {
            Some(buffer) => {
                self.bytes += buffer.len() as u64;
                self.outgoing = Some(buffer.into());
            }
            None => self.state = State::Ending,
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes into the pipe, or out of it.
    fn splice(&mut self) -> io::Result<Went> {
        if self.pipe.is_none() {
            self.pipe = PipeLease::new(&self.worker);
        }
        let Some(pipe) = self.pipe.as_ref().map(|lease| lease.key) else {
            self.state = State::Copying;
            return Ok(Went::On);
        };
        let (from, to) = (self.from, self.to);
        let (held, moved) = self.worker.reactor.enter(|reactor| {
            let (held, _) = reactor.pipe_bytes(pipe);
            let moved = match held {
                0 => reactor.splice_in(pipe, from),
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
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && held == 0 => {
                self.pipe = None;
                return Ok(Went::Empty);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Went::Full),
            Err(error) => {
                let experience = &self.worker.transfers;
                // Only into an empty pipe: nothing is lost then.
                if held > 0 || !experience.note_refusal(TransferMethod::Splice, &error) {
                    return Err(error);
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
