//! How long a worker that has failed stays down, so that one that fails at once doesn't spin.

use std::time::Duration;

/// The first pause; each failure in a row doubles it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(10);
/// A worker that ran this long was sound: its next failure counts as the first one again.
const SOUND: Duration = Duration::from_secs(60);
/// With this many failures in a row a worker is no hope any more: 12.7 s of pauses lie behind it.
const HOPELESS: u32 = 8;

/// The failures of one worker.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    /// In a row.
    failures: u32,
}

impl BackOff {
    /// The pause that a failure is followed by, after the worker `ran` so long.
    pub(super) fn fail(&mut self, ran: Duration) -> Duration {
        if ran >= SOUND {
            self.failures = 0;
        }
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        (FIRST * (1 << doublings)).min(LONGEST)
    }

    /// Whether it has failed so often in a row that it needn't be waited for.
    pub(super) fn is_hopeless(&self) -> bool {
        self.failures >= HOPELESS
    }
}

#[cfg(test)]
mod tests {
    use super::BackOff;
    use std::time::Duration;

    #[test]
    fn pauses_double_until_ten_seconds() {
        let mut back_off = BackOff::default();
        let at_once = Duration::ZERO;
        let pauses: Vec<u128> = (0..9).map(|_| back_off.fail(at_once).as_millis()).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(pauses, expected);
        for _ in 0..100 {
            assert_eq!(back_off.fail(at_once), Duration::from_secs(10));
        }
    }

    #[test]
    fn the_eighth_failure_in_a_row_is_one_too_many() {
        let mut back_off = BackOff::default();
        for _ in 0..7 {
            back_off.fail(Duration::from_secs(59));
            assert!(!back_off.is_hopeless());
        }
        back_off.fail(Duration::ZERO);
        assert!(back_off.is_hopeless());
    }

    #[test]
    fn a_minute_without_a_failure_is_a_new_beginning() {
        let mut back_off = BackOff::default();
        for _ in 0..20 {
            back_off.fail(Duration::ZERO);
        }
        let pause = back_off.fail(Duration::from_secs(60));
        assert_eq!(pause, Duration::from_millis(100));
        assert!(!back_off.is_hopeless());
    }
}
