//! The driver contract: operations as data, submitted with a token, answered by completions.
//!
//! Three drivers keep it: [`uring`] (io_uring), [`epoll`] (edge-triggered readiness) and [`sim`]
//! (a simulated kernel under one seed and a virtual clock). The [`Reactor`](crate::Reactor) above
//! them owns every slot, and doesn't know which one runs.
//!
//! # The contract
//!
//! - An operation is named by its [`Token`]. Until its last completion (one without
//!   [`Completion::more`]) it is *in flight*: whatever it points to stays where it is.
//! - A submission may complete at once, by its return value or on the next turn; it never calls
//!   back inline.
//! - A token has at most one operation in flight; each is answered by exactly one last completion,
//!   after any number of completions with `more`. A cancelled one too: with what it still did, or
//!   with `-ECANCELED`.
//! - A descriptor is closed only when no operation names it; the reactor sees to that.
//! - A received buffer's ownership passes to the reactor with its completion, whatever the
//!   completion's result is.

mod alarm;
mod descriptor;
pub(crate) mod epoll;
mod ladder;
pub(crate) mod probe;
mod self_test;
pub(crate) mod sim;
mod transfer;
pub(crate) mod uring;

use crate::buffers::BufferPool;
use crate::file::{OpenRequest, ReadRequest};
use crate::slots::SlotKey;
use crate::socket::{
    self, ConnectAddress, Destination, ListenOptions, ListenSocket, SocketOptions,
};
use crate::wake::WakeHandle;
pub(crate) use descriptor::Descriptor;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
pub(crate) use transfer::{NOTIFIED_COPIED, TransferCalls, ZeroCopyPart};

/// Bits of a slot's generation that fit in a token.
pub(crate) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// What kind of operation a token names; with its slot, which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lane {
    /// Nobody waits for it: a cancel, the wake-up poll.
    None = 0,
    Accept = 1,
    Receive = 2,
    Send = 3,
    Ready = 4,
    Connect = 5,
    Open = 6,
    Read = 7,
    Warm = 8,
    ReadBlock = 9,
    ZeroCopy = 10,
    ReadReady = 11,
    Notice = 12,
}

/// Names an operation in flight: lane (8 bits), generation (24) and slot index (32). Never zero, so
/// that a place which may hold one takes no more than that: epoll has six for each descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(NonZeroU64);

impl Token {
    pub(crate) const NONE: Token = Token(NonZeroU64::MAX);

    pub(crate) fn new(lane: Lane, key: SlotKey) -> Token {
        let generation = u64::from(key.generation & GENERATION_MASK);
        let number = u64::from(lane as u8) << 56 | generation << 32 | u64::from(key.index);
        Token(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX))
    }

    /// As the ring carries it.
    pub(crate) const fn number(self) -> u64 {
        self.0.get()
    }

    /// What the ring has carried.
    pub(crate) fn from_number(number: u64) -> Token {
        NonZeroU64::new(number).map_or(Token::NONE, Token)
    }

    pub(crate) fn lane(self) -> Lane {
        match (self.number() >> 56) as u8 {
            1 => Lane::Accept,
            2 => Lane::Receive,
            3 => Lane::Send,
            4 => Lane::Ready,
            5 => Lane::Connect,
            6 => Lane::Open,
            7 => Lane::Read,
            8 => Lane::Warm,
            9 => Lane::ReadBlock,
            10 => Lane::ZeroCopy,
            11 => Lane::ReadReady,
            12 => Lane::Notice,
            _ => Lane::None,
        }
    }

    pub(crate) fn key(self) -> SlotKey {
        SlotKey {
            index: self.number() as u32,
            generation: (self.number() >> 32) as u32 & GENERATION_MASK,
        }
    }
}

/// One answer to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// What the system call of this name would return: a count or a descriptor, or `-errno`.
    pub(crate) result: i32,
    /// The buffer that a receive filled: `result` bytes from its start.
    pub(crate) buffer: Option<u16>,
    /// More completions of the same operation will follow.
    pub(crate) more: bool,
}

impl Completion {
    /// The end of an operation, without a buffer.
    pub(crate) fn last(token: Token, result: i32) -> Completion {
        Completion {
            token,
            result,
            buffer: None,
            more: false,
        }
    }
}

/// What a socket may become ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes, an end of stream or an error can be read.
    Readable,
    /// Room in the send buffer, or an error.
    Writable,
    /// Something may be in the error queue. This wait goes on until it is cancelled.
    Notice,
}

