//! The only way into a reactor from outside of this crate: one call at a time, and no way out of a
//! call by a panic.

use super::{ListenerKey, Reactor, ReactorOptions, RequestKey, SocketKey};
use crate::abort::AbortOnUnwind;
use crate::driver::probe::DriverChoice;
use crate::driver::sim::SimWorld;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::ptr;
use std::task::{Poll, RawWakerVTable, Waker};

/// A reactor that a worker's tasks share. It belongs to the thread that made it.
///
/// No foreign code runs while it is entered: a waker is cloned before it gets in, and what it
/// displaces gets out to be dropped.
pub struct ReactorCell {
    reactor: UnsafeCell<Reactor>,
    is_entered: Cell<bool>,
    own_waker: Cell<WakerId>,
}

/// What tells one waker from another; compared, never followed.
type WakerId = (*const (), *const RawWakerVTable);

fn id_of(waker: &Waker) -> WakerId {
    (waker.data(), waker.vtable())
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
            reactor: UnsafeCell::new(reactor),
            is_entered: Cell::new(false),
            own_waker: Cell::new((ptr::null(), ptr::null())),
        }
    }

    /// Calls `work` with the reactor.
    ///
    /// # Panics
    /// When it is entered already. A panic inside of `work`, that one too, ends the process.
    #[inline]
    pub fn enter<T>(&self, work: impl FnOnce(&mut Reactor) -> T) -> T {
        assert!(
            !self.is_entered.replace(true),
            "a reactor is entered a second time"
        );
        let armed = AbortOnUnwind(self);
        let entered = Entered(&self.is_entered);
        // SAFETY: this is the only place that makes a reference, it ends with the call, and
        // `is_entered` keeps a second call out until then. No other thread has the cell: it isn't
        // `Sync`.
        let result = work(unsafe { &mut *self.reactor.get() });
        drop(entered);
        armed.disarm();
        result
    }

    /// Says which waker is the executor's own, of the task that runs now: cloning it does not enter
    /// the reactor.
    #[inline]
    pub fn note_own_waker(&self, waker: &Waker) {
        self.own_waker.set(id_of(waker));
    }

    /// Calls `poll` with the reactor, on behalf of the task that `waker` wakes, and sees to it that
    /// a clone of the waker is kept where `poll` had to leave the task waiting.
    ///
    /// Cloning a waker and dropping one runs its maker's code, which may come back here: so both
    /// are done outside, afterwards, unless the waker is the executor's own and displaces none. What
    /// that code can't do is take the reactor's next turn, so no answer comes before the waker is in
    /// its place.
    ///
    /// # Panics
    /// As [`ReactorCell::enter`].
    #[inline]
    pub fn poll<T>(
        &self,
        waker: &Waker,
        poll: impl FnOnce(&mut Reactor, &mut Waiter<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut waiter = Waiter {
            waker,
            own_waker: self.own_waker.get(),
            place: None,
        };
        match self.enter(|reactor| poll(reactor, &mut waiter)) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => {
                if let Some(place) = waiter.place {
                    self.keep_waker(place, waker);
                }
                Poll::Pending
            }
        }
    }

    #[cold]
    fn keep_waker(&self, place: Place, waker: &Waker) {
        let clone = waker.clone();
        let displaced = self.enter(|reactor| reactor.replace_waker(place, clone));
        drop(displaced);
    }
}

/// Within a call; over when it is dropped.
struct Entered<'a>(&'a Cell<bool>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl fmt::Debug for ReactorCell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_entered.get() {
            return out.write_str("Reactor(entered)");
        }
        self.enter(|reactor| reactor.fmt(out))
    }
}

/// The task that polls, and where its waker is missing.
#[derive(Debug)]
pub struct Waiter<'a> {
    waker: &'a Waker,
    own_waker: WakerId,
    place: Option<Place>,
}

/// Where a reactor keeps wakers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Reader(SocketKey),
    Writer(SocketKey),
    Listener(ListenerKey),
    Request(RequestKey),
    /// In line for a block, by its ticket.
    BlockLine(u64),
}

impl Waiter<'_> {
    /// Leaves the task waiting at `place`, which is `kept`.
    #[inline]
    pub(super) fn wait_at(&mut self, place: Place, kept: &mut Option<Waker>) {
        match kept {
            Some(kept) if kept.will_wake(self.waker) => {}
            None if id_of(self.waker) == self.own_waker => *kept = Some(self.waker.clone()),
            _ => self.place = Some(place),
        }
    }
}

impl Reactor {
    /// Keeps a waker, and returns the one that was there, or this one when the place is gone.
    fn replace_waker(&mut self, place: Place, waker: Waker) -> Option<Waker> {
        let place = match place {
            Place::Reader(key) => self.sockets.get_mut(key.0).map(|it| &mut it.reader),
            Place::Writer(key) => self.sockets.get_mut(key.0).map(|it| &mut it.writer),
            Place::Listener(key) => self.listeners.get_mut(key.0).map(|it| &mut it.waker),
            Place::Request(key) => self.requests.get_mut(key.0).map(|it| &mut it.waker),
            Place::BlockLine(ticket) => self.block_waker(ticket),
        };
        match place {
            Some(place) => place.replace(waker),
            None => Some(waker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abort::check_aborts;
    use crate::{Directory, ListenOptions, SimOptions, Symlinks};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::task::RawWaker;

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
