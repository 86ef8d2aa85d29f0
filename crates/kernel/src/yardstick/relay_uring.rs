//! The least that a relayed request costs with io_uring.
//!
//! Each client has a connection to the upstream for as long as it stays. What either side sends is
//! sent on in the buffer that the kernel put it into, and never looked at. For messages of one
//! buffer: two sends of one connection that are under way together might change places.

use super::ends::{self, Ends};
use super::ring::{self, BUFFER_GROUP, Entries, Server as _};
use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use rustix::net::Shutdown;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

// A receive is named by its descriptor, a send by its buffer behind this bit.
const ACCEPT: u64 = 1 << 40;
const SEND: u64 = 1 << 41;
const CLOSE: u64 = 1 << 42;

/// Hands on what clients and the server at `upstream_port` of loopback send each other, for as long as
/// the process lives.
///
/// # Errors
/// When io_uring, or something of it, is not to be had; the message says what.
pub fn relay_uring(listener: TcpListener, upstream_port: u16) -> io::Result<()> {
    let mut ring = ring::build()?;
    let (submitter, submissions, completions) = ring.split();
    let mut relay = Relay {
        listener,
        upstream_port,
        entries: Entries::new(submitter, submissions)?,
        ends: Ends::new(),
    };
    relay.accept();
    relay.turn_forever(completions)
}

struct Relay<'ring> {
    listener: TcpListener,
    upstream_port: u16,
    entries: Entries<'ring>,
    /// A socket, and the number of the other side's.
    ends: Ends<(OwnedFd, usize)>,
}

impl<'ring> ring::Server<'ring> for Relay<'ring> {
    fn entries(&mut self) -> &mut Entries<'ring> {
        &mut self.entries
    }

    fn complete(&mut self, name: u64, result: i32, flags: u32) {
        match name {
            ACCEPT => {
                if result >= 0 {
                    // SAFETY: the kernel has just made this descriptor for us alone.
                    self.join(unsafe { OwnedFd::from_raw_fd(result) });
                }
                if !cqueue::more(flags) {
                    self.accept();
                }
            }
            CLOSE => {}
            // A failed send is followed by the end of its receive.
            name if name & SEND != 0 => self.entries.buffers.give_back(name as u16),
            descriptor => self.received(descriptor as RawFd, result, flags),
        }
    }
}

impl Relay<'_> {
    /// Connects a client to the upstream; where that fails, the client is closed.
    fn join(&mut self, client: OwnedFd) {
        let Ok(pair) = ends::connect(client, self.upstream_port) else {
            return;
        };
        let numbers = [pair[0].as_raw_fd(), pair[1].as_raw_fd()];
        self.ends.add(pair, |socket, other| (socket, other));
        numbers.into_iter().for_each(|number| self.receive(number));
    }

    fn received(&mut self, number: RawFd, result: i32, flags: u32) {
        let other = self.ends.of(number as usize).map(|(_, other)| *other);
        let to = other.filter(|other| result > 0 && self.ends.of(*other).is_some());
        if let Some(id) = cqueue::buffer_select(flags) {
            match to {
                Some(to) => self.send_on(to as RawFd, id, result as u32),
                None => self.entries.buffers.give_back(id),
            }
        }
        if cqueue::more(flags) {
            return;
        }
        match result > 0 || result == -libc::ENOBUFS {
            true => self.receive(number),
            false => self.end(number),
        }
    }

    /// Closes a side behind the entries that name it, and has the other's receive end too.
    fn end(&mut self, number: RawFd) {
        let Some((socket, other)) = self.ends.remove(number as usize) else {
            return;
        };
        let close = opcode::Close::new(Fd(socket.into_raw_fd()));
        self.push(&close.build().user_data(CLOSE));
        // Of a pair that has lost a side already, the number may be another's by now.
        if let Some((socket, of_other)) = self.ends.of(other)
            && *of_other == number as usize
        {
            _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    fn accept(&mut self) {
        let listener = Fd(self.listener.as_raw_fd());
        let accept = opcode::AcceptMulti::new(listener);
        self.push(&accept.build().user_data(ACCEPT));
    }

    fn receive(&mut self, descriptor: RawFd) {
        let receive = opcode::RecvMulti::new(Fd(descriptor), BUFFER_GROUP);
        self.push(&receive.build().user_data(descriptor as u64));
    }

    fn send_on(&mut self, to: RawFd, id: u16, bytes: u32) {
        let send = opcode::Send::new(Fd(to), self.entries.buffers.address(id), bytes)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND | u64::from(id));
        self.push(&send);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: an entry points at most to a buffer of the ring, which lives as long as the
        // process, and which is given back, and so written to again, only when its send is over.
        unsafe { self.entries.push(entry) };
    }
}
