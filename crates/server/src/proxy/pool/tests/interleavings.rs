//! The pool again, on loom's atomics: every interleaving of a few workers, and every value that the
//! memory model lets a load return.
//!
//! A worker that sleeps when it has something to do never wakes again here, and loom reports that.

use super::super::{stats, waits};
use loom::sync::Notify;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

mod parts {
    use std::collections::VecDeque;
    use std::sync::{Mutex, PoisonError};

    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

    /// A queue with as little order between threads as one can have: what is popped was pushed
    /// before, and finding none says nothing about what else is seen.
    pub(super) struct Queue<T> {
        count: AtomicU32,
        /// Never contended: loom runs one thread at a time, and this is no point to switch at.
        values: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> Queue<T> {
        pub(super) fn new(capacity: usize) -> Queue<T> {
            Queue {
                count: AtomicU32::new(0),
                values: Mutex::default(),
                capacity,
            }
        }

        fn values(&self) -> std::sync::MutexGuard<'_, VecDeque<T>> {
            self.values.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn push(&self, value: T) -> Result<(), T> {
            let mut values = self.values();
            if values.len() == self.capacity {
                return Err(value);
            }
            values.push_back(value);
            drop(values);
            self.count.fetch_add(1, Ordering::Release);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            let mut count = self.count.load(Ordering::Relaxed);
            while count > 0 {
                let swapped = self.count.compare_exchange(
                    count,
                    count - 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                match swapped {
                    Ok(_) => return self.values().pop_front(),
                    Err(now) => count = now,
                }
            }
            None
        }

        pub(super) fn force_push(&self, value: T) -> Option<T> {
            let former = self.pop();
            assert!(self.push(value).is_ok(), "a place for wakers has one owner");
            former
        }

        pub(super) fn len(&self) -> usize {
            self.count.load(Ordering::Relaxed) as usize
        }

        pub(super) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }
}
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../bounded.rs"]
mod bounded;
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../demand.rs"]
mod demand;
#[expect(
    clippy::duplicate_mod,
    dead_code,
    reason = "the same code on other atomics"
)]
#[path = "../lease.rs"]
mod lease;
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../local.rs"]
mod local;
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../shared.rs"]
mod shared;

use lease::{Lease, Leased};
use local::{Keeper, Local, Wait};
use shared::{Connection, PoolLimits, Shared};

const LIMITS: PoolLimits = PoolLimits {
    connections: 1,
    idle_per_worker: 1,
    exchange: 1,
    idle_timeout: Duration::from_secs(60),
    lifetime: Duration::from_secs(60),
    waiting: 2,
};

const NONE_KEPT: PoolLimits = PoolLimits {
    idle_per_worker: 0,
    ..LIMITS
};

/// A connection without any contents.
struct Plug;

impl Connection for Plug {
    type Detached = ();

    fn detach(self, then: impl FnOnce(io::Result<()>) + 'static) {
        then(Ok(()));
    }

    fn attach((): ()) -> io::Result<Plug> {
        Ok(Plug)
    }

    fn is_alive(&mut self) -> bool {
        true
    }
}

/// How a worker sleeps.
#[derive(Default)]
struct Sleep(Notify);

impl Wake for Sleep {
    fn wake(self: Arc<Sleep>) {
        self.0.notify();
    }
}

/// One worker: it sleeps whenever it has nothing to do.
struct Worker {
    local: Local<Plug>,
    keeper: Keeper<Plug>,
    everybody: Arc<Everybody>,
    sleep: Arc<Sleep>,
    now: Instant,
    /// A connection that it has from before the others began.
    held: Option<Lease<Plug>>,
}

impl Worker {
    fn new(
        shared: &Arc<Shared<()>>,
        index: usize,
        everybody: Arc<Everybody>,
        now: Instant,
    ) -> Worker {
        let (local, keeper) = Local::new(shared, index);
        let mut worker = Worker {
            local,
            keeper,
            sleep: Arc::clone(&everybody.sleeps[index]),
            everybody,
            now,
            held: None,
        };
        worker.keep();
        worker
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.sleep))
    }

    fn keep(&mut self) {
        let waker = self.waker();
        let mut context = Context::from_waker(&waker);
        // Time stands still, so it never comes by itself.
        _ = self.keeper.poll_keep(&mut context, self.now);
    }

    fn poll(&mut self, wait: &mut Wait<Plug>) -> Option<Lease<Plug>> {
        let waker = self.waker();
        let mut context = Context::from_waker(&waker);
        match self.local.poll_lease(wait, &mut context, self.now) {
            Poll::Ready(leased) => Some(self.open(leased.expect("there is room to wait"))),
            Poll::Pending => None,
        }
    }

    fn open(&self, leased: Leased<Plug>) -> Lease<Plug> {
        match leased {
            Leased::Reused(lease) => lease,
            Leased::Open(opening) => opening.opened(Plug, self.now),
        }
    }

    /// A connection, however long it takes.
    fn lease(&mut self) -> Lease<Plug> {
        let mut wait = self.local.wait();
        loop {
            if let Some(lease) = self.poll(&mut wait) {
                return lease;
            }
            self.everybody.somebody_waits.notify();
            self.sleep.0.wait();
            self.keep();
        }
    }

    /// Goes on keeping the pool until everybody is done.
    fn stay(mut self) {
        self.everybody.one_is_done();
        while !self.everybody.are_done() {
            self.sleep.0.wait();
            self.keep();
        }
    }
}

