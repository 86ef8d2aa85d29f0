//! What the upstream pool costs, beside the two pools one would write first: a stack behind a mutex,
//! and a lock-free queue that all threads share. For benchmarks; the server doesn't use it.
//!
//! An operation takes a connection and gives it back, which is all a pool does for most requests.

use super::{Connection, Lease, Leased, Local, PoolLimits, Shared};
use crossbeam_queue::ArrayQueue;
use ringway_runtime::cpu;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the pools hold: more than all threads need.
const CONNECTIONS: usize = 32;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `Vec` in a `Mutex`.
    Mutex,
    /// One `ArrayQueue` for all threads.
    Queue,
    /// The server's own.
    Ours,
    /// That, when a worker keeps nothing for itself: each operation goes through the exchange.
    OursExchanged,
}

impl Kind {
    /// All of them; what the others are compared with comes first.
    pub const ALL: [Kind; 4] = [Kind::Mutex, Kind::Queue, Kind::Ours, Kind::OursExchanged];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Mutex => "Mutex<Vec>",
            Kind::Queue => "ArrayQueue",
            Kind::Ours => "ours",
            Kind::OursExchanged => "ours, all exchanged",
        }
    }
}

/// Has `threads` threads do `operations` operations each, and tells what one took, in nanoseconds of
/// the time from when the first began until the last was done. Each thread stays on a CPU, as workers
/// do.
pub fn cost(kind: Kind, threads: usize, operations: usize) -> f64 {
    let took = run(kind, threads, operations);
    took.as_nanos() as f64 / (operations * threads) as f64
}

/// As much as a connection's handle is.
struct Plug([u64; 4]);

impl Connection for Plug {
    type Detached = Plug;

    fn detach(self, then: impl FnOnce(io::Result<Plug>) + 'static) {
        then(Ok(self));
    }

    fn attach(detached: Plug) -> io::Result<Plug> {
        Ok(detached)
    }

    fn is_alive(&mut self) -> bool {
        black_box(self.0[0]) == 0
    }
}

/// A pool that a thread has a handle to.
trait Pool {
    fn take_and_give_back(&self);
}

struct Locked(Arc<Mutex<Vec<Plug>>>);

impl Pool for Locked {
    fn take_and_give_back(&self) {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lock().pop();
        if let Some(mut plug) = taken {
            black_box(plug.is_alive());
            lock().push(plug);
        }
    }
}

struct Queued(Arc<ArrayQueue<Plug>>);

impl Pool for Queued {
    fn take_and_give_back(&self) {
        if let Some(mut plug) = self.0.pop() {
            black_box(plug.is_alive());
            // There is room: it was just taken out.
            _ = self.0.push(plug);
        }
    }
}

struct Ours {
    local: Local<Plug>,
    /// Stands for the time of a worker's turn, which is read once for all that it does.
    now: Instant,
}

impl Pool for Ours {
    fn take_and_give_back(&self) {
        let lease: Lease<Plug> = match self.local.try_lease(self.now) {
            Some(Leased::Reused(lease)) => lease,
            Some(Leased::Open(opening)) => opening.opened(Plug([0; 4]), self.now),
            None => return,
        };
        black_box(lease.0[1]);
        lease.finish(self.now);
    }
}

/// One run: how long it took until each of `threads` threads had done so many operations.
fn run(kind: Kind, threads: usize, operations: usize) -> Duration {
    let plugs = || (0..CONNECTIONS).map(|_| Plug([0; 4]));
    match kind {
        Kind::Mutex => {
            let pool = Arc::new(Mutex::new(plugs().collect::<Vec<_>>()));
            time(threads, operations, |_| Locked(Arc::clone(&pool)))
        }
        Kind::Queue => {
            let pool = Arc::new(ArrayQueue::new(CONNECTIONS));
            plugs().for_each(|plug| assert!(pool.push(plug).is_ok()));
            time(threads, operations, |_| Queued(Arc::clone(&pool)))
        }
        Kind::Ours | Kind::OursExchanged => {
            let now = Instant::now();
            let limits = PoolLimits {
                connections: CONNECTIONS as u32,
                idle_per_worker: if kind == Kind::Ours { CONNECTIONS } else { 0 },
                exchange: CONNECTIONS,
                idle_timeout: Duration::from_secs(60),
                lifetime: Duration::from_secs(3600),
                waiting: 0,
            };
            let shared = Shared::new(limits, &vec![0; threads], now);
            time(threads, operations, |index| {
                let (local, keeper) = Local::new(&shared, index);
                drop(keeper); // nobody waits here
                Ours { local, now }
            })
        }
    }
}

/// From when the first thread begins until the last is done, all of them having been there.
fn time<P: Pool>(threads: usize, operations: usize, pool: impl Fn(usize) -> P + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let running = AtomicUsize::new(0);
    let cpus = cpu::allowed().unwrap_or_default();
    let run = |index: usize| {
        // As workers are. Left to itself, the kernel keeps all of them on one for a while.
        if !cpus.is_empty() {
            _ = cpu::pin_current_thread(cpus[index % cpus.len()]);
        }
        let pool = pool(index);
        pool.take_and_give_back(); // the first connection isn't what is measured
        barrier.wait();
        // The kernel wakes one after the other, and the first could be done before the last began.
        running.fetch_add(1, Ordering::AcqRel);
        while running.load(Ordering::Acquire) < threads.min(cpus.len()) {
            std::hint::spin_loop();
        }
        let begin = Instant::now();
        for _ in 0..operations {
            pool.take_and_give_back();
        }
        let times = (begin, Instant::now());
        // Whoever ends first doesn't take its connections down while others are measured.
        barrier.wait();
        times
    };
    let run = &run;
    std::thread::scope(|scope| {
        let running = (0..threads).map(|index| scope.spawn(move || run(index)));
        let running: Vec<_> = running.collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("it doesn't panic"));
        let (begins, ends): (Vec<_>, Vec<_>) = times.unzip();
        let (begin, end) = (begins.into_iter().min(), ends.into_iter().max());
        begin
            .zip(end)
            .map_or(Duration::ZERO, |(begin, end)| end - begin)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_measured_with_one_thread_and_with_several() {
        for kind in Kind::ALL {
            for threads in [1, 3] {
                assert!(cost(kind, threads, 10) > 0.0, "{kind:?}");
            }
        }
    }
}
