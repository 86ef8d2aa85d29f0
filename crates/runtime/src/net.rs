//! Streams: listeners, connections, and the two halves of one.

use crate::file::File;
use crate::time::Timer;
use crate::worker::Worker;
use ringway_kernel::{
    Buffer, Destination, DetachedSocket, Interest, ListenOptions, ListenSocket, ListenerKey,
    Outgoing, Reactor, SocketKey, SocketOptions, Waiter,
};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Accepts connections on one worker.
pub struct TcpListener {
    worker: Rc<Worker>,
    key: ListenerKey,
}

impl TcpListener {
    /// Binds and listens, on this worker alone. An IPv6 wildcard takes IPv4 too, unless
    /// [`ListenOptions::only_v6`]. Port 0 lets the kernel choose.
    ///
    /// # Errors
    /// As `bind(2)` and `listen(2)`; while the port is in use it is tried again for a moment.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.listen(address, options))?;
        Ok(TcpListener { worker, key })
    }

    /// Takes over a socket that was bound for this worker, one of a group on the same port.
    ///
    /// # Errors
    /// When the driver can't watch it.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn adopt(socket: ListenSocket) -> io::Result<TcpListener> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.adopt_listener(socket))?;
        Ok(TcpListener { worker, key })
    }

    /// The next connection.
    ///
    /// # Errors
    /// As `accept(2)`. After `EMFILE` or `ENFILE` wait a moment before the next call: the
    /// connection is still in the queue.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let key = ready!(
            self.worker
                .reactor
                .poll(context.waker(), |reactor, waiter| reactor
                    .poll_accept(self.key, waiter))
        )?;
        Poll::Ready(Ok(TcpStream::new(&self.worker, key)))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.worker
            .reactor
            .enter(|reactor| reactor.listener_address(self.key))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.worker
            .reactor
            .enter(|reactor| reactor.close_listener(self.key));
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TcpListener({:?})", self.local_address())
    }
}

/// One TCP connection, or one over a Unix socket, which is the same but for its addresses.
///
/// Dropping it ends the connection: what was sent and taken by the kernel still arrives, what was
/// still on its way there is lost ([`TcpStream::flush`] waits for it). When bytes of the peer's were
/// not received, or come later, the kernel resets the connection instead of ending it in order (RFC
/// 9293, 3.10.4), and the reset may overtake what was sent: [`TcpStream::shutdown_write`], then
/// receive to the end, where that matters.
///
/// A deadline, when set, holds for every wait on the stream from then on; a wait that it ends
/// returns `TimedOut`, and the stream can still be used.
pub struct TcpStream {
    pub(crate) socket: Socket,
    wait: Wait,
}

/// A socket of a worker's reactor. What a stream and its halves have in common is done here, with the
/// deadline of whoever waits.
pub(crate) struct Socket {
    pub(crate) worker: Rc<Worker>,
    pub(crate) key: SocketKey,
}

impl Socket {
    #[inline]
    fn enter<T>(&self, work: impl FnOnce(&mut Reactor, SocketKey) -> T) -> T {
        self.worker.reactor.enter(|reactor| work(reactor, self.key))
    }

