//! The guard of what nobody confirmed yet: a process of its own that undoes it when the time for
//! that is over.
//!
//! It outlives the terminal that it was started from, and whose link may have been cut. A hangup is
//! no answer of the operator's, who may be finding the way back over a link that only flapped, and
//! has all of the time that was asked for. Who asks it to end, at a shutdown or when a login's
//! processes are cleared away, makes it undo at once: it would not be there later.
//!
//! Starting the process is the command line's; what it undoes is decided by
//! [`undo`](crate::undo::revert_unconfirmed).

use crate::journal::Folder;
use crate::machine::Machine;
use crate::undo::{self, Reverted};
use ringway_kernel::process::{Signal, Signals};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A process that is ready to wait.
#[derive(Debug)]
pub struct Guard {
    is_asked_to_end: Receiver<()>,
}

impl Guard {
    /// Takes over the signals that would end this process. To be called before it starts a thread.
    ///
    /// # Errors
    /// As `pthread_sigmask(3)` and `pthread_create(3)`.
    pub fn begin() -> io::Result<Guard> {
        let signals = Signals::block()?;
        let (ask, is_asked_to_end) = channel();
        let listen = move || {
            while signals.wait() != Signal::Terminate {}
            let _undoing_already = ask.send(());
        };
        let thread = std::thread::Builder::new().name("ringway-signals".to_owned());
        thread.spawn(listen)?;
        Ok(Guard { is_asked_to_end })
    }

    /// Waits until the time is over, or until it is asked to end; and then undoes what is in the care
    /// of a guard of this name and was not confirmed.
    ///
    /// # Errors
    /// As [`undo::revert`].
    pub fn keep(
        self,
        machine: &dyn Machine,
        journals: &Path,
        name: &str,
        time: Duration,
    ) -> Result<Vec<Reverted>, String> {
        let _over_or_asked = self.is_asked_to_end.recv_timeout(time);
        if !journals.exists() {
            return Ok(Vec::new());
        }
        // Whoever holds the folder is confirming, or changing still.
        let folder = Folder::wait_for(journals)?;
        undo::revert_unconfirmed(machine, &folder, name)
    }
}
