//! What a worker is still to be told: its mailbox has little room, and none of this may get lost.
//!
//! Only that something has changed is kept, not each of its changes: what is posted is how things
//! are by then. The thread that supervises offers it again and again, and never waits for a worker.

use crate::proxy::SharedUpstream;
use crate::worker::Order;
use ringway_runtime::{Directory, Sender};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a mailbox that was full is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(2);

/// How long a worker may take to read its mail until that is worth a line of the log.
const PATIENCE: Duration = Duration::from_secs(1);

/// What of the whole server one worker doesn't know yet.
#[derive(Default)]
pub(super) struct Untold {
    /// Roots that are another directory now, by their indices.
    roots: BTreeSet<usize>,
    /// Upstreams that have other servers now.
    upstreams: BTreeSet<usize>,
    /// That it is to end, and within which time.
    end: Option<Duration>,
    /// Since when its mailbox is full.
    since: Option<Instant>,
    is_complained_of: bool,
}

impl Untold {
    pub(super) fn add_root(&mut self, index: usize) {
        self.roots.insert(index);
    }

    pub(super) fn add_upstream(&mut self, index: usize) {
        self.upstreams.insert(index);
    }

    /// From now on nothing else matters to it.
    pub(super) fn set_end(&mut self, patience: Duration) {
        self.end = Some(patience);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.upstreams.is_empty() && self.end.is_none()
    }

    /// Posts what there is room for; whether it is the moment to say that the worker doesn't read.
    pub(super) fn post(
        &mut self,
        orders: &Sender<Order>,
        directories: &[Directory],
        upstreams: &[Arc<SharedUpstream>],
        now: Instant,
    ) -> bool {
        if let Some(patience) = self.end {
            if orders.send(Order::Drain(patience)).is_err() {
                return self.is_overdue(now);
            }
            *self = Untold::default();
            return false;
        }
        while let Some(index) = self.roots.first().copied() {
            let order = Order::Replace(index, directories[index].clone());
            if orders.send(order).is_err() {
                return self.is_overdue(now);
            }
            self.roots.remove(&index);
            self.since = None;
        }
        while let Some(index) = self.upstreams.first().copied() {
            let order = Order::Servers(index, Arc::clone(&upstreams[index]));
            if orders.send(order).is_err() {
                return self.is_overdue(now);
            }
            self.upstreams.remove(&index);
            self.since = None;
        }
        *self = Untold::default();
        false
    }

    /// Once for each time that it is stuck.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let is_late = now >= since + PATIENCE;
        is_late && !std::mem::replace(&mut self.is_complained_of, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_runtime::{Receiver, mailbox};
    use std::task::{Context, Poll, Waker};

    fn open(folder: &tempfile::TempDir) -> Directory {
        Directory::open(folder.path()).unwrap()
    }

    /// The next order, which has to be of a root: which one, and which directory.
    fn read(mail: &mut Receiver<Order>) -> Option<(usize, (u64, u64))> {
        match mail.poll_receive(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Order::Replace(root, directory))) => {
                Some((root, directory.identity().unwrap()))
            }
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_a_full_mailbox_does_not_take_is_posted_later_and_as_it_is_then() {
        let folders: Vec<_> = (0..9).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut directories: Vec<_> = folders.iter().take(8).map(open).collect();
        let now = Instant::now();
        let (orders, mut mail) = mailbox(4);
        let mut untold = Untold::default();
        (0..8).for_each(|root| untold.add_root(root));
        assert!(!untold.post(&orders, &directories, &[], now) && !untold.is_empty());
        let told: Vec<_> = (0..4).map(|_| read(&mut mail).unwrap().0).collect();
        assert_eq!((told, read(&mut mail)), (vec![0, 1, 2, 3], None));
        // Another one meanwhile: the one in between is nobody's business any more.
        directories[7] = open(&folders[8]);
        untold.add_root(7);
        assert!(!untold.post(&orders, &directories, &[], now) && untold.is_empty());
        let told: Vec<_> = (0..4).map(|_| read(&mut mail).unwrap()).collect();
        assert_eq!(told[3], (7, directories[7].identity().unwrap()));
        assert_eq!((told[0].0, read(&mut mail)), (4, None));
    }

    #[test]
    fn the_end_waits_for_room_in_a_full_mailbox_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [open(&folder), open(&folder), open(&folder)];
        let now = Instant::now();
        let (orders, mut mail) = mailbox(2);
        let mut untold = Untold::default();
        (0..3).for_each(|root| untold.add_root(root));
        assert!(!untold.post(&orders, &directories, &[], now));
        untold.set_end(Duration::from_secs(9));
        // Neither waited for nor lost, however often it is offered.
        for _ in 0..3 {
            assert!(!untold.post(&orders, &directories, &[], now) && !untold.is_empty());
        }
        assert_eq!(read(&mut mail).unwrap().0, 0);
        assert!(!untold.post(&orders, &directories, &[], now) && untold.is_empty());
        assert!(!untold.post(&orders, &directories, &[], now));
        assert_eq!(read(&mut mail).unwrap().0, 1);
        // The third root is nobody's business any more.
        let mut context = Context::from_waker(Waker::noop());
        match mail.poll_receive(&mut context) {
            Poll::Ready(Some(Order::Drain(patience))) => {
                assert_eq!(patience, Duration::from_secs(9));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&mut mail), None);
    }

    #[test]
    fn a_worker_that_does_not_read_is_complained_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [open(&folder), open(&folder)];
        let (orders, mut mail) = mailbox(1);
        let mut untold = Untold::default();
        (0..2).for_each(|root| untold.add_root(root));
        let start = Instant::now();
        let mut post = |after| untold.post(&orders, &directories, &[], start + after);
        assert!(!post(Duration::ZERO) && !post(PATIENCE - AGAIN));
        assert!(post(PATIENCE) && !post(2 * PATIENCE));
        assert_eq!(read(&mut mail).unwrap().0, 0);
        assert!(!post(3 * PATIENCE));
        assert_eq!(read(&mut mail).unwrap().0, 1);
    }
}
