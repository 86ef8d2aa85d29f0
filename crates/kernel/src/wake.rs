//! Waking a worker that waits in its driver, from any thread.

use crate::errno::named;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a worker's wait; cheap to clone, and harmless when the worker is gone.
#[derive(Clone, Debug)]
pub struct WakeHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Set by the first waker, cleared by the worker: the later ones save their system call.
    pending: AtomicBool,
    /// `None` in the simulator, which looks at `pending` alone.
    event: Option<OwnedFd>,
}

impl WakeHandle {
    /// With an eventfd, for a driver that waits in the kernel.
    pub(crate) fn with_event() -> io::Result<WakeHandle> {
        let event =
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(named("eventfd"))?;
        Ok(WakeHandle {
            shared: Arc::new(Shared {
                pending: AtomicBool::new(false),
                event: Some(event),
            }),
        })
    }

    /// Without a descriptor, for the simulator.
    pub(crate) fn simulated() -> WakeHandle {
        WakeHandle {
            shared: Arc::new(Shared {
                pending: AtomicBool::new(false),
                event: None,
            }),
        }
    }

    /// Makes the worker's present or next wait return.
    pub fn wake(&self) {
        if self.shared.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(event) = &self.shared.event {
            // It can only fail when the counter is full, and then the worker wakes anyway.
            let _ = rustix::io::write(event, &1u64.to_ne_bytes());
        }
    }

    /// Whether somebody asked for a wake-up since the last [`WakeHandle::clear`].
    pub(crate) fn is_pending(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// The worker is awake and about to look at everything it can be woken for.
    pub(crate) fn clear(&self) {
        if let Some(event) = &self.shared.event {
            let _ = rustix::io::read(event, &mut [0u8; 8]);
        }
        // A swap, not a store: it reads what a late waker's swap wrote, so whatever that waker did
        // before is visible from here on.
        self.shared.pending.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.shared.event.as_ref().map(AsFd::as_fd)
    }
}
