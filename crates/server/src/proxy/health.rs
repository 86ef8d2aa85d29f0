//! Which servers can be used: what their answers say in this worker, and what active checks say in
//! all of them.
//!
//! *Passively*, each worker counts failures in a row, and leaves a server out for a while that has
//! too many ([`Health`]): as in Envoy each for itself, so that a request's way shares nothing, and a
//! worker that alone can't reach a server doesn't take it from the others. The time grows with each
//! turn, and only so many may be out at once. *Actively*, whoever asks the servers puts what it found
//! on the [`Board`], an atomic for each server, and workers put there what they have found for others
//! to see. When too few servers are left, all are used again: then it is more likely that the checks
//! are wrong.
//!
//! Nothing here sends anything or reads a clock.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often the time that a server is left out can grow by itself.
const TURNS_MAX: u32 = 10;

/// When a server isn't used, and when all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HealthLimits {
    /// Failures in a row after which a server is left out; 0 leaves none out.
    pub(crate) failures: u32,
    /// For how long, the first time. The second time it is twice that, and so on up to ten times;
    /// each such time that it is well for takes one off.
    pub(crate) ejection_time: Duration,
    /// How many of the servers may be left out for their failures at once, in percent; where it
    /// isn't 0, one may if there is another.
    pub(crate) max_ejected_percent: u32,
    /// When fewer than so many servers are well, in percent, all are used.
    pub(crate) panic_percent: u32,
}

/// What active checks have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing yet, or nobody checks: it is used.
    Unknown,
    /// It is well.
    Healthy,
    /// It isn't, and isn't used.
    Unhealthy,
}

/// Whether a server can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Whether requests may go there.
    pub(crate) is_usable: bool,
    /// Since when it is well again; `None` when it has never been otherwise, or isn't.
    pub(crate) well_since: Option<Instant>,
}

/// What all workers, the active checks and the status page share of the servers of an upstream.
pub(crate) struct Board {
    servers: Box<[Arc<ServerBoard>]>,
}

/// The part of a [`Board`] about one server. It goes on where the same server is on another board.
#[derive(Debug)]
struct ServerBoard {
    check: AtomicU8,
    /// One for each worker.
    reports: Box<[Report]>,
}

/// What one worker says about one server; it alone writes it.
#[derive(Debug, Default)]
struct Report {
    is_ejected: AtomicU8,
    failures: AtomicU32,
    ejections: AtomicU32,
}

/// How a server is, as a status page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerHealth {
    /// What active checks say.
    pub(crate) check: Check,
    /// In how many workers it is left out for its failures.
    pub(crate) ejected_workers: u32,
    /// The most failures in a row that any worker has seen up to now.
    pub(crate) failures: u32,
    /// How often it was left out, over all workers.
    pub(crate) ejections: u32,
}

/// The health of an upstream's servers in one worker.
#[derive(Debug)]
pub(crate) struct Health {
    limits: HealthLimits,
    board: Arc<Board>,
    worker: usize,
    servers: Vec<Server>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    is_backup: bool,
    /// In a row.
    failures: u32,
    /// Until when it is left out.
    ejected_until: Option<Instant>,
    /// How often it has been left out lately.
    turns: u32,
    /// When the last of these turns ended, or was taken off.
    turns_since: Option<Instant>,
    is_well: bool,
}

impl Board {
    /// Nothing is known yet.
    ///
    /// # Panics
    /// When there is no server or no worker.
    #[cfg(test)]
    pub(crate) fn new(servers_count: usize, workers_count: usize) -> Arc<Board> {
        Board::carrying_on((0..servers_count).map(|_| None), workers_count)
    }

    /// A board for servers of which some, by another board and their place there, are known already.
    ///
    /// # Panics
    /// When there is no server or no worker, or the other boards haven't got those.
    pub(crate) fn carrying_on<'b>(
        servers: impl Iterator<Item = Option<(&'b Board, usize)>>,
        workers_count: usize,
    ) -> Arc<Board> {
        assert!(workers_count > 0, "an upstream without workers");
        let server = |known: Option<(&Board, usize)>| match known {
            Some((board, server)) => Arc::clone(&board.servers[server]),
            None => Arc::new(ServerBoard {
                check: AtomicU8::new(Check::Unknown as u8),
                reports: (0..workers_count).map(|_| Report::default()).collect(),
            }),
        };
        let servers: Box<[_]> = servers.map(server).collect();
        assert!(!servers.is_empty(), "an upstream without servers");
        Arc::new(Board { servers })
    }

    /// An active check has found this. Workers see it with their next request.
    ///
    /// # Panics
    /// When there is no such server.
    pub(crate) fn set_check(&self, server: usize, check: Check) {
        self.servers[server].check.store(check as u8, Relaxed);
    }

    /// What was found last.
    pub(crate) fn check(&self, server: usize) -> Check {
        match self.servers[server].check.load(Relaxed) {
            number if number == Check::Healthy as u8 => Check::Healthy,
            number if number == Check::Unhealthy as u8 => Check::Unhealthy,
            _ => Check::Unknown,
        }
    }

    /// How each server is, in their order. Takes no lock; each number is right by itself.
    pub(crate) fn snapshot(&self) -> Vec<ServerHealth> {
        let server = |index: usize| {
            let mut health = ServerHealth {
                check: self.check(index),
                ejected_workers: 0,
                failures: 0,
                ejections: 0,
            };
            for report in &self.servers[index].reports {
                health.ejected_workers += u32::from(report.is_ejected.load(Relaxed));
                health.failures = health.failures.max(report.failures.load(Relaxed));
                health.ejections += report.ejections.load(Relaxed);
            }
            health
        };
        (0..self.servers.len()).map(server).collect()
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Board({:?})", self.snapshot())
    }
}

