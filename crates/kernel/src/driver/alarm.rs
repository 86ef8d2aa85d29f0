//! One timer descriptor for each worker, set only when the next deadline comes nearer.
//!
//! A timeout on every wait costs two to four hundred instructions of kernel timer work a turn. The
//! deadlines of a server are mostly far away and mostly moved before they are reached, so one
//! alarm that now and then rings too early is cheaper.

use crate::errno::named;
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
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)
                .map_err(named("timerfd_create"))?,
            rings: None,
        })
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Makes sure that it rings by `deadline`.
    pub(crate) fn ring_by(&mut self, deadline: Instant) -> io::Result<()> {
        if self.rings.is_some_and(|rings| rings <= deadline) {
            return Ok(());
        }
        // From this moment, not from the turn's: that may have taken a while. Zero would stop the
        // timer instead.
        let wait = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
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
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(named("timerfd_settime"))?;
        self.rings = Some(deadline);
        Ok(())
    }

    /// It has rung.
    pub(crate) fn rang(&mut self) {
        self.rings = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    /// Waits until it rings; false when that takes longer than any test may.
    fn rings(alarm: &Alarm) -> bool {
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        let mut polled = [PollFd::from_borrowed_fd(alarm.descriptor(), PollFlags::IN)];
        poll(&mut polled, Some(&patience)).unwrap() == 1
    }

    #[test]
    fn it_never_rings_early() {
        let mut alarm = Alarm::new().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        alarm.ring_by(deadline).unwrap();
        assert!(rings(&alarm));
        assert!(Instant::now() >= deadline);
    }

    /// It used to be set for the whole wait anew, however long ago the turn had begun.
    #[test]
    fn it_rings_at_once_when_its_time_has_come_meanwhile() {
        let mut alarm = Alarm::new().unwrap();
        let turn_began = Instant::now() - Duration::from_secs(3600);
        alarm
            .ring_by(turn_began + Duration::from_secs(3600))
            .unwrap();
        assert!(rings(&alarm));
    }
}
