//! What was seen in memory of a file lately, so that it needn't be asked for each time.
//!
//! `cachestat(2)` takes some 28 ns for a page, a twentieth of what it costs to send it. A page that was
//! there a moment ago is there still, unless memory has become so short that what was just used is
//! dropped; and between any look and the sending, too, it could go.

use std::ops::Range;
use std::time::{Duration, Instant};

/// For how long what was seen is taken to hold.
const HOLDS_FOR: Duration = Duration::from_millis(100);

/// A range of a file that was in memory, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resident {
    range: Range<u64>,
    /// When its oldest part was seen.
    seen: Option<Instant>,
}

impl Resident {
    /// Until which offset the bytes from `offset` are taken to be in memory.
    pub(crate) fn until(&self, offset: u64, now: Instant) -> Option<u64> {
        (self.range.contains(&offset) && self.holds(now)).then_some(self.range.end)
    }

    /// Whether `offset` was seen, but too long ago.
    pub(crate) fn is_outdated(&self, offset: u64, now: Instant) -> bool {
        self.range.contains(&offset) && !self.holds(now)
    }

    /// That `range` was seen in memory. What was known before is kept where the two touch.
    pub(crate) fn note(&mut self, range: Range<u64>, now: Instant) {
        let touches = range.start <= self.range.end && self.range.start <= range.end;
        if touches && self.holds(now) {
            self.range.start = self.range.start.min(range.start);
            self.range.end = self.range.end.max(range.end);
        } else {
            *self = Resident {
                range,
                seen: Some(now),
            };
        }
    }

    fn holds(&self, now: Instant) -> bool {
        self.seen
            .is_some_and(|seen| now.saturating_duration_since(seen) < HOLDS_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_holds_for_a_while() {
        let start = Instant::now();
        let mut resident = Resident::default();
        assert_eq!(resident.until(0, start), None);
        resident.note(10..20, start);
        assert_eq!(resident.until(9, start), None);
        assert_eq!(resident.until(10, start), Some(20));
        assert_eq!(resident.until(20, start), None);
        let later = start + HOLDS_FOR;
        assert_eq!(resident.until(10, later), None);
        assert!(resident.is_outdated(10, later) && !resident.is_outdated(20, later));
    }

    #[test]
    fn what_touches_is_joined_and_as_old_as_its_oldest_part() {
        let start = Instant::now();
        let later = start + HOLDS_FOR / 2;
        let mut resident = Resident::default();
        resident.note(10..20, start);
        resident.note(20..30, later);
        assert_eq!(resident.until(10, later), Some(30));
        assert_eq!(resident.until(25, start + HOLDS_FOR), None);
        // Too old to be joined.
        resident.note(30..40, start + HOLDS_FOR);
        assert_eq!(resident.until(25, start + HOLDS_FOR), None);
        assert_eq!(resident.until(35, start + HOLDS_FOR), Some(40));
        // Too far away.
        resident.note(0..5, start + HOLDS_FOR);
        assert_eq!(resident.until(35, start + HOLDS_FOR), None);
    }
}
