//! Streams: receiving, sending, connecting, closing.

use super::transfer::SocketTransfer;
use super::{Place, Reactor, SocketKey, Waiter, os_error};
use crate::buffers::{Buffer, BufferPool, Chain};
use crate::driver::{Descriptor, Interest, Lane, Token};
use crate::file::File;
use crate::outgoing::{Gather, Outgoing};
use crate::slots::Slots;
use crate::socket::{ConnectAddress, Destination, SocketOptions};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Received runs that may wait for a socket's reader; then receiving is paused.
pub(super) const BACKLOG_LIMIT: usize = 8;

/// Receives after one that had to be stopped which take one buffer each, instead of all that comes: who
/// wanted the bytes left in the socket will most likely want it again. Each costs a submission; a
/// large body that was received for nothing costs some thirty buffers, which are copied from then.
pub(super) const SINGLE_RECEIVES: u8 = 8;

/// One connection. What the kernel reads for it (the bytes of `sending`, the header in `gather`, the
/// address in `connecting`) is static, in the pool or on the heap, and is kept here until the last
/// completion of its operation.
pub(super) struct Socket {
    pub(super) fd: Descriptor,
    /// Which of the socket's lanes have an operation in flight.
    pub(super) in_flight: LaneSet,
    /// In line for a receive buffer.
    pub(super) is_parked: bool,
    /// The reader has fallen behind, and the receive was cancelled until it catches up.
    pub(super) is_paused: bool,
    /// The peer has sent all it will.
    pub(super) is_at_end: bool,
    /// Nobody holds the key any more: closed when nothing is in flight.
    pub(super) is_closing: bool,
    /// The write side is to be shut when the send in flight is done.
    pub(super) ends_after_send: bool,
    /// Its close is a reset, whoever closes it.
    pub(super) resets_on_close: bool,
    /// So many of the next receives take one buffer each.
    pub(super) single_receives: u8,
    pub(super) receive_error: i32,
    pub(super) send_error: i32,
    pub(super) backlog: Chain,
    /// What came after `backlog`, copied out because buffers were scarce.
    /// Boxed, as are all that most sockets never have: a hundred thousand idle ones are so many of
    /// these.
    #[expect(clippy::box_collection, reason = "a queue has four words, its box one")]
    pub(super) spilled: Option<Box<VecDeque<Box<[u8]>>>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) ready_result: Option<i32>,
    /// Boxed, because most messages fit at once, and then nothing has to be kept.
    pub(super) sending: Option<Box<Sending>>,
    /// Bytes that the kernel has taken since the connection began.
    pub(super) sent_total: u64,
    pub(super) connecting: Option<Box<ConnectAddress>>,
    pub(super) gather: Option<Box<Gather>>,
    pub(super) transfer: Option<Box<SocketTransfer>>,
}

/// A message in flight, and how many bytes of it the kernel has taken.
pub(super) struct Sending {
    pub(super) outgoing: Outgoing,
    pub(super) sent: usize,
}

/// A set of lanes, by their numbers.
#[derive(Clone, Copy, Default)]
pub(super) struct LaneSet(u16);

impl LaneSet {
    pub(super) fn insert(&mut self, lane: Lane) {
        self.0 |= 1 << lane as u16;
    }

    pub(super) fn remove(&mut self, lane: Lane) {
        self.0 &= !(1 << lane as u16);
    }

