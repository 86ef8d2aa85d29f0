//! The least that a request costs with io_uring.
//!
//! One multishot accept puts connections straight into the ring's own descriptor table. One
//! multishot receive for each of them fills buffers that the kernel picks from a provided ring. Each
//! receive that completes queues one send, whose success is not even reported. All that is left is
//! one `io_uring_enter` for a batch of requests.

use super::ring::{self, BUFFER_GROUP, Entries, Server as _};
use io_uring::types::{Fd, Fixed};
use io_uring::{cqueue, opcode, squeue};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

const CONNECTIONS_LIMIT: u32 = 16 * 1024;

// A receive is named by the index of its connection, which is below CONNECTIONS_LIMIT.
const ACCEPT: u64 = 1 << 40;
const SEND: u64 = 1 << 41;
const CLOSE: u64 = 1 << 42;

/// Answers every receive with `response`, for as long as the process lives. What it registers with
/// the kernel is never freed.
///
/// # Errors
/// When io_uring, or something of it, is not to be had; the message says what.
pub fn serve_uring(listener: TcpListener, response: Vec<u8>) -> io::Result<()> {
    let mut ring = ring::build()?;
    let (submitter, submissions, completions) = ring.split();
    submitter
        .register_files_sparse(CONNECTIONS_LIMIT)
        .map_err(|error| ring::refused("descriptor table", error))?;
    let mut server = Server {
        listener,
        response,
        entries: Entries::new(submitter, submissions)?,
    };
    server.accept();
    server.turn_forever(completions)
}

struct Server<'ring> {
    listener: TcpListener,
    response: Vec<u8>,
    entries: Entries<'ring>,
}

impl<'ring> ring::Server<'ring> for Server<'ring> {
    fn entries(&mut self) -> &mut Entries<'ring> {
        &mut self.entries
    }

    fn complete(&mut self, name: u64, result: i32, flags: u32) {
        match name {
            ACCEPT => {
                if let Ok(connection) = u32::try_from(result) {
                    self.receive(connection);
                }
                if !cqueue::more(flags) {
                    self.accept();
                }
            }
            SEND | CLOSE => {} // a failed send is followed by the end of its receive
            connection => self.received(connection as u32, result, flags),
        }
    }
}

impl Server<'_> {
    fn received(&mut self, connection: u32, result: i32, flags: u32) {
        if let Some(id) = cqueue::buffer_select(flags) {
            self.entries.buffers.give_back(id);
        }
        if result > 0 {
            self.answer(connection);
        }
        if cqueue::more(flags) {
            return;
        }
        if result > 0 || result == -libc::ENOBUFS {
            self.receive(connection);
        } else {
            self.push(
                opcode::Close::new(Fixed(connection))
                    .build()
                    .user_data(CLOSE),
            );
        }
    }

    fn accept(&mut self) {
        let listener = Fd(self.listener.as_raw_fd());
        let accept = opcode::AcceptMulti::new(listener).allocate_file_index(true);
        self.push(accept.build().user_data(ACCEPT));
    }

    fn receive(&mut self, connection: u32) {
        let receive = opcode::RecvMulti::new(Fixed(connection), BUFFER_GROUP);
        self.push(receive.build().user_data(u64::from(connection)));
    }

    fn answer(&mut self, connection: u32) {
        let length = self.response.len() as u32;
        let send = opcode::Send::new(Fixed(connection), self.response.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .user_data(SEND)
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push(send);
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: an entry points at most to the response, which no one changes and which lives as
        // long as the process: `serve_uring` ends only with it.
        unsafe { self.entries.push(&entry) };
    }
}
