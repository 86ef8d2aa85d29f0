//! The executor: one worker's tasks, on one thread. Tasks and wakers are those of `async-task`.

use crate::timer::Wheel;
use crate::transfer::Experience;
use crate::worker::{Remote, Turn, Worker};
use async_task::{FallibleTask, Runnable};
use pin_project_lite::pin_project;
use ringway_kernel::{Counters, DriverChoice, MemoryReport, ReactorCell, ReactorOptions, SimWorld};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The live tasks of a worker, and those that can go on.
#[derive(Default)]
pub(crate) struct Tasks {
    ready: RefCell<VecDeque<Runnable>>,
    /// A waker for each live task, to end it by; `None`: a free place.
    live: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    panics: Cell<u64>,
}

impl Tasks {
    pub(crate) fn queue(&self, runnable: Runnable) {
        self.ready.borrow_mut().push_back(runnable);
    }

    fn enlist(&self) -> usize {
        if let Some(place) = self.free.borrow_mut().pop() {
            return place;
        }
        let mut live = self.live.borrow_mut();
        live.push(None);
        live.len() - 1
    }

    fn live_count(&self) -> usize {
        self.live.borrow().len() - self.free.borrow().len()
    }

    fn discharge(&self, place: usize) {
        let waker = self.live.borrow_mut()[place].take();
        self.free.borrow_mut().push(place);
        // Outside of the borrow.
        drop(waker);
    }
}

pin_project! {
    /// A task's future, which leaves the list of live tasks when it is dropped.
    struct Enlisted<F> {
        #[pin]
        future: F,
        place: usize,
        worker: Rc<Worker>,
    }

    impl<F> PinnedDrop for Enlisted<F> {
        fn drop(this: Pin<&mut Self>) {
            this.worker.tasks.discharge(this.place);
        }
    }
}

impl<F: Future> Future for Enlisted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.worker.reactor.note_own_waker(context.waker());
        this.future.poll(context)
    }
}

impl Worker {
    pub(crate) fn spawn<F>(self: &Rc<Worker>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let place = self.tasks.enlist();
        let future = Enlisted {
            future,
            place,
            worker: Rc::clone(self),
        };
        let remote = Arc::clone(&self.remote);
        let schedule = move |runnable| {
            if let Err(runnable) = Worker::queue_if_current(&remote, runnable) {
                remote.inject(runnable);
            }
        };
        let (runnable, task) = async_task::spawn_local(future, schedule);
        self.tasks.live.borrow_mut()[place] = Some(runnable.waker());
        self.tasks.queue(runnable);
        JoinHandle {
            task: Some(task.fallible()),
        }
    }

    /// Runs the tasks that can go on now; those that they wake run on the next turn.
    fn run_ready(&self) {
        self.remote
            .take_injected(|runnable| self.tasks.queue(runnable));
        let count = self.tasks.ready.borrow().len();
        for _ in 0..count {
            let Some(runnable) = self.tasks.ready.borrow_mut().pop_front() else {
                return;
            };
            // A panic ends its task (async-task drops the future), not the worker.
            if catch_unwind(AssertUnwindSafe(|| runnable.run())).is_err() {
                self.tasks.panics.set(self.tasks.panics.get() + 1);
            }
        }
    }

    fn has_ready(&self) -> bool {
        !self.tasks.ready.borrow().is_empty() || self.remote.has_injected()
    }

    /// Drops every task here and now, while the reactor is still there for their destructors.
    ///
    /// A task that another thread has just woken is on its way into the queue of injected ones, out
    /// of reach for the moment; left there, it would be dropped by that thread. So this goes on
    /// until there is no live task.
    fn drop_tasks(&self) {
        while self.tasks.live_count() > 0 {
            let wakers: Vec<Waker> = self
                .tasks
                .live
                .borrow_mut()
                .iter_mut()
                .filter_map(Option::take)
                .collect();
            wakers.into_iter().for_each(Waker::wake);
            self.remote
                .take_injected(|runnable| self.tasks.queue(runnable));
            loop {
                let runnable = self.tasks.ready.borrow_mut().pop_front();
                let Some(runnable) = runnable else { break };
                // A destructor that panics ends the process: async-task sees to that.
                drop(runnable);
            }
            if self.tasks.live_count() > 0 {
                std::thread::yield_now();
            }
        }
    }
}

/// A task's result, to be awaited. Dropping it lets the task go on by itself.
pub struct JoinHandle<T> {
    task: Option<FallibleTask<T>>,
}

/// The task panicked or was cancelled; there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinError;

impl fmt::Display for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the task panicked or was cancelled")
    }
}

impl std::error::Error for JoinError {}

impl<T> JoinHandle<T> {
    /// Ends the task: its future is dropped on its worker's next turn, at its last await.
    pub fn cancel(mut self) {
        drop(self.task.take());
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self
            .task
            .as_mut()
            .expect("only `cancel` and `drop` take it");
        Pin::new(task)
            .poll(context)
            .map(|result| result.ok_or(JoinError))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JoinHandle")
    }
}

/// One worker: a thread's executor, reactor and timers.
///
/// Made on the thread that runs it, and dropped there. Dropping it drops every task, calls back
/// what is in flight in the kernel, and only then frees its memory.
pub struct Runtime {
    worker: Rc<Worker>,
    choice: Option<DriverChoice>,
    woken: Vec<Waker>,
}

