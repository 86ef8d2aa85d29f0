//! The only way into a reactor from outside of this crate: one call at a time, and no way out of a
//! call by a panic.

use super::{Reactor, ReactorOptions};
use crate::abort::AbortOnUnwind;
use crate::driver::probe::DriverChoice;
use crate::driver::sim::SimWorld;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::task::{Poll, Waker};

/// A reactor that a worker's tasks share. It belongs to the thread that made it.
///
/// No foreign code runs while it is entered: wakers are cloned before (see [`Waiter`]), and those
/// that aren't needed any more leave it to be dropped after.
pub struct ReactorCell {
    reactor: RefCell<Reactor>,
}

impl ReactorCell {
    /// Makes a reactor on the calling thread, and says which driver was chosen and why.
    ///
    /// # Errors
    /// When the driver that was asked for can't run here, or descriptors are lacking.
    pub fn new(options: &ReactorOptions) -> io::Result<(ReactorCell, DriverChoice)> {
        let (reactor, choice) = Reactor::new(options)?;
        Ok((ReactorCell::holding(reactor), choice))
    }

    /// A worker of a simulated machine, for tests.
    pub fn simulated(world: &SimWorld, options: &ReactorOptions) -> ReactorCell {
        ReactorCell::holding(Reactor::simulated(world, options))
    }

    fn holding(reactor: Reactor) -> ReactorCell {
        ReactorCell {
            reactor: RefCell::new(reactor),
        }
    }

    /// Calls `work` with the reactor.
    ///
    /// # Panics
    /// A panic inside of `work` ends the process, and so does entering a reactor within it.
    pub fn enter<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> T {
        let armed = AbortOnUnwind(self);
        let result = work(&mut self.reactor.borrow_mut());
        armed.disarm();
        result
    }

    /// Calls `poll` with the reactor, on behalf of the task that `waker` wakes: a second time when
    /// the waker has to be kept, with a clone that was made in between.
    ///
    /// # Panics
    /// As [`ReactorCell::enter`].
    pub fn poll<T>(
        &self,
        waker: &Waker,
        mut poll: impl FnMut(&mut Reactor, &mut Waiter<'_>) -> Poll<T>,
    ) -> Poll<T> {
        Waiter::offer(waker, |waiter| self.enter(|reactor| poll(reactor, waiter)))
    }
}

impl fmt::Debug for ReactorCell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reactor.try_borrow() {
            Ok(reactor) => reactor.fmt(out),
            Err(_) => out.write_str("Reactor(entered)"),
        }
    }
}

/// The waker of a task that may have to wait, on its way to a place behind a borrow.
///
/// Cloning a waker and dropping one runs its maker's code, which may come back to where the borrow
/// is. So the clone is made outside, and only when a first look has shown that it is needed; and
/// the waker that it displaces is dropped outside.
pub struct Waiter<'a> {
    waker: &'a Waker,
    clone: Option<Waker>,
    displaced: Option<Waker>,
    is_wanted: bool,
}

impl<'a> Waiter<'a> {
    /// Calls `attempt`, and once more when it wanted to [keep](Waiter::keep_in) the waker and there
    /// was no clone yet: whatever that changed, the second attempt looks at everything anew.
    pub fn offer<T>(waker: &'a Waker, mut attempt: impl FnMut(&mut Waiter<'a>) -> T) -> T {
        let mut waiter = Waiter {
            waker,
            clone: None,
            displaced: None,
            is_wanted: false,
        };
        let result = attempt(&mut waiter);
        if !waiter.is_wanted {
            return result;
        }
        waiter.clone = Some(waker.clone());
        attempt(&mut waiter)
    }

    /// Sees to it that `place` holds the waker; false when a clone has to be made first.
    #[must_use]
    pub fn keep_in(&mut self, place: &mut Option<Waker>) -> bool {
        if let Some(kept) = place
            && kept.will_wake(self.waker)
        {
            return true;
        }
        let Some(clone) = self.clone.take() else {
            self.is_wanted = true;
            return false;
        };
        self.displaced = place.replace(clone);
        true
    }
}

