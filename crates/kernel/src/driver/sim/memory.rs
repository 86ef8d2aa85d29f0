//! The memory that operations point to: all raw pointers of the simulated kernel.
//!
//! Like a real kernel it reads and writes when an operation goes on, not when it was submitted, so
//! memory that was freed too early is seen by a sanitizer, and bytes that changed by a checksum.

use super::super::{SendParts, ZeroCopyPart};
use crate::buffers::BufferPool;
use crate::file::{self, BlockRead, OpenRequest, ReadRequest, WarmRequest};
use crate::socket::ConnectAddress;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The bytes of a send in flight.
#[derive(Clone, Copy)]
pub(super) struct SendMemory {
    parts: SendParts,
    /// Of the bytes when they were submitted.
    checksum: u64,
}

impl SendMemory {
    /// # Safety
    /// Whatever `parts` points to stays valid for as long as the result, or a copy, is used.
    pub(super) unsafe fn new(parts: SendParts) -> SendMemory {
        let mut memory = SendMemory { parts, checksum: 0 };
        memory.checksum = memory.compute_checksum();
        memory
    }

    /// # Safety
    /// As [`SendMemory::new`], for the bytes of a zero-copy send.
    pub(super) unsafe fn of_zero_copy(part: ZeroCopyPart) -> SendMemory {
        let run = |start: *const u8, iov_len| libc::iovec {
            iov_base: start.cast_mut().cast(),
            iov_len,
        };
        let parts = SendParts {
            message: std::ptr::null(),
            first: run(part.start, part.count),
            second: run(std::ptr::null(), 0),
            more_follows: false,
            is_first: true,
        };
        // SAFETY: the caller's promise is passed on.
        unsafe { SendMemory::new(parts) }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.first.iov_len + self.parts.second.iov_len
    }

    /// The first `count` bytes, as they are now.
    pub(super) fn copy(&self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.runs().concat();
        bytes.truncate(count);
        bytes
    }

    /// Whether the bytes are still those that were submitted.
    pub(super) fn is_unchanged(&self) -> bool {
        self.compute_checksum() == self.checksum
    }

    /// FNV-1a.
    fn compute_checksum(&self) -> u64 {
        self.runs()
            .into_iter()
            .flatten()
            .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }

    fn runs(&self) -> [&[u8]; 2] {
        if !self.parts.is_gathered() {
            return [self.run(self.parts.first), &[]];
        }
        // SAFETY: a gathered send comes with a message header, which `new`'s caller keeps valid.
        let message = unsafe { *self.parts.message };
        assert_eq!(message.msg_iovlen, 2, "a gathered send has two runs");
        // SAFETY: the header's iovecs live beside it, kept valid by the same promise.
        let iovecs = unsafe { std::slice::from_raw_parts(message.msg_iov, 2) };
        let lengths = [iovecs[0].iov_len, iovecs[1].iov_len];
        assert_eq!(
            lengths,
            [self.parts.first.iov_len, self.parts.second.iov_len]
        );
        [self.run(iovecs[0]), self.run(iovecs[1])]
    }

    fn run(&self, run: libc::iovec) -> &[u8] {
        if run.iov_len == 0 {
            return &[];
        }
        // SAFETY: `new`'s caller keeps the bytes valid, and unchanged, while `self` is used.
        unsafe { std::slice::from_raw_parts(run.iov_base.cast::<u8>(), run.iov_len) }
    }
}

/// The address of a connect in flight.
#[derive(Clone, Copy)]
pub(super) struct ConnectMemory(*const ConnectAddress);

impl ConnectMemory {
    /// # Safety
    /// `address` stays valid for as long as the result, or a copy, is used.
    pub(super) unsafe fn new(address: *const ConnectAddress) -> ConnectMemory {
        ConnectMemory(address)
    }

    pub(super) fn destination(self) -> SocketAddr {
        // SAFETY: `new`'s caller keeps the address valid, and nobody writes to it.
        let address = unsafe { &*self.0 };
        address.tcp.expect("the simulator opens no other sockets")
    }
}

/// The request of an open in flight.
#[derive(Clone, Copy)]
pub(super) struct OpenMemory(*const OpenRequest);

impl OpenMemory {
    /// # Safety
    /// `request` stays valid and unchanged for as long as the result, or a copy, is used.
    pub(super) unsafe fn new(request: *const OpenRequest) -> OpenMemory {
        OpenMemory(request)
    }

    /// Opens the real file.
    pub(super) fn open(self) -> io::Result<OwnedFd> {
        // SAFETY: `new`'s caller keeps the request valid, and nobody writes to it.
        let request = unsafe { &*self.0 };
        request.to_blocking().run()
    }
}

/// The request of a read in flight.
#[derive(Clone, Copy)]
pub(super) struct ReadMemory(*mut ReadRequest);

impl ReadMemory {
    /// # Safety
    /// `request` stays valid, and untouched by others, for as long as the result, or a copy, is
    /// used.
    pub(super) unsafe fn new(request: *mut ReadRequest) -> ReadMemory {
        ReadMemory(request)
    }

    /// Reads the real file.
    pub(super) fn read(self) -> io::Result<usize> {
        // SAFETY: `new`'s caller keeps the request valid and leaves it to the kernel until the
        // last completion, so this is its only reference.
        let request = unsafe { &mut *self.0 };
        request.read_waiting()
    }
}

/// The request of a reading ahead in flight.
#[derive(Clone, Copy)]
pub(super) struct WarmMemory(*const WarmRequest);

impl WarmMemory {
    /// # Safety
    /// `request` stays valid and unchanged for as long as the result, or a copy, is used.
    pub(super) unsafe fn new(request: *const WarmRequest) -> WarmMemory {
        WarmMemory(request)
    }

    /// Reads the real file.
    pub(super) fn read(self) -> io::Result<usize> {
        // SAFETY: `new`'s caller keeps the request valid, and nobody writes to it.
        let request = unsafe { &*self.0 };
        file::warm_waiting(&request.file, request.offset, request.count)
    }
}

/// The request of a read into a block in flight.
#[derive(Clone, Copy)]
pub(super) struct BlockMemory(*mut BlockRead);

impl BlockMemory {
    /// # Safety
    /// `request` stays valid, and untouched by others, for as long as the result, or a copy, is
    /// used.
    pub(super) unsafe fn new(request: *mut BlockRead) -> BlockMemory {
        BlockMemory(request)
    }

    /// Reads the real file.
    pub(super) fn read(self) -> io::Result<usize> {
        // SAFETY: `new`'s caller keeps the request valid and leaves it to the kernel until the
        // last completion, so this is its only reference.
        let request = unsafe { &mut *self.0 };
        let bytes = read_file(request.file.descriptor(), request.offset, request.count)?;
        request.block.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// Moves `count` bytes from a socket's queue into a buffer that was taken from the pool.
pub(super) fn fill(pool: &BufferPool, buffer: u16, inbox: &mut VecDeque<u8>, count: usize) {
    assert!(count <= pool.buffer_bytes());
    let bytes: Vec<u8> = inbox.drain(..count).collect();
    // SAFETY: the buffer is `buffer_bytes` long, at least `count`; it was taken from the pool and
    // not lent yet, so nobody reads it; and no arena overlaps a fresh vector.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pool.address(buffer), count) };
}

/// Up to `count` bytes of a real file.
pub(super) fn read_file(file: BorrowedFd<'_>, offset: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let filled = rustix::io::pread(file, &mut bytes, offset)?;
    bytes.truncate(filled);
    Ok(bytes)
}
