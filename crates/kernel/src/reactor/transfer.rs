//! What the transfer engine needs of a reactor: blocks, pipes, reading ahead, and sends whose bytes
//! stay with the kernel for longer than the send.
//!
//! A zero-copy send is a request of its own: its slot owns the bytes until the kernel says that it
//! has done with them. The socket knows only how many of those there are, and is not closed before
//! the last. A peer that never acknowledges would keep them for ever, so a closed socket with such
//! sends is broken off after [`LINGER`]: the kernel then drops what it had not sent, which is the
//! only way to get the bytes back without a foreign byte ever going out.

use super::requests::Work;
use super::sockets::{SINGLE_RECEIVES, closed, idle_to_send};
use super::{Place, Reactor, RequestKey, SocketKey, Waiter, os_error};
use crate::arena::Arena;
use crate::blocks::{BLOCK_COUNT, Block, BlockPool};
use crate::buffers::Buffer;
use crate::driver::{Completion, Interest, Lane, NOTIFIED_COPIED, Token, ZeroCopyPart};
use crate::file::{BlockRead, File, Mapping, WarmRequest};
use crate::outgoing::Chunk;
use crate::pipe::{Pipe, PipePool};
use crate::residency::Residency;
use crate::slots::{SlotKey, Slots};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long a closed connection may take to acknowledge what it was sent without a copy.
const LINGER: Duration = Duration::from_secs(30);

/// The most that is read ahead in one request.
pub const WARM_BYTES: usize = 256 << 10;

/// Names a pipe that was lent by this reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PipeKey(SlotKey);

/// A worker's means of transfer, made when they are first needed.
#[derive(Default)]
pub(super) struct Transfers {
    blocks: Option<Rc<BlockPool>>,
    /// Who waits for a block, first come first served.
    block_waiters: BTreeMap<u64, Option<Waker>>,
    last_ticket: u64,
    scratch: Option<Rc<Arena>>,
    pipes: PipePool,
    lent_pipes: Slots<Pipe>,
    /// Closed sockets whose bytes the kernel still has, by the time at which they are broken off.
    lingering: VecDeque<(Instant, SocketKey)>,
}

impl Transfers {
    /// Leaves others of this process their descriptors; a simulated one has as many as it likes.
    pub(super) fn limit_pipes(&mut self) {
        self.pipes = PipePool::of_this_process();
    }
}

/// What only sockets with zero-copy sends or spliced receives have.
#[derive(Default)]
pub(super) struct SocketTransfer {
    readable_result: Option<i32>,
    allows_zero_copy: bool,
    /// The number of the next `MSG_ZEROCOPY` send, counted as the kernel does.
    next_number: u32,
    /// Those that were not notified yet.
    noticed: VecDeque<(u32, RequestKey)>,
    /// `SEND_ZC` operations that were not notified yet.
    operations: u32,
    /// One of them has not even been counted: nothing else may be sent.
    pub(super) is_sending: bool,
    is_broken_off: bool,
}

/// A send whose bytes the kernel reads until it notifies.
pub(super) struct ZeroCopySend {
    socket: SocketKey,
    bytes: Chunk,
    /// What the send returned.
    taken: Option<i32>,
}

impl SocketTransfer {
    fn has_bytes_with_kernel(&self) -> bool {
        self.operations > 0 || !self.noticed.is_empty()
    }

    /// Whether another reactor needs to know nothing of it.
    pub(super) fn is_portable(&self) -> bool {
        !self.allows_zero_copy && !self.has_bytes_with_kernel()
    }
}

