//! What the upstream pool costs, beside the two pools one would write first: a stack behind a mutex,
//! and a lock-free queue that all threads share. `cargo xtask bench-pool` runs this.
//!
//! An operation takes a connection and gives it back, which is all a pool does for most requests.
//! The pools take turns, round after round, so that what disturbs the machine disturbs all.

use crossbeam_queue::ArrayQueue;
use ringway_kernel::cpu;
use std::hint::black_box;
use std::io;
use std::num::ParseIntError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

mod parts {
    pub(super) use crossbeam_queue::ArrayQueue as Queue;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}
#[path = "../src/proxy/pool/bounded.rs"]
mod bounded;
#[path = "../src/proxy/pool/demand.rs"]
mod demand;
#[path = "../src/proxy/pool/lease.rs"]
#[allow(dead_code, reason = "not all of it is measured")]
mod lease;
#[path = "../src/proxy/pool/local.rs"]
#[allow(dead_code, reason = "not all of it is measured")]
mod local;
#[path = "../src/proxy/pool/shared.rs"]
mod shared;
#[path = "../src/proxy/pool/stats.rs"]
#[allow(dead_code, reason = "not all of it is measured")]
mod stats;
#[path = "../src/proxy/pool/waits.rs"]
#[allow(dead_code, reason = "not all of it is measured")]
mod waits;

use lease::{Lease, Leased};
use local::Local;
use shared::{Connection, PoolLimits, Shared};

const THREADS: usize = 8;
/// What the pools hold: more than all threads need.
const CONNECTIONS: usize = 32;

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

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Mutex,
    Queue,
    Ours,
    /// Ours, when a worker keeps nothing for itself: each operation goes through the exchange.
    OursExchanged,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::Mutex, "Mutex<Vec>"),
    (Kind::Queue, "ArrayQueue"),
    (Kind::Ours, "ours"),
    (Kind::OursExchanged, "ours, all exchanged"),
];

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

fn main() -> Result<(), ParseIntError> {
    // `cargo bench` passes an argument of its own.
    let mut arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let mut number = |default: &str| {
        let argument = arguments.next();
        argument.as_deref().unwrap_or(default).parse::<usize>()
    };
    let (operations, rounds) = (number("100000")?, number("15")?.max(1));
    // For a profile of one alone: its place in the table.
    let only = number("0")?.checked_sub(1);
    for threads in [1, THREADS] {
        let mut results = [const { Vec::new() }; KINDS.len()];
        for round in 0..=rounds {
            for (index, (kind, _)) in KINDS.iter().enumerate() {
                if only.is_some_and(|only| only != index) {
                    continue;
                }
                let took = run(*kind, threads, operations);
                // The first round warms up.
                if round > 0 {
                    let all = (operations * threads) as f64;
                    results[index].push(took.as_nanos() as f64 / all);
                }
            }
        }
        println!("\n{threads} threads, {operations} operations each, {rounds} rounds");
        println!("pool                  ns each: median (least to most)   speed of the mutex's");
        for (index, (_, name)) in KINDS.iter().enumerate() {
            if results[index].is_empty() {
                continue;
            }
            let ratios = results[0].iter().zip(&results[index]);
            let ratios = ratios.map(|(mutex, own)| mutex / own).collect();
            let [median, least, most] = spread(results[index].clone());
            let [ratio, slowest, fastest] = spread(ratios);
            println!(
                "{name:20} {median:10.1} ({least:.1} to {most:.1})    \
                 {ratio:.2} ({slowest:.2} to {fastest:.2})"
            );
        }
    }
    Ok(())
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return [f64::NAN; 3];
    }
    [
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    ]
}
