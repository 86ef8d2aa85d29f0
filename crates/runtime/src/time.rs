//! Waiting for time to pass.

use crate::timer::TimerKey;
use crate::worker::Worker;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

/// The worker's clock: the time at which its present turn began. Monotonic, and free.
///
/// # Panics
/// Outside of a runtime.
pub fn now() -> Instant {
    Worker::current().now()
}

/// The wall clock, now: the worker's, which a simulation sets, or outside of a runtime the system's.
/// It may jump, so deadlines go by [`now`].
pub fn wall_clock() -> SystemTime {
    Worker::try_current().map_or_else(SystemTime::now, |worker| {
        worker.reactor.enter(|reactor| reactor.wall_clock())
    })
}

/// A timer of a worker that is removed when dropped.
pub(crate) struct Timer {
    worker: Rc<Worker>,
    key: TimerKey,
}

impl Timer {
    pub(crate) fn new(worker: Rc<Worker>) -> Timer {
        let key = worker.timers.borrow_mut().insert();
        Timer { worker, key }
    }

    /// Ready when `deadline` has passed; else wakes the task then. One store when the deadline
    /// only moves later.
    pub(crate) fn poll_until(&self, deadline: Instant, context: &Context<'_>) -> Poll<()> {
        if self.worker.now() >= deadline {
            return Poll::Ready(());
        }
        let (timers, waker) = (&self.worker.timers, context.waker());
        if !timers.borrow_mut().set(self.key, deadline, waker) {
            // Cloned and dropped outside of the borrow: that is its maker's code.
            let clone = waker.clone();
            let displaced = timers.borrow_mut().replace_waker(self.key, clone);
            drop(displaced);
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = self.worker.timers.borrow_mut().remove(self.key);
        // Outside of the borrow: a waker may be the last that holds its task.
        drop(waker);
    }
}

/// What "never" is to a clock that can't count on: some thirty years.
const FAR: Duration = Duration::from_secs(1 << 30);

/// Waits for `duration`, to the millisecond above. What no clock could show is as good as for ever.
///
/// # Panics
/// Outside of a runtime.
pub fn sleep(duration: Duration) -> Sleep {
    let worker = Worker::current();
    let now = worker.now();
    let deadline = now.checked_add(duration).unwrap_or(now + FAR);
    Sleep {
        timer: Timer::new(worker),
        deadline,
    }
}

/// Made by [`sleep`].
pub struct Sleep {
    timer: Timer,
    deadline: Instant,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.timer.poll_until(self.deadline, context)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Sleep(until {:?})", self.deadline)
    }
}

/// The time was up before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the time was up")
    }
}

impl std::error::Error for Elapsed {}

/// Waits for `future`, at most for `duration`; then the future is dropped.
///
/// # Panics
/// Outside of a runtime.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout {
        sleep: sleep(duration),
        future,
    }
}

pin_project! {
    /// Made by [`timeout`].
    #[derive(Debug)]
    pub struct Timeout<F> {
        sleep: Sleep,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(context).map(|()| Err(Elapsed))
    }
}
