//! The io_uring driver: one ring for each worker, entered once a turn.
//!
//! Multishot accept and receive, so that an idle connection has one operation in the kernel and
//! holds no buffer; received bytes land in a provided-buffer ring. Entries are gathered during a
//! turn and submitted together with the wait for completions: one system call for a batch.
//!
//! Two things should hardly ever happen. A full completion queue makes completions late: the kernel
//! keeps those that don't fit, and [`Uring::enter`] fetches them; [`Overflows`] counts it. An
//! operation that the kernel hands to one of its own threads (a "punt", two context switches) is
//! counted by the kernel alone, as its trace event `io_uring:io_uring_queue_async_work`;
//! CONTRIBUTING.md says how to read it.

use super::alarm::Alarm;
use super::ladder::{self, Rung, limit_threads};
use super::{
    Completion, Descriptor, Driver, DriverKind, Interest, Overflows, SendParts, Token,
    TransferCalls, ZeroCopyPart,
};
use crate::arena::Arena;
use crate::blocks::{BLOCK_BYTES, BLOCK_COUNT, BlockPool};
use crate::buffers::BufferPool;
use crate::file::{BlockRead, OpenRequest, ReadRequest, WarmRequest};
use crate::numa::MemoryOptions;
use crate::reactor::ReactorOptions;
use crate::socket::{self, ConnectAddress};
use crate::wake::WakeHandle;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The buffer group that every receive selects from; a ring has only one.
const BUFFER_GROUP: u16 = 0;

/// Messages up to this size are first tried by a plain `send(2)`.
const DIRECT_BYTES: usize = 32 << 10;

/// The user data of what nobody waits for.
const NOBODY: u64 = Token::NONE.number();
/// The user data of the polls on the wake-up event and on the alarm; no token has lane 0 and a
/// slot.
const WAKE: u64 = 1;
const ALARM: u64 = 2;

/// A worker's ring, its buffer ring and its wake-up event.
pub(crate) struct Uring {
    /// Before `ring`, so that it ends while the descriptor it names is still open.
    registered: RegisteredRing,
    ring: IoUring,
    rung: Rung,
    queued: Vec<squeue::Entry>,
    buffers: Rc<BufferPool>,
    buffer_ring: Option<BufferRing>,
    wake: WakeHandle,
    wake_is_armed: bool,
    alarm: Alarm,
    alarm_is_armed: bool,
    now: Instant,
    overflowed_turns: u64,
}

impl Uring {
    /// Sets a ring up on the calling thread, which has to be the one that uses it.
    pub(crate) fn new(options: &ReactorOptions) -> io::Result<Uring> {
        Uring::built_by(options, |_, builder| builder.build(options.ring_entries))
    }

    /// The same with rings of `build`: what [`Uring::new`] does of each rung, or refuses in a test.
    pub(super) fn built_by(
        options: &ReactorOptions,
        build: impl FnMut(Rung, &io_uring::Builder) -> io::Result<IoUring>,
    ) -> io::Result<Uring> {
        let completions = options.completion_entries.max(options.ring_entries);
        let (ring, rung) = ladder::set_up(completions, build)?;
        limit_threads(&ring, options.ring_threads, &options.ring_thread_cpus);
        let registered = RegisteredRing::register(ring.as_raw_fd());
        let buffers = BufferPool::new_on(
            options.receive_buffers,
            options.receive_buffer_bytes,
            &options.memory,
        )?;
        let buffer_ring = BufferRing::register(&ring, &buffers, &options.memory)?;
        Ok(Uring {
            ring,
            rung,
            registered,
            queued: Vec::with_capacity(options.ring_entries as usize),
            buffers,
            buffer_ring: Some(buffer_ring),
            wake: WakeHandle::with_event()?,
            wake_is_armed: false,
            alarm: Alarm::new()?,
            alarm_is_armed: false,
            now: Instant::now(),
            overflowed_turns: 0,
        })
    }

    /// With which of the ladder's flags the ring was made.
    pub(super) fn rung(&self) -> Rung {
        self.rung
    }

    /// Whether the kernel has all of these operations (`IORING_REGISTER_PROBE`, Linux 5.6).
    pub(super) fn has_operations(&self, codes: &[u8]) -> io::Result<bool> {
        let mut probe = io_uring::Probe::new();
        self.ring.submitter().register_probe(&mut probe)?;
        Ok(codes.iter().all(|code| probe.is_supported(*code)))
    }