/// Blocks.
impl Reactor {
    /// A block, when one is free. Whoever waits has a place in line, kept in `ticket` between calls.
    /// It fails when there is no memory for the first one.
    pub fn poll_block(
        &mut self,
        ticket: &mut Option<u64>,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<Block>> {
        let pool = self.block_pool()?;
        let waiting = &mut self.transfers.block_waiters;
        let free = pool.free_count();
        let ahead = waiting.range(..ticket.unwrap_or(u64::MAX));
        if ahead.take(free).count() < free
            && let Some(block) = pool.lease()
        {
            if let Some(ticket) = ticket.take() {
                self.woken.extend(waiting.remove(&ticket).flatten());
            }
            return Poll::Ready(Ok(block));
        }
        let number = *ticket.get_or_insert_with(|| {
            self.transfers.last_ticket += 1;
            self.transfers.last_ticket
        });
        let kept = waiting.entry(number).or_default();
        waiter.wait_at(Place::BlockLine(number), kept);
        Poll::Pending
    }

    /// How many blocks nobody has at the moment. Whoever would keep one for as long as a client likes
    /// can leave the last of them to those who give theirs back at once.
    pub fn free_blocks(&self) -> usize {
        let pool = self.transfers.blocks.as_ref();
        pool.map_or(usize::from(BLOCK_COUNT), |pool| pool.free_count())
    }

    fn block_pool(&mut self) -> io::Result<Rc<BlockPool>> {
        let pool = match &mut self.transfers.blocks {
            Some(pool) => pool,
            none => none.insert(BlockPool::new(&self.memory)?),
        };
        Ok(Rc::clone(pool))
    }

    /// Where the waker of a place in line is kept.
    pub(super) fn block_waker(&mut self, ticket: u64) -> Option<&mut Option<Waker>> {
        self.transfers.block_waiters.get_mut(&ticket)
    }

    /// Gives up a place in line.
    pub fn leave_block_line(&mut self, ticket: u64) {
        let waker = self.transfers.block_waiters.remove(&ticket).flatten();
        // Foreign destructors don't run here: it is woken for nothing instead.
        self.woken.extend(waker);
    }

    /// Wakes as many of those in line as there are blocks.
    pub(super) fn wake_block_waiters(&mut self) {
        let Some(pool) = &self.transfers.blocks else {
            return;
        };
        let served = self.transfers.block_waiters.values_mut();
        let wakers = served.take(pool.free_count()).filter_map(Option::take);
        self.woken.extend(wakers);
    }

    /// Registers the blocks with the ring, so that it reads into them and sends from them without
    /// pinning their pages each time. False where that is refused (most likely by the limit of
    /// locked memory) or makes no sense.
    pub fn register_blocks(&mut self) -> bool {
        let Ok(pool) = self.block_pool() else {
            return false;
        };
        if !pool.is_registered() && self.driver.register_blocks(&pool) {
            pool.set_registered();
        }
        pool.is_registered()
    }
}

/// Files.
impl Reactor {
    /// Whether `count` bytes from `offset` are in memory. Never waits.
    pub fn residency(&mut self, file: &File, offset: u64, count: u64) -> Residency {
        self.driver.residency(file, offset, count)
    }

    /// Reads at once what is in memory.
    ///
    /// # Errors
    /// `WouldBlock` when that has to come from a disk first, `EOPNOTSUPP` where the file system
    /// can't tell; else as `pread(2)`.
    pub fn read_cached(&mut self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.driver.read_cached(file, offset, bytes)
    }

    /// Begins to read a range (at most [`WARM_BYTES`] of it) into memory, to be awaited with
    /// [`Reactor::poll_warmed`].
    ///
    /// # Errors
    /// When there is no memory to read into.
    pub fn warm(&mut self, file: &File, offset: u64, count: usize) -> io::Result<RequestKey> {
        let scratch = match &mut self.transfers.scratch {
            Some(scratch) => scratch,
            none => none.insert(Rc::new(Arena::map_on(WARM_BYTES, &self.memory)?)),
        };
        let request = WarmRequest {
            file: file.clone(),
            offset,
            count: count.min(WARM_BYTES),
            scratch: Rc::clone(scratch),
        };
        let key = self.insert_request(Work::Warm(Box::new(request)));
        if let Some(Work::Warm(request)) = self.work_of(key) {
            let pointer = std::ptr::from_ref(&**request);
            // SAFETY: the slot keeps the boxed request until the completion.
            unsafe { self.driver.warm(Token::new(Lane::Warm, key.0), pointer) };
        }
        Ok(key)
    }

