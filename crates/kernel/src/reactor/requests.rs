//! Listeners and file requests.

use super::transfer::ZeroCopySend;
use super::{ListenerKey, Place, Reactor, RequestKey, SocketKey, Waiter, os_error};
use crate::driver::{Descriptor, Lane, Token};
use crate::file::{BlockRead, Directory, File, OpenRequest, ReadRequest, Symlinks, WarmRequest};
use crate::socket::{ListenOptions, ListenSocket};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::task::{Poll, Waker};

/// Accepted connections that may wait to be taken; then accepting is paused.
pub(super) const ACCEPT_LIMIT: usize = 256;

/// A listening socket of this worker.
pub(super) struct Listener {
    pub(super) fd: Descriptor,
    pub(super) is_accepting: bool,
    pub(super) is_closing: bool,
    pub(super) accepted: VecDeque<Descriptor>,
    pub(super) error: i32,
    pub(super) waker: Option<Waker>,
}

/// A file operation: what the kernel reads and writes, until its completion.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) result: Option<i32>,
    /// Nobody waits for it any more.
    pub(super) is_orphaned: bool,
    pub(super) waker: Option<Waker>,
}

/// Boxed: what the kernel reads and writes lies beside the slot, which is looked at meanwhile; and
/// slots of both kinds are small.
pub(super) enum Work {
    Open(Box<OpenRequest>),
    Read(Box<ReadRequest>),
    Warm(Box<WarmRequest>),
    ReadBlock(Box<BlockRead>),
    ZeroCopy(Box<ZeroCopySend>),
}

impl Reactor {
    /// A listener of this worker alone.
    ///
    /// # Errors
    /// As [`ListenSocket::bind_group`].
    pub fn listen(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<ListenerKey> {
        let fd = self.driver.listen(address, options)?;
        self.adopt_listener_descriptor(fd)
    }

    /// Takes over a socket that was bound elsewhere.
    ///
    /// # Errors
    /// When the driver can't watch it.
    pub fn adopt_listener(&mut self, socket: ListenSocket) -> io::Result<ListenerKey> {
        self.adopt_listener_descriptor(socket.into_descriptor().into())
    }

    fn adopt_listener_descriptor(&mut self, fd: Descriptor) -> io::Result<ListenerKey> {
        if let Err(error) = self.driver.adopt(&fd) {
            self.driver.close(fd);
            return Err(error);
        }
        let listener = Listener {
            fd,
            is_accepting: false,
            is_closing: false,
            accepted: VecDeque::new(),
            error: 0,
            waker: None,
        };
        Ok(ListenerKey(self.listeners.insert(listener)))
    }

    /// The address a listener is bound to.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn listener_address(&self, key: ListenerKey) -> io::Result<SocketAddr> {
        let listener = self
            .listeners
            .get(key.0)
            .ok_or(io::ErrorKind::NotConnected)?;
        self.driver.local_address(&listener.fd)
    }

    /// The next connection. An error (`EMFILE`, say) ends accepting; the next call begins anew.
    pub fn poll_accept(
        &mut self,
        key: ListenerKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<SocketKey>> {
        let Some(listener) = self.listeners.get_mut(key.0) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if let Some(fd) = listener.accepted.pop_front() {
            return Poll::Ready(self.adopt_socket(fd));
        }
        match std::mem::take(&mut listener.error) {
            0 => {}
            errno => return Poll::Ready(Err(os_error(errno))),
        }
        waiter.wait_at(Place::Listener(key), &mut listener.waker);
        if !listener.is_accepting {
            listener.is_accepting = true;
            self.driver
                .accept(Token::new(Lane::Accept, key.0), &listener.fd);
        }
        Poll::Pending
    }

    /// Ends a listener; connections that were accepted but not taken are closed.
    pub fn close_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.get_mut(key.0) else {
            return;
        };
        if std::mem::replace(&mut listener.is_closing, true) {
            return;
        }
        self.woken.extend(listener.waker.take());
        if listener.is_accepting {
            self.driver
                .cancel(Token::new(Lane::Accept, key.0), Some(&listener.fd));
        } else {
            self.finish_close_listener(key);
        }
    }