    pub(super) fn contains(self, lane: Lane) -> bool {
        self.0 & 1 << lane as u16 != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What closing a socket cancels. Bytes that are with the kernel can't be called back.
const SOCKET_LANES: [Lane; 5] = [
    Lane::Receive,
    Lane::Send,
    Lane::Ready,
    Lane::Connect,
    Lane::ReadReady,
];

impl Socket {
    pub(super) fn new(fd: Descriptor) -> Socket {
        Socket {
            fd,
            in_flight: LaneSet::default(),
            is_parked: false,
            is_paused: false,
            is_at_end: false,
            is_closing: false,
            ends_after_send: false,
            resets_on_close: false,
            single_receives: 0,
            receive_error: 0,
            send_error: 0,
            backlog: Chain::new(),
            spilled: None,
            reader: None,
            writer: None,
            ready_result: None,
            sending: None,
            sent_total: 0,
            connecting: None,
            gather: None,
            transfer: None,
        }
    }

    pub(super) fn backlog_len(&self) -> usize {
        let spilled_count = self.spilled.as_ref().map_or(0, |spilled| spilled.len());
        usize::from(self.backlog.len()) + spilled_count
    }

    /// Whether bytes are on their way to the kernel, so that no others may be sent.
    pub(super) fn is_send_busy(&self) -> bool {
        let is_zero_copy = self.transfer.as_ref().is_some_and(|it| it.is_sending);
        is_zero_copy || self.in_flight.contains(Lane::Send)
    }

    /// Notes that a send has failed, for whoever sends or receives next.
    pub(super) fn note_send_error(&mut self, errno: i32) {
        if self.send_error == 0 {
            self.send_error = errno;
        }
    }

    /// How receiving has ended behind what was received, if it has.
    ///
    /// A send that failed because the peer is gone says nothing about that: what the peer said before,
    /// such as a server's answer to a request that it doesn't take to its end, may still lie in the
    /// socket. But it takes the socket's error with it, and what is received then looks like an
    /// orderly end. `EPIPE` tells of one: Linux (6.18, `tcp_reset`) gives it for a reset that comes
    /// behind the peer's FIN, and `ECONNRESET` for one that comes instead of it.
    fn end_of_receiving(&self) -> Option<io::Result<()>> {
        match self.send_error {
            0 | libc::EPIPE if self.is_at_end => Some(Ok(())),
            0 | libc::EPIPE => None,
            libc::ECONNRESET if !self.is_at_end => None,
            errno => Some(Err(os_error(errno))),
        }
    }

    pub(super) fn pop_received(&mut self, pool: &Rc<BufferPool>) -> Option<Buffer> {
        match self.backlog.pop(pool) {
            None if self.spilled.is_some() => self.pop_spilled(),
            received => received,
        }
    }

    /// Apart, because it is rare, and would only be in the way of the above.
    #[cold]
    fn pop_spilled(&mut self) -> Option<Buffer> {
        let spilled = self.spilled.as_mut()?;
        let bytes = spilled.pop_front();
        if spilled.is_empty() {
            self.spilled = None;
        }
        bytes.map(Buffer::from_heap)
    }

    #[cold]
    pub(super) fn push_spilled(&mut self, bytes: Box<[u8]>) {
        self.spilled.get_or_insert_default().push_back(bytes);
    }
}

// With its generation one is 128 bytes, and a chunk of them fills a class of the allocator's.
const _: () = assert!(size_of::<Option<Socket>>() <= 120);

pub(super) fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// A socket that bytes can be sent on at once, because no send is in flight.
pub(super) fn idle_to_send(sockets: &mut Slots<Socket>, key: SocketKey) -> io::Result<&mut Socket> {
    let socket = sockets.get_mut(key.0).ok_or_else(closed)?;
    if socket.send_error != 0 {
        return Err(os_error(socket.send_error));
    }
    if socket.is_send_busy() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(socket)
}

impl Reactor {
    /// A fresh connection to `destination`, to be awaited with [`Reactor::poll_connected`].
    ///
    /// # Errors
    /// As `socket(2)` and `setsockopt(2)`; `InvalidInput` for a path that no address can hold.
    pub fn connect(
        &mut self,
        destination: &Destination,
        options: &SocketOptions,
    ) -> io::Result<SocketKey> {
        let address = ConnectAddress::new(destination)?;
        let fd = self.driver.open_socket(destination, options)?;
        let key = self.adopt_socket(fd)?;
        let token = Token::new(Lane::Connect, key.0);
        let socket = self.sockets.get_mut(key.0).expect("adopted just now");
        let address = socket.connecting.insert(Box::new(address));
        let address = std::ptr::from_ref(&**address);
        socket.in_flight.insert(Lane::Connect);
        // SAFETY: the slot keeps the boxed address until the last completion of this operation.
        unsafe { self.driver.connect(token, &socket.fd, address) };
        Ok(key)
    }

    /// Ready when the connection stands or has failed.
    pub fn poll_connected(
        &mut self,
        key: SocketKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        if socket.in_flight.contains(Lane::Connect) {
            waiter.wait_at(Place::Writer(key), &mut socket.writer);
            return Poll::Pending;
        }
        match socket.send_error {
            0 => Poll::Ready(Ok(())),
            errno => Poll::Ready(Err(os_error(errno))),
        }
    }

    pub(super) fn adopt_socket(&mut self, fd: Descriptor) -> io::Result<SocketKey> {
        if let Err(error) = self.driver.adopt(&fd) {
            self.driver.close(fd);
            return Err(error);
        }
        Ok(SocketKey(self.sockets.insert(Socket::new(fd))))
    }

    /// The next received bytes; `None` at the end of the stream.
    ///
    /// Receiving begins with the first call and goes on by itself, until several buffers wait for
    /// the reader.
    pub fn poll_receive(
        &mut self,
        key: SocketKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<Option<Buffer>>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        if let Some(buffer) = socket.pop_received(&self.buffers) {
            return Poll::Ready(Ok(Some(buffer)));
        }
        if socket.receive_error != 0 {
            return Poll::Ready(Err(os_error(socket.receive_error)));
        }
        if let Some(error) = socket.end_of_receiving() {
            return Poll::Ready(error.map(|()| None));
        }
        waiter.wait_at(Place::Reader(key), &mut socket.reader);
        if !socket.in_flight.contains(Lane::Receive) && !socket.is_parked {
            self.arm_receive(key);
        } else {
            // A cancel on its way, for the sake of a reader that has caught up: re-armed when it
            // completes.
            socket.is_paused = false;
        }
        Poll::Pending
    }

    pub(super) fn arm_receive(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        socket.is_paused = false;
        socket.in_flight.insert(Lane::Receive);
        let token = Token::new(Lane::Receive, key.0);
        match socket.single_receives {
            0 => self.driver.receive(token, &socket.fd),
            left => {
                socket.single_receives = left - 1;
                self.driver.receive_once(token, &socket.fd);
            }
        }
    }

    /// Submits `outgoing` (and takes it) when no other send of this connection is in flight.
    ///
    /// Ready means taken, not sent: an error that comes later is reported by the connection's next
    /// call. [`Reactor::poll_sent`] waits for the end.
    pub fn poll_send(
        &mut self,
        key: SocketKey,
        outgoing: &mut Option<Outgoing>,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<()>> {
        self.submit(key, outgoing)?;
        if outgoing.is_none() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_sent(key, waiter)
        }
    }

    /// Submits `outgoing` and takes it, or leaves it there because an earlier send is still in
    /// flight.
    ///
    /// # Errors
    /// Of an earlier send; what comes of this one is reported by the connection's next call.
    pub fn submit(&mut self, key: SocketKey, outgoing: &mut Option<Outgoing>) -> io::Result<()> {
        let Some(message) = outgoing else {
            return Ok(());
        };
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        if socket.send_error != 0 {
            return Err(os_error(socket.send_error));
        }
        if socket.is_send_busy() {
            return Ok(());
        }
        let parts = message.parts(0, true, &mut socket.gather);
        let count = parts.first.iov_len + parts.second.iov_len;
        if count == 0 {
            *outgoing = None;
            return Ok(());
        }
        // SAFETY: the bytes are on the heap, in the arena or static, so they stay where they are
        // when the message moves to the heap below; the header is boxed in the slot. Both are
        // touched again only by this operation's last completion.
        let result = unsafe {
            self.driver
                .send(Token::new(Lane::Send, key.0), &socket.fd, parts)
        };
        if result.is_some_and(|sent| sent as usize == count) {
            // The usual case: all of it fitted, and nothing has to be kept.
            socket.sent_total += count as u64;
            *outgoing = None;
            return Ok(());
        }
        let sending = outgoing
            .take()
            .map(|outgoing| Sending { outgoing, sent: 0 });
        socket.sending = sending.map(Box::new);
        socket.in_flight.insert(Lane::Send);
        if result.is_some_and(|result| self.take_send_result(key, result)) {
            self.submit_rest(key);
        }
        Ok(())
    }

    /// Sends what is left of a socket's outgoing bytes; loops while the driver answers at once.
    pub(super) fn submit_rest(&mut self, key: SocketKey) {
        while let Some(socket) = self.sockets.get_mut(key.0) {
            let Some(sending) = &socket.sending else {
                return;
            };
            let parts = sending
                .outgoing
                .parts(sending.sent, false, &mut socket.gather);
            // SAFETY: the bytes belong to `sending`, the header to `gather`, both boxed in the
            // socket's slot; they are touched again only by this operation's last completion.
            let result = unsafe {
                self.driver
                    .send(Token::new(Lane::Send, key.0), &socket.fd, parts)
            };
            let Some(result) = result else { return };
            if !self.take_send_result(key, result) {
                return;
            }
        }
    }

    /// Ready when everything that was submitted has been taken by the kernel.
    pub fn poll_sent(&mut self, key: SocketKey, waiter: &mut Waiter<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        if socket.is_send_busy() {
            waiter.wait_at(Place::Writer(key), &mut socket.writer);
            return Poll::Pending;
        }
        match socket.send_error {
            0 => Poll::Ready(Ok(())),
            errno => Poll::Ready(Err(os_error(errno))),
        }
    }

    /// Bytes that this side's kernel has taken on this connection, ever.
    pub fn sent_bytes(&self, key: SocketKey) -> u64 {
        self.sockets
            .get(key.0)
            .map_or(0, |socket| socket.sent_total)
    }

    /// Bytes that the peer's kernel has taken on this connection, ever: progress, for write
    /// deadlines. A system call.
    pub fn delivered_bytes(&self, key: SocketKey) -> u64 {
        let Some(socket) = self.sockets.get(key.0) else {
            return 0;
        };
        // A Unix socket acknowledges nothing: what it took is in the peer's queue.
        let acknowledged = self.driver.acknowledged_bytes(&socket.fd);
        acknowledged.unwrap_or(socket.sent_total)
    }

    /// Whether a send is in flight.
    pub fn is_sending(&self, key: SocketKey) -> bool {
        self.sockets.get(key.0).is_some_and(Socket::is_send_busy)
    }

    /// Sends at once as much as fits, without waiting and without a submission.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, or another send is in flight; else as `send(2)`.
    pub fn send_now(
        &mut self,
        key: SocketKey,
        bytes: &[u8],
        more_follows: bool,
    ) -> io::Result<usize> {
        let socket = idle_to_send(&mut self.sockets, key)?;
        let count = self.driver.send_now(&socket.fd, bytes, more_follows)?;
        socket.sent_total += count as u64;
        Ok(count)
    }

    /// Sends at once as much as fits of a file, inside the kernel (`sendfile(2)`). 0 means that the
    /// file ends before `offset`: it was truncated.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, or another send is in flight; else as `sendfile(2)`.
    pub fn send_file(
        &mut self,
        key: SocketKey,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let socket = idle_to_send(&mut self.sockets, key)?;
        let count = self
            .driver
            .send_file(&socket.fd, file.descriptor(), offset, count)?;
        socket.sent_total += count as u64;
        Ok(count)
    }

    /// Ready when the socket is writable (or readable), or in error. One waiter at a time.
    pub fn poll_ready(
        &mut self,
        key: SocketKey,
        interest: Interest,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        match socket.ready_result.take() {
            Some(result) if result >= 0 => return Poll::Ready(Ok(())),
            Some(result) => return Poll::Ready(Err(os_error(-result))),
            None => {}
        }
        waiter.wait_at(Place::Writer(key), &mut socket.writer);
        if !socket.in_flight.contains(Lane::Ready) {
            socket.in_flight.insert(Lane::Ready);
            self.driver
                .ready(Token::new(Lane::Ready, key.0), &socket.fd, interest);
        }
        Poll::Pending
    }

    /// Ends this side's stream (`FIN`), behind everything that was submitted: at once, or when the
    /// send in flight is done. What is submitted later fails with `EPIPE`.
    ///
    /// # Errors
    /// As `shutdown(2)`, when it is done at once. Later it can only fail because the connection is
    /// gone, which the next receive tells.
    pub fn shutdown_write(&mut self, key: SocketKey) -> io::Result<()> {
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        if socket.is_send_busy() {
            socket.ends_after_send = true;
            return Ok(());
        }
        self.driver.shutdown(&socket.fd, Shutdown::Write)
    }

    /// From now on, whatever closes this connection is seen by the peer as a reset: [`Reactor::close`]
    /// as well as the end of the process. Or, with `false`, as an end again.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn set_reset_on_close(&mut self, key: SocketKey, is_on: bool) -> io::Result<()> {
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        if socket.resets_on_close != is_on {
            self.driver.reset_on_close(&socket.fd, is_on)?;
            socket.resets_on_close = is_on;
        }
        Ok(())
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// As `getpeername(2)`.
    pub fn peer_address(&self, key: SocketKey) -> io::Result<SocketAddr> {
        self.driver
            .peer_address(&self.sockets.get(key.0).ok_or_else(closed)?.fd)
    }

    /// The address of this side.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self, key: SocketKey) -> io::Result<SocketAddr> {
        self.driver
            .local_address(&self.sockets.get(key.0).ok_or_else(closed)?.fd)
    }

    /// The CPU that received the connection's last packet.
    ///
    /// # Errors
    /// As `getsockopt(2)`; always in a simulation.
    pub fn incoming_cpu(&self, key: SocketKey) -> io::Result<u32> {
        self.driver
            .incoming_cpu(&self.sockets.get(key.0).ok_or_else(closed)?.fd)
    }

    /// Ends the connection: at once when nothing is in flight, else as soon as everything that is
    /// has been called back. What was submitted and not yet taken by the kernel may be lost; wait
    /// with [`Reactor::poll_sent`] first when it matters. With `reset`, or after
    /// [`Reactor::set_reset_on_close`], the peer sees a reset.
    pub fn close(&mut self, key: SocketKey, reset: bool) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        if std::mem::replace(&mut socket.is_closing, true) {
            return;
        }
        // Foreign destructors don't run here: a waker that nobody needs is called instead.
        self.woken.extend(socket.reader.take());
        self.woken.extend(socket.writer.take());
        let in_flight = socket.in_flight;
        let reset = reset || socket.resets_on_close;
        if reset && !socket.resets_on_close {
            // A socket that is gone already needs no reset.
            let _ = self.driver.reset_on_close(&socket.fd, true);
        }
        if in_flight.is_empty() {
            self.finish_close(key);
            return;
        }
        // close(2) would send no FIN while an operation holds the file: shutting down does. Before a
        // reset there must be none.
        if !reset {
            let _ = self.driver.shutdown(&socket.fd, Shutdown::Both);
        }
        // The receive too, though a shutdown ends it: before that it would take all that the peer
        // has sent, and close(2) would find nothing unread to tell the peer of.
        for lane in SOCKET_LANES {
            if in_flight.contains(lane) {
                self.driver
                    .cancel(Token::new(lane, key.0), Some(&socket.fd));
            }
        }
        self.let_go_of_bytes(key, reset);
    }

    /// The end of a closing socket with nothing in flight.
    pub(super) fn finish_close(&mut self, key: SocketKey) {
        let Some(mut socket) = self.sockets.remove(key.0) else {
            return;
        };
        while socket.pop_received(&self.buffers).is_some() {}
        self.driver.close(socket.fd);
    }

    /// Wakes every reader, so that idle connections notice that the worker wants to end.
    pub fn wake_readers(&mut self) {
        for key in self.sockets.keys() {
            if let Some(socket) = self.sockets.get_mut(key) {
                self.woken.extend(socket.reader.take());
            }
        }
    }
}
