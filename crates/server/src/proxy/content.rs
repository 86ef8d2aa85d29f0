//! Content on its way from one connection to another: read as its sender delimits it, written as
//! its receiver can read it, with back-pressure and a deadline on either side.
//!
//! Small pieces are written anew or passed on in the buffer that they came in; a long rest of known
//! length goes from socket to socket inside the kernel.

use crate::input::Input;
use ringway_http::body::{BodyDecoder, BodyError, BodyLimits, Step, push_chunk_size};
use ringway_http::head::Framing;
use ringway_http::received::ReceivedFraming;
use ringway_runtime::{
    Buffer, ForwardError, ForwardOptions, Outgoing, ReadHalf, TransferMethod, WriteHalf, forward,
};
use std::io;
use std::time::{Duration, Instant};

/// From this many bytes on, what is left of a body is spliced. Below, two calls for a pipe cost more
/// than the copies that they save.
const SPLICE_BYTES: u64 = 64 << 10;

/// What is written anew is handed over in pieces of about this size.
const PIECE_BYTES: usize = 16 << 10;

/// Why content didn't get to its end, by whose fault.
#[derive(Debug)]
pub(crate) enum ContentError {
    /// Its sender failed, ended too early (`UnexpectedEof`) or was too slow (`TimedOut`).
    Source(io::Error),
    /// Its receiver failed, or took nothing for too long (`TimedOut`).
    Destination(io::Error),
    /// It wasn't delimited as it should be, or was too much.
    Malformed(BodyError),
}

impl From<ForwardError> for ContentError {
    fn from(error: ForwardError) -> ContentError {
        match error {
            ForwardError::Source(error) => ContentError::Source(error),
            ForwardError::Destination(error) => ContentError::Destination(error),
        }
    }
}

/// The side that content comes from, and how fast it has to.
pub(crate) struct Source<'s> {
    pub(crate) half: ReadHalf<'s>,
    /// What was received of it, and not used yet.
    pub(crate) input: &'s mut Input,
    /// So many bytes have to come...
    pub(crate) pace_bytes: u64,
    /// ... in each such time.
    pub(crate) timeout: Duration,
}

/// The side that content goes to.
pub(crate) struct Sink<'s> {
    half: WriteHalf<'s>,
    /// How long it may take nothing.
    timeout: Duration,
    /// What its peer had acknowledged when it was waited for last.
    delivered_bytes: Option<u64>,
}

impl<'s> Sink<'s> {
    pub(crate) fn new(half: WriteHalf<'s>, timeout: Duration) -> Sink<'s> {
        Sink {
            half,
            timeout,
            delivered_bytes: None,
        }
    }

    /// Hands over what needs no wait; how many bytes that is.
    pub(crate) fn send_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.half.send_now(bytes, false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }

    /// Makes a reset of whatever ends the connection before its owner takes that back: of content that
    /// only the end delimits, a part must not look like the whole.
    pub(crate) fn cut_by_reset(&mut self) {
        // On a socket that is gone nothing will look like anything.
        let _ = self.half.set_reset_on_drop(true);
    }

    /// Hands bytes over; waits while earlier ones are on their way and make progress.
    pub(crate) async fn send(
        &mut self,
        message: impl Into<Outgoing>,
        now: Instant,
    ) -> io::Result<()> {
        let mut message = Some(message.into());
        if message.as_ref().is_some_and(|it| it.byte_count() == 0) {
            return Ok(());
        }
        self.half.set_deadline(Some(now + self.timeout));
        loop {
            let sent = std::future::poll_fn(|context| {
                let sent = self.half.poll_send(&mut message, context);
                if sent.is_pending() && self.delivered_bytes.is_none() {
                    self.delivered_bytes = Some(self.half.delivered_bytes());
                }
                sent
            });
            match sent.await {
                Err(error) if self.goes_on(&error) => {}
                sent => return sent,
            }
        }
    }

    /// Waits until the kernel has everything.
    pub(crate) async fn flush(&mut self, now: Instant) -> io::Result<()> {
        self.half.set_deadline(Some(now + self.timeout));
        loop {
            match self.half.flush().await {
                Err(error) if self.goes_on(&error) => {}
                flushed => return flushed,
            }
        }
    }

    /// Whether a wait that took too long made progress all the same.
    fn goes_on(&mut self, error: &io::Error) -> bool {
        if error.kind() != io::ErrorKind::TimedOut {
            return false;
        }
        let delivered = self.half.delivered_bytes();
        let before = self.delivered_bytes.replace(delivered);
        self.half
            .set_deadline(Some(ringway_runtime::now() + self.timeout));
        before.is_none_or(|before| delivered > before)
    }
}

/// How a body is read.
enum Reading {
    /// By its length or its chunks.
    Delimited(BodyDecoder),
    /// Until its sender ends the connection.
    UntilClose,
    /// No more: it has come to its end.
    Over,
}

/// A body under way.
pub(crate) struct Content {
    reading: Reading,
    /// Whether its receiver gets it in chunks.
    in_chunks: bool,
    /// Whether it may go inside the kernel.
    splices: bool,
    /// Bytes of content that were handed over.
    passed_bytes: u64,
}

impl Content {
    /// The body of a request.
    pub(crate) fn of_request(
        framing: Framing,
        limits: &BodyLimits,
        splices: bool,
    ) -> Result<Content, BodyError> {
        let decoder = BodyDecoder::new(framing, limits)?.keeping_trailers();
        Ok(Content {
            reading: Reading::Delimited(decoder),
            in_chunks: framing == Framing::Chunked,
            splices,
            passed_bytes: 0,
        })
    }

