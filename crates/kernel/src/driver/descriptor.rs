//! Descriptors as the reactor and its drivers hand them to each other.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// An open socket or listener: of the real kernel, or of the simulated one.
///
/// There is one of these for each, in the slot of whoever owns it. Operations name it by reference
/// and a driver closes it by value, so nothing new can name what is closed. What is still in flight
/// then is the reactor's to prevent. Dropping it closes nothing.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Copy))] // The simulator's tests break the rule, to see it found out.
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    /// Takes a number over from a completion or from a simulated table.
    ///
    /// # Safety
    /// The number is open, and nobody else will close it. Or it is one that the real kernel never
    /// gives out, and goes to the simulator alone.
    pub(crate) unsafe fn from_raw(number: RawFd) -> Descriptor {
        Descriptor(number)
    }

    /// Its number, to name it by.
    pub(crate) fn number(&self) -> RawFd {
        self.0
    }

    /// Closes a descriptor of the real kernel.
    pub(crate) fn close(self) {
        // SAFETY: it was open and this was its owner, as `from_raw` and `from` demand.
        drop(unsafe { OwnedFd::from_raw_fd(self.0) });
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(descriptor: OwnedFd) -> Descriptor {
        Descriptor(descriptor.into_raw_fd())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open for as long as this exists, since closing takes it away. (For one of
        // the simulator's every real call is refused: nothing has that number.)
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}
