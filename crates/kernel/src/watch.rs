//! Being told of changes below a directory (`inotify(7)`): the system calls, and what is worth
//! trusting.
//!
//! It knows nothing of what the watches are for. Everything here may wait for a disk or for a
//! change, so none of it runs on a worker.

use crate::file::Directory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Room for about a hundred events with their names.
const BUFFER_BYTES: usize = 16 << 10;

/// All that can change what a path below the directory leads to, or what is read there.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// File systems whose every change passes through this kernel, by the magic number of `statfs(2)`.
/// Another machine's, or a program's (NFS, SMB, FUSE, 9p), change without an event (inotify(7),
/// "Limitations").
const TOLD_OF: [u32; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs, whose layers mustn't change beneath it
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
];

/// A watched directory, as events name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(i32);

/// What a [`Watcher`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Something in the directory changed: what has this name, or, without one, the directory
    /// itself.
    In(WatchId, Option<&'a [u8]>),
    /// The watch has ended: its directory is gone, or its file system.
    Ended(WatchId),
    /// Events were lost: anything may have changed.
    Lost,
}

/// Directories that are watched. Can be shared by threads.
#[derive(Debug)]
pub struct Watcher {
    descriptor: OwnedFd,
}

impl Watcher {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// `EMFILE` when the user has too many (`fs.inotify.max_user_instances`), `ENOSYS` or `EPERM`
    /// where the kernel or a filter has no inotify.
    pub fn new() -> io::Result<Watcher> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        Ok(Watcher {
            descriptor: inotify::init(flags)?,
        })
    }

    /// Watches the directory at `path` below `root` (an empty path is `root` itself).
    ///
    /// # Errors
    /// `ELOOP` when a link is on the way: where it leads can change unseen. `EXDEV` when a mount point
    /// is. `EOPNOTSUPP` on a file system whose changes aren't all told. `ENOSPC` beyond `fs.inotify.max_user_watches`. `ENOENT`
    /// also without `/proc`. Else as `openat2(2)`.
    pub fn add(&self, root: &Directory, path: &[u8]) -> io::Result<WatchId> {
        let path = if path.is_empty() { b"." } else { path };
        let path = CString::new(path).map_err(|_| io::Error::from(Errno::INVAL))?;
        // Nor beyond a mount point, where a file system might take its time to answer.
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::openat2(root.descriptor(), &path, flags, Mode::empty(), resolve)?;
        let magic = rustix::fs::fstatfs(&directory)?.f_type as u32;
        if !TOLD_OF.contains(&magic) {
            return Err(Errno::OPNOTSUPP.into());
        }
        // By its descriptor: the path could lead elsewhere by now, and out of the root.
        let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
        Ok(WatchId(inotify::add_watch(
            &self.descriptor,
            name,
            CHANGES,
        )?))
    }

    /// Ends a watch; one that has ended is left alone.
    pub fn remove(&self, id: WatchId) {
        let _ = inotify::remove_watch(&self.descriptor, id.0);
    }

    /// Waits for changes, at most that long, and tells those that there are.
    ///
    /// # Errors
    /// As `poll(2)` and `read(2)`.
    pub fn wait(&self, time: Duration, mut tell: impl FnMut(Change<'_>)) -> io::Result<()> {
        let time = Timespec::try_from(time).map_err(|_| io::Error::from(Errno::INVAL))?;
        let polled = &mut [PollFd::new(&self.descriptor, PollFlags::IN)];
        match poll(polled, Some(&time)) {
            Ok(0) | Err(Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut reader = Reader::new(&self.descriptor, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let id = WatchId(event.wd());
            let what = event.events();
            tell(if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                Change::Lost
            } else if what.contains(ReadFlags::IGNORED) {
                Change::Ended(id)
            } else {
                Change::In(id, event.file_name().map(|name| name.to_bytes()))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A watcher of `root` itself; `None` where its file system isn't one that tells.
    fn watch(root: &Path) -> Option<(Watcher, WatchId)> {
        let watcher = Watcher::new().unwrap();
        match watcher.add(&Directory::open(root).unwrap(), b"") {
            Ok(id) => Some((watcher, id)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
                eprintln!("SKIP watch: the temporary directory is on another kind of file system");
                None
            }
        }
    }

    /// The names of everything that changed.
    fn changes(watcher: &Watcher) -> Vec<String> {
        let mut names = Vec::new();
        watcher
            .wait(Duration::from_secs(5), |change| {
                names.push(match change {
                    Change::In(_, Some(name)) => String::from_utf8_lossy(name).into_owned(),
                    other => format!("{other:?}"),
                });
            })
            .unwrap();
        names.dedup();
        names
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&path, "old").unwrap();
        let Some((watcher, _)) = watch(folder.path()) else {
            return;
        };
        fs::write(&path, "new").unwrap();
        assert_eq!(changes(&watcher), ["file"]);
        fs::write(&other, "").unwrap();
        assert_eq!(changes(&watcher), ["other"]);
        fs::rename(&other, &path).unwrap();
        assert_eq!(changes(&watcher), ["other", "file"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(changes(&watcher), ["file"]);
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert_eq!(changes(&watcher), ["file"]);
    }

    #[test]
    fn the_end_of_a_directory_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let Some((watcher, id)) = watch(&inner) else {
            return;
        };
        fs::remove_dir(&inner).unwrap();
        let mut told = Vec::new();
        watcher
            .wait(Duration::from_secs(5), |change| {
                told.push(match change {
                    Change::In(id, name) => (id, name.map(<[u8]>::to_vec), false),
                    Change::Ended(id) => (id, None, true),
                    Change::Lost => panic!("nothing can be lost"),
                });
            })
            .unwrap();
        assert_eq!(told, [(id, None, false), (id, None, true)]);
    }

    #[test]
    fn a_way_over_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let watcher = Watcher::new().unwrap();
        let root = Directory::open(folder.path()).unwrap();
        let error = watcher.add(&root, b"link").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        let error = watcher.add(&root, b"../").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    }
}