    /// Asks `poll` of the reactor, and if that isn't ready, whether `wait` is over.
    #[inline]
    fn poll<T>(
        &self,
        wait: &mut Wait,
        context: &Context<'_>,
        poll: impl FnOnce(&mut Reactor, SocketKey, &mut Waiter<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let reactor = &self.worker.reactor;
        let polled = reactor.poll(context.waker(), |reactor, waiter| {
            poll(reactor, self.key, waiter)
        });
        match polled {
            Poll::Pending => wait.poll(&self.worker, context),
            ready => ready,
        }
    }

    fn poll_receive(
        &self,
        wait: &mut Wait,
        context: &Context<'_>,
    ) -> Poll<io::Result<Option<Buffer>>> {
        self.poll(wait, context, Reactor::poll_receive)
    }

    async fn send(&self, wait: &mut Wait, outgoing: Outgoing) -> io::Result<()> {
        let mut outgoing = Some(outgoing);
        poll_fn(|context| self.poll_send(wait, &mut outgoing, context)).await
    }

    fn poll_send(
        &self,
        wait: &mut Wait,
        outgoing: &mut Option<Outgoing>,
        context: &Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(wait, context, |reactor, key, waiter| {
            reactor.poll_send(key, outgoing, waiter)
        })
    }

    fn poll_flush(&self, wait: &mut Wait, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll(wait, context, Reactor::poll_sent)
    }

    #[inline]
    fn submit(&self, outgoing: &mut Option<Outgoing>) -> io::Result<()> {
        self.enter(|reactor, key| reactor.submit(key, outgoing))
    }

    fn send_now(&self, bytes: &[u8], more_follows: bool) -> io::Result<usize> {
        self.enter(|reactor, key| reactor.send_now(key, bytes, more_follows))
    }
}

/// Until when one may wait, and what wakes then.
#[derive(Default)]
struct Wait {
    deadline: Option<Instant>,
    timer: Option<Timer>,
}

impl Wait {
    /// `TimedOut` when the deadline has passed.
    fn poll<T>(&mut self, worker: &Rc<Worker>, context: &Context<'_>) -> Poll<io::Result<T>> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Timer::new(Rc::clone(worker)));
        timer
            .poll_until(deadline, context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl TcpStream {
    fn new(worker: &Rc<Worker>, key: SocketKey) -> TcpStream {
        let socket = Socket {
            worker: Rc::clone(worker),
            key,
        };
        TcpStream {
            socket,
            wait: Wait::default(),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// As `connect(2)`.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn connect(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
        TcpStream::connect_to(&address.into(), options).await
    }

    /// Connects to a port or to a Unix socket.
    ///
    /// # Errors
    /// As `connect(2)`; `WouldBlock` when as many as may be wait to be accepted by a Unix socket;
    /// `InvalidInput` for a path that no address can hold.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn connect_to(
        destination: &Destination,
        options: &SocketOptions,
    ) -> io::Result<TcpStream> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.connect(destination, options))?;
        let stream = TcpStream::new(&worker, key);
        poll_fn(|context| {
            worker.reactor.poll(context.waker(), |reactor, waiter| {
                reactor.poll_connected(key, waiter)
            })
        })
        .await?;
        Ok(stream)
    }

    /// Whether the peer has neither sent anything that wasn't received nor ended the connection, as
    /// far as is known here: before a connection that was idle is used again.
    pub fn is_quiet(&self) -> bool {
        self.socket.enter(|reactor, key| reactor.is_quiet(key))
    }

    /// Lets go of a connection at rest, so that another worker may [`TcpStream::adopt`] it.
    ///
    /// # Errors
    /// When it isn't at rest, or no longer stands: the peer has sent something that nobody took, has
    /// ended or failed, or an earlier send is under way. The connection is closed then.
    pub async fn detach(self) -> io::Result<DetachedSocket> {
        let (reactor, key) = (&self.socket.worker.reactor, self.socket.key);
        let unread = poll_fn(|context| {
            reactor.poll(context.waker(), |reactor, waiter| {
                reactor.poll_stop_receiving(key, waiter)
            })
        })
        .await?;
        if unread.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        reactor.enter(|reactor| reactor.detach(key))
    }

    /// Takes up a connection that another worker let go of.
    ///
    /// # Errors
    /// When the driver can't watch it; it is closed then.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn adopt(detached: DetachedSocket) -> io::Result<TcpStream> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.adopt_detached(detached))?;
        Ok(TcpStream::new(&worker, key))
    }

    /// The two directions, each with a deadline of its own, so that both can be waited for at once.
    /// That of the first is the stream's, and stays when this is over.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let socket = &self.socket;
        (
            ReadHalf {
                socket,
                wait: &mut self.wait,
            },
            WriteHalf {
                socket,
                wait: Wait::default(),
            },
        )
    }

    /// The worker's clock, as [`now`](crate::now).
    pub fn now(&self) -> Instant {
        self.socket.worker.now()
    }

