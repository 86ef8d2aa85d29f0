//! Files: opened beneath a directory that they can't leave, looked at, and read.
//!
//! Names are resolved by the kernel (`openat2(2)`, Linux 5.6), never by comparing strings: `..`,
//! absolute links and magic links can't lead out of the root, whatever races with the lookup.

use crate::arena::Arena;
use crate::blocks::Block;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What to do with symbolic links on the way to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Follow those that stay beneath the root.
    #[default]
    Beneath,
    /// Refuse every path with a link in it.
    Deny,
}

/// A directory that files are opened beneath. Cheap to clone, and to send to other threads.
#[derive(Clone, Debug)]
pub struct Directory {
    descriptor: Arc<OwnedFd>,
}

impl Directory {
    /// Opens a directory by any path.
    ///
    /// # Errors
    /// As `open(2)` with `O_DIRECTORY`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Directory {
            descriptor: Arc::new(descriptor),
        })
    }

    /// Which directory it is: inode and device (`fstat(2)`). It stays the same directory wherever
    /// it is moved, so this tells whether the path it was opened by leads to another one now.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.descriptor)?;
        Ok((stat.st_ino, stat.st_dev))
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Opens a file beneath this one and waits as long as it takes: for other threads than workers,
    /// and for tests.
    ///
    /// # Errors
    /// As [`Reactor::open_beneath`](crate::Reactor::open_beneath).
    pub fn open_waiting(&self, path: &[u8], symlinks: Symlinks) -> io::Result<File> {
        let request = OpenRequest::new(self, path, symlinks)?;
        Ok(File::from_descriptor(request.to_blocking().run()?))
    }
}

/// An open file, read-only. Cheap to clone, and to send to other threads.
#[derive(Clone, Debug)]
pub struct File {
    open: Arc<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    descriptor: OwnedFd,
    /// Counting its cached pages is refused, or makes no sense.
    cachestat_refused: AtomicBool,
    /// On a file system that has nothing but memory.
    is_in_memory: bool,
}

impl File {
    pub(crate) fn from_descriptor(descriptor: OwnedFd) -> File {
        File {
            open: Arc::new(OpenFile {
                descriptor,
                cachestat_refused: AtomicBool::new(false),
                is_in_memory: false,
            }),
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.open.descriptor.as_fd()
    }

    pub(crate) fn cachestat_refused(&self) -> &AtomicBool {
        &self.open.cachestat_refused
    }

    /// Whether its file system may take its time, whatever is cached: a network, or a program.
    pub fn may_wait(&self) -> bool {
        false
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.open.is_in_memory
    }

    /// What the file is now (`fstat(2)`).
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        Ok(Metadata::from_stat(&rustix::fs::fstat(
            &self.open.descriptor,
        )?))
    }
}

/// The part of `stat(2)` that decides how, and whether, a file is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Regular file, directory, or what must not be served.
    pub kind: FileKind,
    /// Size in bytes.
    pub bytes: u64,
    /// Last modification, in whole seconds since 1970.
    pub modified_seconds: i64,
    /// Its fraction, in nanoseconds.
    pub modified_nanoseconds: u32,
    /// Last change of the inode (which no program can set), as seconds and nanoseconds.
    pub changed: (i64, u32),
    /// Inode number, with `device` the file's identity.
    pub inode: u64,
    /// The device that the inode is on.
    pub device: u64,
}

/// What kind of thing a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Bytes that can be served.
    Regular,
    /// A directory.
    Directory,
    /// A device, FIFO or socket.
    Special,
}

impl Metadata {
    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> Metadata {
        Metadata {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => FileKind::Regular,
                FileType::Directory => FileKind::Directory,
                _ => FileKind::Special,
            },
            bytes: stat.st_size.unsigned_abs(),
            modified_seconds: stat.st_mtime,
            modified_nanoseconds: stat.st_mtime_nsec as u32,
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
            inode: stat.st_ino,
            device: stat.st_dev,
        }
    }
}

/// An open in flight: everything that the kernel reads, kept in a slot.
pub(crate) struct OpenRequest {
    directory: Directory,
    path: CString,
    how: io_uring::types::OpenHow,
    symlinks: Symlinks,
}

