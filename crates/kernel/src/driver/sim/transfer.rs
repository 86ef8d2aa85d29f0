//! What the transfer engine asks of a simulated kernel: pages that are cold or not told of, pipes,
//! and notifications that come late, or only when a connection is broken off.

use super::SimWorld;
use super::driver::SimDriver;
use super::endpoint::EndpointId;
use super::memory::{self, BlockMemory, SendMemory, WarmMemory};
use super::operation::Kind;
use super::state::{Event, State};
use super::violation;
use crate::driver::{Descriptor, Token, TransferCalls, ZeroCopyPart};
use crate::file::{BlockRead, File, Mapping, WarmRequest};
use crate::pipe::Pipe;
use crate::residency::Residency;
use crate::zero_copy::Notification;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;

const PIPE_BYTES: usize = 1 << 16;

/// Sends by `MSG_ZEROCOPY` of one end of a stream.
#[derive(Default)]
pub(super) struct Notices {
    next_number: u32,
    /// The bytes that the kernel has, and whether it keeps them until the connection breaks.
    pending: BTreeMap<u32, (SendMemory, bool)>,
    ready: VecDeque<Notification>,
}

impl State {
    fn check_allowed(&self) -> io::Result<()> {
        if self.options.denies_transfers {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(())
    }

    pub(super) fn has_notice(&self, id: EndpointId) -> bool {
        let notices = self.notices.get(&id);
        notices.is_some_and(|notices| !notices.ready.is_empty())
    }

    /// The kernel has done with the bytes of a send.
    pub(super) fn notify(&mut self, id: EndpointId, number: u32) {
        let was_copied = self.random.chance(self.options.copied);
        let Some(notices) = self.notices.get_mut(&id) else {
            return;
        };
        let Some((memory, _)) = notices.pending.remove(&number) else {
            return;
        };
        if !memory.is_unchanged() {
            violation(format_args!(
                "the bytes of zero-copy send {number} changed before its notification"
            ));
        }
        match notices.ready.back_mut() {
            Some(last) if last.was_copied == was_copied && last.last.wrapping_add(1) == number => {
                last.last = number;
            }
            _ => notices.ready.push_back(Notification {
                first: number,
                last: number,
                was_copied,
            }),
        }
        if let Some(number) = self.endpoints.get(&id).and_then(|it| it.descriptor) {
            self.poke(number);
        }
    }

    /// Ends the notices of a socket that is closed, when there are no bytes of it any more.
    pub(super) fn forget_notices(&mut self, number: RawFd) {
        let Some(id) = self.stream_of(number) else {
            return;
        };
        let left = self.notices.remove(&id).map_or(0, |it| it.pending.len());
        if left > 0 && !std::thread::panicking() {
            violation(format_args!(
                "close of {number} while the kernel has bytes of {left} sends"
            ));
        }
    }
}

impl SimDriver {
    fn fill_pipe(&self, state: &mut State, pipe: &mut Pipe, bytes: &[u8]) {
        let Some(held) = state.pipes.get_mut(&pipe.number) else {
            violation(format_args!("{pipe:?} is not open"));
        };
        held.extend(bytes);
        pipe.held_bytes += bytes.len();
    }
}

impl TransferCalls for SimDriver {
    fn residency(&mut self, _file: &File, _offset: u64, _count: u64) -> Residency {
        let state = &mut *self.world().state.borrow_mut();
        if state.random.chance(state.options.cold) {
            Residency::Cold
        } else if state.random.chance(state.options.untold) {
            Residency::Unknown
        } else {
            Residency::Resident
        }
    }

