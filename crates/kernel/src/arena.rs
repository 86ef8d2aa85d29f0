//! Memory straight from the kernel: page-aligned, zeroed, never moved, unmapped when dropped, and on
//! the NUMA node where it is asked for.

use crate::numa::{self, MemoryOptions, MemoryReport, Pages, Policy};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;

/// Bytes in a huge page of x86-64; where they are larger, none is found free and none is used.
const HUGE_BYTES: usize = 2 << 20;
/// Mappings below this aren't worth a huge page.
const WORTH_HUGE_BYTES: usize = HUGE_BYTES / 2;

/// One anonymous private mapping.
pub(crate) struct Arena {
    start: NonNull<u8>,
    bytes: usize,
    /// What is mapped: whole pages.
    mapped_bytes: usize,
    policy: Policy,
    is_huge: bool,
}

// SAFETY: the mapping belongs to the arena alone, and is the same from every thread. What its owner
// does with the addresses that `at` gives out is the owner's to answer for.
unsafe impl Send for Arena {}
// SAFETY: as above; nothing of the arena changes through a shared reference.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `bytes` of zeroed memory, rounded up to whole pages by the kernel.
    ///
    /// # Errors
    /// As `mmap(2)`, with the size.
    pub(crate) fn map(bytes: usize) -> io::Result<Arena> {
        let start = map_pages(bytes, MapFlags::empty())?;
        Ok(Arena {
            start,
            bytes,
            mapped_bytes: bytes,
            policy: Policy::FirstTouch,
            is_huge: false,
        })
    }

    /// The same on a node, in pages of a kind. What the kernel refuses of that is left out; see
    /// [`Arena::report`].
    ///
    /// # Errors
    /// As [`Arena::map`].
    pub(crate) fn map_on(bytes: usize, options: &MemoryOptions) -> io::Result<Arena> {
        if options.pages == Pages::Reserved
            && bytes >= WORTH_HUGE_BYTES
            && let Some(arena) = Arena::map_huge(bytes, options.node)
        {
            return Ok(arena);
        }
        let mut arena = Arena::map(bytes)?;
        arena.bind(options.node);
        if options.pages != Pages::Ordinary && bytes >= HUGE_BYTES {
            // SAFETY: the range is this arena's mapping.
            unsafe { numa::allow_huge_pages(arena.start.as_ptr(), arena.mapped_bytes) };
        }
        Ok(arena)
    }

    /// Maps reserved huge pages, if there are enough of them where they are wanted. All of them are
    /// taken at once: a page that is missing when it is touched would end the process (SIGBUS),
    /// because the reservation of `mmap` counts all nodes together.
    fn map_huge(bytes: usize, node: Option<u32>) -> Option<Arena> {
        let mapped_bytes = bytes.checked_next_multiple_of(HUGE_BYTES)?;
        if free_huge_pages(node) < mapped_bytes / HUGE_BYTES {
            return None;
        }
        let start = map_pages(mapped_bytes, MapFlags::HUGETLB | MapFlags::HUGE_2MB).ok()?;
        let mut arena = Arena {
            start,
            bytes,
            mapped_bytes,
            policy: Policy::FirstTouch,
            is_huge: true,
        };
        arena.bind(node);
        // A mapping that can't be filled, or a kernel that can't say so, is given back.
        arena.populate().then_some(arena)
    }

    fn bind(&mut self, node: Option<u32>) {
        if let Some(node) = node {
            // SAFETY: the range is this arena's mapping, which nobody has touched.
            self.policy = unsafe { numa::bind(self.start.as_ptr(), self.mapped_bytes, node) };
        }
    }

    /// Makes all its pages be there, on the node of the policy or of this thread; whether that could
    /// be done. What isn't there comes when it is touched.
    pub(crate) fn populate(&self) -> bool {
        // SAFETY: the range is this arena's mapping, which is writable.
        unsafe { numa::populate(self.start.as_ptr(), self.mapped_bytes) }.is_ok()
    }

    /// Where it is. A system call for every two mebibytes.
    pub(crate) fn report(&self) -> MemoryReport {
        MemoryReport {
            bytes: self.bytes,
            policy: self.policy.clone(),
            pages: numa::residence(self.start.as_ptr(), self.mapped_bytes),
            is_huge: self.is_huge,
        }
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

fn map_pages(bytes: usize, flags: MapFlags) -> io::Result<NonNull<u8>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = flags | MapFlags::PRIVATE;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
    let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) };
    let start = mapped.map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("mapping {bytes} bytes: {error}"))
    })?;
    Ok(NonNull::new(start.cast()).expect("mmap never returns null"))
}

/// Reserved huge pages that are free, on a node or anywhere.
fn free_huge_pages(node: Option<u32>) -> usize {
    let folder = match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
        None => "/sys/kernel/mm/hugepages".to_owned(),
    };
    let free = std::fs::read_to_string(format!("{folder}/hugepages-2048kB/free_hugepages"));
    free.map_or(0, |free| free.trim().parse().unwrap_or(0))
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `start` and `mapped_bytes` are those of a mapping made by `map_pages`, and its
        // owner is gone, so nothing points into it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.mapped_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numa::memory_nodes;

    fn options(node: u32, pages: Pages) -> MemoryOptions {
        MemoryOptions {
            node: Some(node),
            pages,
        }
    }

    #[test]
    fn every_page_is_on_the_node_that_was_asked_for() {
        for node in memory_nodes() {
            let arena = Arena::map_on(1 << 20, &options(node, Pages::Ordinary)).unwrap();
            let fresh = arena.report();
            if let Policy::Refused(why) = fresh.policy {
                return eprintln!("SKIP every_page_is_on_the_node_that_was_asked_for: {why}");
            }
            assert_eq!(fresh.policy, Policy::Bound(node));
            assert_eq!(fresh.pages, Ok([].into()), "nothing was touched");
            // SAFETY: the arena is this test's alone.
            unsafe { arena.at(5000).write(1) };
            assert_eq!(arena.report().pages, Ok([(node, 1)].into()));
            assert!(arena.populate());
            let full = arena.report();
            let pages = (1 << 20) / rustix::param::page_size();
            assert_eq!(full.pages, Ok([(node, pages)].into()));
            assert_eq!(full.is_on_its_node(), Some(true));
        }
    }

    /// Node 1,000 exists nowhere: the memory comes from elsewhere, and that is told.
    #[test]
    fn a_node_that_is_not_there_is_told_and_costs_nothing() {
        for node in [1000, 4000] {
            let arena = Arena::map_on(8192, &options(node, Pages::Transparent)).unwrap();
            let report = arena.report();
            assert!(matches!(report.policy, Policy::Refused(_)), "{report:?}");
            assert_eq!(report.is_on_its_node(), None);
            // SAFETY: the arena is this test's alone.
            let byte = unsafe { &mut *arena.at(8191) };
            *byte = 7;
            assert_eq!(*byte, 7);
        }
    }

    #[test]
    fn reserved_pages_are_used_where_there_are_some_and_ordinary_ones_else() {
        let node = memory_nodes()[0];
        let arena = Arena::map_on(3 << 20, &options(node, Pages::Reserved)).unwrap();
        let free = free_huge_pages(Some(node));
        if arena.report().is_huge {
            assert_eq!(arena.mapped_bytes, 4 << 20);
        } else if free >= 2 {
            eprintln!("SKIP reserved_pages_are_used: {free} are free, and can't be had");
        }
        // SAFETY: the arena is this test's alone.
        unsafe { arena.at((3 << 20) - 1).write(1) };
    }
}
