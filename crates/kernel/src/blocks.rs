//! Blocks: large buffers for bytes on their way through user memory, a bounded number of them for
//! each worker.
//!
//! Whoever copies a file or sends it without the kernel's copy needs one, and has to wait for one
//! while all are out; so a thousand slow readers cost no more memory than the pool. A block is
//! written to by its one owner, then shared, read-only, by everything that sends from it, and goes
//! home when the last of them has let go of it: for a zero-copy send that is after the kernel's
//! notification.

use crate::arena::Arena;
use crate::numa::MemoryOptions;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;

/// Bytes in a block.
pub const BLOCK_BYTES: usize = 256 << 10;

/// Blocks of a worker: 4 MiB in all.
pub(crate) const BLOCK_COUNT: u16 = 16;

/// The blocks of one worker.
pub(crate) struct BlockPool {
    arena: Arena,
    free: RefCell<Vec<u16>>,
    /// The ring reads into these by their number (`READ_FIXED`).
    is_registered: Cell<bool>,
}

impl BlockPool {
    /// Maps the memory; the kernel fills it in when it is first used.
    ///
    /// # Errors
    /// As [`Arena::map`].
    pub(crate) fn new(memory: &MemoryOptions) -> io::Result<Rc<BlockPool>> {
        Ok(Rc::new(BlockPool {
            arena: Arena::map_on(usize::from(BLOCK_COUNT) * BLOCK_BYTES, memory)?,
            free: RefCell::new((0..BLOCK_COUNT).rev().collect()),
            is_registered: Cell::new(false),
        }))
    }

    pub(crate) fn lease(self: &Rc<Self>) -> Option<Block> {
        let index = self.free.borrow_mut().pop()?;
        Some(Block {
            pool: Rc::clone(self),
            index,
        })
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.borrow().len()
    }

    pub(crate) fn address(&self, index: u16) -> *mut u8 {
        self.arena.at(usize::from(index) * BLOCK_BYTES)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.is_registered.get()
    }

    pub(crate) fn set_registered(&self) {
        self.is_registered.set(true);
    }
}

/// [`BLOCK_BYTES`] of a worker's memory; goes home when dropped. It stays on its worker's thread.
pub struct Block {
    pool: Rc<BlockPool>,
    index: u16,
}

impl Block {
    /// The memory, to be written to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block is `BLOCK_BYTES` long, inside the arena, initialised (zeroes, or what was
        // last written), and lent to this handle alone, which is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.address(), BLOCK_BYTES) }
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.pool.address(self.index)
    }

    /// Its number among the ring's registered buffers; `None` when they aren't registered.
    pub(crate) fn registered_index(&self) -> Option<u16> {
        self.pool.is_registered().then_some(self.index)
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; nobody writes while the handle is shared.
        unsafe { std::slice::from_raw_parts(self.address(), BLOCK_BYTES) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.index);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Block({})", self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_nobody_else_s_until_its_last_owner_lets_go() {
        let pool = BlockPool::new(&MemoryOptions::default()).unwrap();
        let mut first = pool.lease().unwrap();
        first.bytes_mut()[..5].copy_from_slice(b"first");
        let shared = Rc::new(first);
        let other = Rc::clone(&shared);
        drop(shared);
        let mut rest: Vec<Block> = std::iter::from_fn(|| pool.lease()).collect();
        assert_eq!(rest.len(), usize::from(BLOCK_COUNT) - 1);
        for block in &mut rest {
            block.bytes_mut().fill(b'x');
        }
        assert_eq!(&other[..5], b"first");
        drop(other);
        assert_eq!(pool.free_count(), 1);
    }
}