    pub(super) fn finish_close_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.remove(key.0) else {
            return;
        };
        for fd in listener.accepted {
            self.driver.close(fd);
        }
        self.driver.close(listener.fd);
    }

    /// Begins to open a file beneath `directory`, to be awaited with [`Reactor::poll_open`]. Mount
    /// points aren't passed (`EXDEV`): what may take its time, there or in `directory` itself, is for
    /// [`Directory::open_waiting`].
    ///
    /// # Errors
    /// `EINVAL` when the path holds a NUL byte.
    pub fn open_beneath(
        &mut self,
        directory: &Directory,
        path: &[u8],
        symlinks: Symlinks,
    ) -> io::Result<RequestKey> {
        let open = Box::new(OpenRequest::new(directory, path, symlinks)?);
        let key = self.insert_request(Work::Open(open));
        // Taken where it stays: moving the box would end the pointer's right to it.
        if let Some(Work::Open(open)) = self.work_of(key) {
            let pointer = std::ptr::from_ref(&**open);
            // SAFETY: the slot keeps the boxed request until the completion.
            unsafe { self.driver.open(Token::new(Lane::Open, key.0), pointer) };
        }
        Ok(key)
    }

    /// The opened file.
    pub fn poll_open(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<File>> {
        let (work, result) = std::task::ready!(self.poll_request(key, waiter))?;
        if result < 0 {
            return Poll::Ready(Err(os_error(-result)));
        }
        let opened = work.opened(result).ok_or(io::ErrorKind::InvalidInput);
        Poll::Ready(Ok(opened?))
    }

    /// Begins to read at most `bytes.len()` bytes from `offset`, to be awaited with
    /// [`Reactor::poll_read`].
    pub fn read_at(&mut self, file: &File, offset: u64, bytes: Vec<u8>) -> RequestKey {
        let file = file.clone();
        let key = self.insert_request(Work::Read(Box::new(ReadRequest {
            file,
            offset,
            bytes,
        })));
        if let Some(Work::Read(read)) = self.work_of(key) {
            let pointer = std::ptr::from_mut(&mut **read);
            // SAFETY: the slot keeps the boxed request, and nobody touches it, until the
            // completion.
            unsafe { self.driver.read(Token::new(Lane::Read, key.0), pointer) };
        }
        key
    }

    pub(super) fn work_of(&mut self, key: RequestKey) -> Option<&mut Work> {
        self.requests
            .get_mut(key.0)
            .map(|request| &mut request.work)
    }

    /// The buffer again, and how many bytes were read into it (0: the end of the file).
    pub fn poll_read(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<(Vec<u8>, usize)>> {
        let (work, result) = std::task::ready!(self.poll_request(key, waiter))?;
        match (work, result) {
            (Work::Read(read), 0..) => Poll::Ready(Ok((read.bytes, result as usize))),
            (_, errno) => Poll::Ready(Err(os_error(-errno))),
        }
    }

    pub(super) fn insert_request(&mut self, work: Work) -> RequestKey {
        RequestKey(self.requests.insert(Request {
            work,
            result: None,
            is_orphaned: false,
            waker: None,
        }))
    }

    pub(super) fn poll_request(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<(Work, i32)>> {
        let Some(request) = self.requests.get_mut(key.0) else {
            return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
        };
        let Some(result) = request.result else {
            waiter.wait_at(Place::Request(key), &mut request.waker);
            return Poll::Pending;
        };
        let request = self.requests.remove(key.0).expect("found above");
        Poll::Ready(Ok((request.work, result)))
    }

    /// Gives a file request up; its slot lives on until it completes.
    pub fn abandon_request(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get_mut(key.0) else {
            return;
        };
        self.woken.extend(request.waker.take());
        request.is_orphaned = true;
        match request.result {
            Some(result) => self.release_request(key, result),
            None if matches!(request.work, Work::ZeroCopy(_)) => self.abandon_zero_copy(key),
            None => {
                let lane = request.work.lane();
                self.driver.cancel(Token::new(lane, key.0), None);
            }
        }
    }

    /// Ends an orphan: what it opened is closed, what it holds is freed.
    pub(super) fn release_request(&mut self, key: RequestKey, result: i32) {
        let Some(request) = self.requests.remove(key.0) else {
            return;
        };
        drop(request.work.opened(result));
    }
}

impl Work {
    /// The end of an open: what it opened.
    fn opened(self, result: i32) -> Option<File> {
        match (self, result) {
            (Work::Open(open), 0..) => {
                // SAFETY: an open's completion hands over a descriptor that was opened for this
                // process, and that nobody else owns. Its work was in the slot, and is gone with
                // this.
                let descriptor = unsafe { OwnedFd::from_raw_fd(result) };
                Some(open.file(descriptor))
            }
            _ => None,
        }
    }

    pub(super) fn lane(&self) -> Lane {
        match self {
            Work::Open(_) => Lane::Open,
            Work::Read(_) => Lane::Read,
            Work::Warm(_) => Lane::Warm,
            Work::ReadBlock(_) => Lane::ReadBlock,
            Work::ZeroCopy(_) => Lane::ZeroCopy,
        }
    }
}
