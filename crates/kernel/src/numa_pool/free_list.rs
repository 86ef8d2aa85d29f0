//! Which of a fixed number of things nobody has: a stack of their indexes that all threads share.
//!
//! What was given back last is taken first, because it is the likeliest to be in a cache still: a
//! queue hands out what has been out of use for longest. The stack is Treiber's ("Systems
//! Programming: Coping with Parallelism", 1986); a count of changes beside its top tells a top that
//! went and came back from one that stayed.

use super::parts::{AtomicU32, AtomicU64, Ordering};

/// No index: the end of the stack.
const NONE: u32 = u32::MAX;

/// A stack of indexes from 0 on.
pub(super) struct FreeList {
    /// The top in the lower half, the number of changes in the upper one. It would take 2³² changes
    /// between a load and its exchange to mistake one top for another.
    top: AtomicU64,
    entries: Box<[Entry]>,
}

/// What an index in the stack lies on. Written by who puts it there, before it can be seen.
struct Entry {
    below: AtomicU32,
    /// Indexes from here down, this one included.
    height: AtomicU32,
}

impl FreeList {
    /// With every index below `count`, the first one on top.
    pub(super) fn full(count: u32) -> FreeList {
        let entry = |index: u32| Entry {
            below: AtomicU32::new(if index + 1 < count { index + 1 } else { NONE }),
            height: AtomicU32::new(count - index),
        };
        let top = if count == 0 { NONE } else { 0 };
        FreeList {
            top: AtomicU64::new(top.into()),
            entries: (0..count).map(entry).collect(),
        }
    }

    /// Takes the index that was given back last; `None` when all are out.
    pub(super) fn take(&self) -> Option<u32> {
        let mut seen = self.top.load(Ordering::Acquire);
        loop {
            let index = index_of(seen);
            // What is read of an entry that another thread has just taken is thrown away: the
            // exchange fails.
            let below = self.entry(index)?.below.load(Ordering::Relaxed);
            match self.exchange(seen, below, Ordering::Acquire) {
                Ok(()) => return Some(index),
                Err(now) => seen = now,
            }
        }
    }

    /// Gives an index back that was taken. What the thread did before is seen by who takes it next.
    pub(super) fn give_back(&self, index: u32) {
        let entry = self.entry(index).expect("an index that was taken");
        let mut seen = self.top.load(Ordering::Acquire);
        loop {
            let below = index_of(seen);
            let height = self.height_from(below) + 1;
            entry.below.store(below, Ordering::Relaxed);
            entry.height.store(height, Ordering::Relaxed);
            match self.exchange(seen, index, Ordering::Release) {
                Ok(()) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// How many nobody has; while others take and give back, how many that were at some moment
    /// lately.
    pub(super) fn len(&self) -> usize {
        self.height_from(index_of(self.top.load(Ordering::Acquire))) as usize
    }

    /// Makes `index` the top if it is still `seen`, else says what is.
    ///
    /// Every change of the top is such an exchange, so each is in the release sequence of all before
    /// it: acquiring any of them acquires what whoever gave back the indexes below did.
    fn exchange(&self, seen: u64, index: u32, order: Ordering) -> Result<(), u64> {
        let changes = (seen >> 32) as u32;
        let next = u64::from(changes.wrapping_add(1)) << 32 | u64::from(index);
        let exchanged = self
            .top
            .compare_exchange_weak(seen, next, order, Ordering::Acquire);
        exchanged.map(drop)
    }

    fn height_from(&self, index: u32) -> u32 {
        let entry = self.entry(index);
        entry.map_or(0, |entry| entry.height.load(Ordering::Relaxed))
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }
}

fn index_of(top: u64) -> u32 {
    top as u32
}