    /// From now on, waits end with `TimedOut` when `deadline` has passed.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wait.deadline = deadline;
    }

    /// The next received bytes, in a pooled buffer; `None` at the end of the stream.
    ///
    /// # Errors
    /// As `recv(2)`, an error of an earlier send, or `TimedOut`.
    pub async fn receive(&mut self) -> io::Result<Option<Buffer>> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`TcpStream::receive`].
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        self.socket.poll_receive(&mut self.wait, context)
    }

    /// Sends bytes, owned until they are sent. Returns when the worker has taken charge of them,
    /// which is at once unless an earlier send is still under way; an error that comes later is
    /// that of the next call.
    ///
    /// # Errors
    /// As `send(2)` for this or an earlier send, or `TimedOut`.
    pub async fn send(&mut self, outgoing: impl Into<Outgoing>) -> io::Result<()> {
        self.socket.send(&mut self.wait, outgoing.into()).await
    }

    /// As [`TcpStream::send`]; takes `outgoing` when it returns ready.
    pub fn poll_send(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_send(&mut self.wait, outgoing, context)
    }

    /// As [`TcpStream::send`], without a wait: takes `outgoing`, or leaves it there when an earlier
    /// send is still under way.
    ///
    /// # Errors
    /// As `send(2)`, for an earlier send.
    #[inline]
    pub fn submit(&mut self, outgoing: &mut Option<Outgoing>) -> io::Result<()> {
        self.socket.submit(outgoing)
    }

    /// Waits until the kernel has taken everything that was sent.
    ///
    /// # Errors
    /// As `send(2)`, or `TimedOut`.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// As [`TcpStream::flush`].
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(&mut self.wait, context)
    }

    /// Sends at once what fits, without waiting; how much that was.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits or an earlier send is under way; else as `send(2)`.
    pub fn send_now(&mut self, bytes: &[u8], more_follows: bool) -> io::Result<usize> {
        self.socket.send_now(bytes, more_follows)
    }

    /// Sends at once what fits of a file's bytes from `offset`, inside the kernel. 0: the file
    /// ends before `offset`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits or an earlier send is under way; else as `sendfile(2)`.
    pub fn send_file_now(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        self.socket
            .enter(|reactor, key| reactor.send_file(key, file.inner(), offset, count))
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// The socket's error, or `TimedOut`.
    pub async fn writable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket
            .poll(&mut self.wait, context, |reactor, key, waiter| {
                reactor.poll_ready(key, Interest::Writable, waiter)
            })
    }

    pub(crate) fn poll_deadline<T>(&mut self, context: &Context<'_>) -> Poll<io::Result<T>> {
        self.wait.poll(&self.socket.worker, context)
    }

    /// Bytes that this side's kernel has taken on this connection so far.
    pub fn sent_bytes(&self) -> u64 {
        self.socket.enter(|reactor, key| reactor.sent_bytes(key))
    }

    /// Bytes that the peer has taken on this connection so far (by its kernel's acknowledgements):
    /// progress, for a write deadline. A system call.
    pub fn delivered_bytes(&self) -> u64 {
        self.socket
            .enter(|reactor, key| reactor.delivered_bytes(key))
    }

    /// Whether an earlier send is still under way.
    pub fn is_sending(&self) -> bool {
        self.socket.enter(|reactor, key| reactor.is_sending(key))
    }

    /// Says that nothing more will be sent (`FIN`), behind everything that was: a send that is still
    /// under way is completed first. What is sent after this fails.
    ///
    /// # Errors
    /// As `shutdown(2)`.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket
            .enter(|reactor, key| reactor.shutdown_write(key))
    }

    /// Ends the connection so that the peer sees a reset, not an orderly end.
    pub fn reset(self) {
        self.socket.enter(|reactor, key| reactor.close(key, true));
    }

    /// From now on, whatever ends the connection (a drop, a panic, the end of the process) is seen by
    /// the peer as a reset: for as long as only the end could tell it that it has everything. With
    /// `false` it is an orderly end again.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn set_reset_on_drop(&mut self, is_on: bool) -> io::Result<()> {
        self.socket
            .enter(|reactor, key| reactor.set_reset_on_close(key, is_on))
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// As `getpeername(2)`.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.socket.enter(|reactor, key| reactor.peer_address(key))
    }

    /// The address of this side.
    ///
    /// # Errors
    /// As `getsockname(2)`.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.enter(|reactor, key| reactor.local_address(key))
    }

    /// The CPU that received the last packet of this connection; of one that was just accepted, the
    /// CPU where it came in.
    ///
    /// # Errors
    /// As `getsockopt(2)`; always in a simulation.
    pub fn incoming_cpu(&self) -> io::Result<u32> {
        self.socket.enter(|reactor, key| reactor.incoming_cpu(key))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.socket.enter(|reactor, key| reactor.close(key, false));
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TcpStream({:?})", self.peer_address())
    }
}

