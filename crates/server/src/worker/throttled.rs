//! Events that a flood would repeat without end, told as counts every few seconds.

use crate::admission::Refusal;
use crate::log::Throttle;
use crate::proxy::{FaultKind, ServerFault};
use ringway_runtime::errno;
use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

/// How often an event that repeats is told again.
const THROTTLE_INTERVAL: Duration = Duration::from_secs(5);

/// One throttle for each kind of event of a worker.
pub(super) struct Throttled {
    pub(super) refused_total: Throttle,
    pub(super) refused_address: Throttle,
    accept_errors: Throttle,
    /// The first of those that are still to be told.
    accept_reason: String,
    pub(super) panics: Throttle,
    pub(super) completion_overflows: Throttle,
    pub(super) completions_lost: Throttle,
    /// Made when they are needed: as many as there are upstreams and kinds of fault at most.
    unanswered: Vec<Unanswered>,
    /// The same for the program's own services and hooks, by their names.
    failed: Vec<Failed>,
}

/// Requests that something of the program's own failed.
struct Failed {
    name: String,
    throttle: Throttle,
    /// The reason of the first that is still to be told.
    reason: String,
}

impl Failed {
    fn tell(&mut self, now: Instant) {
        if let Some(count) = self.throttle.due(now) {
            let (service, reason) = (&*self.name, std::mem::take(&mut self.reason));
            tracing::error!(count, service, reason, "a service failed");
        }
    }
}

/// Requests that an upstream didn't answer, for one kind of reason.
struct Unanswered {
    upstream: String,
    kind: FaultKind,
    throttle: Throttle,
    /// The reason of the first that is still to be told.
    reason: String,
}

impl Default for Throttled {
    fn default() -> Throttled {
        let throttle = || Throttle::new(THROTTLE_INTERVAL);
        Throttled {
            refused_total: throttle(),
            refused_address: throttle(),
            accept_errors: throttle(),
            accept_reason: String::new(),
            panics: throttle(),
            completion_overflows: throttle(),
            completions_lost: throttle(),
            unanswered: Vec::new(),
            failed: Vec::new(),
        }
    }
}

impl Unanswered {
    fn tell(&mut self, now: Instant) {
        if let Some(count) = self.throttle.due(now) {
            let (upstream, fault) = (&*self.upstream, self.kind.word());
            let reason = std::mem::take(&mut self.reason);
            tracing::warn!(
                count,
                upstream,
                fault,
                reason,
                "no answer from the upstream"
            );
        }
    }
}

impl Throttled {
    /// A request wasn't answered: told at once if that is new, else counted.
    pub(super) fn add_unanswered(&mut self, upstream: &str, fault: &ServerFault, now: Instant) {
        let kind = fault.kind();
        let is_it = |one: &Unanswered| one.kind == kind && one.upstream == upstream;
        let index = self.unanswered.iter().position(is_it).unwrap_or_else(|| {
            self.unanswered.push(Unanswered {
                upstream: upstream.to_owned(),
                kind,
                throttle: Throttle::new(THROTTLE_INTERVAL),
                reason: String::new(),
            });
            self.unanswered.len() - 1
        });
        let one = &mut self.unanswered[index];
        one.throttle.add(1);
        if one.reason.is_empty() {
            one.reason = fault.to_string();
        }
        one.tell(now);
    }

    /// A service or hooks failed a request: told at once if that is new, else counted.
    pub(super) fn add_failed(&mut self, name: &str, reason: &dyn Error, now: Instant) {
        let is_it = |one: &Failed| one.name == name;
        let index = self.failed.iter().position(is_it).unwrap_or_else(|| {
            self.failed.push(Failed {
                name: name.to_owned(),
                throttle: Throttle::new(THROTTLE_INTERVAL),
                reason: String::new(),
            });
            self.failed.len() - 1
        });
        let one = &mut self.failed[index];
        one.throttle.add(1);
        if one.reason.is_empty() {
            one.reason = reason.to_string();
        }
        one.tell(now);
    }

    /// A connection couldn't be taken: told at once if that is new, else counted.
    pub(super) fn add_accept_error(&mut self, error: &io::Error, now: Instant) {
        self.accept_errors.add(1);
        if self.accept_reason.is_empty() {
            self.accept_reason = errno::explain("accept", error);
        }
        self.tell(now);
    }

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
            let reason = std::mem::take(&mut self.accept_reason);
            tracing::warn!(count, reason, "failed to accept");
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
        for one in &mut self.unanswered {
            one.tell(now);
        }
        for one in &mut self.failed {
            one.tell(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};

    /// What is still to be told of each.
    fn untold(throttled: &Throttled) -> Vec<(&str, &str, &str)> {
        let all = throttled.unanswered.iter();
        all.map(|one| (&*one.upstream, one.kind.word(), &*one.reason))
            .collect()
    }

    #[test]
    fn a_flood_of_failures_is_told_by_upstream_and_kind() {
        let start = Instant::now();
        let mut throttled = Throttled::default();
        throttled.add_unanswered("app", &ServerFault::Closed, start);
        throttled.add_unanswered("app", &ServerFault::NoServer, start);
        throttled.add_unanswered("api", &ServerFault::Closed, start);
        let told = [
            ("app", "closed", ""),
            ("app", "no_server", ""),
            ("api", "closed", ""),
        ];
        assert_eq!(untold(&throttled), told);
        for _ in 0..1000 {
            throttled.add_unanswered("app", &ServerFault::Closed, start);
        }
        let reason = "it closed the connection without an answer";
        assert_eq!(untold(&throttled)[0], ("app", "closed", reason));
        assert_eq!(throttled.unanswered.len(), 3);
        throttled.tell(start + THROTTLE_INTERVAL);
        assert_eq!(untold(&throttled), told);
    }

    /// What `tell` writes to the event log.
    fn told(throttled: &mut Throttled, now: Instant) -> String {
        let file = tempfile::tempfile().unwrap();
        let writer = file.try_clone().unwrap();
        let events = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.try_clone().unwrap())
            .finish();
        tracing::subscriber::with_default(events, || throttled.tell(now));
        let mut text = String::new();
        let mut file = file;
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn why_connections_are_not_taken_is_told() {
        let start = Instant::now();
        let mut throttled = Throttled::default();
        let error = |errno| io::Error::from_raw_os_error(errno);
        throttled.add_accept_error(&error(24), start);
        throttled.add_accept_error(&error(errno::EPERM), start);
        throttled.add_accept_error(&error(24), start);
        let text = told(&mut throttled, start + THROTTLE_INTERVAL);
        let profile = "accept: EPERM, most likely the container's seccomp profile";
        assert!(text.contains(profile) && text.contains("count=2"), "{text}");
    }

    /// The kernel loses none while it has memory, so no test of the whole server can see this.
    #[test]
    fn lost_completions_are_told_as_an_error() {
        let start = Instant::now();
        let mut throttled = Throttled::default();
        assert_eq!(told(&mut throttled, start), "");
        throttled.completions_lost.add(2);
        throttled.completion_overflows.add(3);
        let text = told(&mut throttled, start + THROTTLE_INTERVAL);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("WARN"), "{text}");
        assert!(lines[0].contains("completion queue overflowed") && lines[0].contains("count=3"));
        assert!(lines[1].contains("ERROR"), "{text}");
        assert!(
            lines[1].contains("completions lost for want of memory")
                && lines[1].contains("count=2")
        );
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(told(&mut throttled, start + 2 * THROTTLE_INTERVAL), "");
    }
}
