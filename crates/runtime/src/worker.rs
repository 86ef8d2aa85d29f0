//! What one worker's tasks share: its reactor, its timers, its queue of tasks that can go on.

use crate::executor::Tasks;
use crate::timer::Wheel;
use crate::transfer::Experience;
use async_task::Runnable;
use crossbeam_queue::SegQueue;
use ringway_kernel::{BlockingPool, ReactorCell, WakeHandle};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

thread_local! {
    /// The worker whose turn it is on this thread.
    static CURRENT: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
}

pub(crate) struct Worker {
    pub(crate) reactor: ReactorCell,
    /// The reactor's, which changes with each turn: kept here because every request asks for it
    /// several times.
    pub(crate) now: Cell<Instant>,
    pub(crate) timers: RefCell<Wheel>,
    pub(crate) tasks: Tasks,
    pub(crate) transfers: Experience,
    pub(crate) remote: Arc<Remote>,
    /// `None` in a simulation, where blocking work is done in place.
    pub(crate) blocking: Option<BlockingPool>,
}

/// What other threads see of a worker.
pub(crate) struct Remote {
    /// Tasks that were woken on another thread.
    injected: SegQueue<Runnable>,
    has_injected: AtomicBool,
    wake: WakeHandle,
}

impl Remote {
    pub(crate) fn new(wake: WakeHandle) -> Arc<Remote> {
        Arc::new(Remote {
            injected: SegQueue::new(),
            has_injected: AtomicBool::new(false),
            wake,
        })
    }

    pub(crate) fn inject(&self, runnable: Runnable) {
        self.injected.push(runnable);
        self.has_injected.store(true, Ordering::Release);
        self.wake.wake();
    }

    pub(crate) fn has_injected(&self) -> bool {
        self.has_injected.load(Ordering::Acquire)
    }

    /// Takes what was injected so far.
    pub(crate) fn take_injected(&self, mut take: impl FnMut(Runnable)) {
        if !self.has_injected() {
            return;
        }
        // Before the queue is emptied: what is pushed from here on sets it again.
        self.has_injected.swap(false, Ordering::AcqRel);
        while let Some(runnable) = self.injected.pop() {
            take(runnable);
        }
    }
}

impl Worker {
    /// The worker whose turn it is.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn current() -> Rc<Worker> {
        Worker::try_current().expect("this needs a Ringway runtime: call it inside of block_on")
    }

    pub(crate) fn try_current() -> Option<Rc<Worker>> {
        CURRENT.with_borrow(Option::clone)
    }

    /// Whether it is the turn of the worker that `remote` belongs to; and if so, queues `runnable`.
    pub(crate) fn queue_if_current(
        remote: &Arc<Remote>,
        runnable: Runnable,
    ) -> Result<(), Runnable> {
        let mut runnable = Some(runnable);
        // Not accessible while the thread's locals are destroyed: then it is not our turn.
        let _ = CURRENT.try_with(|current| {
            if let Some(worker) = &*current.borrow()
                && Arc::ptr_eq(&worker.remote, remote)
                && let Some(runnable) = runnable.take()
            {
                worker.tasks.queue(runnable);
            }
        });
        runnable.map_or(Ok(()), Err)
    }

    /// The time at which its present turn began.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Makes it this worker's turn until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Worker>) -> Turn {
        Turn {
            previous: CURRENT.replace(Some(Rc::clone(self))),
        }
    }
}

/// It is a worker's turn while this lives; then the previous one's again.
pub(crate) struct Turn {
    previous: Option<Rc<Worker>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The worker that is replaced is dropped outside of the borrow: that may run destructors.
        drop(CURRENT.replace(self.previous.take()));
    }
}