/// `O_NONBLOCK` so that a FIFO doesn't wait for a writer; it has no effect on regular files.
pub(crate) const OPEN_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

impl OpenRequest {
    /// # Errors
    /// `EINVAL` when the path holds a NUL byte.
    pub(crate) fn new(directory: &Directory, path: &[u8], symlinks: Symlinks) -> io::Result<Self> {
        // The root itself is named by ".": openat2 refuses an empty path.
        let path = if path.is_empty() { b"." } else { path };
        let path = CString::new(path).map_err(|_| io::Error::from(Errno::INVAL))?;
        let how = io_uring::types::OpenHow::new()
            .flags(u64::from(OPEN_FLAGS.bits()))
            .resolve(resolve_flags(symlinks).bits());
        Ok(OpenRequest {
            directory: directory.clone(),
            path,
            how,
            symlinks,
        })
    }

    pub(crate) fn directory_descriptor(&self) -> RawFd {
        self.directory.descriptor.as_raw_fd()
    }

    pub(crate) fn path(&self) -> &CString {
        &self.path
    }

    pub(crate) fn how(&self) -> *const io_uring::types::OpenHow {
        &raw const self.how
    }

    /// A copy for another thread.
    pub(crate) fn to_blocking(&self) -> BlockingOpen {
        BlockingOpen {
            directory: self.directory.clone(),
            path: self.path.clone(),
            symlinks: self.symlinks,
        }
    }

    /// Opens without waiting for a disk: `WouldBlock` when a name isn't in the kernel's cache
    /// (`RESOLVE_CACHED`, Linux 5.12).
    pub(crate) fn open_cached(&self) -> io::Result<OwnedFd> {
        let resolve = resolve_flags(self.symlinks) | ResolveFlags::CACHED;
        open_beneath(&self.directory, &self.path, resolve)
    }
}

/// An open to be done on a thread that may wait.
pub(crate) struct BlockingOpen {
    directory: Directory,
    path: CString,
    symlinks: Symlinks,
}

impl BlockingOpen {
    pub(crate) fn run(&self) -> io::Result<OwnedFd> {
        open_beneath(&self.directory, &self.path, resolve_flags(self.symlinks))
    }
}

pub(crate) fn resolve_flags(symlinks: Symlinks) -> ResolveFlags {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match symlinks {
        Symlinks::Beneath => beneath,
        Symlinks::Deny => beneath | ResolveFlags::NO_SYMLINKS,
    }
}

fn open_beneath(
    directory: &Directory,
    path: &CString,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    // A rename somewhere on the path makes the kernel give up with EAGAIN (openat2(2)): once more.
    let open = || {
        rustix::io::retry_on_intr(|| {
            rustix::fs::openat2(
                &directory.descriptor,
                path,
                OPEN_FLAGS,
                Mode::empty(),
                resolve,
            )
        })
    };
    match open() {
        Err(Errno::AGAIN) if !resolve.contains(ResolveFlags::CACHED) => Ok(open()?),
        other => Ok(other?),
    }
}

/// A read in flight: the file and the buffer, kept in a slot.
pub(crate) struct ReadRequest {
    pub(crate) file: File,
    pub(crate) offset: u64,
    /// Its length is how much to read at most.
    pub(crate) bytes: Vec<u8>,
}

impl ReadRequest {
    /// Reads what the page cache holds, without waiting for a disk (`RWF_NOWAIT`, Linux 4.14).
    pub(crate) fn read_cached(&mut self) -> io::Result<usize> {
        read_cached(self.file.descriptor(), self.offset, &mut self.bytes)
    }

    /// Reads, and waits as long as it takes.
    pub(crate) fn read_waiting(&mut self) -> io::Result<usize> {
        Ok(rustix::io::pread(
            &self.file.open.descriptor,
            &mut self.bytes,
            self.offset,
        )?)
    }
}

/// Reads what the page cache holds, without waiting for a disk (`RWF_NOWAIT`, Linux 4.14).
pub(crate) fn read_cached(
    file: BorrowedFd<'_>,
    offset: u64,
    bytes: &mut [u8],
) -> io::Result<usize> {
    let parts = &mut [io::IoSliceMut::new(bytes)];
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    let read = || rustix::io::preadv2(file, parts, offset, flags);
    Ok(rustix::io::retry_on_intr(read)?)
}

