//! Memory straight from the kernel: page-aligned, zeroed, never moved, unmapped when dropped.

use std::io;
use std::ptr::NonNull;

/// One anonymous private mapping.
pub(crate) struct Arena {
    start: NonNull<u8>,
    bytes: usize,
}

impl Arena {
    /// Maps `bytes` of zeroed memory, rounded up to whole pages by the kernel.
    ///
    /// # Errors
    /// As `mmap(2)`, with the size.
    pub(crate) fn map(bytes: usize) -> io::Result<Arena> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let mapped =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) };
        let start = mapped.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("mapping {bytes} bytes: {error}"))
        })?;
        Ok(Arena {
            start: NonNull::new(start.cast()).expect("mmap never returns null"),
            bytes,
        })
    }

    /// The address `offset` bytes into the mapping.
    ///
    /// # Panics
    /// When that is past its end.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(
            offset < self.bytes,
            "offset {offset} is outside an arena of {}",
            self.bytes
        );
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Keeps the mapping for ever: for memory that the kernel may still write to.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `start` and `bytes` are those of a mapping made by `map`, and its owner is gone,
        // so nothing points into it.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