/// Bytes to send: at most two runs, gathered into one message.
///
/// The pointers are the reactor's: they stay valid, and the bytes unchanged, until the last
/// completion of the send that was given them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendParts {
    /// When there are two runs: a header over both, which the socket's slot keeps. Else null.
    pub(crate) message: *const libc::msghdr,
    pub(crate) first: libc::iovec,
    pub(crate) second: libc::iovec,
    /// More bytes follow at once: hold back a partial segment (`MSG_MORE`).
    pub(crate) more_follows: bool,
    /// Nothing of the message was sent yet: a driver may try at once whether it fits.
    pub(crate) is_first: bool,
}

impl SendParts {
    pub(crate) fn is_gathered(&self) -> bool {
        self.second.iov_len > 0
    }
}

/// What became of completions that their queue had no room for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overflows {
    /// Turns that found some kept by the kernel, and took them.
    pub(crate) turns: u64,
    /// Completions that it could not keep, for want of memory: their operations never end.
    pub(crate) lost: u32,
}

/// Numbers of the simulator's descriptors that are to be closed with its next turn.
pub(crate) type Strays = Arc<Mutex<Vec<RawFd>>>;

/// What a driver does; see the module for the contract.
///
/// Calls that never wait are the same for both drivers of the real kernel; the simulator has its own.
///
/// Functions that take raw pointers are unsafe: the caller keeps them valid until the operation's
/// last completion.
pub(crate) trait Driver: TransferCalls {
    /// Which of the three it is, for people and for tests.
    fn kind(&self) -> DriverKind;

    /// The same for a message, with what else tells this one apart.
    fn describe(&self) -> String {
        self.kind().name().to_owned()
    }

    /// Accepts connections until cancelled or failed; each completion brings one descriptor,
    /// non-blocking and close-on-exec. `-EMFILE` and other errors end it.
    fn accept(&mut self, token: Token, listener: &Descriptor);

    /// Receives into pooled buffers until the stream ends (0), fails, is cancelled, or the pool
    /// runs out (`-ENOBUFS`, which is no error of the connection).
    fn receive(&mut self, token: Token, socket: &Descriptor);

    /// Receives into one pooled buffer what is there, or comes first, and completes; whatever doesn't
    /// fit stays in the socket. Else as [`Driver::receive`], which the same socket can't have in flight.
    fn receive_once(&mut self, token: Token, socket: &Descriptor);

    /// Sends bytes once; a short count is possible. `Some` is the result at once, and then no
    /// completion follows. The peer's disappearance is an error, never a signal.
    ///
    /// # Safety
    /// All pointers in `parts` stay valid, and the bytes unchanged, until the last completion.
    unsafe fn send(&mut self, token: Token, socket: &Descriptor, parts: SendParts) -> Option<i32>;

    /// Connects a socket made by [`Driver::open_socket`]; completes with 0 or an error.
    ///
    /// # Safety
    /// `address` stays valid until the last completion.
    unsafe fn connect(&mut self, token: Token, socket: &Descriptor, address: *const ConnectAddress);

    /// Completes with a count of 0 or more as soon as the socket is ready, or in error; for
    /// [`Interest::Notice`] again and again, with `more`.
    fn ready(&mut self, token: Token, socket: &Descriptor, interest: Interest);

    /// Opens a file beneath a directory; completes with its descriptor.
    ///
    /// # Safety
    /// `request` stays valid and unchanged until the last completion.
    unsafe fn open(&mut self, token: Token, request: *const OpenRequest);

    /// Reads once from a file at an offset; completes with a count.
    ///
    /// # Safety
    /// `request` stays valid, and its buffer untouched, until the last completion.
    unsafe fn read(&mut self, token: Token, request: *mut ReadRequest);

    /// Asks for the operation's end. It still completes; nothing happens when none is in flight.
    /// `descriptor` is the one that the operation was given (for an open or a read: none).
    fn cancel(&mut self, token: Token, descriptor: Option<&Descriptor>);

    /// Submits what is queued, waits for a completion (or a wake-up) until `wait` after
    /// [`Driver::now`] at the latest (`None`: without a limit; zero: not at all), and appends the
    /// completions that are there.
    fn turn(&mut self, wait: Option<Duration>, completions: &mut Vec<Completion>)
    -> io::Result<()>;

