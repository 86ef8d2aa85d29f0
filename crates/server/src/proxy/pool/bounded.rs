//! A count with an upper bound, across workers and without a lock, and the places it counts.

use super::demand::Demand;
use super::parts::{AtomicU32, Ordering};
use std::fmt;
use std::sync::Arc;

/// How many there are of something, and how many there may be.
#[derive(Debug)]
pub(super) struct Bounded {
    count: AtomicU32,
    limit: u32,
}

impl Bounded {
    pub(super) fn new(limit: u32) -> Bounded {
        Bounded {
            count: AtomicU32::new(0),
            limit,
        }
    }

    /// Counts one more, or says that there are as many as there may be.
    ///
    /// Adding first and taking it back would refuse others in between; a retry is cheaper.
    pub(super) fn enter(&self) -> bool {
        let mut count = self.count.load(Ordering::Relaxed);
        while count < self.limit {
            let swapped = self.count.compare_exchange_weak(
                count,
                count + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Counts one less: one of those that [`Bounded::enter`] has counted.
    pub(super) fn leave(&self) {
        let before = self.count.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "given back twice");
    }

    pub(super) fn has_room(&self) -> bool {
        self.count() < self.limit
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// The right to have one connection to the server, given back by dropping it, on any thread.
///
/// Whoever waits for one is told then.
#[must_use = "dropping the place gives it back at once"]
pub(crate) struct Place {
    demand: Arc<Demand>,
}

impl Place {
    /// One of the server's places, if there is any left.
    pub(super) fn take(demand: &Arc<Demand>) -> Option<Place> {
        demand.places.enter().then(|| Place {
            demand: Arc::clone(demand),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.demand.places.leave();
        self.demand.announce();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Place")
    }
}
