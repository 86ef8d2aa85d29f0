//! Who waits, in which worker, and how it is told: the part of the pool that must lose nothing.
//!
//! *Supply* is a free place or a connection in the exchange. A worker with somebody waiting is
//! *hungry*: its bit is set. Each worker has a bell, which wakes the task that keeps its pool
//! (the keeper); only keepers take supply for those who wait.
//!
//! *A supply and a hungry worker find each other.* Whoever adds to the supply then looks for hungry
//! workers and rings one ([`Demand::announce`]); whoever gets hungry then looks for supply. Between
//! the two steps of either stands a `SeqCst` fence, so at least one sees the other (C++20, 31.4/4):
//! of two fences one is first, and whatever was written before it is seen after the other.
//!
//! *A ring isn't lost.* `rung` is set by whoever rings first; the keeper unsets it, and looks at
//! the supply afterwards, behind a fence. A second ring in between needn't wake anybody: the first
//! is on its way, and the keeper will find both supplies.
//!
//! *A ring goes to nobody in vain.* A keeper takes supply as long as somebody waits. When nobody
//! does any more, whether they were served or gave up, and there is supply left, it announces that
//! in turn ([`Demand::hand_on`]). So wherever there are both supply and a hungry worker, a bell has
//! been rung and not answered yet, or somebody is about to ring one.
//!
//! *Idle connections in another worker's own stack* are no supply: only that worker can take them
//! out. It says once that it may have some, before the first, and rings its own keeper
//! ([`Demand::hold`]); only the keeper unsays it, having found none. A keeper gives what is idle to
//! whoever is hungry, and looks for that behind a fence. Whoever gets hungry sets its bit, and
//! behind a fence rings all who said that they may have some. Either sees the other, as above. The
//! many connections that a worker keeps after having said so cost nothing.

use super::bounded::Bounded;
use super::parts::{AtomicBool, AtomicU64, Ordering, Queue, fence};
use std::task::Waker;

const WORD_BITS: usize = 64;

/// Places, those who wait for them, and the bells of all workers.
pub(super) struct Demand {
    /// Connections that are open or being opened.
    pub(super) places: Bounded,
    /// Requests that wait in any worker.
    pub(super) waiting: Bounded,
    /// A bit for each worker; on lines of their own, since they are read far more than written.
    hungry: Box<[Word]>,
    bells: Box<[Bell]>,
}

#[repr(align(128))]
struct Word(AtomicU64);

/// What others know about a worker, and how they wake its keeper.
#[repr(align(128))]
struct Bell {
    rung: AtomicBool,
    /// The keeper's waker, put here before `rung` is unset and taken by whoever sets it. One place,
    /// and a newer waker throws an older one out.
    waker: Queue<Waker>,
    /// Whether the worker may have idle connections of its own.
    holds: AtomicBool,
    /// Since when its first in line waits, in nanoseconds of the pool's time: a hint for fairness.
    since: AtomicU64,
}

impl Demand {
    pub(super) fn new(places: u32, waiting: u32, workers_count: usize) -> Demand {
        let bell = |_| Bell {
            rung: AtomicBool::new(false),
            waker: Queue::new(1),
            holds: AtomicBool::new(false),
            since: AtomicU64::new(u64::MAX),
        };
        let words = workers_count.div_ceil(WORD_BITS);
        Demand {
            places: Bounded::new(places),
            waiting: Bounded::new(waiting),
            hungry: (0..words).map(|_| Word(AtomicU64::new(0))).collect(),
            bells: (0..workers_count).map(bell).collect(),
        }
    }

    /// Whether somebody waits in a worker other than `worker`: one load for each 64 workers.
    #[inline]
    pub(super) fn is_another_hungry(&self, worker: usize) -> bool {
        self.hungry.iter().enumerate().any(|(index, word)| {
            let own = if index == worker / WORD_BITS {
                bit(worker)
            } else {
                0
            };
            word.0.load(Ordering::Relaxed) & !own != 0
        })
    }

