//! The wall clock of a worker, and its `Date`: read a few times a second, not for each request.

use ringway_http::date::HttpDate;
use ringway_runtime::wall_clock;
use std::cell::Cell;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How old the wall time may be: well below the second that `Date` can tell (RFC 9110 §6.6.1).
const FRESH: Duration = Duration::from_millis(100);

/// Wall time, refreshed by the worker's monotonic clock, so that a jump of the wall clock can
/// change dates but no deadline.
pub(crate) struct Clock {
    /// When it has to be read again; `None`: now.
    stale_at: Cell<Option<Instant>>,
    /// What was read, since 1970.
    read: Cell<Duration>,
    seconds: Cell<u64>,
    date: Cell<HttpDate>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let date = Cell::new(HttpDate::from_unix_seconds(0));
        Clock {
            stale_at: Cell::new(None),
            read: Cell::new(Duration::ZERO),
            seconds: Cell::new(0),
            date,
        }
    }

    /// Seconds since 1970, at most a tenth of a second old by `now`, the worker's clock.
    #[inline(always)]
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        if self.stale_at.get().is_none_or(|stale_at| now >= stale_at) {
            self.read(now);
        }
        self.seconds.get()
    }

    #[cold]
    fn read(&self, now: Instant) {
        self.stale_at.set(Some(now + FRESH));
        let read = wall_clock().duration_since(UNIX_EPOCH);
        self.read.set(read.unwrap_or_default());
        let seconds = self.read.get().as_secs();
        if self.seconds.replace(seconds) != seconds {
            self.date.set(HttpDate::from_unix_seconds(seconds));
        }
    }

    /// Time since 1970, as exact as `now`.
    pub(crate) fn wall(&self, now: Instant) -> Duration {
        self.seconds(now);
        let stale_at = self.stale_at.get().unwrap_or(now);
        let fresh_for = stale_at.saturating_duration_since(now);
        self.read.get() + FRESH.saturating_sub(fresh_for)
    }

    /// The same as a date.
    pub(crate) fn date(&self, now: Instant) -> HttpDate {
        self.seconds(now);
        self.date.get()
    }
}
