//! The epoll driver: edge-triggered, each descriptor registered once, no call wasted.
//!
//! A descriptor is registered for everything when it is adopted and never modified again. What
//! epoll has said about it is kept in flags: a receive that comes back short clears the readable
//! one, so a request costs one `recv(2)`, and no `EAGAIN`. Cold files go to the blocking pool.

use super::alarm::Alarm;
use super::{
    Completion, Descriptor, Driver, DriverKind, Interest, Lane, SendParts, Token, TransferCalls,
    ZeroCopyPart,
};
use crate::buffers::BufferPool;
use crate::errno::named;
use crate::file::{self, BlockRead, OpenRequest, ReadRequest, WarmRequest};
use crate::pool::BlockingPool;
use crate::reactor::ReactorOptions;
use crate::socket::{self, ConnectAddress};
use crate::wake::WakeHandle;
use crossbeam_queue::SegQueue;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{Timespec, epoll::Event};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events taken in one `epoll_wait`.
const EVENTS: usize = 256;
/// Buffers that one socket may fill, and connections that one listener may accept, in one turn,
/// so that a flood delays nobody else.
const BURST: usize = 8;
const ACCEPT_BURST: usize = 64;
/// The event data of the wake-up descriptor and of the alarm.
const WAKE: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
/// For `epoll_wait`: don't.
const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What epoll has said about a descriptor, and what waits for it.
#[derive(Default)]
struct Watch {
    /// Told apart from the number's next owner: events carry it.
    generation: u32,
    readable: bool,
    writable: bool,
    /// The peer has shut its side: the end of the stream follows the bytes that are left.
    hangup: bool,
    /// There was an urgent byte, before which a read stops short although more can be read.
    urgent: bool,
    /// In the list of descriptors that can go on without a new event.
    is_runnable: bool,
    receive: Option<Token>,
    /// Whether that receive is over with the first bytes.
    receives_once: bool,
    /// Whoever else waits until it is readable: an accept, or only to be told, as the lane says.
    read_wait: Option<Token>,
    write_wait: Option<Token>,
    connect: Option<Token>,
    /// Boxed: most sends fit at once, and wait for nothing.
    send: Option<Box<(Token, SendParts)>>,
    /// Its error queue holds notifications, which are no errors.
    has_notices: bool,
    noticed: bool,
    notice_wait: Option<Token>,
}

/// Watches in a chunk. A hundred thousand of them are never copied to a larger place, which would leave
/// the allocator with the smaller ones; and a chunk fills a page.
const CHUNK_WATCHES: usize = 64;

type WatchChunk = [Watch; CHUNK_WATCHES];

const _: () = assert!(size_of::<WatchChunk>() <= 4096);

/// What the blocking pool brings back.
enum Finished {
    Open(Token, io::Result<OwnedFd>),
    Read(Token, io::Result<usize>, Vec<u8>),
    Warm(Token, io::Result<usize>),
    Block(Token, io::Result<usize>, Vec<u8>),
}

/// A worker's epoll instance.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    /// By the number of the descriptor.
    watches: Vec<Box<WatchChunk>>,
    runnable: VecDeque<RawFd>,
    /// Completions that a submission or a cancel produced, delivered on the next turn.
    completed: Vec<Completion>,
    buffers: Rc<BufferPool>,
    wake: WakeHandle,
    alarm: Alarm,
    now: Instant,
    blocking: BlockingPool,
    finished: Arc<SegQueue<Finished>>,
    reads: BTreeMap<Token, *mut ReadRequest>,
    block_reads: BTreeMap<Token, *mut BlockRead>,
}

