//! Files: opened beneath a directory that they can't leave, looked at, and read.
//!
//! Names are resolved by the kernel (`openat2(2)`, Linux 5.6), never by comparing strings: `..`,
//! absolute links and magic links can't lead out of the root, whatever races with the lookup.
//!
//! What a worker opens is on its root's own mount (`RESOLVE_NO_XDEV`), because beyond a mount point
//! there may be a file system that takes its time (`medium`). Files on such a one are opened, looked
//! at, read and closed by the threads of a pool that belongs to the root alone, so that what hangs
//! there takes nobody else's thread.

use crate::arena::Arena;
use crate::blocks::Block;
use crate::medium::Medium;
use crate::pool::BlockingPool;
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

/// Threads, and jobs that wait for one, of a directory that is given no pool.
const WAITING_LIMITS: (usize, usize) = (16, 1024);

/// A directory that files are opened beneath. Cheap to clone, and to send to other threads.
#[derive(Clone, Debug)]
pub struct Directory {
    descriptor: Arc<OwnedFd>,
    device: u64,
    medium: Medium,
    /// For what may wait here. It has no threads before somebody needs one.
    waiting: BlockingPool,
}

impl Directory {
    /// Opens a directory by any path, and waits as long as that takes.
    ///
    /// # Errors
    /// As `open(2)` with `O_DIRECTORY`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let (threads_limit, queue_limit) = WAITING_LIMITS;
        Directory::open_with(path, BlockingPool::new(threads_limit, queue_limit))
    }

    /// The same; what may wait beneath it is left to `waiting`.
    ///
    /// # Errors
    /// As `open(2)` with `O_DIRECTORY`.
    pub fn open_with(path: &Path, waiting: BlockingPool) -> io::Result<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Directory {
            device: rustix::fs::fstat(&descriptor)?.st_dev,
            medium: Medium::of(&descriptor)?,
            descriptor: Arc::new(descriptor),
            waiting,
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

    /// Whether its file system may take its time, whatever is cached: a network, or a program.
    pub fn may_wait(&self) -> bool {
        self.medium == Medium::Distant
    }

    /// The pool for what may wait beneath this directory.
    pub fn waiting(&self) -> &BlockingPool {
        &self.waiting
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Opens a file or directory beneath this one, on whatever is mounted there, looks at it, and
    /// waits as long as that takes: for other threads than workers, and for tests.
    ///
    /// # Errors
    /// As [`Reactor::open_beneath`](crate::Reactor::open_beneath), but for mount points.
    pub fn open_waiting(&self, path: &[u8], symlinks: Symlinks) -> io::Result<(File, Metadata)> {
        let path = path_of(path)?;
        let descriptor = open_beneath(self, &path, resolve_flags(symlinks))?;
        let metadata = Metadata::from_stat(&rustix::fs::fstat(&descriptor)?);
        let medium = match metadata.device == self.device {
            true => self.medium,
            false => Medium::of(&descriptor)?,
        };
        Ok((self.file(descriptor, medium), metadata))
    }

    pub(crate) fn file(&self, descriptor: OwnedFd, medium: Medium) -> File {
        let may_wait = medium == Medium::Distant;
        File {
            open: Arc::new(OpenFile {
                descriptor: Some(descriptor),
                cachestat_refused: AtomicBool::new(false),
                is_in_memory: medium == Medium::Memory,
                waiting: may_wait.then(|| self.waiting.clone()),
            }),
        }
    }
}

/// An open file, read-only. Cheap to clone, and to send to other threads.
#[derive(Clone, Debug)]
pub struct File {
    open: Arc<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    /// Until it is dropped.
    descriptor: Option<OwnedFd>,
    /// Counting its cached pages is refused, or makes no sense.
    cachestat_refused: AtomicBool,
    /// On a file system that has nothing but memory.
    is_in_memory: bool,
    /// On a file system that may take its time: where that is waited for.
    waiting: Option<BlockingPool>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // Closing asks such a file system as well (`flush` of FUSE), and waits for its answer.
        if let (Some(pool), Some(descriptor)) = (&self.waiting, self.descriptor.take()) {
            pool.submit_release(move || drop(descriptor));
        }
    }
}

