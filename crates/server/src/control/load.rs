//! How much of a CPU each worker uses: read from `/proc`, so that workers don't count it.

use super::Facts;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one look to the next.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// What the workers have used, and use of late.
pub(super) struct Load {
    at: Instant,
    workers: Vec<WorkerLoad>,
}

/// What one worker uses. A worker that is started anew begins at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct WorkerLoad {
    /// CPU seconds, in user mode and in the kernel.
    pub(super) cpu_seconds: f64,
    /// The part of a CPU that it used between the last two looks: 0 to 1.
    pub(super) busy: f64,
}

impl Load {
    /// Nothing was used before the start.
    pub(super) fn new(facts: &Arc<Facts>) -> Load {
        let mut load = Load {
            at: facts.started,
            workers: vec![WorkerLoad::default(); facts.stats.len()],
        };
        load.look();
        load
    }

    /// Looks again.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        let passed = (now - self.at).as_secs_f64();
        self.at = now;
        let seconds = cpu_seconds(self.workers.len());
        for (worker, cpu_seconds) in self.workers.iter_mut().zip(seconds) {
            let used = (cpu_seconds - worker.cpu_seconds).max(0.0);
            worker.busy = if passed > 0.0 {
                (used / passed).min(1.0)
            } else {
                0.0
            };
            worker.cpu_seconds = cpu_seconds;
        }
    }

    /// As it was at the last look.
    pub(super) fn worker(&self, index: usize) -> WorkerLoad {
        self.workers[index]
    }
}

/// Of each worker's thread; 0 where it can't be read.
fn cpu_seconds(workers: usize) -> Vec<f64> {
    let mut seconds = vec![0.0; workers];
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return seconds;
    };
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    for thread in threads.flatten() {
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else {
            continue; // it has just ended
        };
        if let Some((worker, ticks)) = read_stat(&stat)
            && let Some(place) = seconds.get_mut(worker)
        {
            *place = ticks as f64 / per_second;
        }
    }
    seconds
}

/// The worker whose thread this line of proc_pid_stat(5) is of, and the clock ticks that it has used.
fn read_stat(stat: &str) -> Option<(usize, u64)> {
    let (head, fields) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let worker = name.strip_prefix("ringway-")?.parse().ok()?;
    // Fields 14 and 15; here the third is the first.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((worker, user + system))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expect: Option<(usize, u64)>) {
        let stat = format!("4711 ({name}) S 1 2 3 0 -1 4194624 5 0 0 0 230 17 0 0 20 0 9 0 1 2 3");
        assert_eq!(read_stat(&stat), expect, "{name}");
    }

    #[test]
    fn a_worker_is_known_by_its_thread() {
        check("ringway-12", Some((12, 247)));
        check("ringway-control", None);
        check("ringway", None);
        check("a) (ringway-1", None);
        assert_eq!(read_stat("4711 (ringway-1) S"), None);
    }
}
