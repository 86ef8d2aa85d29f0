//! Connections that go from one worker to another: let go of by one reactor, taken up by the next.
//!
//! Only a connection at rest can go: nothing of it in flight, nothing received and not taken. What
//! its peer sends on the way waits in the kernel.

use super::sockets::{Socket, closed};
use super::{Reactor, SocketKey};
use crate::driver::{Descriptor, Lane, Strays};
use std::fmt;
use std::io;

/// A connection that belongs to no worker at the moment, and may go to any thread. Dropping it
/// closes it.
pub struct DetachedSocket {
    /// There until it is dropped or adopted.
    fd: Option<Descriptor>,
    /// Where it is closed if it is the simulator's.
    strays: Option<Strays>,
    sent_total: u64,
}

impl Drop for DetachedSocket {
    fn drop(&mut self) {
        let Some(fd) = self.fd.take() else { return };
        match &self.strays {
            None => fd.close(),
            Some(strays) => {
                if let Ok(mut strays) = strays.lock() {
                    strays.push(fd.number());
                }
            }
        }
    }
}

impl fmt::Debug for DetachedSocket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DetachedSocket({:?})", self.fd)
    }
}

impl Socket {
    /// Whether nothing would be lost if another reactor had it.
    fn is_at_rest(&self) -> bool {
        self.in_flight.is_empty()
            && self.backlog_len() == 0
            && !self.is_parked
            && !self.ends_after_send
            && !self.resets_on_close
            && self.transfer.as_ref().is_none_or(|it| it.is_portable())
    }

    fn has_ended(&self) -> bool {
        self.is_at_end || self.is_closing || self.receive_error != 0 || self.send_error != 0
    }
}

impl Reactor {
    /// Whether the peer has neither sent anything that nobody took nor ended the connection, as far
    /// as is known here: for a connection that was idle and is to be used again.
    pub fn is_quiet(&mut self, key: SocketKey) -> bool {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return false;
        };
        if socket.has_ended() || socket.backlog_len() > 0 {
            return false;
        }
        // A receive in flight would have told.
        socket.in_flight.contains(Lane::Receive) || self.driver.is_silent(&socket.fd)
    }

    /// Lets go of a connection at rest; its key is stale from then on. First call
    /// [`Reactor::poll_stop_receiving`] until it says `None`.
    ///
    /// # Errors
    /// `NotConnected` when it has ended or failed, `WouldBlock` when something is in flight or was
    /// received: then it stays.
    pub fn detach(&mut self, key: SocketKey) -> io::Result<DetachedSocket> {
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        if socket.has_ended() {
            return Err(closed());
        }
        if !socket.is_at_rest() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.driver.release(&socket.fd)?;
        // Foreign destructors don't run here: a waker that nobody needs is called instead.
        self.woken.extend(socket.reader.take());
        self.woken.extend(socket.writer.take());
        let socket = self.sockets.remove(key.0).ok_or_else(closed)?;
        Ok(DetachedSocket {
            fd: Some(socket.fd),
            strays: self.driver.strays(),
            sent_total: socket.sent_total,
        })
    }

    /// Takes up a connection that another reactor of the same kind let go of.
    ///
    /// # Errors
    /// When the driver can't watch it; it is closed then.
    pub fn adopt_detached(&mut self, mut detached: DetachedSocket) -> io::Result<SocketKey> {
        let fd = detached.fd.take().ok_or_else(closed)?;
        let key = self.adopt_socket(fd)?;
        if let Some(socket) = self.sockets.get_mut(key.0) {
            socket.sent_total = detached.sent_total;
        }
        Ok(key)
    }
}