    /// How many bytes were read (0: the file ends before them).
    pub fn poll_warmed(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<usize>> {
        let (_, result) = std::task::ready!(self.poll_request(key, waiter))?;
        Poll::Ready(count_of(result))
    }

    /// Begins to read at most `count` bytes into a block, to be awaited with
    /// [`Reactor::poll_block_read`].
    pub fn read_block(
        &mut self,
        file: &File,
        offset: u64,
        block: Block,
        count: usize,
    ) -> RequestKey {
        let request = BlockRead {
            file: file.clone(),
            offset,
            count: count.min(block.len()),
            block,
        };
        let key = self.insert_request(Work::ReadBlock(Box::new(request)));
        if let Some(Work::ReadBlock(request)) = self.work_of(key) {
            let pointer = std::ptr::from_mut(&mut **request);
            // SAFETY: the slot keeps the boxed request, and nobody touches it, until the
            // completion.
            unsafe {
                self.driver
                    .read_block(Token::new(Lane::ReadBlock, key.0), pointer);
            }
        }
        key
    }

    /// The block again, and how many bytes were read into it (0: the end of the file).
    pub fn poll_block_read(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<(Block, usize)>> {
        let (work, result) = std::task::ready!(self.poll_request(key, waiter))?;
        Poll::Ready(match (work, count_of(result)) {
            (_, Err(error)) => Err(error),
            (Work::ReadBlock(read), Ok(count)) => Ok((read.block, count)),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    /// Sends at once what fits of a mapped file.
    ///
    /// # Errors
    /// `EFAULT` where the file no longer is; else as [`Reactor::send_now`].
    pub fn send_mapped(
        &mut self,
        key: SocketKey,
        mapping: &Mapping,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let socket = idle_to_send(&mut self.sockets, key)?;
        let count = self
            .driver
            .send_mapped(&socket.fd, mapping, offset, count)?;
        socket.sent_total += count as u64;
        Ok(count)
    }
}

fn count_of(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| os_error(-result))
}

/// Pipes.
impl Reactor {
    /// Lends an empty pipe; `None` when as many as may be are lent.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub fn lease_pipe(&mut self) -> io::Result<Option<PipeKey>> {
        let driver = &mut self.driver;
        let pipe = self.transfers.pipes.lease(|| driver.open_pipe())?;
        Ok(pipe.map(|pipe| PipeKey(self.transfers.lent_pipes.insert(pipe))))
    }

    /// Takes a pipe back. What is left in it is lost.
    pub fn return_pipe(&mut self, key: PipeKey) {
        let Some(pipe) = self.transfers.lent_pipes.remove(key.0) else {
            return;
        };
        if let Some(pipe) = self.transfers.pipes.give_back(pipe) {
            self.driver.close_pipe(pipe);
        }
    }

    /// Whether every pipe is lent, so that one who only waits should give his back.
    pub fn wants_pipes(&self) -> bool {
        self.transfers.pipes.is_exhausted()
    }

    /// Bytes in a lent pipe, and how many it can hold.
    pub fn pipe_bytes(&self, key: PipeKey) -> (usize, usize) {
        let pipe = self.transfers.lent_pipes.get(key.0);
        pipe.map_or((0, 0), |pipe| (pipe.held_bytes, pipe.capacity_bytes))
    }

    /// Moves pages of a file into a pipe; 0: the file ends before `offset`.
    ///
    /// # Errors
    /// As `splice(2)`.
    pub fn splice_file(
        &mut self,
        key: PipeKey,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let pipe = self.transfers.lent_pipes.get_mut(key.0);
        let pipe = pipe.ok_or_else(closed)?;
        self.driver.splice_file(pipe, file, offset, count)
    }

    /// Moves received bytes into a pipe, at most `most`; 0: the end of the stream. Only after
    /// [`Reactor::poll_stop_receiving`].
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, or the pipe is full; else as `splice(2)`.
    pub fn splice_in(&mut self, key: PipeKey, socket: SocketKey, most: u64) -> io::Result<usize> {
        let socket = self.sockets.get(socket.0).ok_or_else(closed)?;
        if socket.in_flight.contains(Lane::Receive) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let pipe = self.transfers.lent_pipes.get_mut(key.0);
        let pipe = pipe.ok_or_else(closed)?;
        let room = pipe.capacity_bytes - pipe.held_bytes.min(pipe.capacity_bytes);
        let most = room.min(usize::try_from(most).unwrap_or(usize::MAX));
        self.driver.splice_in(pipe, &socket.fd, most)
    }

    /// Moves what fits of a pipe's bytes into a socket.
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits, or another send is in flight; else as `splice(2)`.
    pub fn splice_out(&mut self, key: PipeKey, socket: SocketKey) -> io::Result<usize> {
        let socket = idle_to_send(&mut self.sockets, socket)?;
        let pipe = self.transfers.lent_pipes.get_mut(key.0);
        let moved = self.driver.splice_out(pipe.ok_or_else(closed)?, &socket.fd);
        if let Err(error) = &moved
            && let Some(errno @ (libc::EPIPE | libc::ECONNRESET)) = error.raw_os_error()
        {
            // It has taken the socket's error: what is received from now on won't tell.
            socket.note_send_error(errno);
        }
        let count = moved?;
        socket.sent_total += count as u64;
        Ok(count)
    }

    /// Stops receiving ahead of the reader: gives what was received until now, then `None`, and from
    /// then on the bytes stay in the socket until they are spliced or received. The next receives
    /// take one buffer each, so that most likely there will be nothing to stop.
    pub fn poll_stop_receiving(
        &mut self,
        key: SocketKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<Option<Buffer>>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        socket.single_receives = SINGLE_RECEIVES;
        if let Some(buffer) = socket.pop_received(&self.buffers) {
            return Poll::Ready(Ok(Some(buffer)));
        }
        if socket.receive_error != 0 {
            return Poll::Ready(Err(os_error(socket.receive_error)));
        }
        if !socket.in_flight.contains(Lane::Receive) {
            socket.is_parked = false;
            return Poll::Ready(Ok(None));
        }
        waiter.wait_at(Place::Reader(key), &mut socket.reader);
        if !std::mem::replace(&mut socket.is_paused, true) {
            let token = Token::new(Lane::Receive, key.0);
            self.driver.cancel(token, Some(&socket.fd));
        }
        Poll::Pending
    }

    /// Ready when something can be spliced from a socket that has stopped receiving.
    pub fn poll_readable(
        &mut self,
        key: SocketKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return Poll::Ready(Err(closed()));
        };
        let transfer = socket.transfer.get_or_insert_default();
        match transfer.readable_result.take() {
            Some(result) if result >= 0 => return Poll::Ready(Ok(())),
            Some(result) => return Poll::Ready(Err(os_error(-result))),
            None => {}
        }
        waiter.wait_at(Place::Reader(key), &mut socket.reader);
        if !socket.in_flight.contains(Lane::ReadReady) {
            socket.in_flight.insert(Lane::ReadReady);
            let token = Token::new(Lane::ReadReady, key.0);
            self.driver.ready(token, &socket.fd, Interest::Readable);
        }
        Poll::Pending
    }

    pub(super) fn complete_readable(&mut self, key: SocketKey, result: i32) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        socket.in_flight.remove(Lane::ReadReady);
        socket.transfer.get_or_insert_default().readable_result = Some(result);
        self.woken.extend(socket.reader.take());
        if socket.is_closing && socket.in_flight.is_empty() {
            self.finish_close(key);
        }
    }
}

/// Zero-copy sends.
impl Reactor {
    /// Whether this driver has an operation for it (`SEND_ZC`).
    pub fn has_zero_copy_operation(&self) -> bool {
        self.driver.has_zero_copy_operation()
    }

