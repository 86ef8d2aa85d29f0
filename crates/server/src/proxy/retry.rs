//! What may be tried again, and how often: never what could do something twice, and never a storm.
//!
//! *Whether*: RFC 9110 §9.2.2 forbids a proxy to repeat by itself a request whose method isn't
//! idempotent. That a connection was reused and turned out dead doesn't change it: the server may
//! have read the request before it went. What has never left can be sent elsewhere, whatever it is.
//!
//! *How often*: a few times for each request, and over all only a share of the requests of late
//! ([`Budget`]). Servers that fail because they have too much to do aren't given twice as much.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// How far a request had come when its server failed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No byte has left: there was no connection, or nothing could be written to it.
    NothingSent,
    /// Some of it has left, and nothing of an answer has come.
    Sent,
    /// Some of an answer has come. (An interim one, such as 103, too.)
    Answering,
}

/// A request that a server has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Whether doing it twice is as good as once: see [`is_idempotent`].
    pub(crate) is_idempotent: bool,
    /// How far it had come.
    pub(crate) progress: Progress,
    /// Whether its body, from the first byte, is still there; true where it has none.
    pub(crate) has_body: bool,
    /// Whether its connection had been used before.
    pub(crate) is_reused: bool,
    /// How often it has been sent to a server that failed it, this time included.
    pub(crate) attempts: u32,
    /// How often a connection from the pool had turned out dead for it before.
    pub(crate) stale_before: u32,
}

/// What is to be done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection from the pool was dead. That is no fault of the server: the same one may have
    /// it again, on a new connection, and it counts as no failure and no retry.
    Again,
    /// Another server, if there is one.
    Elsewhere,
    /// The client gets the error: and this is why.
    No(Why),
}

/// Why a request isn't tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Something of the answer has come already.
    Answering,
    /// The server may have acted on it, and to do so twice isn't the same (RFC 9110 §9.2.2).
    NotIdempotent,
    /// Its body has gone, and isn't kept.
    BodyGone,
    /// It has been tried as often as it may.
    Attempts,
    /// There have been too many retries of late.
    Budget,
}

/// Whether RFC 9110 §9.2.2 calls the method idempotent. Methods are case-sensitive, and those that
/// aren't known aren't.
pub(crate) fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}

/// What may be done about a failed request: with at most `retries` of them for each, and what the
/// budget has left, of which a retry takes its part.
pub(crate) fn judge(failed: &Failed, retries: u32, budget: &mut Budget, now: Instant) -> Verdict {
    match failed.progress {
        Progress::Answering => return Verdict::No(Why::Answering),
        Progress::Sent if !failed.is_idempotent => return Verdict::No(Why::NotIdempotent),
        Progress::Sent | Progress::NothingSent => {}
    }
    if !failed.has_body {
        return Verdict::No(Why::BodyGone);
    }
    // Once: what comes from the pool after that may be dead as well, but a new one isn't.
    if failed.is_reused && failed.stale_before == 0 {
        return Verdict::Again;
    }
    if failed.attempts > retries {
        return Verdict::No(Why::Attempts);
    }
    if !budget.spend(now) {
        return Verdict::No(Why::Budget);
    }
    Verdict::Elsewhere
}

/// For how long requests and retries count.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);

/// How many retries there may be, in one worker: a share of the requests of the last ten seconds,
/// and a few beside it.
///
/// Finagle's retry budget, with seconds for slots: in any ten of them, there are never more retries
/// than `percent` of their requests and ten times `per_second`.
#[derive(Debug)]
pub(crate) struct Budget {
    percent: u32,
    per_second: u32,
    epoch: Instant,
    /// The last second that was counted, from the epoch.
    second: u64,
    /// When that is over.
    second_ends: Instant,
    /// Requests and retries of each second, the second's number modulo their count.
    slots: [(u32, u32); SLOTS],
}

impl Budget {
    /// `percent` of the requests may be retried, and `per_second` whatever there is; 0 and 0 is
    /// none.
    pub(crate) fn new(percent: u32, per_second: u32, now: Instant) -> Budget {
        Budget {
            percent,
            per_second,
            epoch: now,
            second: 0,
            second_ends: now + SLOT,
            slots: [(0, 0); SLOTS],
        }
    }

    /// A request has come: not a retry of one.
    pub(crate) fn earn(&mut self, now: Instant) {
        let (requests, _) = self.slot(now);
        *requests = requests.saturating_add(1);
    }

    /// Whether there may be a retry now; if so, it is counted.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        self.slot(now);
        let sum = |one: (u64, u64), &(requests, retries): &(u32, u32)| {
            (one.0 + u64::from(requests), one.1 + u64::from(retries))
        };
        let (requests, retries) = self.slots.iter().fold((0, 0), sum);
        let share = requests * u64::from(self.percent) / 100;
        let always = u64::from(self.per_second) * SLOTS as u64;
        let may = retries < share + always;
        if may {
            let (_, retries) = self.slot(now);
            *retries = retries.saturating_add(1);
        }
        may
    }

    /// The slot of `now`, those that are over being emptied. A clock that goes back stays where it
    /// was.
    #[inline]
    fn slot(&mut self, now: Instant) -> &mut (u32, u32) {
        if now >= self.second_ends {
            self.advance(now);
        }
        &mut self.slots[(self.second % SLOTS as u64) as usize]
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.epoch);
        let second = passed.as_secs() / SLOT.as_secs();
        let over = (second - self.second).min(SLOTS as u64);
        for step in 1..=over {
            self.slots[((self.second + step) % SLOTS as u64) as usize] = (0, 0);
        }
        self.second = second;
        self.second_ends = self.epoch + Duration::from_secs((second + 1) * SLOT.as_secs());
    }
}