impl OpenFile {
    fn descriptor(&self) -> &OwnedFd {
        let open = self.descriptor.as_ref();
        open.expect("only the destructor takes it")
    }
}

impl File {
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.open.descriptor().as_fd()
    }

    pub(crate) fn cachestat_refused(&self) -> &AtomicBool {
        &self.open.cachestat_refused
    }

    /// Whether its file system may take its time, whatever is cached: a network, or a program. Then
    /// nothing here is for a worker's thread.
    pub fn may_wait(&self) -> bool {
        self.open.waiting.is_some()
    }

    /// The pool for what may wait, if [`File::may_wait`].
    pub fn waiting(&self) -> Option<&BlockingPool> {
        self.open.waiting.as_ref()
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
            self.open.descriptor(),
        )?))
    }

    /// How many names it has (`fstat(2)`): none when it was deleted or renamed over.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn link_count(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(self.open.descriptor())?.st_nlink as u64)
    }

    /// Reads into `bytes` from `offset`, and waits as long as that takes. How much was read; nothing
    /// at the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub fn read_waiting(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = || rustix::io::pread(self.open.descriptor(), &mut *bytes, offset);
        Ok(rustix::io::retry_on_intr(read)?)
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
    resolve: ResolveFlags,
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
        let resolve = resolve_flags(symlinks) | ResolveFlags::NO_XDEV;
        let how = io_uring::types::OpenHow::new()
            .flags(u64::from(OPEN_FLAGS.bits()))
            .resolve(resolve.bits());
        Ok(OpenRequest {
            directory: directory.clone(),
            path: path_of(path)?,
            how,
            resolve,
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

    /// The file that was opened.
    pub(crate) fn file(&self, descriptor: OwnedFd) -> File {
        self.directory.file(descriptor, self.directory.medium)
    }

    /// A copy for another thread.
    pub(crate) fn to_blocking(&self) -> BlockingOpen {
        BlockingOpen {
            directory: self.directory.clone(),
            path: self.path.clone(),
            resolve: self.resolve,
        }
    }

    /// Opens without waiting for a disk: `WouldBlock` when a name isn't in the kernel's cache
    /// (`RESOLVE_CACHED`, Linux 5.12).
    pub(crate) fn open_cached(&self) -> io::Result<OwnedFd> {
        let resolve = self.resolve | ResolveFlags::CACHED;
        open_beneath(&self.directory, &self.path, resolve)
    }
}

/// An open to be done on a thread that may wait.
pub(crate) struct BlockingOpen {
    directory: Directory,
    path: CString,
    resolve: ResolveFlags,
}

impl BlockingOpen {
    pub(crate) fn run(&self) -> io::Result<OwnedFd> {
        open_beneath(&self.directory, &self.path, self.resolve)
    }
}

/// The root itself is named by ".": `openat2` refuses an empty path.
fn path_of(path: &[u8]) -> io::Result<CString> {
    let path = if path.is_empty() { b"." } else { path };
    CString::new(path).map_err(|_| io::Error::from(Errno::INVAL))
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
        self.file.read_waiting(&mut self.bytes, self.offset)
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
        match file.read_waiting(&mut space[..most], offset + done as u64)? {
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
                file.open.descriptor(),
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

    /// Where the byte at `offset` of the file is, and how many of the `count` from there are mapped.
    ///
    /// # Panics
    /// When the first one isn't.
    pub(crate) fn range(&self, offset: u64, count: usize) -> (*const u8, usize) {
        let distance = offset.checked_sub(self.offset).map(|it| it as usize);
        let distance = distance.filter(|it| *it < self.bytes);
        let distance = distance.expect("the first byte is in the mapping");
        let start = self.start.cast::<u8>().wrapping_add(distance);
        (start, count.min(self.bytes - distance))
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