impl Runtime {
    /// A worker on the real kernel.
    ///
    /// # Errors
    /// When no driver can run here (see [`Runtime::driver`] for what was chosen).
    pub fn new(options: &ReactorOptions) -> io::Result<Runtime> {
        let (reactor, choice) = ReactorCell::new(options)?;
        let mut runtime = Runtime::on(reactor, Some(options));
        runtime.choice = Some(choice);
        Ok(runtime)
    }

    /// A worker of a simulated machine, for tests. Its time is the world's; step it by
    /// [`Runtime::turn`].
    pub fn simulated(world: &SimWorld, options: &ReactorOptions) -> Runtime {
        Runtime::on(ReactorCell::simulated(world, options), None)
    }

    fn on(reactor: ReactorCell, options: Option<&ReactorOptions>) -> Runtime {
        let now = reactor.enter(|reactor| reactor.now());
        let worker = Worker {
            now: Cell::new(now),
            timers: RefCell::new(Wheel::new(now)),
            remote: Remote::new(reactor.enter(|reactor| reactor.wake_handle())),
            reactor,
            tasks: Tasks::default(),
            transfers: Experience::default(),
            blocking: options.map(|options| options.blocking.clone()),
        };
        Runtime {
            worker: Rc::new(worker),
            choice: None,
            woken: Vec::new(),
        }
    }

    /// Which driver runs, and why; `None` in a simulation.
    pub fn driver(&self) -> Option<&DriverChoice> {
        self.choice.as_ref()
    }

    /// Where the worker's receive buffers are. Asks the kernel: not for each request.
    pub fn memory(&self) -> MemoryReport {
        self.worker.reactor.enter(|reactor| reactor.memory())
    }

    /// Makes this the current worker of the thread while the guard lives, so that tasks can be
    /// spawned and listeners bound outside of a task.
    pub fn enter(&self) -> Entered {
        Entered {
            _turn: self.worker.enter(),
        }
    }

    /// Starts a task on this worker.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let _turn = self.worker.enter();
        self.worker.spawn(future)
    }

    /// Runs the worker until `future` is done.
    ///
    /// # Errors
    /// When the driver fails. The future's own result is its output.
    ///
    /// # Panics
    /// When `future` does.
    pub fn block_on<F>(&mut self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let done = Rc::new(Cell::new(None));
        let result = Rc::clone(&done);
        let _handle = self.spawn(async move { result.set(Some(future.await)) });
        loop {
            self.turn(None)?;
            if let Some(output) = done.take() {
                return Ok(output);
            }
            // The task holds the other reference; a panic has dropped it.
            assert!(
                Rc::strong_count(&done) > 1,
                "the future given to block_on panicked"
            );
        }
    }

    /// One turn: takes completions (waiting for one until `limit` after the last turn, when no task
    /// can go on), then runs the tasks that they woke.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let _turn = self.worker.enter();
        let wait = self.time_to_wait(limit);
        let mut woken = std::mem::take(&mut self.woken);
        let (turned, now) = self
            .worker
            .reactor
            .enter(|reactor| (reactor.turn(wait, &mut woken), reactor.now()));
        self.worker.now.set(now);
        self.worker.timers.borrow_mut().expire(now, &mut woken);
        woken.drain(..).for_each(Waker::wake);
        self.woken = woken;
        self.worker.run_ready();
        turned
    }

    fn time_to_wait(&self, limit: Option<Duration>) -> Option<Duration> {
        if self.worker.has_ready() {
            return Some(Duration::ZERO);
        }
        let now = self.worker.now();
        let timer = self
            .next_expiry()
            .map(|at| at.saturating_duration_since(now));
        match (limit, timer) {
            (Some(limit), Some(timer)) => Some(limit.min(timer)),
            (limit, timer) => limit.or(timer),
        }
    }

    /// Whether a task can go on without anything happening first.
    pub fn has_ready(&self) -> bool {
        self.worker.has_ready()
    }

    /// When the next timer may be due, or a closed connection has lingered long enough.
    pub fn next_expiry(&self) -> Option<Instant> {
        let timer = self.worker.timers.borrow().next_expiry();
        let lingering = self.worker.reactor.enter(|reactor| reactor.lingers_until());
        [timer, lingering].into_iter().flatten().min()
    }

    /// Tasks that ended by a panic.
    pub fn panic_count(&self) -> u64 {
        self.worker.tasks.panics.get()
    }

    /// What happened in the reactor since the start.
    pub fn counters(&self) -> Counters {
        self.worker.reactor.enter(|reactor| reactor.counters())
    }

    /// What the reactor holds: open sockets, listeners and file requests.
    pub fn live_count(&self) -> usize {
        self.worker.reactor.enter(|reactor| reactor.live_count())
    }

    /// Receive buffers that are at home.
    pub fn free_buffer_count(&self) -> u16 {
        self.worker
            .reactor
            .enter(|reactor| reactor.free_buffer_count())
    }

    /// Timers that exist.
    pub fn timer_count(&self) -> usize {
        self.worker.timers.borrow().len()
    }
}

/// Made by [`Runtime::enter`].
pub struct Entered {
    _turn: Turn,
}

impl fmt::Debug for Entered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Entered")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _turn = self.worker.enter();
        self.worker.drop_tasks();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Runtime({:?})", self.worker.reactor)
    }
}

/// What happened in the current worker's reactor since its start.
///
/// # Panics
/// Outside of a runtime.
pub fn counters() -> Counters {
    let worker = Worker::current();
    worker.reactor.enter(|reactor| reactor.counters())
}

/// Starts a task on the current worker.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    Worker::current().spawn(future)
}

/// Lets the other tasks of the worker and its sockets have a turn: for a task that could go on
/// without ever waiting.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
