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
    read_at: Cell<Option<Instant>>,
    /// What was read, since 1970.
    read: Cell<Duration>,
    seconds: Cell<u64>,
    date: Cell<HttpDate>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let date = Cell::new(HttpDate::from_unix_seconds(0));
        Clock {
            read_at: Cell::new(None),
            read: Cell::new(Duration::ZERO),
            seconds: Cell::new(0),
            date,
        }
    }

    /// Seconds since 1970, at most a tenth of a second old by `now`, the worker's clock.
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        if self
            .read_at
            .get()
            .is_none_or(|read_at| now >= read_at + FRESH)
        {
            self.read_at.set(Some(now));
            let read = wall_clock().duration_since(UNIX_EPOCH);
            self.read.set(read.unwrap_or_default());
            let seconds = self.read.get().as_secs();
            if self.seconds.replace(seconds) != seconds {
                self.date.set(HttpDate::from_unix_seconds(seconds));
            }
        }
        self.seconds.get()
    }

    /// Time since 1970, as exact as `now`.
    pub(crate) fn wall(&self, now: Instant) -> Duration {
        self.seconds(now);
        let read_at = self.read_at.get().unwrap_or(now);
        self.read.get() + now.saturating_duration_since(read_at)
    }

    /// The same as a date.
    pub(crate) fn date(&self, now: Instant) -> HttpDate {
        self.seconds(now);
        self.date.get()
    }
}