    /// Sends at once what fits of `bytes`, without copying them (`MSG_ZEROCOPY`). Their release is
    /// to be awaited with [`Reactor::poll_released`].
    ///
    /// # Errors
    /// `WouldBlock` when nothing fits or another send is in flight; `ENOBUFS` when too many sends
    /// were not notified yet; else as `setsockopt(2)` with `SO_ZEROCOPY` and `send(2)`.
    pub fn send_noticed(
        &mut self,
        key: SocketKey,
        bytes: Chunk,
    ) -> io::Result<(usize, RequestKey)> {
        let socket = idle_to_send(&mut self.sockets, key)?;
        let transfer = socket.transfer.get_or_insert_default();
        if !transfer.allows_zero_copy {
            self.driver.allow_zero_copy(&socket.fd)?;
            transfer.allows_zero_copy = true;
        }
        let part = part_of(&bytes);
        let request = self.insert_request(Work::ZeroCopy(Box::new(ZeroCopySend {
            socket: key,
            bytes,
            taken: None,
        })));
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        // SAFETY: the bytes are on the heap, in a block or static, so they stay where they are; the
        // slot owns them until `release` is called for it, by a notification.
        let sent = unsafe { self.driver.send_noticed(&socket.fd, part) };
        let count = match sent {
            Ok(count) => count,
            Err(error) => {
                self.requests.remove(request.0);
                return Err(error);
            }
        };
        socket.sent_total += count as u64;
        if let Some(Work::ZeroCopy(send)) = self.work_of(request) {
            send.taken = Some(count as i32);
        }
        self.expect_notification(key, request);
        Ok((count, request))
    }

    fn expect_notification(&mut self, key: SocketKey, request: RequestKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        let transfer = socket.transfer.get_or_insert_default();
        let number = transfer.next_number;
        transfer.next_number = number.wrapping_add(1);
        transfer.noticed.push_back((number, request));
        socket.in_flight.insert(Lane::ZeroCopy);
        if !socket.in_flight.contains(Lane::Notice) {
            socket.in_flight.insert(Lane::Notice);
            let token = Token::new(Lane::Notice, key.0);
            self.driver.ready(token, &socket.fd, Interest::Notice);
        }
    }

