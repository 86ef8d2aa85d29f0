//! A ring and its provided buffers, as the yardsticks on io_uring use them: turns, entries, and one
//! `io_uring_enter` for all that a turn has queued.
//!
//! What an entry means is up to each yardstick; nothing here ends but with the process.

use io_uring::types::BufRingEntry;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, squeue};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

const QUEUE_ENTRIES: u32 = 4096;

/// A power of two, as the kernel wants it: positions are taken modulo this.
const BUFFER_COUNT: u16 = 1024;
const BUFFER_BYTES: usize = 4096;
/// For the receives: where the kernel takes their buffers from.
pub(super) const BUFFER_GROUP: u16 = 0;

/// A ring with room for `QUEUE_ENTRIES` entries, for the thread that makes it.
pub(super) fn build() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(2 * QUEUE_ENTRIES)
        .build(QUEUE_ENTRIES)
        .map_err(|error| refused("io_uring_setup", error))
}

pub(super) fn refused(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// What goes into a ring: entries and buffers.
pub(super) struct Entries<'ring> {
    submitter: Submitter<'ring>,
    submissions: SubmissionQueue<'ring>,
    pub(super) buffers: BufferRing,
}

impl<'ring> Entries<'ring> {
    pub(super) fn new(
        submitter: Submitter<'ring>,
        submissions: SubmissionQueue<'ring>,
    ) -> io::Result<Entries<'ring>> {
        let buffers = BufferRing::register(&submitter)
            .map_err(|error| refused("provided-buffer ring", error))?;
        Ok(Entries {
            submitter,
            submissions,
            buffers,
        })
    }

    /// Queues an entry.
    ///
    /// # Safety
    /// What the entry points to stays as it is until it has completed.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller keeps what the entry points to.
        while unsafe { self.submissions.push(entry) }.is_err() {
            self.submissions.sync();
            self.submitter
                .submit()
                .expect("a full queue can be submitted");
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        self.buffers.publish();
        self.submissions.sync();
        let entered = self.submitter.submit_and_wait(1);
        entered.map_err(|error| refused("io_uring_enter", error))?;
        Ok(())
    }
}

/// What comes out of it: a name, a result, and flags.
pub(super) trait Server<'ring> {
    fn entries(&mut self) -> &mut Entries<'ring>;

    fn complete(&mut self, name: u64, result: i32, flags: u32);

    /// Ends only with an error.
    fn turn_forever(&mut self, mut completions: CompletionQueue<'_>) -> io::Result<()> {
        loop {
            self.entries().wait()?;
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
}

/// The ring of receive buffers that the kernel takes from. It lives as long as the process.
pub(super) struct BufferRing {
    entries: *mut BufRingEntry,
    memory: *mut Page,
    tail: u16,
}

/// The kernel wants the ring's entries on a page boundary, and a buffer is one page too.
#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; BUFFER_BYTES]);

impl BufferRing {
    fn register(submitter: &Submitter<'_>) -> io::Result<BufferRing> {
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
    pub(super) fn give_back(&mut self, id: u16) {
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

    /// Where the bytes of a buffer are.
    pub(super) fn address(&self, id: u16) -> *const u8 {
        self.memory.wrapping_add(usize::from(id)).cast()
    }

    fn publish(&self) {
        // SAFETY: the pointer is to the first entry of a registered ring, where the tail lives.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast::<AtomicU16>();
        // SAFETY: aligned, valid for as long as the process, and shared only with the kernel, which
        // reads it with acquire ordering.
        unsafe { &*tail }.store(self.tail, Ordering::Release);
    }
}
