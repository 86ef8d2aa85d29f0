//! The least that a request costs with io_uring: `yardstick_uring PORT [BODY_BYTES]`.
//!
//! One multishot accept puts connections straight into the ring's own descriptor table. One
//! multishot receive for each of them fills buffers that the kernel picks from a provided ring. Each
//! receive that completes queues one send, whose success is not even reported. All that is left is
//! one `io_uring_enter` for a batch of requests.

mod yardstick;

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU16, Ordering};

const USAGE: &str = "yardstick_uring PORT [BODY_BYTES]";

const QUEUE_ENTRIES: u32 = 4096;
const CONNECTIONS_LIMIT: u32 = 16 * 1024;

/// A power of two, as the kernel wants it: positions are taken modulo this.
const BUFFER_COUNT: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
const BUFFER_GROUP: u16 = 0;

// A receive is named by the index of its connection, which is below CONNECTIONS_LIMIT.
const ACCEPT: u64 = 1 << 40;
const SEND: u64 = 1 << 41;
const CLOSE: u64 = 1 << 42;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let listener = yardstick::listen(USAGE)?;
    let response = yardstick::response(USAGE)?;
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(2 * QUEUE_ENTRIES)
        .build(QUEUE_ENTRIES)
        .map_err(|error| format!("io_uring_setup: {error}"))?;
    let (submitter, submissions, completions) = ring.split();
    submitter
        .register_files_sparse(CONNECTIONS_LIMIT)
        .map_err(|error| format!("descriptor table: {error}"))?;
    let buffers = BufferRing::register(&submitter)
        .map_err(|error| format!("provided-buffer ring: {error}"))?;
    let mut server = Server {
        listener,
        response,
        submitter,
        submissions,
        buffers,
    };
    server.accept();
    server
        .turn_forever(completions)
        .map_err(|error| format!("io_uring_enter: {error}"))
}

struct Server<'ring> {
    listener: TcpListener,
    response: Vec<u8>,
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    buffers: BufferRing,
}

impl Server<'_> {
    fn turn_forever(&mut self, mut completions: CompletionQueue<'_>) -> std::io::Result<()> {
        loop {
            self.buffers.publish();
            self.submissions.sync();
            self.submitter.submit_and_wait(1)?;
            completions.sync();
            for completion in completions.by_ref() {
                self.complete(
                    completion.user_data(),
                    completion.result(),
                    completion.flags(),
                );
            }
            // The kernel does not wait while it believes that completions are still unread.
            completions.sync();
        }
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

    fn received(&mut self, connection: u32, result: i32, flags: u32) {
        if let Some(id) = cqueue::buffer_select(flags) {
            self.buffers.give_back(id);
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
        // long as the process: `run` ends only with it.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            self.submissions.sync();
            self.submitter
                .submit()
                .expect("a full queue can be submitted");
        }
    }
}

/// The ring of receive buffers that the kernel takes from. It lives as long as the process.
struct BufferRing {
    entries: *mut BufRingEntry,
    memory: *mut Page,
    tail: u16,
}

/// The kernel wants the ring's entries on a page boundary, and a buffer is one page too.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; BUFFER_BYTES]);

impl BufferRing {
    fn register(submitter: &Submitter<'_>) -> std::io::Result<BufferRing> {
        let leak = |pages| vec![Page([0; BUFFER_BYTES]); pages].leak().as_mut_ptr();
        let entries_bytes = usize::from(BUFFER_COUNT) * size_of::<BufRingEntry>();
        let entries = leak(entries_bytes.div_ceil(BUFFER_BYTES)).cast::<BufRingEntry>();
        let memory = leak(usize::from(BUFFER_COUNT));
        // SAFETY: the entries are zeroed, page-aligned, large enough for BUFFER_COUNT of them, and
        // were leaked just above, so that they outlive the ring.
        unsafe {
            submitter.register_buf_ring_with_flags(entries as u64, BUFFER_COUNT, BUFFER_GROUP, 0)
        }?;
        let mut ring = BufferRing {
            entries,
            memory,
            tail: 0,
        };
        for id in 0..BUFFER_COUNT {
            ring.give_back(id);
        }
        Ok(ring)
    }

    /// Puts the buffer back at the tail; the kernel sees it at the next [`publish`](Self::publish).
    fn give_back(&mut self, id: u16) {
        let position = usize::from(self.tail % BUFFER_COUNT);
        let address = self.memory.wrapping_add(usize::from(id)) as u64;
        let entry = self.entries.wrapping_add(position);
        // SAFETY: the position is below BUFFER_COUNT, and the kernel reads an entry only once the
        // tail has passed it, which has not been published for this one. The ring is leaked.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the pointer is to the first entry of a registered ring, where the tail lives.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast::<AtomicU16>();
        // SAFETY: aligned, valid for as long as the process, and shared only with the kernel, which
        // reads it with acquire ordering.
        unsafe { &*tail }.store(self.tail, Ordering::Release);
    }
}