    fn queue(&mut self, token: Token, entry: squeue::Entry) {
        self.queued.push(entry.user_data(token.number()));
    }

    /// Polls the two descriptors that can end a wait; each poll goes on until it says otherwise.
    fn arm_polls(&mut self) {
        let event = self
            .wake
            .descriptor()
            .expect("this driver's handle has an event");
        let polls = [
            (&mut self.wake_is_armed, event, WAKE),
            (&mut self.alarm_is_armed, self.alarm.descriptor(), ALARM),
        ];
        for (is_armed, descriptor, user_data) in polls {
            if !std::mem::replace(is_armed, true) {
                let poll = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), libc::POLLIN as u32)
                    .multi(true);
                self.queued.push(poll.build().user_data(user_data));
            }
        }
    }

    /// Moves queued entries into the submission queue, as many as fit.
    fn fill_submissions(&mut self) {
        let mut submissions = self.ring.submission();
        let room = submissions.capacity() - submissions.len();
        let count = self.queued.len().min(room);
        // SAFETY: what entries point to was promised by the callers of `send`, `connect`, `open`
        // and `read` to stay valid until the last completion; the other operations point nowhere.
        let pushed = unsafe { submissions.push_multiple(&self.queued[..count]) };
        debug_assert!(pushed.is_ok());
        drop(submissions);
        if count == self.queued.len() {
            self.queued.clear();
        } else {
            self.queued.drain(..count);
        }
    }

    /// Submits everything that is queued, in several calls when it is more than the queue holds.
    fn submit_all_but_last(&mut self) -> io::Result<()> {
        loop {
            self.fill_submissions();
            if self.queued.is_empty() {
                return Ok(());
            }
            let count = self.ring.submission().len() as u32;
            match self.registered.enter(count, 0) {
                Ok(()) => {}
                // Completions must be taken first; what is left stays queued for the next turn.
                Err(error) if is_busy(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// One system call: submits what is in the queue, runs what the kernel has put off for this
    /// thread, and waits for one completion at most for `wait`.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let submissions = self.ring.submission();
        let count = submissions.len() as u32;
        let is_overflowed = submissions.cq_overflow();
        let is_idle = count == 0 && !submissions.taskrun() && !is_overflowed;
        drop(submissions);
        self.overflowed_turns += u64::from(is_overflowed);
        let has_completions = !self.ring.completion().is_empty();
        if is_idle && (has_completions || wait == Some(Duration::ZERO)) {
            return Ok(());
        }
        let want = u32::from(!has_completions && wait != Some(Duration::ZERO));
        // A time that no clock will show is no limit.
        if let Some(deadline) = wait.and_then(|wait| self.now.checked_add(wait))
            && want > 0
        {
            self.alarm.ring_by(deadline)?;
        }
        match self.registered.enter(count, want) {
            Ok(()) => Ok(()),
            Err(error) if is_busy(&error) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The completion queue has overflowed, or memory is short: take completions, then go on.
fn is_busy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN))
}

/// The ring's descriptor, registered with this thread so that entering the ring needn't look it up
/// (Linux 5.18); or plain, where that is refused.
struct RegisteredRing {
    ring: RawFd,
    index: Option<u32>,
}

/// `IORING_REGISTER_RING_FDS` and its inverse (`linux/io_uring.h`).
const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
/// `IORING_ENTER_REGISTERED_RING`.
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

impl RegisteredRing {
    fn register(ring: RawFd) -> RegisteredRing {
        let mut update = RingUpdate {
            offset: u32::MAX,
            reserved: 0,
            data: ring as u64,
        };
        // SAFETY: `update` is one `io_uring_rsrc_update`, which the kernel reads and writes.
        let count = unsafe {
            let update = &raw mut update;
            libc::syscall(
                libc::SYS_io_uring_register,
                ring,
                REGISTER_RING_FDS,
                update,
                1,
            )
        };
        RegisteredRing {
            ring,
            index: (count == 1).then_some(update.offset),
        }
    }

    fn enter(&self, submit: u32, want: u32) -> io::Result<()> {
        let mut flags = EnterFlags::GETEVENTS.bits();
        let ring = match self.index {
            Some(index) => {
                flags |= ENTER_REGISTERED_RING;
                index as RawFd
            }
            None => self.ring,
        };
        let no_signal_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the descriptor is this driver's ring, and no argument points anywhere. What the
        // submitted entries point to is their submitters' promise.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring,
                submit,
                want,
                flags,
                no_signal_mask,
                0,
            )
        };
        if entered < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl Drop for RegisteredRing {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        let update = RingUpdate {
            offset: index,
            reserved: 0,
            data: 0,
        };
        // SAFETY: `update` is one `io_uring_rsrc_update`, which the kernel reads. On another
        // thread than the one that registered it, this is refused and does nothing.
        unsafe {
            let update = &raw const update;
            libc::syscall(
                libc::SYS_io_uring_register,
                self.ring,
                UNREGISTER_RING_FDS,
                update,
                1,
            )
        };
    }
}

impl Driver for Uring {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    fn accept(&mut self, token: Token, listener: &Descriptor) {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        self.queue(
            token,
            opcode::AcceptMulti::new(Fd(listener.number()))
                .flags(flags)
                .build(),
        );
    }

    fn receive(&mut self, token: Token, socket: &Descriptor) {
        self.queue(
            token,
            opcode::RecvMulti::new(Fd(socket.number()), BUFFER_GROUP).build(),
        );
    }

    fn receive_once(&mut self, token: Token, socket: &Descriptor) {
        let most = self.buffers.buffer_bytes() as u32;
        let selected = std::ptr::null_mut();
        let receive = opcode::Recv::new(Fd(socket.number()), selected, most)
            .buf_group(BUFFER_GROUP)
            .build();
        self.queue(token, receive.flags(squeue::Flags::BUFFER_SELECT));
    }

    /// A small message that fits is sent by a plain call: a submission and its completion cost 800
    /// instructions more than `send(2)` does. What doesn't fit, and what is too large to, goes
    /// through the ring, whose `MSG_WAITALL` saves the completions of the parts.
    unsafe fn send(&mut self, token: Token, socket: &Descriptor, parts: SendParts) -> Option<i32> {
        let is_small = parts.first.iov_len + parts.second.iov_len <= DIRECT_BYTES;
        if parts.is_first && is_small {
            // SAFETY: the caller's promise is passed on; the call is over when it returns.
            match unsafe { socket::send_parts(socket.as_fd(), &parts) } {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(-error.raw_os_error().unwrap_or(libc::EIO)),
                Ok(count) => return Some(count as i32),
            }
        }
        let mut flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if parts.more_follows {
            flags |= libc::MSG_MORE;
        }
        let entry = if parts.is_gathered() {
            opcode::SendMsg::new(Fd(socket.number()), parts.message)
                .flags(flags as u32)
                .build()
        } else {
            let length = parts.first.iov_len.min(u32::MAX as usize) as u32;
            opcode::Send::new(Fd(socket.number()), parts.first.iov_base.cast(), length)
                .flags(flags)
                .build()
        };
        self.queue(token, entry);
        None
    }

    unsafe fn connect(
        &mut self,
        token: Token,
        socket: &Descriptor,
        address: *const ConnectAddress,
    ) {
        // SAFETY: the caller keeps `address` valid until the last completion.
        let address = unsafe { &*address };
        let entry =
            opcode::Connect::new(Fd(socket.number()), address.as_ptr(), address.length()).build();
        self.queue(token, entry);
    }

    fn ready(&mut self, token: Token, socket: &Descriptor, interest: Interest) {
        let events = match interest {
            Interest::Readable => libc::POLLIN | libc::POLLRDHUP,
            Interest::Writable => libc::POLLOUT,
            Interest::Notice => libc::POLLERR,
        };
        // A poll ends with a hang-up too, whatever it is for: only one that goes on, and tells of
        // changes alone, can wait for notifications that come after that.
        let goes_on = interest == Interest::Notice;
        let poll = opcode::PollAdd::new(Fd(socket.number()), events as u32).multi(goes_on);
        self.queue(token, poll.build());
    }

    unsafe fn open(&mut self, token: Token, request: *const OpenRequest) {
        // SAFETY: the caller keeps `request` valid until the last completion.
        let request = unsafe { &*request };
        let directory = Fd(request.directory_descriptor());
        let entry = opcode::OpenAt2::new(directory, request.path().as_ptr(), request.how()).build();
        self.queue(token, entry);
    }

    unsafe fn read(&mut self, token: Token, request: *mut ReadRequest) {
        // SAFETY: the caller keeps `request` valid, and lets nobody else touch it.
        let request = unsafe { &mut *request };
        let length = request.bytes.len().min(u32::MAX as usize) as u32;
        let entry = opcode::Read::new(
            Fd(request.file.descriptor().as_raw_fd()),
            request.bytes.as_mut_ptr(),
            length,
        )
        .offset(request.offset)
        .build();
        self.queue(token, entry);
    }

    fn cancel(&mut self, token: Token, _descriptor: Option<&Descriptor>) {
        let cancel = CancelBuilder::user_data(token.number());
        self.queue(Token::NONE, opcode::AsyncCancel2::new(cancel).build());
    }

    fn turn(
        &mut self,
        wait: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if let Some(buffer_ring) = &mut self.buffer_ring {
            buffer_ring.refill(&self.buffers);
        }
        self.arm_polls();
        self.submit_all_but_last()?;
        self.enter(wait)?;
        self.now = Instant::now();
        for entry in self.ring.completion() {
            match entry.user_data() {
                NOBODY => continue,
                WAKE => {
                    self.wake_is_armed = cqueue::more(entry.flags());
                    self.wake.clear();
                    continue;
                }
                ALARM => {
                    self.alarm_is_armed = cqueue::more(entry.flags());
                    self.alarm.rang();
                    continue;
                }
                _ => {}
            }
            completions.push(Completion {
                token: Token::from_number(entry.user_data()),
                result: entry.result(),
                buffer: cqueue::buffer_select(entry.flags()),
                more: cqueue::more(entry.flags()),
            });
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn overflows(&mut self) -> Overflows {
        Overflows {
            turns: self.overflowed_turns,
            lost: self.ring.completion().overflow(),
        }
    }

    fn wake_handle(&self) -> WakeHandle {
        self.wake.clone()
    }

    fn buffers(&self) -> &Rc<BufferPool> {
        &self.buffers
    }

    fn adopt(&mut self, _descriptor: &Descriptor) -> io::Result<()> {
        Ok(())
    }

    fn release(&mut self, _descriptor: &Descriptor) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, descriptor: Descriptor) {
        descriptor.close();
    }
}

/// `IORING_SEND_ZC_REPORT_USAGE` (`linux/io_uring.h`, Linux 6.2).
const REPORT_USAGE: u16 = 1 << 3;

impl TransferCalls for Uring {
    unsafe fn warm(&mut self, token: Token, request: *const WarmRequest) {
        // SAFETY: the caller keeps `request` valid until the last completion.
        let request = unsafe { &*request };
        let (file, space) = (
            Fd(request.file.descriptor().as_raw_fd()),
            request.scratch_address(),
        );
        let read = opcode::Read::new(file, space, request.count as u32);
        self.queue(token, read.offset(request.offset).build());
    }

    unsafe fn read_block(&mut self, token: Token, request: *mut BlockRead) {
        // SAFETY: the caller keeps `request` valid until the last completion.
        let request = unsafe { &*request };
        let file = Fd(request.file.descriptor().as_raw_fd());
        let (space, count) = (request.block.address(), request.count as u32);
        let entry = match request.block.registered_index() {
            Some(index) => opcode::ReadFixed::new(file, space, count, index)
                .offset(request.offset)
                .build(),
            None => opcode::Read::new(file, space, count)
                .offset(request.offset)
                .build(),
        };
        self.queue(token, entry);
    }

    fn register_blocks(&mut self, pool: &Rc<BlockPool>) -> bool {
        let blocks: Vec<libc::iovec> = (0..BLOCK_COUNT)
            .map(|index| libc::iovec {
                iov_base: pool.address(index).cast(),
                iov_len: BLOCK_BYTES,
            })
            .collect();
        // SAFETY: the blocks are mapped for as long as the reactor has the pool, which is until
        // after the driver's end, or for ever; the kernel has the pages pinned itself.
        unsafe { self.ring.submitter().register_buffers(&blocks) }.is_ok()
    }

    fn has_zero_copy_operation(&self) -> bool {
        true
    }

    unsafe fn send_zero_copy(&mut self, token: Token, socket: &Descriptor, part: ZeroCopyPart) {
        let count = part.count.min(u32::MAX as usize) as u32;
        let send = opcode::SendZc::new(Fd(socket.number()), part.start, count)
            .buf_index(part.registered_index)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .zc_flags(REPORT_USAGE);
        self.queue(token, send.build());
    }
}

/// The ring through which buffers go back to the kernel: 16 bytes an entry, the tail inside the
/// first one (`struct io_uring_buf_ring`, Linux 5.19).
struct BufferRing {
    memory: Arena,
    entries: u16,
    tail: u16,
}

/// `struct io_uring_buf` up to its last field, which in the first entry is the ring's tail.
const ENTRY_BYTES: usize = 16;
const ENTRY_LENGTH: usize = 8;
const ENTRY_ID: usize = 12;
const RING_TAIL: usize = 14;

impl BufferRing {
    fn register(
        ring: &IoUring,
        buffers: &BufferPool,
        memory: &MemoryOptions,
    ) -> io::Result<BufferRing> {
        let entries = buffers.count().next_power_of_two();
        let memory = Arena::map_on(usize::from(entries) * ENTRY_BYTES, memory)?;
        let address = memory.at(0) as u64;
        let submitter = ring.submitter();
        // SAFETY: the mapping is page-aligned, holds `entries` entries, and is unmapped only after
        // the ring was closed or the group unregistered (`Drop` of `Uring`).
        unsafe { submitter.register_buf_ring_with_flags(address, entries, BUFFER_GROUP, 0) }?;
        Ok(BufferRing {
            memory,
            entries,
            tail: 0,
        })
    }

    /// Hands every buffer that is at home to the kernel.
    fn refill(&mut self, buffers: &BufferPool) {
        let before = self.tail;
        while let Some(id) = buffers.take() {
            let offset = usize::from(self.tail & (self.entries - 1)) * ENTRY_BYTES;
            self.write(offset, buffers.address(id) as u64);
            self.write(offset + ENTRY_LENGTH, buffers.buffer_bytes() as u32);
            self.write(offset + ENTRY_ID, id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            let tail = self.memory.at(RING_TAIL).cast::<u16>();
            // SAFETY: the tail's address is aligned, inside the mapping, and shared with the
            // kernel, which reads it atomically.
            let tail = unsafe { AtomicU16::from_ptr(tail) };
            // Release: the entries are visible before the tail that covers them.
            tail.store(self.tail, Ordering::Release);
        }
    }

    /// Writes one field by a raw pointer: the kernel reads the same memory, so no reference to it
    /// may exist.
    fn write<T>(&self, offset: usize, value: T) {
        let field = self.memory.at(offset).cast::<T>();
        // SAFETY: the field lies inside the mapping, is aligned (the entry is, and the offset is a
        // multiple of the field's size), and belongs to an entry that the kernel doesn't read
        // before the tail covers it.
        unsafe { field.write(value) };
    }
}

impl Drop for Uring {
    /// Usually only the two polls are in flight, and the buffers that the ring still holds are taken from
    /// the kernel before they are unmapped. What else is in flight past a teardown's patience has its
    /// memory from the reactor, which has leaked it then, the buffers as well.
    fn drop(&mut self) {
        let unregistered = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
        if unregistered.is_err()
            && let Some(buffer_ring) = self.buffer_ring.take()
        {
            buffer_ring.memory.leak();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_ring_s_threads_are_bounded_and_have_their_cpus() {
        let options = ReactorOptions {
            ring_threads: 3,
            ring_thread_cpus: vec![crate::cpu::allowed().unwrap()[0], 1 << 20],
            ..probe::tiny()
        };
        let ring = match Uring::new(&options) {
            Ok(ring) => ring,
            Err(error) => return eprintln!("SKIP uring: {error}"),
        };
        // Zeroes change nothing, and tell what holds.
        let mut counts = [0, 0];
        match ring.ring.submitter().register_iowq_max_workers(&mut counts) {
            Ok(()) => assert_eq!(counts, [3, 3]),
            Err(error) => eprintln!("SKIP uring: {error}"),
        }
        // What was set can be taken back, once.
        assert!(ring.ring.submitter().unregister_iowq_aff().is_ok());
    }

    /// A thread has room for 16 registered rings (`IO_RINGFD_REG_MAX`), and the entry of one that
    /// is closed without having been taken out stays.
    #[test]
    fn a_ring_that_ends_gives_its_registration_back() {
        let options = probe::tiny();
        let ring = || Uring::new(&options);
        match ring() {
            Err(error) => return eprintln!("SKIP uring: {error}"),
            Ok(ring) if ring.registered.index.is_none() => {
                return eprintln!("SKIP uring: this kernel registers no rings");
            }
            Ok(_) => {}
        }
        for count in 2..=40 {
            let ring = ring().unwrap();
            assert!(ring.registered.index.is_some(), "ring {count}");
        }
    }
}
