//! The end of a reactor: cancel, drain, then free; never free while something is in flight.

use super::{ListenerKey, Reactor, RequestKey, SocketKey};
use crate::abort::AbortOnUnwind;
use std::time::Duration;

/// How long a reactor that is dropped waits for the kernel to let go of its memory.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a peer may then take to acknowledge what it was sent without a copy: a way there and back
/// to anywhere. Whoever was to have longer was given that before; a peer that reads nothing would take
/// all there is, and hold up the end of a process whose time is up.
const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_millis(300);

impl Reactor {
    /// Closes everything and takes completions until nothing is in flight, at most for
    /// `patience`. Returns whether all came back.
    fn drain(&mut self, patience: Duration) -> bool {
        for key in self.sockets.keys() {
            self.close(SocketKey(key), false);
        }
        for key in self.listeners.keys() {
            self.close_listener(ListenerKey(key));
        }
        for key in self.requests.keys() {
            self.abandon_request(RequestKey(key));
        }
        let mut woken = Vec::new();
        // The last turn may be long ago, and drivers look at the clock only in turns: patience
        // begins with this one.
        if self.turn(Some(Duration::ZERO), &mut woken).is_err() {
            return false;
        }
        let deadline = self.now + patience;
        self.hasten_lingering(self.now + patience.min(ACKNOWLEDGEMENT_PATIENCE));
        while self.live_count() > 0 {
            // The tasks of these wakers are gone already; there is nothing left to wake.
            self.woken.clear();
            let left = deadline.saturating_duration_since(self.now);
            if left.is_zero() || self.turn(Some(left), &mut woken).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Reactor {
    /// Drains. What is still in flight after some seconds (a hung disk) keeps its memory for ever:
    /// slots and buffers are leaked, because the kernel may still write to them.
    fn drop(&mut self) {
        let kind = self.kind();
        let armed = AbortOnUnwind(&kind);
        if !self.drain(DRAIN_PATIENCE) {
            std::mem::forget(std::mem::take(&mut self.sockets));
            std::mem::forget(std::mem::take(&mut self.listeners));
            std::mem::forget(std::mem::take(&mut self.requests));
            std::mem::forget(std::rc::Rc::clone(&self.buffers));
            self.leak_transfers();
        }
        self.close_pipes();
        armed.disarm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::sim::SimWorld;
    use crate::outgoing::{Chunk, Outgoing};
    use crate::{
        Directory, ListenOptions, ReactorCell, ReactorOptions, SimOptions, SocketOptions, Symlinks,
    };
    use std::path::Path;
    use std::rc::{Rc, Weak};
    use std::task::{Poll, Waker};

    const HOUR: Duration = Duration::from_secs(3600);

    /// A worker with an operation of each kind in flight, and what tells whether their memory lives.
    struct Busy {
        cell: ReactorCell,
        world: SimWorld,
        folder: tempfile::TempDir,
        buffers: Weak<crate::buffers::BufferPool>,
        sent: Rc<[u8]>,
    }

    impl Busy {
        /// `late`: nothing that begins from now on is answered within the hour.
        fn new(late: bool) -> Busy {
            let world = SimWorld::with_options(1, SimOptions::calm());
            world.set_auto_advance(true);
            let cell = ReactorCell::simulated(&world, &ReactorOptions::default());
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("file"), [7; 100]).unwrap();
            let root = Directory::open(folder.path()).unwrap();
            let (file, _) = root.open_waiting(b"file", Symlinks::Deny).unwrap();
            let (server, client) = pair(&cell);
            if late {
                world.set_options(SimOptions {
                    late: 1.0,
                    late_by: HOUR..=HOUR,
                    send_at_once: 0.0,
                    ..SimOptions::calm()
                });
            }
            let sent: Rc<[u8]> = vec![1; 1000].into();
            let buffers = cell.enter(|reactor| {
                reactor.submit(client, &mut Some(Outgoing::from(Chunk::shared(&sent))))?;
                reactor.read_at(&file, 0, vec![0; 100]);
                reactor.open_beneath(&root, b"file", Symlinks::Deny)?;
                Ok::<_, std::io::Error>(Rc::downgrade(&reactor.buffers))
            });
            let receive = cell.poll(Waker::noop(), |reactor, waiter| {
                reactor.poll_receive(server, waiter)
            });
            assert!(receive.is_pending());
            Busy {
                cell,
                world,
                folder,
                buffers: buffers.unwrap(),
                sent,
            }
        }

        /// Ends the worker: how long that took by its own clock, and whether the memory of the send,
        /// of the read and of the receive is still there.
        fn end(self) -> (Duration, [bool; 3]) {
            let began = self.world.now();
            drop(self.cell);
            let kept = [
                Rc::strong_count(&self.sent) == 2,
                is_open(&self.folder.path().join("file")),
                self.buffers.strong_count() > 0,
            ];
            (self.world.now() - began, kept)
        }
    }

    /// Both ends of a connection of this worker with itself.
    fn pair(cell: &ReactorCell) -> (SocketKey, SocketKey) {
        let address = "127.0.0.1:80".parse().unwrap();
        let (listener, client) = cell.enter(|reactor| {
            let listener = reactor.listen(address, &ListenOptions::default()).unwrap();
            let options = SocketOptions::default();
            let client = reactor.connect(&address.into(), &options).unwrap();
            (listener, client)
        });
        loop {
            let accepted = cell.poll(Waker::noop(), |reactor, waiter| {
                reactor.poll_accept(listener, waiter)
            });
            if let Poll::Ready(server) = accepted {
                return (server.unwrap(), client);
            }
            cell.enter(|reactor| reactor.turn(None, &mut Vec::new()))
                .unwrap();
        }
    }

    /// Whether this process has the file open: a request that is kept keeps its descriptor.
    fn is_open(path: &Path) -> bool {
        std::fs::read_dir("/proc/self/fd").unwrap().any(|entry| {
            let target = std::fs::read_link(entry.unwrap().path());
            target.is_ok_and(|target| target == path)
        })
    }

    #[test]
    fn what_comes_back_in_time_is_freed() {
        let (took, kept) = Busy::new(false).end();
        assert!(took < DRAIN_PATIENCE, "{took:?}");
        assert_eq!(kept, [false; 3]);
    }

    /// Rule 6: a disk that hangs, and a network that does.
    #[test]
    fn what_is_in_flight_past_the_deadline_is_leaked() {
        let (took, kept) = Busy::new(true).end();
        assert!((DRAIN_PATIENCE..HOUR).contains(&took), "{took:?}");
        assert_eq!(kept, [true; 3]);
    }

    /// A peer that reads nothing acknowledges nothing, and there is no time to wait for that.
    #[test]
    fn what_nobody_acknowledges_does_not_hold_up_the_end() {
        let world = SimWorld::with_options(1, SimOptions::calm());
        world.set_auto_advance(true);
        let cell = ReactorCell::simulated(&world, &ReactorOptions::default());
        let (_, client) = pair(&cell);
        world.set_options(SimOptions {
            withheld_notice: 1.0,
            ..SimOptions::calm()
        });
        let sent: Rc<[u8]> = vec![1; 1000].into();
        cell.enter(|reactor| reactor.send_noticed(client, Chunk::shared(&sent)))
            .unwrap();
        let began = world.now();
        drop(cell);
        let took = world.now() - began;
        let expected = ACKNOWLEDGEMENT_PATIENCE..2 * ACKNOWLEDGEMENT_PATIENCE;
        assert!(expected.contains(&took), "{took:?}");
        assert_eq!(Rc::strong_count(&sent), 1, "broken off, not leaked");
    }
}
