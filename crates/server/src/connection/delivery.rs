//! Answers on their way to the client: gathered while more requests are at hand, sent, and waited
//! for as long as the client takes them.

use super::{Connection, End, TURN_REQUESTS};
use crate::answer::{FilePart, Segment};
use ringway_runtime::{FileTransfer, Metadata, Outgoing, Step, TransferError, timeout, yield_now};
use std::cmp::Ordering;
use std::future::poll_fn;
use std::io;

/// Answers to pipelined requests up to this many bytes are gathered and leave together.
const GATHER_BYTES: usize = 16 << 10;

impl Connection {
    /// Makes a reset of whatever ends the connection before [`Connection::finish`] has sent
    /// everything: of an answer that only the end delimits, a part must not look like the whole.
    pub(super) fn cut_by_reset(&mut self) {
        // On a socket that is gone nothing will look like anything.
        let _ = self.stream.set_reset_on_drop(true);
    }

    /// The usual case: nothing else is at hand or on its way, and the answer goes out without a
    /// wait. Else it is left where it is.
    #[inline]
    pub(super) fn send_now(&mut self, message: &mut Option<Outgoing>) -> Result<(), End> {
        if self.input.is_empty() && self.gathered.is_empty() {
            return self.stream.submit(message).map_err(|_| End::Broken);
        }
        Ok(())
    }

    /// Sends an answer; small ones wait for their fellows while more requests are at hand.
    pub(super) async fn send(&mut self, message: impl Into<Outgoing>) -> Result<(), End> {
        let message = message.into();
        if self.input.is_empty() && self.gathered.is_empty() {
            return self.submit(message).await;
        }
        if message.byte_count() <= GATHER_BYTES {
            message.append_to(&mut self.gathered);
            if self.gathered.len() >= GATHER_BYTES {
                self.flush_gathered().await?;
            }
            return Ok(());
        }
        self.flush_gathered().await?;
        self.submit(message).await
    }

