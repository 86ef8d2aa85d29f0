//! How long a server takes, of late: a moving average that goes up at once and down slowly.
//!
//! Finagle's peak EWMA. A slow answer counts in full when it comes; faster ones, and time alone,
//! let it fade, so that a server which was slow once is tried again. Failures don't count as answers
//! (the fastest is to refuse at once): after one, a server is shunned for a while.

use std::time::{Duration, Instant};

/// After so long without an answer a third of the value is left (1/e). Finagle's default.
const DECAY: Duration = Duration::from_secs(10);
/// For how long a server is shunned after a failure; each further one in a row doubles it. Ten
/// seconds at most, so that one which is well again is noticed.
const SHUNNED: Duration = Duration::from_millis(100);
const SHUNNED_MAX: Duration = Duration::from_secs(10);
/// What a server that is shunned, or that hasn't answered yet, is taken for, in seconds. The latter
/// gets one request to begin with, and the rest when that has been answered.
const LONG_SECONDS: f64 = 60.0;

#[derive(Debug, Default, Clone)]
pub(super) struct Latency {
    seconds: f64,
    /// When that was so; `None` before the first answer.
    at: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    shunned_until: Option<Instant>,
}

impl Latency {
    pub(super) fn observe(&mut self, latency: Duration, now: Instant) {
        let latency = latency.as_secs_f64();
        let faded = self.fading(now);
        self.seconds = if latency >= self.seconds {
            latency
        } else {
            self.seconds * faded + latency * (1.0 - faded)
        };
        self.at = Some(now);
        self.failures = 0;
        self.shunned_until = None;
    }

    pub(super) fn observe_failure(&mut self, now: Instant) {
        let time = SHUNNED.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.shunned_until = Some(now + time.min(SHUNNED_MAX));
    }

    /// Forgets what was before `since`, when the server came back: it isn't what it was.
    pub(super) fn forget_before(&mut self, since: Instant) {
        if self.at.max(self.shunned_until).is_some_and(|at| at < since) {
            *self = Latency::default();
        }
    }

    /// What is left of it at `now`.
    #[cfg(test)]
    pub(super) fn value(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.seconds * self.fading(now))
    }

    /// What one more request would wait for, in seconds, when so many are under way.
    pub(super) fn cost(&self, active: u32, now: Instant) -> f64 {
        let active = f64::from(active);
        if self.shunned_until.is_some_and(|until| now < until) {
            return LONG_SECONDS * (active + 1.0);
        }
        if self.at.is_none() {
            return if active > 0.0 {
                LONG_SECONDS * (active + 1.0)
            } else {
                0.0
            };
        }
        // Never nothing: where all are fast, those with fewer requests are better.
        (self.seconds * self.fading(now)).max(1e-9) * (active + 1.0)
    }

    fn fading(&self, now: Instant) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let passed = now.saturating_duration_since(at);
        (-passed.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::Latency;
    use std::time::{Duration, Instant};

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn observed(latencies: &[(u64, u64)], at_seconds: u64) -> f64 {
        let begin = Instant::now();
        let mut latency = Latency::default();
        for &(second, milliseconds) in latencies {
            let now = begin + Duration::from_secs(second);
            latency.observe(MILLISECOND * milliseconds as u32, now);
        }
        let value = latency.value(begin + Duration::from_secs(at_seconds));
        value.as_secs_f64() * 1000.0
    }

    fn check(latencies: &[(u64, u64)], at_seconds: u64, expect_milliseconds: f64) {
        let value = observed(latencies, at_seconds);
        assert!((value - expect_milliseconds).abs() < 0.01, "{value}");
    }

    #[test]
    fn it_goes_up_at_once_and_fades() {
        check(&[], 0, 0.0);
        check(&[(0, 10)], 0, 10.0);
        check(&[(0, 10), (0, 500)], 0, 500.0);
        check(&[(0, 100)], 10, 36.79);
        check(&[(0, 100)], 100, 0.0045);
        // A fast answer ten seconds later: a third of the old, two thirds of the new.
        check(&[(0, 100), (10, 10)], 10, 36.79 + 6.32);
    }

    #[test]
    fn who_fails_is_shunned_for_a_while() {
        let mut now = Instant::now();
        let mut latency = Latency::default();
        latency.observe(MILLISECOND, now);
        let usual = latency.cost(0, now);
        for milliseconds in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            latency.observe_failure(now);
            now += MILLISECOND * (milliseconds - 1);
            assert!(latency.cost(0, now) > 1.0, "{milliseconds}");
            now += MILLISECOND;
            assert!(latency.cost(0, now) <= usual, "{milliseconds}");
        }
        latency.observe(MILLISECOND, now);
        latency.observe_failure(now);
        assert!(
            latency.cost(0, now + MILLISECOND * 100) < 1.0,
            "all is forgiven"
        );
    }

    #[test]
    fn what_came_back_is_unknown() {
        let now = Instant::now();
        let mut latency = Latency::default();
        latency.observe(MILLISECOND, now);
        latency.forget_before(now);
        assert_eq!(latency.value(now), MILLISECOND);
        latency.forget_before(now + MILLISECOND);
        assert_eq!(latency.value(now), Duration::ZERO);
        assert_eq!(latency.cost(0, now), 0.0);
    }

    #[test]
    fn a_server_that_has_not_answered_yet_gets_one_request() {
        let now = Instant::now();
        let mut known = Latency::default();
        known.observe(MILLISECOND * 100, now);
        let unknown = Latency::default();
        assert!(unknown.cost(0, now) < known.cost(0, now));
        assert!(unknown.cost(1, now) > known.cost(100, now));
    }
}