/// Workers live as long as any has something to do.
struct Everybody {
    left: loom::sync::atomic::AtomicU32,
    sleeps: Vec<Arc<Sleep>>,
    /// Told when somebody who means to stay has joined the line.
    somebody_waits: Notify,
}

impl Everybody {
    fn new(count: u32) -> Arc<Everybody> {
        Arc::new(Everybody {
            left: loom::sync::atomic::AtomicU32::new(count),
            sleeps: (0..count).map(|_| Arc::default()).collect(),
            somebody_waits: Notify::new(),
        })
    }

    fn one_is_done(&self) {
        if self.left.fetch_sub(1, parts::Ordering::AcqRel) == 1 {
            self.sleeps.iter().for_each(|sleep| sleep.0.notify());
        }
    }

    fn are_done(&self) -> bool {
        self.left.load(parts::Ordering::Acquire) == 0
    }
}

/// The first worker has the only connection to begin with.
///
/// Up to so many preemptions in a run, and a minute at the most: it takes seconds.
fn explore(preemptions: usize, workers: &'static [fn(&mut Worker)], limits: PoolLimits) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.max_duration = Some(Duration::from_secs(60));
    let now = Instant::now();
    builder.check(move || {
        let shared = Shared::new(limits, &vec![0; workers.len()], now);
        let everybody = Everybody::new(workers.len() as u32);
        let mut first = Worker::new(&shared, 0, Arc::clone(&everybody), now);
        first.held = Some(first.lease());
        let other = |index: usize| {
            let (shared, everybody) = (Arc::clone(&shared), Arc::clone(&everybody));
            loom::thread::spawn(move || {
                let mut worker = Worker::new(&shared, index, everybody, now);
                workers[index](&mut worker);
                worker.stay();
            })
        };
        let others: Vec<_> = (1..workers.len()).map(other).collect();
        workers[0](&mut first);
        first.stay();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.demand.waiting.count(), 0, "nobody waits");
        let open = shared.demand.places.count();
        let exchanged = shared.exchanges[0].len();
        assert_eq!(open as usize, exchanged, "all else is closed");
    });
}

fn finish(worker: &mut Worker) {
    let lease = worker.held.take().expect("the first has one");
    lease.finish(worker.now);
}

fn close(worker: &mut Worker) {
    drop(worker.held.take().expect("the first has one"));
}

fn finish_when_somebody_waits(worker: &mut Worker) {
    worker.everybody.somebody_waits.wait();
    finish(worker);
}

fn close_when_somebody_waits(worker: &mut Worker) {
    worker.everybody.somebody_waits.wait();
    close(worker);
}

fn finish_and_lease_again(worker: &mut Worker) {
    finish(worker);
    lease_and_finish(worker);
}

fn lease_and_finish(worker: &mut Worker) {
    let lease = worker.lease();
    lease.finish(worker.now);
}

fn lease_and_close(worker: &mut Worker) {
    drop(worker.lease());
}

/// Joins the line, where it has to, and gives up.
fn give_up(worker: &mut Worker) {
    let mut wait = worker.local.wait();
    if let Some(lease) = worker.poll(&mut wait) {
        lease.finish(worker.now);
    }
}

#[test]
fn a_connection_that_comes_back_finds_who_waits() {
    explore(2, &[finish, lease_and_close], LIMITS);
}

#[test]
fn a_place_that_becomes_free_finds_who_waits() {
    explore(3, &[close, lease_and_close], LIMITS);
}

#[test]
fn what_is_kept_idle_is_given_up_for_who_waits() {
    explore(2, &[finish_and_lease_again, lease_and_finish], LIMITS);
}

#[test]
fn what_goes_through_the_exchange_finds_who_waits() {
    explore(3, &[finish, lease_and_finish], NONE_KEPT);
}

#[test]
fn who_gives_up_takes_no_place_along() {
    let workers: &'static [fn(&mut Worker)] =
        &[close_when_somebody_waits, give_up, lease_and_close];
    explore(0, workers, LIMITS);
}

#[test]
fn who_gives_up_takes_no_connection_along() {
    let workers: &'static [fn(&mut Worker)] =
        &[finish_when_somebody_waits, give_up, lease_and_close];
    explore(1, workers, NONE_KEPT);
}

#[test]
fn there_are_never_more_than_may_be() {
    use bounded::Bounded;
    use parts::{AtomicU32, Ordering::AcqRel};

    loom::model(|| {
        let bounded = Arc::new(Bounded::new(1));
        let inside = Arc::new(AtomicU32::new(0));
        let visit = {
            let (bounded, inside) = (Arc::clone(&bounded), Arc::clone(&inside));
            move || {
                if bounded.enter() {
                    assert_eq!(inside.fetch_add(1, AcqRel), 0, "two at once");
                    inside.fetch_sub(1, AcqRel);
                    bounded.leave();
                }
            }
        };
        let others = [visit.clone(), visit.clone()].map(loom::thread::spawn);
        visit();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(bounded.count(), 0);
    });
}