impl Epoll {
    pub(crate) fn new(options: &ReactorOptions) -> io::Result<Epoll> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(named("epoll_create1"))?;
        let wake = WakeHandle::with_event()?;
        let event = wake
            .descriptor()
            .expect("this driver's handle has an event");
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, event, EventData::new_u64(WAKE), flags).map_err(named("epoll_ctl"))?;
        let alarm = Alarm::new()?;
        let timer = alarm.descriptor();
        epoll::add(&epoll, timer, EventData::new_u64(ALARM), flags).map_err(named("epoll_ctl"))?;
        Ok(Epoll {
            epoll,
            watches: Vec::new(),
            runnable: VecDeque::new(),
            completed: Vec::new(),
            buffers: BufferPool::new_on(
                options.receive_buffers,
                options.receive_buffer_bytes,
                &options.memory,
            )?,
            wake,
            alarm,
            now: Instant::now(),
            blocking: options.blocking.clone(),
            finished: Arc::new(SegQueue::new()),
            reads: BTreeMap::new(),
            block_reads: BTreeMap::new(),
        })
    }

    fn watch(&mut self, fd: RawFd) -> &mut Watch {
        let index = fd as usize;
        &mut self.watches[index / CHUNK_WATCHES][index % CHUNK_WATCHES]
    }

    /// Lets nothing that epoll has still to say of a descriptor be taken for its next owner's.
    fn forget(&mut self, descriptor: &Descriptor) {
        // What was never adopted may be beyond all chunks.
        let number = descriptor.number();
        if number as usize / CHUNK_WATCHES < self.watches.len() {
            let watch = self.watch(number);
            let generation = watch.generation.wrapping_add(1);
            *watch = Watch {
                generation,
                ..Watch::default()
            };
        }
    }

    fn complete(&mut self, token: Token, result: i32) {
        self.completed.push(Completion::last(token, result));
    }

    fn run_later(&mut self, fd: RawFd) {
        let watch = self.watch(fd);
        if !watch.is_runnable {
            watch.is_runnable = true;
            self.runnable.push_back(fd);
        }
    }

    fn wait(
        &mut self,
        wait: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let limit = match wait {
            Some(Duration::ZERO) => Some(&NO_WAIT),
            _ => None,
        };
        // A time that no clock will show is no limit.
        if let Some(deadline) = wait.and_then(|wait| self.now.checked_add(wait))
            && limit.is_none()
        {
            self.alarm.ring_by(deadline)?;
        }
        let mut space = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let waited = epoll::wait(&self.epoll, &mut space, limit);
        self.now = Instant::now();
        let events = match waited {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(named("epoll_wait")(errno)),
        };
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            match data {
                WAKE => self.wake.clear(),
                ALARM => self.alarm.rang(),
                _ => self.take_event(
                    data as u32 as RawFd,
                    (data >> 32) as u32,
                    flags,
                    completions,
                ),
            }
        }
        Ok(())
    }

    fn take_event(
        &mut self,
        fd: RawFd,
        generation: u32,
        flags: EventFlags,
        completions: &mut Vec<Completion>,
    ) {
        let watch = self.watch(fd);
        if watch.generation != generation {
            return;
        }
        let has_error = flags.contains(EventFlags::ERR);
        watch.noticed |= has_error && watch.has_notices;
        // A reset comes with a hang-up; an error without one may be a notification.
        let ended = flags.contains(EventFlags::HUP) || (has_error && !watch.has_notices);
        watch.hangup |= ended || flags.contains(EventFlags::RDHUP);
        watch.urgent |= flags.contains(EventFlags::PRI);
        watch.readable |= watch.hangup || flags.intersects(EventFlags::IN | EventFlags::PRI);
        watch.writable |= ended || flags.contains(EventFlags::OUT);
        self.advance(fd, completions);
    }

    /// Does what the descriptor's flags allow and somebody waits for.
    fn advance(&mut self, fd: RawFd, completions: &mut Vec<Completion>) {
        // SAFETY: an event of the watch's generation, or its place among the runnable, says that
        // the descriptor wasn't closed since it was adopted: `close` ends both. It isn't closed in
        // here either.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let watch = self.watch(fd);
        if watch.noticed
            && let Some(token) = watch.notice_wait
        {
            watch.noticed = false;
            completions.push(Completion {
                more: true,
                ..Completion::last(token, 1)
            });
        }
        if watch.readable {
            if let Some(token) = watch.receive {
                self.receive_burst(token, borrowed, completions);
            } else if let Some(token) = watch.read_wait {
                if token.lane() == Lane::Accept {
                    self.accept_burst(token, borrowed, completions);
                } else {
                    watch.read_wait = None;
                    completions.push(Completion::last(token, 1));
                }
            }
        }
        let watch = self.watch(fd);
        if !watch.writable {
            return;
        }
        if let Some(token) = watch.connect.take() {
            let result = match rustix::net::sockopt::socket_error(borrowed) {
                Ok(Ok(())) => 0,
                Ok(Err(errno)) | Err(errno) => -errno.raw_os_error(),
            };
            completions.push(Completion::last(token, result));
        } else if let Some((token, parts)) = watch.send.take().map(|send| *send) {
            // SAFETY: `parts` came with `send`, whose caller keeps it valid until the completion.
            if let Some(result) = unsafe { self.try_send(token, borrowed, parts) } {
                completions.push(Completion::last(token, result));
            }
        }
        // Both may wait: when the send has left room, there won't be another edge to tell.
        let watch = self.watch(fd);
        if watch.writable
            && let Some(token) = watch.write_wait.take()
        {
            completions.push(Completion::last(token, 1));
        }
    }

    fn begin_receive(&mut self, token: Token, fd: RawFd, once: bool) {
        let watch = self.watch(fd);
        watch.receive = Some(token);
        watch.receives_once = once;
        if watch.readable {
            self.run_later(fd);
        }
    }

    fn receive_burst(
        &mut self,
        token: Token,
        socket: BorrowedFd<'_>,
        completions: &mut Vec<Completion>,
    ) {
        let fd = socket.as_raw_fd();
        for _ in 0..BURST {
            let Some(id) = self.buffers.take() else {
                self.watch(fd).receive = None;
                let result = -libc::ENOBUFS;
                completions.push(Completion::last(token, result));
                return;
            };
            let capacity = self.buffers.buffer_bytes();
            // SAFETY: a taken buffer of this pool is ours alone, and `capacity` bytes long.
            let space =
                unsafe { std::slice::from_raw_parts_mut(self.buffers.address(id), capacity) };
            match socket::receive_now(socket, space) {
                Ok(count) if count > 0 => {
                    let watch = self.watch(fd);
                    let is_over = watch.receives_once;
                    completions.push(Completion {
                        token,
                        result: count as i32,
                        buffer: Some(id),
                        more: !is_over,
                    });
                    // A short read has emptied the socket: the next bytes raise a new edge.
                    let is_empty = count < capacity && !watch.hangup && !watch.urgent;
                    watch.readable &= !is_empty;
                    if is_over {
                        watch.receive = None;
                    }
                    if is_over || is_empty {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffers.untake(id);
                    let watch = self.watch(fd);
                    (watch.readable, watch.urgent) = (false, false);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffers.untake(id);
                }
                ended => {
                    self.buffers.untake(id);
                    self.watch(fd).receive = None;
                    let result = ended.map_or_else(|error| negative_errno(&error), |_| 0);
                    completions.push(Completion::last(token, result));
                    return;
                }
            }
        }
        self.run_later(fd);
    }

    fn accept_burst(
        &mut self,
        token: Token,
        socket: BorrowedFd<'_>,
        completions: &mut Vec<Completion>,
    ) {
        let fd = socket.as_raw_fd();
        for _ in 0..ACCEPT_BURST {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(socket, flags) {
                Ok(accepted) => {
                    let result = accepted.into_raw_fd();
                    completions.push(Completion {
                        token,
                        result,
                        buffer: None,
                        more: true,
                    });
                }
                Err(Errno::AGAIN) => {
                    self.watch(fd).readable = false;
                    return;
                }
                // The client was gone before it was accepted: accept(2), "Error handling".
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => {
                    self.watch(fd).read_wait = None;
                    let result = -errno.raw_os_error();
                    completions.push(Completion::last(token, result));
                    return;
                }
            }
        }
        self.run_later(fd);
    }

    /// Sends at once, or keeps the send until the socket is writable.
    ///
    /// # Safety
    /// As [`Driver::send`].
    unsafe fn try_send(
        &mut self,
        token: Token,
        socket: BorrowedFd<'_>,
        parts: SendParts,
    ) -> Option<i32> {
        // SAFETY: the caller's promise is passed on; the call is over when it returns.
        match unsafe { socket::send_parts(socket, &parts) } {
            Ok(count) => Some(count as i32),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let watch = self.watch(socket.as_raw_fd());
                watch.writable = false;
                watch.send = Some(Box::new((token, parts)));
                None
            }
            Err(error) => Some(negative_errno(&error)),
        }
    }

    fn take_finished(&mut self, completions: &mut Vec<Completion>) {
        while let Some(finished) = self.finished.pop() {
            let (token, result) = match finished {
                Finished::Open(token, opened) => (
                    token,
                    opened.map_or_else(|error| negative_errno(&error), OwnedFd::into_raw_fd),
                ),
                Finished::Read(token, read, bytes) => {
                    if let Some(request) = self.reads.remove(&token) {
                        // SAFETY: the caller of `read` keeps the request valid until the
                        // completion that is only now being made, and touches it no earlier.
                        unsafe { (*request).bytes = bytes };
                    }
                    (token, count_or_errno(read))
                }
                Finished::Warm(token, read) => (token, count_or_errno(read)),
                Finished::Block(token, read, bytes) => {
                    if let (Some(request), Ok(count)) = (self.block_reads.remove(&token), &read) {
                        // SAFETY: the caller of `read_block` keeps the request valid until the
                        // completion that is only now being made, and touches it no earlier.
                        let request = unsafe { &mut *request };
                        request.block.bytes_mut()[..*count].copy_from_slice(&bytes[..*count]);
                    }
                    (token, count_or_errno(read))
                }
            };
            completions.push(Completion::last(token, result));
        }
    }
}

