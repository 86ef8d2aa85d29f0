//! An allocator that counts, for tests that claim "no allocation".

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system allocator, counting each thread's allocations. Install it in a test binary:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: ringway_kernel::counting::CountingAllocator =
///     ringway_kernel::counting::CountingAllocator;
///
/// let before = ringway_kernel::counting::thread_allocations();
/// drop(Box::new(5));
/// assert_eq!(ringway_kernel::counting::thread_allocations(), before + 1);
/// ```
#[derive(Debug)]
pub struct CountingAllocator;

/// Allocations of the calling thread since it began; a reallocation counts as one.
pub fn thread_allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn count() {
    // An allocation while the thread's locals are being destroyed isn't counted.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system allocator, which keeps the contract; counting
// allocates nothing (a const-initialised Cell in the thread's static block).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system allocator.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are those of the system allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are those of the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}
