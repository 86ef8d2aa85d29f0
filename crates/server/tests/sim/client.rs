//! A client: sends what its script says, reads at its pace, and leaves in its way.

use crate::answers::Answers;
use crate::random::Random;
use ringway_runtime::{Sleep, SocketOptions, TcpStream, now, sleep};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes that are sent together.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    /// Before it.
    pub(crate) pause: Duration,
    /// So many answers, and `100 Continue`s, have to be there before it.
    pub(crate) after: (usize, usize),
    /// The number of requests that are begun with it and those before.
    pub(crate) begun: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Eager,
    /// With a pause of up to this after each part.
    Slow(Duration),
    /// Once, after so many bytes, it reads nothing for as long as 40 s.
    Stalls(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// When everything is answered.
    WhenDone,
    /// Says that nothing more comes, and waits for the server's end.
    HalfClosed,
    /// Waits for the server's end.
    AfterServer,
    /// In the middle of anything: after so many bytes have come, or when all is sent.
    Vanish { after: usize, by_reset: bool },
}

pub(crate) struct Script {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) pace: Pace,
    pub(crate) leave: Leave,
    pub(crate) answers: Answers,
}

/// How a connection ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client left by itself.
    Left,
    /// The server's, in good order.
    InOrder,
    Error(io::ErrorKind),
}

pub(crate) struct Outcome {
    pub(crate) answers: Answers,
    pub(crate) end: End,
    /// From the last byte that went out or came in to the end of the connection.
    pub(crate) silence: Duration,
    /// The longest wait for bytes since others went out or came in.
    pub(crate) longest_wait: Duration,
}

struct Client {
    stream: TcpStream,
    script: Script,
    random: Random,
    next_piece: usize,
    writer_pause: Option<Sleep>,
    reader_pause: Option<Sleep>,
    is_half_closed: bool,
    write_failed: bool,
    received: usize,
    /// Of the pieces that were sent.
    begun: usize,
    active_at: Instant,
    longest_wait: Duration,
}

enum Step {
    Received(io::Result<Option<Vec<u8>>>),
    Sent(io::Result<()>),
    Flushed(io::Result<()>),
    Rested,
}

/// Connects, again and again if need be, and follows the script.
pub(crate) async fn converse(
    address: SocketAddr,
    script: Script,
    random: Random,
) -> Result<Outcome, String> {
    let stream = loop {
        match TcpStream::connect(address, &SocketOptions::default()).await {
            Ok(stream) => break stream,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    };
    let mut client = Client {
        stream,
        script,
        random,
        next_piece: 0,
        writer_pause: None,
        reader_pause: None,
        is_half_closed: false,
        write_failed: false,
        received: 0,
        begun: 0,
        active_at: now(),
        longest_wait: Duration::ZERO,
    };
    let end = client.follow().await?;
    let silence = now() - client.active_at;
    let longest_wait = client.longest_wait;
    if let Leave::Vanish { by_reset: true, .. } = client.script.leave {
        client.stream.reset();
    }
    Ok(Outcome {
        answers: client.script.answers,
        end,
        silence,
        longest_wait,
    })
}

impl Client {
    async fn follow(&mut self) -> Result<End, String> {
        loop {
            if self.leaves() {
                return Ok(End::Left);
            }
            match poll_fn(|context| self.poll_step(context)).await {
                Step::Received(Ok(Some(bytes))) => {
                    self.longest_wait = self.longest_wait.max(now() - self.active_at);
                    self.active_at = now();
                    self.received += bytes.len();
                    self.script.answers.take(&bytes, self.begun)?;
                    self.rest_from_reading();
                }
                Step::Received(Ok(None)) => return Ok(End::InOrder),
                Step::Received(Err(error)) => return Ok(End::Error(error.kind())),
                Step::Sent(Ok(())) => {
                    self.active_at = now();
                    self.next_piece += 1;
                    self.writer_pause = None;
                }
                Step::Flushed(Ok(())) => {
                    self.is_half_closed = true;
                    self.write_failed = self.stream.shutdown_write().is_err();
                }
                // What the server sent before may still be there to be read.
                Step::Sent(Err(_)) | Step::Flushed(Err(_)) => self.write_failed = true,
                Step::Rested => {}
            }
        }
    }

    fn leaves(&self) -> bool {
        let has_sent = self.next_piece == self.script.pieces.len();
        match self.script.leave {
            Leave::Vanish { after, .. } => {
                self.received >= after || has_sent && self.script.answers.is_complete()
            }
            // Of a connection that is over the end is awaited, whatever was planned.
            Leave::WhenDone => self.script.answers.is_complete() && !self.script.answers.is_over(),
            Leave::HalfClosed | Leave::AfterServer => false,
        }
    }

    fn rest_from_reading(&mut self) {
        let pause = match self.script.pace {
            Pace::Eager => return,
            Pace::Slow(pause) => self.random.duration(pause),
            Pace::Stalls(after) if self.received >= after => {
                self.script.pace = Pace::Eager;
                self.random.duration(Duration::from_secs(40))
            }
            Pace::Stalls(_) => return,
        };
        self.reader_pause = Some(sleep(pause));
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if let Some(pause) = &mut self.reader_pause {
            if Pin::new(pause).poll(context).is_ready() {
                self.reader_pause = None;
                return Poll::Ready(Step::Rested);
            }
        } else if let Poll::Ready(received) = self.stream.poll_receive(context) {
            let copy = received.map(|buffer| buffer.map(|buffer| buffer.to_vec()));
            return Poll::Ready(Step::Received(copy));
        }
        if self.write_failed || self.script.answers.is_over() {
            return Poll::Pending;
        }
        let Some(piece) = self.script.pieces.get_mut(self.next_piece) else {
            if self.script.leave == Leave::HalfClosed && !self.is_half_closed {
                return self.stream.poll_flush(context).map(Step::Flushed);
            }
            return Poll::Pending;
        };
        if self.script.answers.count < piece.after.0
            || self.script.answers.continues < piece.after.1
        {
            return Poll::Pending;
        }
        let pause = self.writer_pause.get_or_insert_with(|| sleep(piece.pause));
        if Pin::new(pause).poll(context).is_pending() {
            return Poll::Pending;
        }
        self.begun = piece.begun;
        let mut outgoing = Some(piece.bytes.clone().into());
        self.stream
            .poll_send(&mut outgoing, context)
            .map(Step::Sent)
    }
}