/// Whether a read that mustn't wait failed for that alone: the bytes aren't in memory, or the file system
/// or the kernel knows no such read, or a seccomp profile refuses it (`preadv2`).
fn needs_a_wait(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)
    )
}

fn count_or_errno(result: io::Result<usize>) -> i32 {
    result.map_or_else(|error| negative_errno(&error), |count| count as i32)
}

fn negative_errno(error: &io::Error) -> i32 {
    -error.raw_os_error().unwrap_or(libc::EIO)
}

impl Driver for Epoll {
    fn kind(&self) -> DriverKind {
        DriverKind::Epoll
    }

    fn accept(&mut self, token: Token, listener: &Descriptor) {
        let listener = listener.number();
        self.watch(listener).read_wait = Some(token);
        if self.watch(listener).readable {
            self.run_later(listener);
        }
    }

    fn receive(&mut self, token: Token, socket: &Descriptor) {
        self.begin_receive(token, socket.number(), false);
    }

    fn receive_once(&mut self, token: Token, socket: &Descriptor) {
        self.begin_receive(token, socket.number(), true);
    }

    unsafe fn send(&mut self, token: Token, socket: &Descriptor, parts: SendParts) -> Option<i32> {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.try_send(token, socket.as_fd(), parts) }
    }

    unsafe fn connect(
        &mut self,
        token: Token,
        socket: &Descriptor,
        address: *const ConnectAddress,
    ) {
        // SAFETY: the caller keeps `address` valid until the completion.
        let address = unsafe { &*address };
        match socket::connect_now(socket.as_fd(), address) {
            Ok(()) => self.complete(token, 0),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
                // The edge that adopting an unconnected socket raised says nothing about this.
                let watch = self.watch(socket.number());
                watch.writable = false;
                watch.readable = false;
                watch.hangup = false;
                watch.connect = Some(token);
            }
            Err(error) => self.complete(token, negative_errno(&error)),
        }
    }

    fn ready(&mut self, token: Token, socket: &Descriptor, interest: Interest) {
        let socket = socket.number();
        let watch = self.watch(socket);
        let is_ready = match interest {
            Interest::Readable => {
                watch.read_wait = Some(token);
                watch.readable
            }
            Interest::Notice => {
                watch.has_notices = true;
                watch.notice_wait = Some(token);
                // What came before this wait raised its edge before it, too.
                watch.noticed = true;
                true
            }
            Interest::Writable => {
                watch.write_wait = Some(token);
                watch.writable
            }
        };
        if is_ready {
            self.run_later(socket);
        }
    }

    unsafe fn open(&mut self, token: Token, request: *const OpenRequest) {
        // SAFETY: the caller keeps `request` valid until the completion.
        let request = unsafe { &*request };
        match request.open_cached() {
            Ok(descriptor) => return self.complete(token, descriptor.into_raw_fd()),
            // Not in the kernel's cache of names, or a kernel before 5.12: it may have to wait.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL)) => {}
            Err(error) => return self.complete(token, negative_errno(&error)),
        }
        let (request, wake) = (request.to_blocking(), self.wake.clone());
        let finished = Arc::clone(&self.finished);
        let job = move || {
            finished.push(Finished::Open(token, request.run()));
            wake.wake();
        };
        if self.blocking.submit(job).is_err() {
            self.complete(token, -libc::EBUSY);
        }
    }

    unsafe fn read(&mut self, token: Token, request: *mut ReadRequest) {
        // SAFETY: the caller keeps `request` valid and untouched until the completion.
        let borrowed = unsafe { &mut *request };
        match borrowed.read_cached() {
            Ok(count) => return self.complete(token, count as i32),
            Err(error) if needs_a_wait(&error) => {}
            Err(error) => return self.complete(token, negative_errno(&error)),
        }
        let mut owned = ReadRequest {
            file: borrowed.file.clone(),
            offset: borrowed.offset,
            bytes: std::mem::take(&mut borrowed.bytes),
        };
        let (finished, wake) = (Arc::clone(&self.finished), self.wake.clone());
        let job = move || {
            let result = owned.read_waiting();
            finished.push(Finished::Read(token, result, owned.bytes));
            wake.wake();
        };
        match self.blocking.submit(job) {
            Ok(()) => drop(self.reads.insert(token, request)),
            Err(_) => self.complete(token, -libc::EBUSY),
        }
    }

    fn cancel(&mut self, token: Token, descriptor: Option<&Descriptor>) {
        // What the blocking pool does can't be called back; it completes when it is done.
        let Some(descriptor) = descriptor else { return };
        let watch = self.watch(descriptor.number());
        let waits = [
            &mut watch.receive,
            &mut watch.read_wait,
            &mut watch.write_wait,
            &mut watch.connect,
            &mut watch.notice_wait,
        ];
        let mut found = waits
            .into_iter()
            .any(|wait| wait.take_if(|armed| *armed == token).is_some());
        found |= watch.send.take_if(|send| send.0 == token).is_some();
        if found {
            self.complete(token, -libc::ECANCELED);
        }
    }

    fn turn(
        &mut self,
        wait: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let can_go_on = !self.completed.is_empty() || !self.runnable.is_empty();
        self.wait(
            if can_go_on {
                Some(Duration::ZERO)
            } else {
                wait
            },
            completions,
        )?;
        for _ in 0..self.runnable.len() {
            let Some(fd) = self.runnable.pop_front() else {
                break;
            };
            if std::mem::take(&mut self.watch(fd).is_runnable) {
                self.advance(fd, completions);
            }
        }
        completions.append(&mut self.completed);
        self.take_finished(completions);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn wake_handle(&self) -> WakeHandle {
        self.wake.clone()
    }

    fn buffers(&self) -> &Rc<BufferPool> {
        &self.buffers
    }

    fn adopt(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        let number = descriptor.number();
        while self.watches.len() <= number as usize / CHUNK_WATCHES {
            let chunk = std::array::from_fn(|_| Watch::default());
            self.watches.push(Box::new(chunk));
        }
        let watch = self.watch(number);
        let generation = watch.generation.wrapping_add(1);
        // A fresh socket takes bytes until it says otherwise; readable it becomes by an event.
        *watch = Watch {
            generation,
            writable: true,
            ..Watch::default()
        };
        let data = EventData::new_u64(u64::from(generation) << 32 | u64::from(number as u32));
        let flags = EventFlags::IN | EventFlags::PRI | EventFlags::OUT;
        let flags = flags | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, descriptor, data, flags)?)
    }

    fn release(&mut self, descriptor: &Descriptor) -> io::Result<()> {
        epoll::delete(&self.epoll, descriptor)?;
        self.forget(descriptor);
        Ok(())
    }

    fn close(&mut self, descriptor: Descriptor) {
        self.forget(&descriptor);
        descriptor.close();
    }

    fn send_now(
        &mut self,
        socket: &Descriptor,
        bytes: &[u8],
        more_follows: bool,
    ) -> io::Result<usize> {
        let sent = socket::send_now(socket.as_fd(), bytes, more_follows);
        self.note_room(socket, &sent);
        sent
    }

    fn send_file(
        &mut self,
        socket: &Descriptor,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let sent = socket::send_file(socket.as_fd(), file, offset, count);
        match sent {
            // Full, or the file ends there: only after the former will there be an edge.
            Ok(some) if some < count && !socket::is_writable(socket.as_fd()) => {
                self.watch(socket.number()).writable = false;
            }
            _ => self.note_room(socket, &sent),
        }
        sent
    }
}