    /// Notifications may have come.
    pub(super) fn complete_notice(&mut self, key: SocketKey, completion: Completion) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        if !completion.more {
            socket.in_flight.remove(Lane::Notice);
        }
        self.take_notifications(key);
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        let waits = socket
            .transfer
            .as_ref()
            .is_some_and(|it| !it.noticed.is_empty());
        if waits && !socket.in_flight.contains(Lane::Notice) {
            socket.in_flight.insert(Lane::Notice);
            let token = Token::new(Lane::Notice, key.0);
            self.driver.ready(token, &socket.fd, Interest::Notice);
        }
        self.finish_close_if_done(key);
    }

    fn take_notifications(&mut self, key: SocketKey) {
        while let Some(socket) = self.sockets.get_mut(key.0) {
            let Ok(Some(notification)) = self.driver.take_notification(&socket.fd) else {
                return;
            };
            let transfer = socket.transfer.get_or_insert_default();
            let mut released = Vec::new();
            transfer.noticed.retain(|(number, request)| {
                let is_covered = notification.covers(*number);
                if is_covered {
                    released.push(*request);
                }
                !is_covered
            });
            for request in released {
                self.release(request, notification.was_copied);
            }
        }
    }

    /// Submits a zero-copy send (`SEND_ZC`), to be awaited with [`Reactor::poll_taken`] and
    /// [`Reactor::poll_released`].
    ///
    /// # Errors
    /// `WouldBlock` when another send is in flight.
    pub fn send_zero_copy(&mut self, key: SocketKey, bytes: Chunk) -> io::Result<RequestKey> {
        idle_to_send(&mut self.sockets, key)?;
        let part = part_of(&bytes);
        let request = self.insert_request(Work::ZeroCopy(Box::new(ZeroCopySend {
            socket: key,
            bytes,
            taken: None,
        })));
        let socket = self.sockets.get_mut(key.0).ok_or_else(closed)?;
        socket.in_flight.insert(Lane::ZeroCopy);
        let transfer = socket.transfer.get_or_insert_default();
        transfer.operations += 1;
        transfer.is_sending = true;
        let token = Token::new(Lane::ZeroCopy, request.0);
        // SAFETY: the bytes are on the heap, in a block or static, so they stay where they are; the
        // slot owns them until the last completion.
        unsafe { self.driver.send_zero_copy(token, &socket.fd, part) };
        Ok(request)
    }

    pub(super) fn complete_zero_copy(&mut self, key: RequestKey, completion: Completion) {
        let Some(Work::ZeroCopy(send)) = self.work_of(key) else {
            return;
        };
        let (socket_key, is_count) = (send.socket, send.taken.is_none());
        if is_count {
            send.taken = Some(completion.result);
        }
        if let Some(socket) = self.sockets.get_mut(socket_key.0) {
            let transfer = socket.transfer.get_or_insert_default();
            transfer.is_sending &= !is_count;
            transfer.operations -= u32::from(!completion.more);
            if is_count {
                socket.sent_total += completion.result.max(0) as u64;
                if std::mem::take(&mut socket.ends_after_send) && !socket.is_closing {
                    // Its error says what the next receive will.
                    let _ = self.driver.shutdown(&socket.fd, Shutdown::Write);
                }
                self.woken.extend(socket.writer.take());
            }
        }
        if completion.more {
            let waker = self.requests.get_mut(key.0).and_then(|it| it.waker.take());
            self.woken.extend(waker);
            return;
        }
        let was_copied = !is_count && completion.result & NOTIFIED_COPIED != 0;
        self.release(key, was_copied);
        self.finish_close_if_done(socket_key);
    }

    /// Nobody waits for a send any more. What the kernel has of it can't be called back.
    pub(super) fn abandon_zero_copy(&mut self, key: RequestKey) {
        let Some(Work::ZeroCopy(send)) = self.work_of(key) else {
            return;
        };
        let (is_counted, socket) = (send.taken.is_some(), send.socket);
        if !is_counted && let Some(socket) = self.sockets.get(socket.0) {
            let token = Token::new(Lane::ZeroCopy, key.0);
            self.driver.cancel(token, Some(&socket.fd));
        }
    }

