//! Receive buffers: one arena for each worker, lent out as handles that find their way home.
//!
//! A driver takes a free buffer, lets the kernel fill it and passes it up; a [`Buffer`] gives it
//! back when it is dropped, without borrowing the reactor, so it may be dropped anywhere on its
//! worker's thread. Between the two it may wait in a socket's [`Chain`].

use crate::abort::abort;
use crate::arena::Arena;
use crate::numa::{MemoryOptions, MemoryReport};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

/// No buffer, in links between buffers.
const NO_BUFFER: u16 = u16::MAX;

/// The receive buffers of one worker: `count` of `bytes` each, in one arena.
pub(crate) struct BufferPool {
    arena: Arena,
    buffer_bytes: usize,
    count: u16,
    /// At home, and not known to a driver's ring: taken from the end.
    free: RefCell<Vec<u16>>,
    /// Which buffers are out of the drivers' hands; catches one that is given back twice.
    lent: Box<[Cell<bool>]>,
    lent_count: Cell<u16>,
    /// For a buffer in a chain: its successor, and how many bytes it holds.
    links: Box<[Cell<(u16, u32)>]>,
}

impl BufferPool {
    /// Maps the arena.
    ///
    /// # Errors
    /// When memory can't be mapped.
    ///
    /// # Panics
    /// When `count` is over 32,768 (the most a buffer ring holds).
    pub(crate) fn new(count: u16, buffer_bytes: usize) -> io::Result<Rc<BufferPool>> {
        let arena = Arena::map(usize::from(count) * buffer_bytes)?;
        Ok(BufferPool::within(arena, count, buffer_bytes))
    }

    /// The same in memory of a kind. All of it is there from the start, because the buffers are used
    /// in turn.
    ///
    /// # Errors
    /// When memory can't be mapped.
    ///
    /// # Panics
    /// When `count` is over 32,768.
    pub(crate) fn new_on(
        count: u16,
        buffer_bytes: usize,
        memory: &MemoryOptions,
    ) -> io::Result<Rc<BufferPool>> {
        let arena = Arena::map_on(usize::from(count) * buffer_bytes, memory)?;
        arena.populate();
        Ok(BufferPool::within(arena, count, buffer_bytes))
    }

    fn within(arena: Arena, count: u16, buffer_bytes: usize) -> Rc<BufferPool> {
        assert!(count > 0 && count <= 1 << 15, "1 to 32,768 buffers");
        Rc::new(BufferPool {
            arena,
            buffer_bytes,
            count,
            free: RefCell::new((0..count).rev().collect()),
            lent: (0..count).map(|_| Cell::new(false)).collect(),
            lent_count: Cell::new(0),
            links: (0..count).map(|_| Cell::new((NO_BUFFER, 0))).collect(),
        })
    }

    /// Where the buffers are.
    pub(crate) fn memory(&self) -> MemoryReport {
        self.arena.report()
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Buffers that are neither lent nor waiting in a chain.
    pub(crate) fn free_count(&self) -> u16 {
        self.count - self.lent_count.get()
    }

    /// Less than a quarter is left: whoever keeps a buffer copies its bytes out instead.
    pub(crate) fn is_low(&self) -> bool {
        self.free_count() < self.count.div_ceil(4)
    }

    /// The start of a buffer's memory, for the kernel to write to.
    pub(crate) fn address(&self, id: u16) -> *mut u8 {
        self.arena.at(usize::from(id) * self.buffer_bytes)
    }

    /// A free buffer for a driver to fill; it is the driver's until [`BufferPool::lend`] or
    /// [`BufferPool::untake`].
    pub(crate) fn take(&self) -> Option<u16> {
        self.free.borrow_mut().pop()
    }

    /// Back from a driver that didn't fill it.
    pub(crate) fn untake(&self, id: u16) {
        self.free.borrow_mut().push(id);
    }

    /// From a driver to the reactor: filled, and out of the kernel's reach.
    ///
    /// Ends the process when the buffer is out already: the kernel has written to one in use.
    pub(crate) fn lend(&self, id: u16) {
        if self.lent[usize::from(id)].replace(true) {
            abort(format_args!("buffer {id} was filled while in use"));
        }
        self.lent_count.set(self.lent_count.get() + 1);
    }

    /// From the reactor, or a [`Buffer`], home.
    ///
    /// Ends the process when the buffer is home already: the kernel may be writing to it.
    pub(crate) fn give_back(&self, id: u16) {
        if !self.lent[usize::from(id)].replace(false) {
            abort(format_args!("buffer {id} was given back twice"));
        }
        self.lent_count.set(self.lent_count.get() - 1);
        self.free.borrow_mut().push(id);
    }
}

/// Received bytes: a view into one pooled buffer, which goes home when this is dropped.
///
/// It stays on its worker's thread. Bounded supply: while one is kept, another connection of the
/// worker may have to wait for it, so copy out what has to be kept for long.
///
/// Its pool is its worker's alone, so the compiler keeps it off other threads:
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// fn elsewhere(buffer: ringway_kernel::Buffer) {
///     send(buffer)
/// }
/// ```
///
/// What goes there is a copy:
///
/// ```
/// fn send<T: Send>(_: T) {}
/// fn elsewhere(buffer: ringway_kernel::Buffer) {
///     send(buffer.to_vec())
/// }
/// ```
pub struct Buffer {
    home: Home,
    start: u32,
    end: u32,
}

/// Where a buffer's bytes are.
enum Home {
    Pool(Rc<BufferPool>, u16),
    /// Copied out of the pool while buffers were scarce.
    Heap(Box<[u8]>),
}

impl Buffer {
    /// Takes over a lent buffer that holds `length` bytes.
    pub(crate) fn from_lent(pool: &Rc<BufferPool>, id: u16, length: u32) -> Buffer {
        debug_assert!(length as usize <= pool.buffer_bytes);
        Buffer {
            home: Home::Pool(Rc::clone(pool), id),
            start: 0,
            end: length,
        }
    }