    /// The body of a response, for a client that gets it in chunks or not.
    pub(crate) fn of_response(framing: ReceivedFraming, in_chunks: bool, splices: bool) -> Content {
        // However much it is: nothing of it is kept, and a client that is slow stops the server.
        let limits = BodyLimits {
            body_bytes: u64::MAX,
            ..BodyLimits::default()
        };
        let delimited = |framing| match BodyDecoder::new(framing, &limits) {
            Ok(decoder) => Reading::Delimited(decoder.keeping_trailers()),
            // No length is above that limit.
            Err(_) => Reading::Over,
        };
        let reading = match framing {
            ReceivedFraming::None => Reading::Over,
            ReceivedFraming::Length(bytes) => delimited(Framing::Length(bytes)),
            ReceivedFraming::Chunked => delimited(Framing::Chunked),
            ReceivedFraming::UntilClose => Reading::UntilClose,
        };
        Content {
            reading,
            in_chunks,
            splices,
            passed_bytes: 0,
        }
    }

    /// Bytes of content that were handed over so far.
    pub(crate) fn passed_bytes(&self) -> u64 {
        self.passed_bytes
    }

    pub(crate) fn is_done(&self) -> bool {
        match &self.reading {
            Reading::Delimited(decoder) => decoder.is_done(),
            Reading::UntilClose => false,
            Reading::Over => true,
        }
    }

    /// Moves what is at hand behind what `out` has, framing included, up to a piece; at the end of
    /// the content, its end too. How many bytes of `input` were used.
    pub(crate) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut used = 0;
        while used < input.len() && out.len() < PIECE_BYTES {
            let decoder = match &mut self.reading {
                Reading::Delimited(decoder) => decoder,
                Reading::UntilClose => {
                    self.piece(&input[used..], out);
                    return Ok(input.len());
                }
                Reading::Over => break,
            };
            match decoder.decode(&input[used..])? {
                Step::Data { data, consumed } => {
                    used += consumed;
                    self.piece(data, out);
                }
                Step::More { consumed } => used += consumed,
                Step::End { consumed } => {
                    used += consumed;
                    break;
                }
            }
        }
        if self.is_done() {
            self.end(out);
        }
        Ok(used)
    }