impl TransferCalls for Epoll {
    unsafe fn warm(&mut self, token: Token, request: *const WarmRequest) {
        // SAFETY: the caller keeps `request` valid until the completion.
        let request = unsafe { &*request };
        let (file, offset, count) = (request.file.clone(), request.offset, request.count);
        let (finished, wake) = (Arc::clone(&self.finished), self.wake.clone());
        let job = move || {
            let result = file::warm_waiting(&file, offset, count);
            // Before the answer: the worker's handle is to be the last one.
            drop(file);
            finished.push(Finished::Warm(token, result));
            wake.wake();
        };
        if self.blocking.submit(job).is_err() {
            self.complete(token, -libc::EBUSY);
        }
    }

    unsafe fn read_block(&mut self, token: Token, request: *mut BlockRead) {
        // SAFETY: the caller keeps `request` valid and untouched until the completion.
        let borrowed = unsafe { &mut *request };
        let (file, offset, count) = (borrowed.file.clone(), borrowed.offset, borrowed.count);
        let space = &mut borrowed.block.bytes_mut()[..count];
        match file::read_cached(file.descriptor(), offset, space) {
            Ok(count) => return self.complete(token, count as i32),
            Err(error) if needs_a_wait(&error) => {}
            Err(error) => return self.complete(token, negative_errno(&error)),
        }
        let (finished, wake) = (Arc::clone(&self.finished), self.wake.clone());
        let mut owned = ReadRequest {
            file,
            offset,
            bytes: vec![0; count],
        };
        let job = move || {
            let result = owned.read_waiting();
            let ReadRequest { file, bytes, .. } = owned;
            drop(file);
            finished.push(Finished::Block(token, result, bytes));
            wake.wake();
        };
        match self.blocking.submit(job) {
            Ok(()) => drop(self.block_reads.insert(token, request)),
            Err(_) => self.complete(token, -libc::EBUSY),
        }
    }

    /// Never called: [`TransferCalls::has_zero_copy_operation`] is false.
    unsafe fn send_zero_copy(&mut self, token: Token, _socket: &Descriptor, _part: ZeroCopyPart) {
        self.complete(token, -libc::EOPNOTSUPP);
    }

    /// A full send buffer was seen: the next room raises an edge.
    fn note_room(&mut self, socket: &Descriptor, sent: &io::Result<usize>) {
        if matches!(sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.watch(socket.number()).writable = false;
        }
    }

    /// An empty receive buffer was seen: the next bytes raise an edge.
    fn note_readable(&mut self, socket: &Descriptor, received: &io::Result<usize>) {
        let watch = self.watch(socket.number());
        if matches!(received, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            watch.readable = false;
        }
    }
}