impl fmt::Debug for Waiter<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Waiter({:?})", self.waker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abort::check_aborts;
    use crate::{Directory, ListenOptions, ListenerKey, SimOptions, Symlinks};
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::task::{RawWaker, RawWakerVTable};

    fn cell() -> (Rc<ReactorCell>, ListenerKey) {
        let world = SimWorld::with_options(1, SimOptions::default());
        let cell = ReactorCell::simulated(&world, &ReactorOptions::default());
        let address = "127.0.0.1:80".parse().unwrap();
        let key = cell.enter(|reactor| reactor.listen(address, &ListenOptions::default()));
        (Rc::new(cell), key.unwrap())
    }

    #[test]
    fn a_panic_inside_ends_the_process_although_it_would_be_caught() {
        let test = "reactor::cell::tests::\
                    a_panic_inside_ends_the_process_although_it_would_be_caught";
        check_aborts(
            test,
            "a panic inside of Reactor(sim of seed 1, 1 live)",
            || {
                let (cell, _) = cell();
                let work = || cell.enter(|_| std::panic::resume_unwind(Box::new("injected")));
                let _ = catch_unwind(AssertUnwindSafe(work));
            },
        );
    }

    /// Unwinding out of its destructor would free what may still be in flight.
    #[test]
    fn a_panic_at_a_reactor_s_end_ends_the_process() {
        let test = "reactor::cell::tests::a_panic_at_a_reactor_s_end_ends_the_process";
        check_aborts(test, "a panic inside of Sim", || {
            let (cell, key) = cell();
            cell.enter(|reactor| {
                let fd = reactor.listeners.get(key.0).unwrap().fd;
                // The simulated kernel will panic at the second close.
                reactor.driver.close(fd);
            });
            let _ = catch_unwind(AssertUnwindSafe(|| drop(cell)));
        });
    }

    /// Its result is a count, which must not be taken for a descriptor.
    #[test]
    fn a_read_is_not_taken_for_an_open() {
        let world = SimWorld::with_options(1, SimOptions::calm());
        world.set_auto_advance(true);
        let cell = ReactorCell::simulated(&world, &ReactorOptions::default());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), [7; 1 << 20]).unwrap();
        let root = Directory::open(folder.path()).unwrap();
        let mut request = cell.enter(|reactor| {
            reactor
                .open_beneath(&root, b"file", Symlinks::Deny)
                .unwrap()
        });
        let poll = |request| loop {
            let polled = cell.poll(Waker::noop(), |reactor, waiter| {
                reactor.poll_open(request, waiter)
            });
            match polled {
                Poll::Ready(opened) => return opened,
                Poll::Pending => cell
                    .enter(|reactor| reactor.turn(None, &mut Vec::new()))
                    .unwrap(),
            }
        };
        let file = poll(request).unwrap();
        // Far from every number that is open here.
        request = cell.enter(|reactor| reactor.read_at(&file, 0, vec![0; 1 << 20]));
        assert_eq!(
            poll(request).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    /// What a waker of these tests points to: it enters the reactor whenever it is cloned or
    /// dropped.
    struct Meddler {
        cell: Rc<ReactorCell>,
        clones: Cell<u32>,
        drops: Cell<u32>,
    }

    impl Meddler {
        fn count(&self, counter: &Cell<u32>) {
            assert_eq!(self.cell.enter(|reactor| reactor.live_count()), 1);
            counter.set(counter.get() + 1);
        }

        fn waker(self: &Rc<Meddler>) -> Waker {
            let data = Rc::into_raw(Rc::clone(self)).cast();
            // SAFETY: the functions keep the count of `data`'s owners, as a waker's have to. They
            // may be called on this thread only, which these tests don't leave.
            unsafe { Waker::from_raw(RawWaker::new(data, &MEDDLING)) }
        }
    }

    const MEDDLING: RawWakerVTable = RawWakerVTable::new(clone, drop_waker, |_| (), drop_waker);

    fn clone(data: *const ()) -> RawWaker {
        // SAFETY: `data` is of `Rc::into_raw`, and the waker that is cloned owns a count of it.
        let meddler = unsafe { &*data.cast::<Meddler>() };
        meddler.count(&meddler.clones);
        // SAFETY: the same; this count is the clone's.
        unsafe { Rc::increment_strong_count(data.cast::<Meddler>()) };
        RawWaker::new(data, &MEDDLING)
    }

    fn drop_waker(data: *const ()) {
        // SAFETY: `data` is of `Rc::into_raw`, and the waker that is dropped owns a count of it.
        let meddler = unsafe { Rc::from_raw(data.cast::<Meddler>()) };
        meddler.count(&meddler.drops);
    }

    /// Rule 5: no foreign code runs while the reactor is entered.
    #[test]
    fn wakers_are_cloned_and_dropped_outside() {
        let (cell, key) = cell();
        let meddler = || {
            Rc::new(Meddler {
                cell: Rc::clone(&cell),
                clones: Cell::new(0),
                drops: Cell::new(0),
            })
        };
        let (first, second) = (meddler(), meddler());
        let wait = |waker: &Waker| {
            let polled = cell.poll(waker, |reactor, waiter| reactor.poll_accept(key, waiter));
            assert!(polled.is_pending());
        };
        let waker = first.waker();
        wait(&waker);
        wait(&waker);
        assert_eq!((first.clones.get(), first.drops.get()), (1, 0), "kept once");
        wait(&second.waker());
        assert_eq!((first.clones.get(), first.drops.get()), (1, 1), "displaced");
        assert_eq!((second.clones.get(), second.drops.get()), (1, 1));
    }
}