    /// The monotonic clock when the last turn ended (or the driver was made); virtual in the
    /// simulator.
    fn now(&self) -> Instant;

    /// The wall clock, now; the simulator's is virtual too.
    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }

    /// How often completions had to wait for room in their queue.
    fn overflows(&mut self) -> Overflows {
        Overflows::default()
    }

    /// Ends a `turn` that waits, from any thread.
    fn wake_handle(&self) -> WakeHandle;

    /// The pool that receives take buffers from.
    fn buffers(&self) -> &Rc<BufferPool>;

    /// A descriptor begins its life here (accepted, or opened by this driver): epoll registers it
    /// in its interest set, once.
    fn adopt(&mut self, descriptor: &Descriptor) -> io::Result<()>;

    /// Takes back what [`Driver::adopt`] did, of a descriptor that no operation names: another
    /// driver may adopt it then.
    fn release(&mut self, descriptor: &Descriptor) -> io::Result<()>;

    /// Ends a descriptor that no operation names any more.
    fn close(&mut self, descriptor: Descriptor);

    /// Where the numbers of the simulator's descriptors go that are closed while no driver has them;
    /// `None` for descriptors that the real kernel closes.
    fn strays(&self) -> Option<Strays> {
        None
    }

    /// A listening socket on `address`.
    fn listen(&mut self, address: SocketAddr, options: &ListenOptions) -> io::Result<Descriptor> {
        let mut group = ListenSocket::bind_group(address, 1, options)?;
        Ok(group.remove(0).into_descriptor().into())
    }

    /// A fresh stream socket for the family of `destination`, non-blocking, not yet connected.
    fn open_socket(
        &mut self,
        destination: &Destination,
        options: &SocketOptions,
    ) -> io::Result<Descriptor> {
        Ok(socket::connecting_socket(destination, options)?.into())
    }

    /// `shutdown(2)`; completes a receive in flight with 0 when it shuts the read side.
    ///
    /// A plain call: io_uring would hand it to a kernel worker thread.
    fn shutdown(&mut self, socket: &Descriptor, how: Shutdown) -> io::Result<()> {
        socket::shutdown(socket.as_fd(), how)
    }

    /// Sends at once what fits, without waiting: `WouldBlock` when nothing does. Only while no
    /// send is in flight.
    fn send_now(
        &mut self,
        socket: &Descriptor,
        bytes: &[u8],
        more_follows: bool,
    ) -> io::Result<usize> {
        socket::send_now(socket.as_fd(), bytes, more_follows)
    }

    /// Whether nothing has come that wasn't received yet: no byte, no end, no error.
    fn is_silent(&mut self, socket: &Descriptor) -> bool {
        socket::is_silent(socket.as_fd())
    }

    /// `sendfile(2)`: at once what fits of `count` bytes from `offset`, without waiting for the
    /// socket. 0: the file ends before `offset`. Only while no send is in flight.
    fn send_file(
        &mut self,
        socket: &Descriptor,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        socket::send_file(socket.as_fd(), file, offset, count)
    }

    /// Bytes that the peer's kernel has acknowledged since the connection began.
    fn acknowledged_bytes(&self, socket: &Descriptor) -> io::Result<u64> {
        socket::acknowledged_bytes(socket.as_fd())
    }

    /// The address of the other side.
    fn peer_address(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        socket::peer_address(socket.as_fd())
    }

    /// The address of this side.
    fn local_address(&self, socket: &Descriptor) -> io::Result<SocketAddr> {
        socket::local_address(socket.as_fd())
    }

    /// The CPU that received the connection's last packet (`SO_INCOMING_CPU`).
    fn incoming_cpu(&self, socket: &Descriptor) -> io::Result<u32> {
        socket::incoming_cpu(socket.as_fd())
    }

    /// Turns the close of this socket into a reset (`SO_LINGER` of zero), whoever closes it, or back
    /// into an end.
    fn reset_on_close(&mut self, socket: &Descriptor, is_on: bool) -> io::Result<()> {
        socket::reset_on_close(socket.as_fd(), is_on)
    }
}

/// Which driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// Edge-triggered epoll.
    Epoll,
    /// The simulated kernel of the tests.
    Sim,
}

impl DriverKind {
    /// The word for it in flags, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            DriverKind::Uring => "uring",
            DriverKind::Epoll => "epoll",
            DriverKind::Sim => "sim",
        }
    }
}