/// The direction from the peer; made by [`TcpStream::split`].
///
/// A deadline holds for every wait of this half, as with [`TcpStream::set_deadline`].
pub struct ReadHalf<'s> {
    pub(crate) socket: &'s Socket,
    wait: &'s mut Wait,
}

impl ReadHalf<'_> {
    /// As [`TcpStream::set_deadline`].
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wait.deadline = deadline;
    }

    /// As [`TcpStream::now`].
    pub fn now(&self) -> Instant {
        self.socket.worker.now()
    }

    /// As [`TcpStream::receive`].
    ///
    /// # Errors
    /// The same.
    pub async fn receive(&mut self) -> io::Result<Option<Buffer>> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`TcpStream::receive`].
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Buffer>>> {
        self.socket.poll_receive(self.wait, context)
    }
}

impl fmt::Debug for ReadHalf<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ReadHalf({:?})", self.socket.key)
    }
}

/// The direction to the peer; made by [`TcpStream::split`].
///
/// A deadline holds for every wait of this half, as with [`TcpStream::set_deadline`].
pub struct WriteHalf<'s> {
    pub(crate) socket: &'s Socket,
    wait: Wait,
}

impl WriteHalf<'_> {
    /// As [`TcpStream::set_deadline`].
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wait.deadline = deadline;
    }

    /// As [`TcpStream::send`].
    ///
    /// # Errors
    /// The same.
    pub async fn send(&mut self, outgoing: impl Into<Outgoing>) -> io::Result<()> {
        self.socket.send(&mut self.wait, outgoing.into()).await
    }

    /// As [`TcpStream::send`]; takes `outgoing` when it returns ready.
    pub fn poll_send(
        &mut self,
        outgoing: &mut Option<Outgoing>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_send(&mut self.wait, outgoing, context)
    }

    /// As [`TcpStream::submit`].
    ///
    /// # Errors
    /// The same.
    pub fn submit(&mut self, outgoing: &mut Option<Outgoing>) -> io::Result<()> {
        self.socket.submit(outgoing)
    }

    /// As [`TcpStream::send_now`].
    ///
    /// # Errors
    /// The same.
    pub fn send_now(&mut self, bytes: &[u8], more_follows: bool) -> io::Result<usize> {
        self.socket.send_now(bytes, more_follows)
    }

    /// As [`TcpStream::flush`].
    ///
    /// # Errors
    /// The same.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.socket.poll_flush(&mut self.wait, context)).await
    }

    /// As [`TcpStream::shutdown_write`].
    ///
    /// # Errors
    /// The same.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket
            .enter(|reactor, key| reactor.shutdown_write(key))
    }

    /// As [`TcpStream::set_reset_on_drop`], for the whole stream.
    ///
    /// # Errors
    /// The same.
    pub fn set_reset_on_drop(&mut self, is_on: bool) -> io::Result<()> {
        self.socket
            .enter(|reactor, key| reactor.set_reset_on_close(key, is_on))
    }

    /// As [`TcpStream::delivered_bytes`].
    pub fn delivered_bytes(&self) -> u64 {
        self.socket
            .enter(|reactor, key| reactor.delivered_bytes(key))
    }

    /// As [`TcpStream::is_sending`].
    pub fn is_sending(&self) -> bool {
        self.socket.enter(|reactor, key| reactor.is_sending(key))
    }
}

impl fmt::Debug for WriteHalf<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WriteHalf({:?})", self.socket.key)
    }
}

/// Wakes every task of the current worker that waits to receive, so that idle connections can
/// notice that the worker is to end.
///
/// # Panics
/// Outside of a runtime.
pub fn wake_receivers() {
    Worker::current()
        .reactor
        .enter(|reactor| reactor.wake_readers());
}