    fn read_cached(&mut self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.world().state.borrow_mut();
        if state.random.chance(state.options.cold) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        if state.random.chance(state.options.untold) {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let most = state.random.shorten(state.options.short_read, bytes.len());
        let read = memory::read_file(file.descriptor(), offset, most)?;
        bytes[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    unsafe fn warm(&mut self, token: Token, request: *const WarmRequest) {
        // SAFETY: the caller keeps the request valid until the last completion; the memory is used
        // by the operation alone, which ends with that.
        let memory = unsafe { WarmMemory::new(request) };
        self.begin(token, None, Kind::Warm(memory));
    }

    unsafe fn read_block(&mut self, token: Token, request: *mut BlockRead) {
        // SAFETY: the caller keeps the request valid, and leaves its block alone, until the last
        // completion; the memory is used by the operation alone, which ends with that.
        let memory = unsafe { BlockMemory::new(request) };
        self.begin(token, None, Kind::ReadBlock(memory));
    }

    fn open_pipe(&mut self) -> io::Result<Pipe> {
        let state = &mut *self.world().state.borrow_mut();
        let number = state.fresh_serial();
        state.pipes.insert(number, VecDeque::new());
        Ok(Pipe {
            ends: None,
            number,
            capacity_bytes: PIPE_BYTES,
            held_bytes: 0,
        })
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        let held = self.world().state.borrow_mut().pipes.remove(&pipe.number);
        let held = held.map(|bytes| bytes.len());
        if held != Some(pipe.held_bytes) {
            violation(format_args!("{pipe:?} holds {held:?}"));
        }
    }

    fn splice_file(
        &mut self,
        pipe: &mut Pipe,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let world: SimWorld = self.world().clone();
        let state = &mut *world.state.borrow_mut();
        state.check_allowed()?;
        let most = count.min(pipe.capacity_bytes - pipe.held_bytes);
        let most = state.random.shorten(state.options.short_read, most);
        let bytes = memory::read_file(file.descriptor(), offset, most)?;
        self.fill_pipe(state, pipe, &bytes);
        Ok(bytes.len())
    }

    fn splice_in(
        &mut self,
        pipe: &mut Pipe,
        socket: &Descriptor,
        count: usize,
    ) -> io::Result<usize> {
        let world: SimWorld = self.world().clone();
        let state = &mut *world.state.borrow_mut();
        state.check_allowed()?;
        let Some(id) = state.stream_of(socket.number()) else {
            violation(format_args!("{socket:?} is not an open stream"));
        };
        let Some(endpoint) = state.endpoints.get_mut(&id) else {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        };
        if !endpoint.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if endpoint.inbox.is_empty() {
            return match endpoint.take_end() {
                0 => Ok(0),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            };
        }
        let most = endpoint.inbox.len().min(count);
        let count = state.random.shorten(state.options.short_read, most);
        let bytes: Vec<u8> = endpoint.inbox.drain(..count).collect();
        if let Some(peer) = endpoint.peer {
            let latency = state.latency();
            state.schedule(latency, Event::Acknowledge(peer, count));
        }
        self.fill_pipe(state, pipe, &bytes);
        Ok(count)
    }

    fn splice_out(&mut self, pipe: &mut Pipe, socket: &Descriptor) -> io::Result<usize> {
        let world: SimWorld = self.world().clone();
        let state = &mut *world.state.borrow_mut();
        state.check_allowed()?;
        let (id, room) = self.room(state, socket.number())?;
        let most = room.min(pipe.held_bytes);
        let count = state.random.shorten(state.options.short_write, most);
        let held = state.pipes.get_mut(&pipe.number);
        let bytes: Vec<u8> = held.map_or(Vec::new(), |held| held.drain(..count).collect());
        state.transmit(id, &bytes);
        pipe.held_bytes -= count;
        Ok(count)
    }

    fn send_mapped(
        &mut self,
        socket: &Descriptor,
        mapping: &Mapping,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let world: SimWorld = self.world().clone();
        let state = &mut *world.state.borrow_mut();
        let (id, room) = self.room(state, socket.number())?;
        let count = state
            .random
            .shorten(state.options.short_write, count.min(room));
        let bytes = memory::read_file(mapping.file().descriptor(), offset, count)?;
        if bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        state.transmit(id, &bytes);
        Ok(bytes.len())
    }

    fn allow_zero_copy(&mut self, _socket: &Descriptor) -> io::Result<()> {
        self.world().state.borrow().check_allowed()
    }

    unsafe fn send_noticed(
        &mut self,
        socket: &Descriptor,
        part: ZeroCopyPart,
    ) -> io::Result<usize> {
        let world: SimWorld = self.world().clone();
        let state = &mut *world.state.borrow_mut();
        state.check_allowed()?;
        let (id, room) = self.room(state, socket.number())?;
        if state.random.chance(state.options.notice_shortage) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let most = part.count.min(room);
        let count = state.random.shorten(state.options.short_write, most);
        let part = ZeroCopyPart { count, ..part };
        // SAFETY: the caller keeps the bytes valid until the notification, which ends the memory.
        let memory = unsafe { SendMemory::of_zero_copy(part) };
        state.transmit(id, &memory.copy(count));
        let is_withheld = state.random.chance(state.options.withheld_notice);
        let notices = state.notices.entry(id).or_default();
        let number = notices.next_number;
        notices.next_number = number.wrapping_add(1);
        notices.pending.insert(number, (memory, is_withheld));
        if !is_withheld {
            let delay = state.random.nanoseconds(&state.options.notice);
            state.schedule(delay, Event::Notify(id, number));
        }
        Ok(count)
    }

    fn take_notification(&mut self, socket: &Descriptor) -> io::Result<Option<Notification>> {
        let state = &mut *self.world().state.borrow_mut();
        let id = state.stream_of(socket.number());
        let notices = id.and_then(|id| state.notices.get_mut(&id));
        Ok(notices.and_then(|notices| notices.ready.pop_front()))
    }

    fn has_zero_copy_operation(&self) -> bool {
        self.world().state.borrow().options.has_zero_copy_operation
    }

    unsafe fn send_zero_copy(&mut self, token: Token, socket: &Descriptor, part: ZeroCopyPart) {
        // SAFETY: the caller keeps the bytes valid and unchanged until the last completion; the
        // memory is used by the operation alone, which ends with that.
        let memory = unsafe { SendMemory::of_zero_copy(part) };
        self.begin(token, Some(socket.number()), Kind::ZeroCopy(memory));
    }

    fn break_off(&mut self, socket: &Descriptor) -> io::Result<()> {
        let state = &mut *self.world().state.borrow_mut();
        let Some(id) = state.stream_of(socket.number()) else {
            violation(format_args!("{socket:?} is not an open stream"));
        };
        state.abort_stream(id);
        let notices = state.notices.get(&id);
        let pending: Vec<u32> = notices.map_or(Vec::new(), |notices| {
            notices.pending.keys().copied().collect()
        });
        for number in pending {
            let delay = state.random.nanoseconds(&state.options.submission);
            state.schedule(delay, Event::Notify(id, number));
        }
        Ok(())
    }
}
