//! Zero-copy sends of one transfer: which of them the kernel still has bytes of.
//!
//! The bytes belong to the reactor's slots, so that this can be dropped at any time.

use super::{Sent, TransferError, TransferMethod, TransferReport, judge_send};
use crate::file::Request;
use crate::net::TcpStream;
use ringway_kernel::Chunk;
use ringway_kernel::errno::ENOBUFS;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub(super) struct ZeroCopySends {
    /// Taken by the kernel, and not released yet.
    unreleased: VecDeque<Request>,
    /// On its way to be taken.
    submitted: Option<Request>,
    local: Option<IpAddr>,
}

impl ZeroCopySends {
    /// Sends what fits of `bytes`, by the one method or the other, without waiting. A send that was
    /// submitted before is asked for instead, so `bytes` have to be the same again.
    pub(super) fn send(
        &mut self,
        stream: &mut TcpStream,
        method: TransferMethod,
        bytes: impl Fn() -> Chunk,
        in_flight: usize,
        report: &mut TransferReport,
    ) -> Result<Sent, TransferError> {
        while self.unreleased.len() >= in_flight.max(1) {
            let mut idle = Context::from_waker(Waker::noop());
            let Poll::Ready(released) = self.poll_release(stream, report, &mut idle) else {
                return Ok(Sent::Full);
            };
            released?;
        }
        let sent = match method {
            TransferMethod::ZeroCopy => self.send_by_operation(stream, &bytes),
            _ => self.send_noticed(stream, bytes()),
        };
        let error = match sent {
            Ok(count) => {
                report.zero_copy_sends += 1;
                return Ok(Sent::Bytes(count));
            }
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(Sent::Full),
            // Too many notifications are outstanding (net.core.optmem_max): others', maybe for long.
            _ if error.raw_os_error() == Some(ENOBUFS) => {
                judge_send(stream.send_now(bytes().as_slice(), false))
            }
            io::ErrorKind::Interrupted => Ok(Sent::Again),
            _ if stream.socket.worker.transfers.note_refusal(method, &error) => Ok(Sent::Again),
            _ => Err(TransferError::Stream(error)),
        }
    }

    /// Whether bytes are on their way to be taken.
    pub(super) fn has_submitted(&self) -> bool {
        self.submitted.is_some()
    }

    fn send_noticed(&mut self, stream: &TcpStream, bytes: Chunk) -> io::Result<usize> {
        let (worker, key) = (Rc::clone(&stream.socket.worker), stream.socket.key);
        let (count, key) = worker
            .reactor
            .enter(|reactor| reactor.send_noticed(key, bytes))?;
        self.unreleased.push_back(Request { worker, key });
        Ok(count)
    }

    fn send_by_operation(
        &mut self,
        stream: &TcpStream,
        bytes: impl Fn() -> Chunk,
    ) -> io::Result<usize> {
        if self.submitted.is_none() {
            let (worker, key) = (Rc::clone(&stream.socket.worker), stream.socket.key);
            let key = worker
                .reactor
                .enter(|reactor| reactor.send_zero_copy(key, bytes()))?;
            self.submitted = Some(Request { worker, key });
        }
        let Poll::Ready(taken) = self.poll_taken(Waker::noop()) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let submitted = self.submitted.take();
        let count = taken?;
        self.unreleased.extend(submitted);
        if count == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(count)
    }

    /// How much was taken of what is submitted; ready when nothing is.
    fn poll_taken(&self, waker: &Waker) -> Poll<io::Result<usize>> {
        let Some(submitted) = &self.submitted else {
            return Poll::Ready(Ok(0));
        };
        let reactor = &submitted.worker.reactor;
        reactor.poll(waker, |reactor, waiter| {
            reactor.poll_taken(submitted.key, waiter)
        })
    }

    /// Waits until another send makes sense.
    pub(super) async fn wait(
        &mut self,
        stream: &mut TcpStream,
        in_flight: usize,
        report: &mut TransferReport,
    ) -> io::Result<()> {
        if self.submitted.is_some() {
            // Whatever came of it, the next send is told.
            return poll_fn(|context| match self.poll_taken(context.waker()) {
                Poll::Pending => stream.poll_deadline(context),
                Poll::Ready(_) => Poll::Ready(Ok(())),
            })
            .await;
        }
        if self.unreleased.len() >= in_flight.max(1) {
            return poll_fn(|context| self.poll_release(stream, report, context)).await;
        }
        stream.writable().await
    }

    /// Ready when the kernel has let go of the oldest bytes.
    fn poll_release(
        &mut self,
        stream: &mut TcpStream,
        report: &mut TransferReport,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(oldest) = self.unreleased.front() else {
            return Poll::Ready(Ok(()));
        };
        let key = oldest.key;
        let reactor = &stream.socket.worker.reactor;
        let released = reactor.poll(context.waker(), |reactor, waiter| {
            reactor.poll_released(key, waiter)
        });
        let Poll::Ready(released) = released else {
            return stream.poll_deadline(context);
        };
        self.unreleased.pop_front();
        let was_copied = released?;
        report.copied_sends += u64::from(was_copied);
        let local = match self.local {
            Some(local) => local,
            None => *self.local.insert(stream.local_address()?.ip()),
        };
        let now = stream.now();
        let experience = &stream.socket.worker.transfers;
        experience.note_release(local, was_copied, now);
        Poll::Ready(Ok(()))
    }

    /// Waits until the kernel has let go of all bytes.
    pub(super) async fn settle(
        &mut self,
        stream: &mut TcpStream,
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        while !self.unreleased.is_empty() {
            poll_fn(|context| self.poll_release(stream, report, context)).await?;
        }
        Ok(())
    }
}

impl From<io::Error> for TransferError {
    /// Of the connection.
    fn from(error: io::Error) -> TransferError {
        TransferError::Stream(error)
    }
}