    /// Since when the first in line of any other worker waits; `None` where nobody does.
    pub(super) fn longest_wait_of_another(&self, worker: usize) -> Option<u64> {
        let others = self.hungry_workers().filter(|&other| other != worker);
        others
            .map(|other| self.bells[other].since.load(Ordering::Relaxed))
            .min()
    }

    /// Somebody waits in `worker` from now on. The caller looks for supply after this.
    pub(super) fn get_hungry(&self, worker: usize, since: u64) {
        self.note_first(worker, since);
        let word = &self.hungry[worker / WORD_BITS].0;
        word.fetch_or(bit(worker), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for (other, bell) in self.bells.iter().enumerate() {
            if other != worker && bell.holds.load(Ordering::Relaxed) {
                bell.ring();
            }
        }
    }

    /// Another is the first in line of `worker` now.
    pub(super) fn note_first(&self, worker: usize, since: u64) {
        self.bells[worker].since.store(since, Ordering::Relaxed);
    }

    /// Nobody waits in `worker` any more. If it was rung, its keeper still comes, and hands on.
    pub(super) fn sate(&self, worker: usize) {
        let word = &self.hungry[worker / WORD_BITS].0;
        word.fetch_and(!bit(worker), Ordering::Relaxed);
    }

    /// Rings for supply that `worker` doesn't need; for its keeper, after [`Demand::answer`].
    pub(super) fn hand_on(&self, worker: usize, is_supply_left: impl Fn() -> bool) {
        if self.is_another_hungry(worker) && is_supply_left() {
            self.announce();
        }
    }

    /// There is supply: rings the hungry worker whose first in line has waited longest. One that has
    /// been rung and hasn't answered is busy, and may stay so: then the next is rung as well.
    ///
    /// Whether anybody will come.
    pub(super) fn announce(&self) -> bool {
        fence(Ordering::SeqCst);
        let waits = |worker: usize| (self.bells[worker].since.load(Ordering::Relaxed), worker);
        let mut last = None;
        for _ in 0..self.bells.len() {
            let rest = self.hungry_workers().map(waits);
            let next = rest.filter(|&wait| Some(wait) > last).min();
            let Some((_, worker)) = next else { break };
            if self.bells[worker].ring() {
                return true;
            }
            last = next;
        }
        last.is_some()
    }

    /// `worker` may have idle connections from now on, which others may ask for. Its keeper comes
    /// and looks whether somebody would have asked already.
    pub(super) fn hold(&self, worker: usize) {
        self.bells[worker].holds.store(true, Ordering::Relaxed);
        self.ring(worker);
    }

    /// `worker` has no idle connection, and nobody needs to ask it for one.
    pub(super) fn hold_nothing(&self, worker: usize) {
        self.bells[worker].holds.store(false, Ordering::Relaxed);
    }

    /// Wakes the keeper of `worker`.
    pub(super) fn ring(&self, worker: usize) {
        self.bells[worker].ring();
    }

    /// The keeper of `worker` is there, and is woken by `waker` next time. What was done before a
    /// ring that this answers is seen after it.
    pub(super) fn answer(&self, worker: usize, waker: &Waker) {
        let bell = &self.bells[worker];
        drop(bell.waker.force_push(waker.clone()));
        bell.rung.swap(false, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The keeper of `worker` is gone; so is its waker.
    pub(super) fn leave(&self, worker: usize) {
        drop(self.bells[worker].waker.pop());
    }

    fn hungry_workers(&self) -> impl Iterator<Item = usize> {
        self.hungry.iter().enumerate().flat_map(|(index, word)| {
            let mut bits = word.0.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let lowest = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                (lowest < WORD_BITS).then_some(index * WORD_BITS + lowest)
            })
        })
    }
}

impl Bell {
    /// Whether it hadn't been rung already.
    fn ring(&self) -> bool {
        if self.rung.swap(true, Ordering::AcqRel) {
            return false;
        }
        // There is none before the keeper's first turn, which looks at everything anyway.
        if let Some(waker) = self.waker.pop() {
            waker.wake();
        }
        true
    }
}

fn bit(worker: usize) -> u64 {
    1 << (worker % WORD_BITS)
}
