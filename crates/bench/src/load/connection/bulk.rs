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
        if self.is_measured() {
            self.tally.borrow_mut().sent_bytes += bytes;
        }
    }

    fn received(&self, bytes: u64) {
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.is_measured() {
            self.tally.borrow_mut().bytes += bytes;
        }
    }

    /// Whether what happens now belongs to the time that the bytes are divided by: what is under way at
    /// its end goes on for a moment.
    fn is_measured(&self) -> bool {
        (self.measured_from..self.until.get()).contains(&Instant::now())
    }
}

impl Connection {
    /// Sends until the time is over, on a new connection when one fails.
    pub(super) async fn pour(&mut self) {
        let mut pause = PAUSE_FIRST;
        let mut has_failed = false;
        while !self.shared.is_over() && self.shared.left.get() > 0 {
            let begin = Instant::now();
            let Err(failure) = self.pour_once(has_failed).await else {
                return;
            };
            has_failed = true;
            self.shared.failure(failure);
            if begin.elapsed() > PAUSE_MAX {
                pause = PAUSE_FIRST;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn pour_once(&mut self, has_failed: bool) -> Result<(), Failure> {
        let connected = self.connect().await;
        self.opening = None;
        let mut stream = connected?;
        let shared = Rc::clone(&self.shared);
        let mut pouring = Pouring {
            next: None,
            under_way: 0,
            opened: Instant::now(),
            holds: false,
            shared: &shared,
        };
        if !has_failed {
            pouring.hold();
        }
        let poured = pouring.send_all(&mut stream).await;
        match poured {
            Ok(()) => pouring.hold(),
            Err(_) => pouring.break_off(),
        }
        poured
    }
}

/// What is on its way.
struct Pouring<'s> {
    next: Option<Outgoing>,
    /// Bytes that were handed over, and that the kernel hasn't said it has taken.
    under_way: u64,
    opened: Instant,
    /// Whether it is one of those that hold. After one that failed, the next has to prove it.
    holds: bool,
    shared: &'s Shared,
}

impl Pouring<'_> {
    fn hold(&mut self) {
        if !std::mem::replace(&mut self.holds, true) {
            self.shared.holding.set(self.shared.holding.get() + 1);
        }
    }

    fn break_off(&mut self) {
        if std::mem::replace(&mut self.holds, false) {
            self.shared.holding.set(self.shared.holding.get() - 1);
        }
    }

    async fn send_all(&mut self, stream: &mut TcpStream) -> Result<(), Failure> {
        poll_fn(|context| self.poll(stream, context)).await?;
        stream.set_deadline(Some(now() + self.shared.plan.timeout));
        let flushed = stream.flush().await;
        flushed.map_err(|error| failure_of(&error, false))?;
        self.shared.sent(self.under_way);
        // Ended in order, so that everything arrives; a peer that never ends its side is left.
        if stream.shutdown_write().is_ok() {
            while let Ok(Some(buffer)) = stream.receive().await {
                self.shared.received(buffer.len() as u64);
            }
        }
        Ok(())
    }

    /// Ready when there is nothing more to send.
    fn poll(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let timeout = self.shared.plan.timeout;
        if !self.holds && self.opened.elapsed() > PAUSE_MAX {
            self.hold();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Progress;
    use crate::load::plan::{Pace, Plan, Talk, Target};
    use ringway_runtime::Io;
    use std::sync::Arc;
    use std::time::Duration;

    /// Of ten bytes sent and twenty received at once, in a run of these lengths.
    fn counted(warm_up: Duration, duration: Duration) -> (u64, u64) {
        let talk = Talk::Bulk(1);
        let plan = Plan {
            target: Target::parse("tcp://127.0.0.1:1").unwrap(),
            talk,
            requests: talk.requests(),
            connections: 1,
            threads: 1,
            pace: Pace::Closed,
            pipeline: 1,
            keep_alive: true,
            duration,
            request_count: None,
            warm_up,
            timeout: Duration::from_secs(1),
            io: Io::Auto,
        };
        let shared = Shared::new(Arc::new(plan), Arc::new(Progress::default()), 1, u64::MAX);
        shared.sent(10);
        shared.received(20);
        let tally = shared.finish();
        (tally.sent_bytes, tally.bytes)
    }

    #[test]
    fn bytes_before_and_after_the_measured_time_are_not_counted() {
        const HOUR: Duration = Duration::from_secs(3600);
        assert_eq!(counted(Duration::ZERO, HOUR), (10, 20));
        assert_eq!(counted(HOUR, HOUR), (0, 0));
        // It is over as it begins.
        assert_eq!(counted(Duration::ZERO, Duration::ZERO), (0, 0));
    }
}
