//! The blocking pool: a bounded number of threads for what must never run on a worker.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread without work stays.
const IDLE_THREAD: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Every thread is busy and the queue is at its bound: the work was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFull;

impl fmt::Display for PoolFull {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the blocking pool's queue is full")
    }
}

impl std::error::Error for PoolFull {}

/// Threads for work that waits: cold files, slow disks, password hashes, compression.
///
/// Shared by all workers; clones are handles to the same pool. Threads start on demand and end
/// after ten idle seconds. A job that panics ends alone.
#[derive(Clone)]
pub struct BlockingPool {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    threads_limit: usize,
    queue_limit: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl State {
    /// Whether a thread that has waited for a job ends. Then it is counted out at once, under the
    /// lock that found nothing to do: whoever comes with a job next mustn't count on it.
    fn leaves(&mut self, was_in_vain: bool) -> bool {
        self.idle -= 1;
        let leaves = was_in_vain && self.queue.is_empty();
        self.threads -= usize::from(leaves);
        leaves
    }
}

impl BlockingPool {
    /// At most `threads_limit` threads (at least one), and `queue_limit` jobs that wait for one.
    pub fn new(threads_limit: usize, queue_limit: usize) -> BlockingPool {
        BlockingPool {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                arrived: Condvar::new(),
                threads_limit: threads_limit.max(1),
                queue_limit,
            }),
        }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`PoolFull`] when no thread is free for it and the queue is at its bound, or when no thread
    /// can be started.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) -> Result<(), PoolFull> {
        let mut state = self.shared.lock();
        let needs_thread = state.idle <= state.queue.len();
        if needs_thread && state.threads < self.shared.threads_limit {
            if !Shared::start_thread(&self.shared, &mut state) && state.threads == 0 {
                return Err(PoolFull);
            }
        } else if needs_thread && state.queue.len() >= self.shared.queue_limit {
            return Err(PoolFull);
        }
        state.queue.push_back(Box::new(job));
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Queues a job that gives something back (an open file, say) and can't be refused: the queue's
    /// bound doesn't hold for it, the number of things that there are to give back does. Where no
    /// thread can be started it is done with the next job.
    pub fn submit_release(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        let needs_thread = state.idle <= state.queue.len();
        if needs_thread && state.threads < self.shared.threads_limit {
            Shared::start_thread(&self.shared, &mut state);
        }
        state.queue.push_back(Box::new(job));
        self.shared.arrived.notify_one();
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        write!(
            out,
            "BlockingPool({} threads, {} queued)",
            state.threads,
            state.queue.len()
        )
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so a poisoned state is still a consistent one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one more.
    fn start_thread(shared: &Arc<Shared>, state: &mut State) -> bool {
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new().name("ringway-blocking".to_owned());
        let is_started = thread.spawn(move || Shared::work(&shared)).is_ok();
        state.threads += usize::from(is_started);
        is_started
    }

    fn work(shared: &Arc<Shared>) {
        let mut state = shared.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // What the job held is dropped by its panic, and that tells whoever waits for it.
                // The thread stays: one that was on its way out would still be counted, and a job
                // that came meanwhile would have nobody.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = shared.lock();
                continue;
            }
            state.idle += 1;
            let (next, timeout) = shared
                .arrived
                .wait_timeout(state, IDLE_THREAD)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if state.leaves(timeout.timed_out()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_run_and_the_queue_is_bounded() {
        let pool = BlockingPool::new(1, 2);
        let (started, started_signal) = mpsc::channel();
        let (release, gate) = mpsc::channel::<()>();
        pool.submit(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
        })
        .unwrap();
        started_signal.recv().unwrap();
        let (done, results) = mpsc::channel();
        for number in 0..2 {
            let done = done.clone();
            pool.submit(move || done.send(number).unwrap()).unwrap();
        }
        assert_eq!(pool.submit(|| ()), Err(PoolFull));
        // What is given back is taken all the same.
        pool.submit_release(move || done.send(2).unwrap());
        release.send(()).unwrap();
        let results: Vec<i32> = results.iter().collect();
        assert_eq!(results, [0, 1, 2]);
    }

    /// The last moment of a pool's only thread: it has waited in vain, and then a job comes.
    #[test]
    fn no_job_is_stranded_when_a_thread_ends() {
        let pool = BlockingPool::new(1, 8);
        let mut state = pool.shared.lock();
        (state.threads, state.idle) = (1, 1);
        assert!(state.leaves(true), "nothing to do");
        drop(state);
        let (done, result) = mpsc::channel();
        pool.submit(move || done.send(7).unwrap()).unwrap();
        let patience = Duration::from_secs(60);
        assert_eq!(result.recv_timeout(patience), Ok(7), "another took it");
    }

    #[test]
    fn a_thread_stays_for_a_job_that_came_while_it_gave_up() {
        let mut state = State {
            threads: 1,
            idle: 1,
            ..State::default()
        };
        state.queue.push_back(Box::new(|| ()));
        assert!(!state.leaves(true));
        assert_eq!((state.threads, state.idle), (1, 0));
    }

    #[test]
    fn a_panicking_job_does_not_end_the_pool() {
        let pool = BlockingPool::new(1, 8);
        pool.submit(|| std::panic::resume_unwind(Box::new("injected")))
            .unwrap();
        let (done, result) = mpsc::channel();
        pool.submit(move || done.send(7).unwrap()).unwrap();
        assert_eq!(result.recv().unwrap(), 7);
    }
}
