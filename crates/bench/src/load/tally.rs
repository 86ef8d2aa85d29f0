//! What is counted: answers by status, failures by kind, latency as a histogram.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest latency told apart from longer ones, in microseconds.
const LATENCY_MAX_MICROS: u64 = 600_000_000;
/// Three digits: 1,234 µs and 1,235 µs are two values, 12,345 and 12,346 one.
const PRECISION_DIGITS: u8 = 3;

/// Why a request wasn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Failure {
    /// Nobody listens.
    Refused,
    /// No connection for another reason.
    Connect,
    /// The connection was reset.
    Reset,
    /// It was closed before the answer was whole.
    Closed,
    /// Not in time.
    Timeout,
    /// The answer isn't HTTP.
    Malformed,
    /// Other bytes than those that were sent, from a peer that should send them back.
    Different,
    /// No descriptors or ports left on this side.
    Exhausted,
}

impl Failure {
    pub(super) const ALL: [(Failure, &'static str); 8] = [
        (Failure::Refused, "connection refused"),
        (Failure::Connect, "could not connect"),
        (Failure::Reset, "reset by the server"),
        (Failure::Closed, "closed before the answer was whole"),
        (Failure::Timeout, "not answered in time"),
        (Failure::Malformed, "malformed answer"),
        (Failure::Different, "other bytes came back than were sent"),
        (Failure::Exhausted, "out of descriptors or ports here"),
    ];
}

/// One thread's counts, and the sum of all.
#[derive(Debug)]
pub(super) struct Tally {
    /// By class: 1xx to 5xx.
    pub(super) statuses: [u64; 5],
    pub(super) failures: [u64; Failure::ALL.len()],
    /// Answers that have no status: the same bytes that were sent.
    pub(super) echoes: u64,
    /// Bytes received: heads and bodies, or whatever came.
    pub(super) bytes: u64,
    /// Bytes sent that this side's kernel has taken, of [`Talk::Bulk`](super::Talk::Bulk) alone.
    pub(super) sent_bytes: u64,
    pub(super) connects: u64,
    /// Those that hadn't failed in the end, of [`Talk::Bulk`](super::Talk::Bulk) alone.
    pub(super) holding: u64,
    /// In microseconds.
    pub(super) latency: Histogram<u64>,
    /// Requests that were due while the connection still waited for the answer before.
    pub(super) late: u64,
    /// Time that was measured.
    pub(super) elapsed: Duration,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, PRECISION_DIGITS);
        Tally {
            statuses: [0; 5],
            failures: [0; Failure::ALL.len()],
            echoes: 0,
            bytes: 0,
            sent_bytes: 0,
            connects: 0,
            holding: 0,
            latency: latency.expect("the bounds are constants that are right"),
            late: 0,
            elapsed: Duration::ZERO,
        }
    }

    /// `status` is that of HTTP, where it is spoken.
    pub(super) fn answer(&mut self, status: Option<u16>, bytes: u64, latency: Duration) {
        match status {
            Some(status) => self.statuses[usize::from(status / 100).clamp(1, 5) - 1] += 1,
            None => self.echoes += 1,
        }
        self.bytes += bytes;
        self.latency.saturating_record(latency.as_micros() as u64);
    }

    pub(super) fn failure(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    pub(super) fn answers(&self) -> u64 {
        self.statuses.iter().sum::<u64>() + self.echoes
    }

    pub(super) fn add(&mut self, other: &Tally) {
        for (sum, count) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += count;
        }
        for (sum, count) in self.failures.iter_mut().zip(other.failures) {
            *sum += count;
        }
        self.echoes += other.echoes;
        self.bytes += other.bytes;
        self.sent_bytes += other.sent_bytes;
        self.connects += other.connects;
        self.holding += other.holding;
        self.late += other.late;
        self.latency
            .add(&other.latency)
            .expect("all have the same bounds");
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}
