//! Whether a range of a file is in memory, asked without waiting for a disk.
//!
//! `sendfile` and `splice` wait for pages that aren't there, whatever the socket's flags say, so a
//! worker looks first. No single call tells for every file: `cachestat(2)` counts the pages of a
//! range in one call but needs ownership or write access (and counts pages that are still being
//! read), `preadv2(RWF_NOWAIT)` is for everybody but asks for one place at a time, and tmpfs,
//! overlayfs and most network file systems know neither or only one of them.

use crate::file::File;
use rustix::io::{Errno, ReadWriteFlags};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known about a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In memory: sending it won't wait.
    Resident,
    /// Some of it has to come from the disk first.
    Cold,
    /// This file system doesn't tell.
    Unknown,
}

/// Linux reads ahead by this much unless told otherwise, so pages come and go in such groups.
const SAMPLE_BYTES: u64 = 128 << 10;
const PAGE_BYTES: u64 = 4096;

/// `cachestat(2)` (Linux 6.5), the same number on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

/// Set once the call turned out not to exist here, or to be forbidden by a seccomp profile.
static NO_CACHESTAT: AtomicBool = AtomicBool::new(false);

/// Looks at `count` bytes from `offset`; a range that ends beyond the file is looked at to there.
pub(crate) fn look(file: &File, offset: u64, count: u64) -> Residency {
    if file.is_in_memory() {
        return Residency::Resident;
    }
    if count == 0 {
        return Residency::Resident;
    }
    let fd = file.descriptor();
    match cached_pages(file, offset, count) {
        // Pages that are on their way count as cached; the last one to come is most likely the
        // last of the range.
        Some(cached) if cached >= pages(offset, count) => sample(fd, offset + count - 1),
        // Overlayfs counts the pages of its own inode, which has none (seen on Linux 6.18).
        Some(_) => match sample(fd, offset) {
            Residency::Unknown => Residency::Unknown,
            _ => Residency::Cold,
        },
        None => samples(fd, offset, count),
    }
}

fn pages(offset: u64, count: u64) -> u64 {
    let first = offset / PAGE_BYTES;
    let last = (offset + count - 1) / PAGE_BYTES;
    last - first + 1
}

/// One byte of each group of pages that are read together, and the last one.
fn samples(fd: BorrowedFd<'_>, offset: u64, count: u64) -> Residency {
    let last = offset + count - 1;
    let mut at = offset;
    while at < last {
        match sample(fd, at) {
            Residency::Resident => at += SAMPLE_BYTES,
            other => return other,
        }
    }
    sample(fd, last)
}

/// Reads one byte if that takes no wait (`RWF_NOWAIT`, Linux 4.14).
fn sample(fd: BorrowedFd<'_>, offset: u64) -> Residency {
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    let read = || rustix::io::preadv2(fd, parts, offset, ReadWriteFlags::NOWAIT);
    match rustix::io::retry_on_intr(read) {
        Ok(_) => Residency::Resident,
        Err(Errno::AGAIN) => Residency::Cold,
        Err(_) => Residency::Unknown,
    }
}

/// `struct cachestat_range` and `struct cachestat`.
#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// How many pages of a range the page cache holds; `None` where that can't be asked.
fn cached_pages(file: &File, offset: u64, length: u64) -> Option<u64> {
    if NO_CACHESTAT.load(Ordering::Relaxed) || file.cachestat_refused().load(Ordering::Relaxed) {
        return None;
    }
    let range = Range { offset, length };
    let mut counts = Counts::default();
    let (range, space) = (&raw const range, &raw mut counts);
    // SAFETY: the kernel reads one range and writes one set of counts, both of which live across
    // the call and have its layout.
    let result = unsafe {
        libc::syscall(
            SYS_CACHESTAT,
            file.descriptor().as_raw_fd(),
            range,
            space,
            0,
        )
    };
    if result == 0 {
        return Some(counts.cached);
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(Errno::NOSYS) => NO_CACHESTAT.store(true, Ordering::Relaxed),
        // Not the owner (since Linux 6.15), or a file system without a page cache.
        _ => file.cachestat_refused().store(true, Ordering::Relaxed),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Directory, Symlinks};
    use std::path::Path;

    fn open(folder: &Path, name: &str) -> File {
        let directory = Directory::open(folder).unwrap();
        directory
            .open_waiting(name.as_bytes(), Symlinks::Deny)
            .unwrap()
            .0
    }

    #[test]
    fn pages_are_counted_from_the_one_that_holds_the_first_byte() {
        for (offset, count, expect) in [(0, 1, 1), (0, 4096, 1), (4095, 2, 2), (5000, 8192, 3)] {
            assert_eq!(pages(offset, count), expect, "{offset} {count}");
        }
    }

    #[test]
    fn what_was_just_written_is_in_memory_and_what_was_dropped_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), vec![7; 1 << 20]).unwrap();
        let file = open(folder.path(), "file");
        let warm = look(&file, 0, 1 << 20);
        if warm == Residency::Unknown {
            return eprintln!("SKIP residency: the folder for temporary files doesn't tell");
        }
        assert_eq!(warm, Residency::Resident);
        rustix::fs::fsync(file.descriptor()).unwrap();
        let advice = rustix::fs::Advice::DontNeed;
        rustix::fs::fadvise(file.descriptor(), 0, None, advice).unwrap();
        if file.is_in_memory() {
            return;
        }
        for everybody in [false, true] {
            // The second time as one who may not count pages.
            file.cachestat_refused().store(everybody, Ordering::Relaxed);
            assert_eq!(look(&file, 1 << 19, 1 << 19), Residency::Cold);
            rustix::fs::fadvise(file.descriptor(), 0, None, advice).unwrap();
        }
    }
}