/// A range of a file on its way into memory, kept in a slot. Its bytes go where nobody looks, so
/// that any number of these needs no memory of its own.
pub(crate) struct WarmRequest {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) count: usize,
    /// At least `count` bytes, which others may be writing to at the same time.
    pub(crate) scratch: Rc<Arena>,
}

impl WarmRequest {
    pub(crate) fn scratch_address(&self) -> *mut u8 {
        self.scratch.at(0)
    }
}

/// Reads a range of a file, waiting as long as it takes, and throws the bytes away.
pub(crate) fn warm_waiting(file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut space = [0; 16 << 10];
    let mut done = 0;
    while done < count {
        let most = space.len().min(count - done);
        let read = || {
            rustix::io::pread(
                &file.open.descriptor,
                &mut space[..most],
                offset + done as u64,
            )
        };
        match rustix::io::retry_on_intr(read)? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

/// A read into a block, kept in a slot.
pub(crate) struct BlockRead {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) block: Block,
    /// How much to read at most.
    pub(crate) count: usize,
}

/// A file's bytes in the address space, for the comparison of methods only.
///
/// Never for files that are served: where the file is truncated, a program that touches the memory
/// is killed (`SIGBUS`), and even the kernel, which gets `EFAULT` instead, sees zeroes in what was
/// the last page. So nobody but the kernel ever reads it.
pub struct Mapping {
    file: File,
    start: *mut libc::c_void,
    offset: u64,
    bytes: usize,
}

/// Mappings begin at a multiple of this, which every page size divides.
const MAPPING_ALIGNMENT: u64 = 64 << 10;

impl Mapping {
    /// Maps `count` bytes from `offset`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new(file: &File, offset: u64, count: usize) -> io::Result<Mapping> {
        use rustix::mm::{MapFlags, ProtFlags};
        let start = offset - offset % MAPPING_ALIGNMENT;
        let bytes = count + (offset - start) as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let mapped = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file.open.descriptor,
                start,
            )
        };
        Ok(Mapping {
            file: file.clone(),
            start: mapped?,
            offset: start,
            bytes,
        })
    }

    /// Where the byte at `offset` of the file is.
    ///
    /// # Panics
    /// When that is not in the mapping.
    pub(crate) fn address(&self, offset: u64) -> *const u8 {
        let distance = (offset - self.offset) as usize;
        assert!(distance < self.bytes, "{offset} is outside of a mapping");
        self.start.cast::<u8>().wrapping_add(distance)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: start and length are those of a mapping made in `new`, and its one owner is gone.
        let unmapped = unsafe { rustix::mm::munmap(self.start, self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mapping({} bytes from {})", self.bytes, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path, path: &str, symlinks: Symlinks) -> io::Result<OwnedFd> {
        let directory = Directory::open(root)?;
        OpenRequest::new(&directory, path.as_bytes(), symlinks)?
            .to_blocking()
            .run()
    }

    fn errno(result: io::Result<OwnedFd>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn nothing_outside_the_root_can_be_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("file"), "file").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../file", root.join("sub/inside")).unwrap();
        std::os::unix::fs::symlink("/proc/self/cwd", root.join("magic")).unwrap();
        for path in [
            "../secret",
            "sub/../../secret",
            "out",
            "absolute",
            "magic",
            "/etc/passwd",
        ] {
            assert_eq!(
                errno(open(&root, path, Symlinks::Beneath)),
                Some(libc::EXDEV),
                "{path}"
            );
        }
        assert!(open(&root, "sub/inside", Symlinks::Beneath).is_ok());
        assert_eq!(
            errno(open(&root, "sub/inside", Symlinks::Deny)),
            Some(libc::ELOOP)
        );
        assert!(open(&root, "", Symlinks::Deny).is_ok());
    }

    #[test]
    fn a_path_with_nul_is_refused() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(
            errno(open(root.path(), "a\0b", Symlinks::Beneath)),
            Some(libc::EINVAL)
        );
    }
}
