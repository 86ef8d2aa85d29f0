//! A connection that sends without end, and reads over whatever comes back.
//!
//! There are no answers, so there is no latency: what counts is how many bytes this side's kernel has
//! taken. That is ahead of the peer by what lies in both sides' buffers, which are full before and
//! after the time that is measured.

use super::{Connection, PAUSE_FIRST, PAUSE_MAX, Shared, failure_of};
use crate::load::tally::Failure;
use ringway_runtime::{Chunk, Outgoing, TcpStream, now, sleep};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

/// Sends and receives of a connection before the others of its thread get their turn.
const TURN: usize = 16;

impl Shared {
    fn sent(&self, bytes: u64) {
        if Instant::now() >= self.measured_from {
            self.tally.borrow_mut().sent_bytes += bytes;
        }
    }

    fn received(&self, bytes: u64) {
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        if Instant::now() >= self.measured_from {
            self.tally.borrow_mut().bytes += bytes;
        }
    }
}

impl Connection {
    /// Sends until the time is over, on a new connection when one fails.
    pub(super) async fn pour(&mut self) {
        let mut pause = PAUSE_FIRST;
        while !self.shared.is_over() && self.shared.left.get() > 0 {
            let begin = Instant::now();
            let Err(failure) = self.pour_once().await else {
                return;
            };
            self.shared.failure(failure);
            if begin.elapsed() > PAUSE_MAX {
                pause = PAUSE_FIRST;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn pour_once(&mut self) -> Result<(), Failure> {
        let mut stream = self.connect().await?;
        let shared = Rc::clone(&self.shared);
        let mut pouring = Pouring {
            next: None,
            under_way: 0,
            shared: &shared,
        };
        poll_fn(|context| pouring.poll(&mut stream, context)).await?;
        let under_way = pouring.under_way;
        stream.set_deadline(Some(now() + shared.plan.timeout));
        let flushed = stream.flush().await;
        flushed.map_err(|error| failure_of(&error, false))?;
        shared.sent(under_way);
        // Ended in order, so that everything arrives; a peer that never ends its side is left.
        if stream.shutdown_write().is_ok() {
            while let Ok(Some(buffer)) = stream.receive().await {
                shared.received(buffer.len() as u64);
            }
        }
        Ok(())
    }
}

/// What is on its way.
struct Pouring<'s> {
    next: Option<Outgoing>,
    /// Bytes that were handed over, and that the kernel hasn't said it has taken.
    under_way: u64,
    shared: &'s Shared,
}

impl Pouring<'_> {
    /// Ready when there is nothing more to send.
    fn poll(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let timeout = self.shared.plan.timeout;
        for _ in 0..TURN {
            let is_quiet = match stream.poll_receive(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(Some(buffer))) => {
                    self.shared.received(buffer.len() as u64);
                    false
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(Err(Failure::Closed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failure_of(&error, false))),
            };
            if self.next.is_none() {
                if self.shared.is_over() || !self.shared.take(1, Instant::now()) {
                    return Poll::Ready(Ok(()));
                }
                let bytes = &self.shared.batches[0].bytes;
                self.next = Some(Chunk::shared(bytes).into());
                stream.set_deadline(Some(now() + timeout));
            }
            match stream.poll_send(&mut self.next, context) {
                Poll::Pending if is_quiet => return Poll::Pending,
                Poll::Pending => {}
                Poll::Ready(Ok(())) => {
                    self.shared.sent(self.under_way);
                    self.under_way = self.shared.batches[0].bytes.len() as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(failure_of(&error, false))),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