impl Health {
    /// In worker `worker`, for the servers of `board`; `backups` says which of them are backups.
    ///
    /// # Panics
    /// When the board wasn't made for so many servers or workers.
    pub(crate) fn new(
        limits: HealthLimits,
        board: &Arc<Board>,
        worker: usize,
        backups: &[bool],
    ) -> Health {
        assert_eq!(backups.len(), board.servers.len(), "one for each server");
        assert!(worker < board.servers[0].reports.len(), "no such worker");
        let server = |&is_backup| Server {
            is_backup,
            failures: 0,
            ejected_until: None,
            turns: 0,
            turns_since: None,
            is_well: true,
        };
        let health = Health {
            limits,
            board: Arc::clone(board),
            worker,
            servers: backups.iter().map(server).collect(),
            conditions: vec![
                Condition {
                    is_usable: true,
                    well_since: None,
                };
                backups.len()
            ],
        };
        // What a worker before this one said.
        (0..backups.len()).for_each(|server| health.report(server));
        health
    }

    /// Goes on with what is known of server `server` here, which `other` calls `from`.
    pub(crate) fn carry_on(&mut self, server: usize, other: &Health, from: usize) {
        let is_backup = self.servers[server].is_backup;
        self.servers[server] = Server {
            is_backup,
            ..other.servers[from]
        };
        self.conditions[server] = other.conditions[from];
        self.report(server);
    }

    /// Which servers can be used at `now`, in their order: for each request, before a server is
    /// chosen.
    pub(crate) fn conditions(&mut self, now: Instant) -> &[Condition] {
        let mut all_are_well = true;
        for index in 0..self.servers.len() {
            self.end_ejection(index, now);
            let server = &mut self.servers[index];
            let was_well = server.is_well;
            server.is_well =
                server.ejected_until.is_none() && self.board.check(index) != Check::Unhealthy;
            if server.is_well != was_well {
                self.conditions[index].well_since = server.is_well.then_some(now);
            }
            self.conditions[index].is_usable = server.is_well;
            all_are_well &= server.is_well;
        }
        if !all_are_well && self.is_panicking() {
            for condition in &mut self.conditions {
                condition.is_usable = true;
            }
        }
        &self.conditions
    }

    /// Whether too few servers are well. A backup that is well is there for exactly that, and then
    /// nothing is amiss.
    fn is_panicking(&self) -> bool {
        let count = |is_backup: bool| {
            let of_those = self
                .servers
                .iter()
                .filter(|server| server.is_backup == is_backup);
            let well = of_those.clone().filter(|server| server.is_well).count();
            (well as u64, of_those.count() as u64)
        };
        let (well, all) = count(false);
        let (well_backups, backups) = count(true);
        let (well, all) = if all == 0 {
            (well_backups, backups)
        } else {
            (well, all)
        };
        let has_backup = well == 0 && well_backups > 0;
        well * 100 < all * u64::from(self.limits.panic_percent) && !has_backup
    }

    /// The server has answered: anything but what says that it can't (502, 503, 504).
    pub(crate) fn succeed(&mut self, server: usize) {
        if self.servers[server].failures > 0 {
            self.servers[server].failures = 0;
            self.report(server);
        }
    }

    /// No connection, no answer, or one that says that the server can't answer. Whether it is left
    /// out from now on.
    pub(crate) fn fail(&mut self, server: usize, now: Instant) -> bool {
        let has_room = self.has_room_for_ejection();
        let failed = &mut self.servers[server];
        failed.failures = failed.failures.saturating_add(1);
        let is_too_much = self.limits.failures > 0 && failed.failures >= self.limits.failures;
        let is_ejected = is_too_much && failed.ejected_until.is_none() && has_room;
        if is_ejected {
            failed.turns = (failed.turns + 1).min(TURNS_MAX);
            let time = self.limits.ejection_time.saturating_mul(failed.turns);
            // A time that can't be told is for ever, too.
            let until = now.checked_add(time);
            failed.ejected_until = until.or_else(|| now.checked_add(Duration::from_secs(1 << 31)));
            failed.is_well = false;
            self.conditions[server].well_since = None;
            let report = &self.board.servers[server].reports[self.worker];
            report
                .ejections
                .store(report.ejections.load(Relaxed).wrapping_add(1), Relaxed);
        }
        self.report(server);
        is_ejected
    }

    fn has_room_for_ejection(&self) -> bool {
        let all = self.servers.len();
        let ejected = self
            .servers
            .iter()
            .filter(|server| server.ejected_until.is_some())
            .count();
        let percent = self.limits.max_ejected_percent as usize;
        let room = (all * percent / 100).max(usize::from(percent > 0));
        ejected < room.min(all - 1)
    }

    /// Lets a server come back whose time is over, and forgets turns that are long ago.
    fn end_ejection(&mut self, index: usize, now: Instant) {
        let limits = self.limits;
        let server = &mut self.servers[index];
        match server.ejected_until {
            Some(until) if now >= until => {
                server.ejected_until = None;
                server.turns_since = Some(now);
                // One more failure, and it goes again; one answer, and all is forgotten.
                server.failures = limits.failures - 1;
                self.report(index);
            }
            Some(_) => {}
            None if server.turns > 0 => {
                let since = server.turns_since.unwrap_or(now);
                if now.saturating_duration_since(since) >= limits.ejection_time {
                    server.turns -= 1;
                    server.turns_since = Some(now);
                }
            }
            None => {}
        }
    }

    fn report(&self, server: usize) {
        let report = &self.board.servers[server].reports[self.worker];
        let Server {
            failures,
            ejected_until,
            ..
        } = self.servers[server];
        report.failures.store(failures, Relaxed);
        report
            .is_ejected
            .store(u8::from(ejected_until.is_some()), Relaxed);
    }
}
