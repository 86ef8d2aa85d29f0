//! One timer descriptor for each worker, set only when the next deadline comes nearer.
//!
//! A timeout on every wait costs two to four hundred instructions of kernel timer work a turn. The
//! deadlines of a server are mostly far away and mostly moved before they are reached, so one
//! alarm that now and then rings too early is cheaper.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it will ring; `None`: it isn't set.
    rings: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Alarm {
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            rings: None,
        })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Makes sure that it rings no later than `wait` after `now`.
    pub(crate) fn ring_within(&mut self, wait: Duration, now: Instant) -> io::Result<()> {
        let deadline = now + wait;
        if self.rings.is_some_and(|rings| rings <= deadline) {
            return Ok(());
        }
        // Zero would stop the timer instead.
        let wait = wait.max(Duration::from_nanos(1));
        let value = Timespec {
            tv_sec: wait.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.rings = Some(deadline);
        Ok(())
    }

    /// It has rung.
    pub(crate) fn rang(&mut self) {
        self.rings = None;
    }
}
