//! What a driver does for the transfer engine: looking at files, moving bytes between files, pipes
//! and sockets, and sends that keep their bytes until the kernel notifies.
//!
//! Most of it are plain calls that never wait, the same for both drivers of the real kernel; only
//! the simulator has its own. What waits for a disk or for a notification is an operation.

use super::{Descriptor, Token};
use crate::blocks::BlockPool;
use crate::file::{self, BlockRead, File, Mapping, WarmRequest};
use crate::pipe::Pipe;
use crate::residency::{self, Residency};
use crate::zero_copy::{self, Notification};
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

/// The bytes of a zero-copy send: `count` from `start`, in the ring's registered buffer of this
/// number, if any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZeroCopyPart {
    pub(crate) start: *const u8,
    pub(crate) count: usize,
    pub(crate) registered_index: Option<u16>,
}

/// See the module; a part of the [`Driver`](super::Driver) contract.
///
/// Calls that send are made only while no send of that socket is in flight.
pub(crate) trait TransferCalls {
    /// What is known about a range of a file, without waiting for a disk.
    fn residency(&mut self, file: &File, offset: u64, count: u64) -> Residency {
        residency::look(file, offset, count)
    }

    /// Reads what is in memory: `WouldBlock` when nothing is, `Unsupported` where that can't be
    /// told.
    fn read_cached(&mut self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        file::read_cached(file.descriptor(), offset, bytes)
    }

    /// Reads a range of a file and throws the bytes away, so that it is in memory afterwards;
    /// completes with a count, like a read.
    ///
    /// # Safety
    /// `request` stays valid and unchanged until the last completion.
    unsafe fn warm(&mut self, token: Token, request: *const WarmRequest);

    /// Reads once from a file into a block; completes with a count.
    ///
    /// # Safety
    /// `request` stays valid, and its block untouched, until the last completion.
    unsafe fn read_block(&mut self, token: Token, request: *mut BlockRead);

    /// Lets the ring know the blocks by their numbers; false where there is none, or it refuses.
    fn register_blocks(&mut self, _pool: &Rc<BlockPool>) -> bool {
        false
    }

    /// A pipe, empty and non-blocking.
    fn open_pipe(&mut self) -> io::Result<Pipe> {
        Pipe::open()
    }

    /// Ends a pipe, with what is in it.
    fn close_pipe(&mut self, pipe: Pipe) {
        drop(pipe);
    }

    /// Moves pages of a file into a pipe; 0: the file ends before `offset`.
    fn splice_file(
        &mut self,
        pipe: &mut Pipe,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        pipe.fill_from_file(file.descriptor(), offset, count)
    }

    /// Moves received bytes into a pipe, only while no receive of the socket is in flight; 0: the
    /// end of the stream.
    fn splice_in(
        &mut self,
        pipe: &mut Pipe,
        socket: &Descriptor,
        count: usize,
    ) -> io::Result<usize> {
        let was_empty = pipe.held_bytes == 0;
        let moved = pipe.fill_from_socket(socket.as_fd(), count);
        // A pipe may be full before it holds as many bytes as it could: of small segments.
        if was_empty {
            self.note_readable(socket, &moved);
        }
        moved
    }

    /// Moves what fits of a pipe's bytes into a socket.
    fn splice_out(&mut self, pipe: &mut Pipe, socket: &Descriptor) -> io::Result<usize> {
        let moved = pipe.empty_into(socket.as_fd());
        self.note_room(socket, &moved);
        moved
    }

    /// Sends at once what fits of a mapped file: `EFAULT` where the file no longer is.
    fn send_mapped(
        &mut self,
        socket: &Descriptor,
        mapping: &Mapping,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let (start, count) = mapping.range(offset, count);
        let sent = zero_copy::send_unowned(socket.as_fd(), start, count);
        self.note_room(socket, &sent);
        sent
    }

    /// Allows `MSG_ZEROCOPY` on a socket.
    fn allow_zero_copy(&mut self, socket: &Descriptor) -> io::Result<()> {
        zero_copy::allow(socket.as_fd())
    }

    /// Sends at once what fits, by `MSG_ZEROCOPY`. Each success is numbered, from 0 for a socket.
    ///
    /// # Safety
    /// The bytes stay valid and unchanged until a notification covers the send.
    unsafe fn send_noticed(
        &mut self,
        socket: &Descriptor,
        part: ZeroCopyPart,
    ) -> io::Result<usize> {
        // SAFETY: the caller's promise is passed on.
        let sent = unsafe { zero_copy::send(socket.as_fd(), part.start, part.count) };
        self.note_room(socket, &sent);
        sent
    }

    /// The next notification of a socket's `MSG_ZEROCOPY` sends, if one has come.
    fn take_notification(&mut self, socket: &Descriptor) -> io::Result<Option<Notification>> {
        zero_copy::take_notification(socket.as_fd())
    }

    /// Whether [`TransferCalls::send_zero_copy`] exists here.
    fn has_zero_copy_operation(&self) -> bool {
        false
    }

    /// Sends once without copying (`SEND_ZC`): completes with a count and `more`, then, when the
    /// kernel has done with the bytes, with [`NOTIFIED_COPIED`] or 0. A failed one may complete only
    /// once. One send in flight a socket, until its count.
    ///
    /// # Safety
    /// The bytes stay valid and unchanged until the last completion.
    unsafe fn send_zero_copy(&mut self, token: Token, socket: &Descriptor, part: ZeroCopyPart);

    /// Resets a connection so that the kernel lets go of what was not sent; the notifications
    /// follow. The descriptor stays open.
    fn break_off(&mut self, socket: &Descriptor) -> io::Result<()> {
        zero_copy::break_off(socket.as_fd())
    }

    /// A call has shown whether there is room to send.
    fn note_room(&mut self, _socket: &Descriptor, _sent: &io::Result<usize>) {}

    /// A call has shown whether there is something to receive.
    fn note_readable(&mut self, _socket: &Descriptor, _received: &io::Result<usize>) {}
}

/// The result of a notification when the bytes were copied after all
/// (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub(crate) const NOTIFIED_COPIED: i32 = i32::MIN;