    pub(super) async fn flush_gathered(&mut self) -> Result<(), End> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.submit(gathered.into()).await
    }

    /// Hands bytes to the worker. Waits only while an earlier message is on its way, and gives up
    /// when that makes no progress.
    pub(super) async fn submit(&mut self, message: Outgoing) -> Result<(), End> {
        let mut message = Some(message);
        let mut delivered = None;
        loop {
            self.expect_progress();
            let submitted = poll_fn(|context| {
                let submitted = self.stream.poll_send(&mut message, context);
                if submitted.is_pending() {
                    self.input.release_buffer();
                    delivered.get_or_insert_with(|| self.stream.delivered_bytes());
                }
                submitted
            });
            match submitted.await {
                Ok(()) => return Ok(()),
                Err(error) => self.judge(&error, &mut delivered)?,
            }
        }
    }

    /// Sets the deadline for the next progress of a send.
    fn expect_progress(&mut self) {
        let stall = self.worker.limits.write_stall_timeout;
        self.stream.set_deadline(Some(self.stream.now() + stall));
    }

    /// `Ok` when a wait to send should go on: it timed out, but the client has taken bytes since
    /// `delivered` was looked at. Asking is a system call, so that is done once for several waits.
    fn judge(&self, error: &io::Error, delivered: &mut Option<u64>) -> Result<(), End> {
        if error.kind() != io::ErrorKind::TimedOut {
            return Err(End::Broken);
        }
        let now = self.stream.delivered_bytes();
        match delivered.replace(now) {
            Some(before) if now <= before => Err(End::WriteStall),
            _ => Ok(()),
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.flush_gathered().await?;
        let mut delivered = None;
        loop {
            self.expect_progress();
            let flushed = poll_fn(|context| {
                let flushed = self.stream.poll_flush(context);
                if flushed.is_pending() {
                    delivered.get_or_insert_with(|| self.stream.delivered_bytes());
                }
                flushed
            });
            match flushed.await {
                Ok(()) => return Ok(()),
                Err(error) => self.judge(&error, &mut delivered)?,
            }
        }
    }

    /// Sends a part of a file, or several with what stands between them, behind what began it; adds to
    /// `sent_bytes` what was handed over, as it is.
    pub(super) async fn stream(
        &mut self,
        mut part: FilePart,
        sent_bytes: &mut u64,
    ) -> Result<(), End> {
        let more = std::mem::take(&mut part.more);
        let (file, metadata) = (part.file.clone(), part.metadata);
        self.stream_file(part, sent_bytes).await?;
        for (segment, number) in more.into_iter().zip(1..) {
            if number % TURN_REQUESTS == 0 {
                yield_now().await;
            }
            let Segment {
                before,
                offset,
                bytes,
            } = segment;
            let before_bytes = before.len() as u64;
            if bytes == 0 {
                self.submit(before.into()).await?;
                *sent_bytes += before_bytes;
                continue;
            }
            self.begin_file(before.into()).await?;
            *sent_bytes += before_bytes;
            let part = FilePart {
                file: file.clone(),
                offset,
                bytes,
                metadata,
                more: Vec::new(),
            };
            self.stream_file(part, sent_bytes).await?;
        }
        Ok(())
    }

    /// Sends what goes before bytes of a file.
    pub(super) async fn begin_file(&mut self, head: Outgoing) -> Result<(), End> {
        self.flush_gathered().await?;
        self.submit(head.with_more_following()).await?;
        self.flush().await
    }

    /// Sends a file's bytes, inside the kernel where that can be.
    async fn stream_file(&mut self, mut part: FilePart, sent_bytes: &mut u64) -> Result<(), End> {
        let range = part.offset..part.offset + part.bytes;
        let mut transfer = FileTransfer::new(&part.file, range, self.worker.transfer);
        let mut delivered = None;
        let mut has_waited = false;
        while transfer.left() > 0 {
            // Looked at after each wait, in which anything may have been done to it, and before the
            // end: nobody is to take a mixture for the file. (Seldomer wouldn't do: that it grew and
            // was then written over shows only to who looked in between.)
            if has_waited || transfer.is_nearly_done() {
                self.look_again(&mut part).await?;
            }
            has_waited = false;
            match transfer.step(&mut self.stream).await {
                Ok(Step::Sent(bytes)) => {
                    *sent_bytes += bytes;
                    let method = transfer.report().method;
                    self.worker.stats.count_file_bytes(method, bytes);
                }
                Ok(Step::Done) => {}
                Ok(Step::Waited) => has_waited = true,
                Ok(Step::Full) => {
                    self.wait_for_room(&mut transfer, &mut delivered).await?;
                    has_waited = true;
                }
                Err(TransferError::Truncated) => return Err(End::FileChanged),
                Err(TransferError::Source(error)) => {
                    tracing::warn!(%error, "a file can't be read any further");
                    return Err(End::FileFailed);
                }
                Err(TransferError::Stream(_)) => return Err(End::Broken),
            }
        }
        Ok(())
    }

    /// Ends the connection unless what is left of the file may still be what was promised.
    async fn look_again(&self, part: &mut FilePart) -> Result<(), End> {
        let now = match part.file.may_wait() {
            false => part.file.metadata(),
            true => {
                let patience = self.worker.transfer.source_timeout;
                let looked = timeout(patience, part.file.look()).await;
                looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        match now {
            Ok(now) if part.keeps_promise(now) => Ok(()),
            Ok(_) => Err(End::FileChanged),
            Err(error) => {
                tracing::warn!(%error, "a file can't be looked at any more");
                Err(End::FileFailed)
            }
        }
    }

    async fn wait_for_room(
        &mut self,
        transfer: &mut FileTransfer,
        delivered: &mut Option<u64>,
    ) -> Result<(), End> {
        delivered.get_or_insert_with(|| self.stream.delivered_bytes());
        loop {
            self.expect_progress();
            match transfer.wait(&mut self.stream).await {
                Ok(()) => return Ok(()),
                Err(error) => self.judge(&error, delivered)?,
            }
        }
    }
}

impl FilePart {
    /// Whether what is left of it may still be what the head promised, as far as can be told from
    /// what it was when that was written, or when it was looked at last, and what it is `now`.
    ///
    /// Being renamed over or removed changes the inode, not the content. A file that only grew was
    /// appended to, as logs are all the time: what was there is there still. (Nothing tells that
    /// from being written anew and longer between two looks.)
    fn keeps_promise(&mut self, now: Metadata) -> bool {
        let before = std::mem::replace(&mut self.metadata, now);
        let modified = |at: &Metadata| (at.modified_seconds, at.modified_nanoseconds);
        match self.metadata.bytes.cmp(&before.bytes) {
            Ordering::Less => false,
            Ordering::Equal => modified(&self.metadata) == modified(&before),
            Ordering::Greater => true,
        }
    }
}
