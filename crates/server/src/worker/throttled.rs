//! Events that a flood would repeat without end, told as counts every few seconds.

use crate::admission::Refusal;
use crate::log::Throttle;
use std::time::{Duration, Instant};

/// How often an event that repeats is told again.
const THROTTLE_INTERVAL: Duration = Duration::from_secs(5);

/// One throttle for each kind of event of a worker.
pub(super) struct Throttled {
    pub(super) refused_total: Throttle,
    pub(super) refused_address: Throttle,
    pub(super) accept_errors: Throttle,
    pub(super) panics: Throttle,
    pub(super) completion_overflows: Throttle,
    pub(super) completions_lost: Throttle,
}

impl Default for Throttled {
    fn default() -> Throttled {
        let throttle = || Throttle::new(THROTTLE_INTERVAL);
        Throttled {
            refused_total: throttle(),
            refused_address: throttle(),
            accept_errors: throttle(),
            panics: throttle(),
            completion_overflows: throttle(),
            completions_lost: throttle(),
        }
    }
}

impl Throttled {
    /// Tells what is due.
    pub(super) fn tell(&mut self, now: Instant) {
        for (throttle, refusal) in [
            (&mut self.refused_total, Refusal::Total),
            (&mut self.refused_address, Refusal::Address),
        ] {
            if let Some(count) = throttle.due(now) {
                tracing::warn!(count, "connections refused: {refusal}");
            }
        }
        if let Some(count) = self.accept_errors.due(now) {
            tracing::warn!(
                count,
                "failed to accept: most likely out of descriptors (ulimit -n)"
            );
        }
        if let Some(count) = self.panics.due(now) {
            tracing::error!(
                count,
                "connections ended by a panic, whose message is on standard error"
            );
        }
        if let Some(count) = self.completion_overflows.due(now) {
            tracing::warn!(
                count,
                "turns found the completion queue overflowed, which costs time: raise \
                 limits.completion_entries"
            );
        }
        if let Some(count) = self.completions_lost.due(now) {
            tracing::error!(
                count,
                "completions lost for want of memory in the kernel: what waits for them won't end \
                 before the worker does"
            );
        }
    }
}