    /// The kernel has done with the bytes of a send.
    fn release(&mut self, key: RequestKey, was_copied: bool) {
        let Some(request) = self.requests.get_mut(key.0) else {
            return;
        };
        if let Work::ZeroCopy(send) = &mut request.work {
            send.bytes = Chunk::Static(&[]);
        }
        request.result = Some(i32::from(was_copied));
        self.woken.extend(request.waker.take());
        if request.is_orphaned {
            self.requests.remove(key.0);
        }
    }

    /// How many bytes the kernel has taken of a zero-copy send.
    pub fn poll_taken(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(request) = self.requests.get_mut(key.0) else {
            return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
        };
        let Work::ZeroCopy(send) = &request.work else {
            return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
        };
        match send.taken {
            Some(result) => Poll::Ready(count_of(result)),
            None => {
                waiter.wait_at(Place::Request(key), &mut request.waker);
                Poll::Pending
            }
        }
    }

    /// Whether the kernel copied the bytes of a zero-copy send after all; known when it has done
    /// with them. The key is stale from then on.
    pub fn poll_released(
        &mut self,
        key: RequestKey,
        waiter: &mut Waiter<'_>,
    ) -> Poll<io::Result<bool>> {
        let (_, was_copied) = std::task::ready!(self.poll_request(key, waiter))?;
        Poll::Ready(Ok(was_copied != 0))
    }
}

fn part_of(bytes: &Chunk) -> ZeroCopyPart {
    let slice = bytes.as_slice();
    let registered_index = match bytes {
        Chunk::Block(block, _) => block.registered_index(),
        _ => None,
    };
    ZeroCopyPart {
        start: slice.as_ptr(),
        count: slice.len(),
        registered_index,
    }
}

/// The end.
impl Reactor {
    /// A socket is being closed: if the kernel has bytes of it, the peer has some time to take them,
    /// or none.
    pub(super) fn let_go_of_bytes(&mut self, key: SocketKey, reset: bool) {
        let Some(socket) = self.sockets.get(key.0) else {
            return;
        };
        if !socket.in_flight.contains(Lane::ZeroCopy) {
            return self.finish_close_if_done(key);
        }
        if reset {
            return self.break_off(key);
        }
        let deadline = self.now + LINGER;
        self.transfers.lingering.push_back((deadline, key));
    }

    fn break_off(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        let transfer = socket.transfer.get_or_insert_default();
        if !std::mem::replace(&mut transfer.is_broken_off, true) {
            // What can't be broken off is over already.
            let _ = self.driver.break_off(&socket.fd);
        }
    }

    /// When the next closed connection will have lingered too long.
    pub fn lingers_until(&self) -> Option<Instant> {
        self.transfers.lingering.front().map(|(until, _)| *until)
    }

    /// Breaks off what has lingered too long. How long until the next one.
    pub(super) fn expire_lingering(&mut self) -> Option<Duration> {
        while let Some((deadline, key)) = self.transfers.lingering.front().copied() {
            let is_over = self.sockets.get(key.0).is_none();
            if !is_over && deadline > self.now {
                return Some(deadline - self.now);
            }
            self.transfers.lingering.pop_front();
            self.break_off(key);
        }
        None
    }

    /// Gives those that linger no longer than until `deadline`.
    pub(super) fn hasten_lingering(&mut self, deadline: Instant) {
        for (until, _) in &mut self.transfers.lingering {
            *until = deadline.min(*until);
        }
    }

    /// Closes a socket whose last bytes have come back.
    fn finish_close_if_done(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        let has_bytes = socket
            .transfer
            .as_ref()
            .is_some_and(|transfer| transfer.has_bytes_with_kernel());
        if has_bytes {
            return;
        }
        socket.in_flight.remove(Lane::ZeroCopy);
        if !socket.is_closing {
            return;
        }
        if socket.in_flight.contains(Lane::Notice) {
            let token = Token::new(Lane::Notice, key.0);
            self.driver.cancel(token, Some(&socket.fd));
        } else if socket.in_flight.is_empty() {
            self.finish_close(key);
        }
    }

    /// Closes the pipes; what is lent is closed too.
    pub(super) fn close_pipes(&mut self) {
        let mut pipes = self.transfers.pipes.take_idle();
        for key in self.transfers.lent_pipes.keys() {
            pipes.extend(self.transfers.lent_pipes.remove(key));
        }
        for pipe in pipes {
            self.driver.close_pipe(pipe);
        }
    }

    /// Keeps for ever what the kernel may still write to.
    pub(super) fn leak_transfers(&mut self) {
        std::mem::forget(self.transfers.blocks.take());
        std::mem::forget(self.transfers.scratch.take());
    }
}
