//! Active checks: servers are asked now and then whether they are well, and workers see the answer on
//! the upstream's board.
//!
//! One task for each server, which goes with it. What is asked is in `probe`.

use super::{State, part_of, probe};
use crate::config::{ActiveHealth, Upstream};
use crate::proxy::{Check, KnownServer};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// The part of an interval by which it is longer or shorter at random, on either side: a tenth.
const JITTER_DIVISOR: u32 = 10;

/// Starts the checks of every upstream that has some.
pub(super) fn start(state: &Rc<State>) {
    for (index, config) in state.facts.config.upstreams.iter().enumerate() {
        if let Some(health) = &config.health {
            tokio::task::spawn_local(check_all(
                Rc::clone(state),
                index,
                config.clone(),
                health.clone(),
            ));
        }
    }
}

/// Has a task for each of an upstream's servers, whichever they are.
async fn check_all(state: Rc<State>, index: usize, config: Upstream, health: ActiveHealth) {
    let mut changes = state.changes.subscribe();
    let mut tasks: HashMap<String, (KnownServer, AbortHandle)> = HashMap::new();
    loop {
        let upstream = state.upstream(index);
        tasks.retain(|_, (known, task)| {
            let stays = upstream.known().any(|now| now == known);
            if !stays {
                task.abort();
            }
            stays
        });
        for known in upstream.known() {
            if !tasks.contains_key(&known.label) {
                let check = check(
                    Rc::clone(&state),
                    index,
                    config.clone(),
                    health.clone(),
                    known.clone(),
                );
                let task = tokio::task::spawn_local(check).abort_handle();
                tasks.insert(known.label.clone(), (known.clone(), task));
            }
        }
        // An error is the end of the thread.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Asks one server again and again.
async fn check(
    state: Rc<State>,
    index: usize,
    config: Upstream,
    health: ActiveHealth,
    server: KnownServer,
) {
    let (upstream, address) = (&*config.name, &*server.label);
    let mut record = Record::new(&health);
    // The first one soon, but not all at once.
    sleep(part_of(health.interval / JITTER_DIVISOR)).await;
    loop {
        let answer = probe::ask(&health, &config.forward.host, &server).await;
        if let Some(check) = record.observe(answer.is_ok()) {
            let shared = state.upstream(index);
            if let Some(place) = shared.position(address) {
                shared.board().set_check(place, check.now);
            }
            match (check.before, answer) {
                (_, Err(reason)) => {
                    tracing::warn!(upstream, server = address, reason, "left out by its checks");
                }
                (Check::Unhealthy, Ok(())) => {
                    tracing::info!(upstream, server = address, "well again by its checks");
                }
                // It was used before it was asked.
                (_, Ok(())) => {}
            }
        }
        sleep(pause(health.interval)).await;
    }
}

/// About an interval.
fn pause(interval: Duration) -> Duration {
    let jitter = interval / JITTER_DIVISOR;
    interval - jitter + part_of(jitter * 2)
}

/// What a server has answered of late.
#[derive(Debug)]
struct Record {
    healthy_after: u32,
    unhealthy_after: u32,
    check: Check,
    /// Answers in a row that say otherwise.
    against: u32,
}

/// A server is judged otherwise than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    before: Check,
    now: Check,
}

impl Record {
    fn new(health: &ActiveHealth) -> Record {
        Record {
            healthy_after: health.healthy_after,
            unhealthy_after: health.unhealthy_after,
            check: Check::Unknown,
            against: 0,
        }
    }

    /// Takes an answer down; what changes with it. A server that nothing is known of yet is well with
    /// its first good answer.
    fn observe(&mut self, is_good: bool) -> Option<Change> {
        let (now, needed) = match (self.check, is_good) {
            (Check::Healthy, true) | (Check::Unhealthy, false) => {
                self.against = 0;
                return None;
            }
            (Check::Unknown, true) => (Check::Healthy, 1),
            (Check::Unhealthy, true) => (Check::Healthy, self.healthy_after),
            (Check::Unknown | Check::Healthy, false) => (Check::Unhealthy, self.unhealthy_after),
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        let before = std::mem::replace(&mut self.check, now);
        Some(Change { before, now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `answers` are good (+) and bad (-) ones; in `expect`, H and U are where the judgement changes.
    #[track_caller]
    fn check(healthy_after: u32, unhealthy_after: u32, answers: &str, expect: &str) {
        let mut record = Record {
            healthy_after,
            unhealthy_after,
            check: Check::Unknown,
            against: 0,
        };
        let change = |answer: char| match record.observe(answer == '+') {
            None => '.',
            Some(change) if change.now == Check::Healthy => 'H',
            Some(_) => 'U',
        };
        assert_eq!(
            answers.chars().map(change).collect::<String>(),
            expect,
            "{answers}"
        );
    }

    #[test]
    fn it_takes_so_many_in_a_row() {
        check(2, 3, "+++", "H..");
        check(2, 3, "---", "..U");
        check(2, 3, "--+--+---", "..H.....U");
        check(2, 3, "-----+-++", "..U.....H");
        check(1, 1, "+-+-", "HUHU");
        check(3, 1, "-++-+++", "U.....H");
    }

    #[test]
    fn pauses_differ_by_a_tenth() {
        for _ in 0..1000 {
            let pause = pause(Duration::from_secs(10));
            assert!(
                (Duration::from_secs(9)..=Duration::from_secs(11)).contains(&pause),
                "{pause:?}"
            );
        }
        assert_eq!(pause(Duration::ZERO), Duration::ZERO);
    }
}