    fn piece(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.passed_bytes += data.len() as u64;
        if self.in_chunks {
            push_chunk_size(out, data.len() as u64);
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
    }

    /// Writes what ends the content for its receiver. Its trailers go with it, where it came with
    /// some and they can.
    fn end(&mut self, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.in_chunks) {
            return;
        }
        out.extend_from_slice(b"0\r\n");
        if let Reading::Delimited(decoder) = &self.reading {
            for line in decoder.trailers() {
                out.extend_from_slice(line);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Moves content from `source` to `sink` until its end. `first` goes before it: a head, and what
    /// was written already.
    pub(crate) async fn pass(
        &mut self,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
        first: Outgoing,
    ) -> Result<(), ContentError> {
        let sent = sink.send(first, ringway_runtime::now()).await;
        sent.map_err(ContentError::Destination)?;
        let mut out = Vec::new();
        let mut stall_at = ringway_runtime::now() + source.timeout;
        let mut progress = 0;
        loop {
            let before = ringway_runtime::now();
            self.pass_at_hand(source.input, sink, &mut out).await?;
            if self.is_done() {
                return Ok(());
            }
            let now = ringway_runtime::now();
            // What the receiver took its time for isn't its sender's.
            stall_at += now.saturating_duration_since(before);
            if let Some(bytes) = self.spliceable() {
                return self.splice(source, sink, bytes).await;
            }
            if progress >= source.pace_bytes {
                stall_at = now + source.timeout;
                progress = 0;
            }
            source.half.set_deadline(Some(stall_at));
            match source.half.receive().await.map_err(ContentError::Source)? {
                Some(buffer) => {
                    progress += buffer.len() as u64;
                    source.input.push(buffer);
                }
                None => self.source_ended(&mut out)?,
            }
        }
    }

    async fn pass_at_hand(
        &mut self,
        input: &mut Input,
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ContentError> {
        loop {
            let now = ringway_runtime::now();
            if out.is_empty()
                && let Some(buffer) = self.take_whole(input)
            {
                let sent = sink.send(buffer, now).await;
                sent.map_err(ContentError::Destination)?;
                continue;
            }
            let used = self
                .write(input.bytes(), out)
                .map_err(ContentError::Malformed)?;
            input.consume(used);
            let is_last = input.is_empty() || self.is_done();
            if !out.is_empty() {
                // Buffers that are waited with go home first.
                input.release_buffer();
                let sent = sink.send(std::mem::take(out), now).await;
                sent.map_err(ContentError::Destination)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// A received buffer that can be passed on as it is: nothing but content, in the middle of a sized
    /// body or of a chunk, for a receiver who gets it like that.
    fn take_whole(&mut self, input: &mut Input) -> Option<Buffer> {
        let Reading::Delimited(decoder) = &mut self.reading else {
            return None;
        };
        if self.in_chunks || decoder.expected_bytes() <= input.bytes().len() as u64 {
            return None;
        }
        let buffer = input.take_buffer()?;
        // All of it is content: more than that is expected.
        let is_content = matches!(decoder.decode(&buffer), Ok(Step::Data { .. }));
        debug_assert!(is_content, "expected content");
        self.passed_bytes += buffer.len() as u64;
        Some(buffer)
    }

    /// The source has ended its connection.
    pub(super) fn source_ended(&mut self, out: &mut Vec<u8>) -> Result<(), ContentError> {
        if matches!(self.reading, Reading::Delimited(_)) {
            return Err(ContentError::Source(io::ErrorKind::UnexpectedEof.into()));
        }
        self.reading = Reading::Over;
        self.end(out);
        Ok(())
    }

    /// How many bytes are left until the end of the content, where they can go inside the kernel.
    fn spliceable(&self) -> Option<u64> {
        match &self.reading {
            Reading::Delimited(decoder) if self.splices && !self.in_chunks => decoder
                .remaining_bytes()
                .filter(|bytes| *bytes >= SPLICE_BYTES),
            _ => None,
        }
    }

    /// Moves the last `bytes` of the content inside the kernel.
    async fn splice(
        &mut self,
        source: &mut Source<'_>,
        sink: &mut Sink<'_>,
        bytes: u64,
    ) -> Result<(), ContentError> {
        let options = ForwardOptions {
            method: TransferMethod::Auto,
            source_timeout: source.timeout,
            source_bytes: source.pace_bytes,
            destination_timeout: sink.timeout,
        };
        let passed = &mut self.passed_bytes;
        let count = |bytes| *passed += bytes;
        let (from, to) = (&mut source.half, &mut sink.half);
        let forwarded = forward(from, to, bytes, options, count).await?;
        if let Some(rest) = forwarded.rest {
            source.input.push(rest);
        }
        self.reading = Reading::Over;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