    /// Bytes that were copied out of the pool.
    pub(crate) fn from_heap(bytes: Box<[u8]>) -> Buffer {
        let end = bytes.len() as u32;
        Buffer {
            home: Home::Heap(bytes),
            start: 0,
            end,
        }
    }

    /// Drops the first `count` bytes from view.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advanced past the end of a buffer");
        self.start += count as u32;
    }

    /// Keeps only the first `count` bytes in view; no effect when there are fewer.
    pub fn truncate(&mut self, count: usize) {
        if count < self.len() {
            self.end = self.start + count as u32;
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (pool, id) = match &self.home {
            Home::Pool(pool, id) => (pool, *id),
            Home::Heap(bytes) => return &bytes[self.start as usize..self.end as usize],
        };
        let first = pool.address(id).wrapping_add(self.start as usize);
        let length = (self.end - self.start) as usize;
        // SAFETY: `start..end` lies inside the buffer of this id, which lies inside the pool's
        // arena; the arena lives as long as the pool. The bytes were initialised by the mapping
        // (zeroes) or by the kernel. The buffer is lent, so nobody writes to it until `drop`.
        unsafe { std::slice::from_raw_parts(first, length) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Home::Pool(pool, id) = &self.home {
            pool.give_back(*id);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Buffer({} bytes)", self.len())
    }
}

/// Lent buffers in the order they came, waiting for their socket's reader.
pub(crate) struct Chain {
    first: u16,
    last: u16,
    count: u16,
}

impl Chain {
    pub(crate) const fn new() -> Chain {
        Chain {
            first: NO_BUFFER,
            last: NO_BUFFER,
            count: 0,
        }
    }

    pub(crate) fn len(&self) -> u16 {
        self.count
    }

    pub(crate) fn push(&mut self, pool: &BufferPool, id: u16, length: u32) {
        pool.links[usize::from(id)].set((NO_BUFFER, length));
        if self.count == 0 {
            self.first = id;
        } else {
            let last = &pool.links[usize::from(self.last)];
            last.set((id, last.get().1));
        }
        self.last = id;
        self.count += 1;
    }

    pub(crate) fn pop(&mut self, pool: &Rc<BufferPool>) -> Option<Buffer> {
        if self.count == 0 {
            return None;
        }
        let id = self.first;
        let (next, length) = pool.links[usize::from(id)].get();
        self.first = next;
        self.count -= 1;
        Some(Buffer::from_lent(pool, id, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abort::check_aborts;
    use std::panic::catch_unwind;

    fn filled(pool: &Rc<BufferPool>, bytes: &[u8]) -> Buffer {
        let id = pool.take().unwrap();
        // SAFETY: a taken buffer is this test's alone, and longer than `bytes`.
        unsafe {
            pool.address(id)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        pool.lend(id);
        Buffer::from_lent(pool, id, bytes.len() as u32)
    }

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        // 2^55 bytes are more than the address space of a process.
        assert!(BufferPool::new(1 << 15, 1 << 40).is_err());
    }

    #[test]
    fn a_buffer_shows_its_bytes_and_goes_home() {
        let pool = BufferPool::new(2, 64).unwrap();
        let mut buffer = filled(&pool, b"hello world");
        buffer.advance(6);
        buffer.truncate(4);
        assert_eq!(&*buffer, b"worl");
        assert_eq!(pool.free_count(), 1);
        drop(buffer);
        assert_eq!(pool.free_count(), 2);
    }

    #[test]
    fn a_chain_keeps_order() {
        let pool = BufferPool::new(8, 64).unwrap();
        let mut chain = Chain::new();
        for length in 1..=5u32 {
            let id = pool.take().unwrap();
            pool.lend(id);
            chain.push(&pool, id, length);
        }
        let lengths: Vec<usize> = std::iter::from_fn(|| chain.pop(&pool))
            .map(|buffer| buffer.len())
            .collect();
        assert_eq!(lengths, [1, 2, 3, 4, 5]);
        assert_eq!((chain.len(), pool.free_count()), (0, 8));
    }

    /// Even where a panic would be caught.
    #[test]
    fn a_second_return_ends_the_process() {
        let test = "buffers::tests::a_second_return_ends_the_process";
        check_aborts(test, "buffer 0 was given back twice", || {
            let _ = catch_unwind(|| {
                let pool = BufferPool::new(2, 64).unwrap();
                let id = pool.take().unwrap();
                pool.lend(id);
                pool.give_back(id);
                pool.give_back(id);
            });
        });
    }

    #[test]
    fn filling_a_buffer_in_use_ends_the_process() {
        let test = "buffers::tests::filling_a_buffer_in_use_ends_the_process";
        check_aborts(test, "buffer 0 was filled while in use", || {
            let _ = catch_unwind(|| {
                let pool = BufferPool::new(2, 64).unwrap();
                let id = pool.take().unwrap();
                pool.lend(id);
                pool.lend(id);
            });
        });
    }

    #[test]
    fn scarcity_begins_below_a_quarter() {
        let pool = BufferPool::new(8, 64).unwrap();
        let held: Vec<Buffer> = (0..6).map(|_| filled(&pool, b"x")).collect();
        assert!(!pool.is_low());
        let _seventh = filled(&pool, b"x");
        assert!(pool.is_low());
        drop(held);
        assert!(!pool.is_low());
    }
}
