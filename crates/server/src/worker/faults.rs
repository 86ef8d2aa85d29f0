//! Faults on request, for tests of what happens then. Release builds have none.

use super::Ending;
use std::cell::Cell;
use std::io;
use std::task::Waker;

/// Which faults can be asked for, and the one that was.
#[derive(Default)]
pub(super) struct Faults {
    /// A request for it panics; one for `worker` below it makes the whole worker panic, one for
    /// `failure` makes it fail.
    path: Option<String>,
    /// What the worker is to end with.
    ending: Cell<Option<Ending>>,
    waker: Cell<Option<Waker>>,
}

impl Faults {
    pub(super) fn at(path: Option<String>) -> Faults {
        Faults {
            path,
            ..Faults::default()
        }
    }

    pub(super) fn inject(&self, target: &[u8]) {
        let Some(path) = &self.path else { return };
        let ending = match target.strip_prefix(path.as_bytes()) {
            Some(b"") => panic!("injected by --inject-panic"),
            Some(b"/worker") => Ending::Panicked,
            Some(b"/failure") => Ending::Failed(io::Error::other("injected by --inject-panic")),
            _ => return,
        };
        self.ending.set(Some(ending));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The failure that was asked for; else wakes `waker` when one is.
    pub(super) fn take(&self, waker: &Waker) -> Option<io::Error> {
        self.waker.set(Some(waker.clone()));
        match self.ending.take()? {
            Ending::Failed(error) => Some(error),
            _ => panic!("the worker's panic, injected by --inject-panic"),
        }
    }
}
