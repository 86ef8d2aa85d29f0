//! A connection to a server as the pool sees it.

use super::pool::Connection;
use ringway_runtime::{DetachedSocket, TcpStream, spawn};
use std::io;
use std::ops::{Deref, DerefMut};

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) TcpStream);

impl Deref for Link {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.0
    }
}

impl Connection for Link {
    type Detached = DetachedSocket;

    /// A receive may be under way, which has to be called back first: in a task of its own.
    fn detach(self, then: impl FnOnce(io::Result<DetachedSocket>) + 'static) {
        drop(spawn(async move { then(self.0.detach().await) }));
    }

    fn attach(detached: DetachedSocket) -> io::Result<Link> {
        TcpStream::adopt(detached).map(Link)
    }

    fn is_alive(&mut self) -> bool {
        self.0.is_quiet()
    }
}
