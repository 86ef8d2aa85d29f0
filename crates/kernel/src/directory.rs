//! What is in a directory: names with their kinds, sizes and times, as many as asked for.
//!
//! It waits for the disk, so it is for the blocking pool. Nothing is followed out of the root: a
//! link is looked at through the kernel's confined resolution, like everything that is opened
//! (`file`), and one that leads out, nowhere or in circles isn't there.

use crate::file::{Directory, FileKind, Metadata, OPEN_FLAGS, Symlinks, resolve_flags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Memory for one `getdents64(2)`: some 500 names of usual length.
const BUFFER_BYTES: usize = 16 << 10;

/// The entries of a directory, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// What can be served: regular files and directories, and links to them.
    pub entries: Vec<DirectoryEntry>,
    /// Whether there are more names than were looked at.
    pub is_cut: bool,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Any bytes but NUL and `/`; at most 255 on nearly every file system.
    pub name: Box<[u8]>,
    /// What it is, or what the link leads to.
    pub metadata: Metadata,
}

impl Directory {
    /// Reads the directory at `path` beneath this one; an empty path is this one. At most `limit`
    /// names are looked at, those among them that `is_wanted` are told of. Waits for the disk.
    ///
    /// # Errors
    /// As [`File`](crate::File)s are opened, and `ENOTDIR` when it isn't a directory.
    pub fn contents(
        &self,
        path: &[u8],
        symlinks: Symlinks,
        limit: usize,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Contents> {
        let at = if path.is_empty() { b"." } else { path };
        let directory = self.resolve(at, OPEN_FLAGS | OFlags::DIRECTORY, symlinks)?;
        let mut contents = Contents::default();
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut names = RawDir::new(&directory, &mut buffer);
        let mut count = 0;
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if count == limit {
                contents.is_cut = true;
                break;
            }
            count += 1;
            if !is_wanted(name.to_bytes()) {
                continue;
            }
            if let Some(metadata) = self.look_at(&directory, path, name, symlinks)? {
                contents.entries.push(DirectoryEntry {
                    name: name.to_bytes().into(),
                    metadata,
                });
            }
        }
        Ok(contents)
    }

    /// What `name` is, unless it can't be served.
    fn look_at(
        &self,
        directory: &OwnedFd,
        path: &[u8],
        name: &CStr,
        symlinks: Symlinks,
    ) -> io::Result<Option<Metadata>> {
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone since its name was read, or in a directory that may be read and not entered.
            Err(Errno::NOENT | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = match (FileType::from_raw_mode(stat.st_mode), symlinks) {
            (FileType::Symlink, Symlinks::Deny) => return Ok(None),
            (FileType::Symlink, Symlinks::Beneath) => {
                let at = [path, b"/", name.to_bytes()].concat();
                // Beneath the root, not beneath the directory: `../x` may well be served.
                let at = at.strip_prefix(b"/").unwrap_or(&at);
                match self.resolve(at, OFlags::PATH | OFlags::CLOEXEC, symlinks) {
                    Ok(target) => rustix::fs::fstat(target)?,
                    Err(_) => return Ok(None),
                }
            }
            _ => stat,
        };
        let metadata = Metadata::from_stat(&stat);
        Ok((metadata.kind != FileKind::Special).then_some(metadata))
    }

    fn resolve(&self, path: &[u8], flags: OFlags, symlinks: Symlinks) -> io::Result<OwnedFd> {
        let path = CString::new(path).map_err(|_| io::Error::from(Errno::INVAL))?;
        let resolve = resolve_flags(symlinks);
        let descriptor = rustix::io::retry_on_intr(|| {
            rustix::fs::openat2(self.descriptor(), &path, flags, Mode::empty(), resolve)
        })?;
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn names(root: &Path, path: &str, symlinks: Symlinks, limit: usize) -> (Vec<String>, bool) {
        let directory = Directory::open(root).unwrap();
        let contents = directory
            .contents(path.as_bytes(), symlinks, limit, |name| {
                !name.starts_with(b".")
            })
            .unwrap();
        let mut names: Vec<String> = contents
            .entries
            .iter()
            .map(|entry| {
                let mark = match entry.metadata.kind {
                    FileKind::Directory => "/",
                    _ => "",
                };
                String::from_utf8_lossy(&entry.name).into_owned() + mark
            })
            .collect();
        names.sort();
        (names, contents.is_cut)
    }

    #[test]
    fn only_what_can_be_served_is_there() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        let sub = root.join("sub");
        std::fs::create_dir_all(sub.join("folder")).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("file"), "12345").unwrap();
        std::fs::write(sub.join(".hidden"), "").unwrap();
        std::fs::write(sub.join(std::ffi::OsStr::from_bytes(b"\xff\n<")), "").unwrap();
        for (target, name) in [
            ("../file", "inside"),
            ("folder", "to folder"),
            ("../../secret", "out"),
            ("/etc/passwd", "absolute"),
            ("/proc/self/cwd", "magic"),
            ("nothing", "dangling"),
            ("loop", "loop"),
        ] {
            symlink(target, sub.join(name)).unwrap();
        }
        let status = std::process::Command::new("mkfifo")
            .arg(sub.join("fifo"))
            .status();
        assert!(status.unwrap().success());
        let files = ["\u{fffd}\n<", "folder/"];
        let links = ["\u{fffd}\n<", "folder/", "inside", "to folder/"];
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            names.sort();
            (names, false)
        };
        for path in ["sub", "sub/"] {
            assert_eq!(names(&root, path, Symlinks::Deny, 100), sorted(&files));
            assert_eq!(names(&root, path, Symlinks::Beneath, 100), sorted(&links));
        }
        assert_eq!(
            names(&root, "", Symlinks::Beneath, 100),
            sorted(&["file", "sub/"])
        );
        let directory = Directory::open(&root).unwrap();
        let all = directory.contents(b"sub", Symlinks::Beneath, 100, |name| name == b"inside");
        assert_eq!(all.unwrap().entries[0].metadata.bytes, 5);
    }

    #[test]
    fn no_more_names_than_the_limit_are_looked_at() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..2000 {
            std::fs::write(root.path().join(format!("{number}")), "").unwrap();
        }
        for (limit, count, is_cut) in [
            (0, 0, true),
            (1999, 1999, true),
            (2000, 2000, false),
            (9999, 2000, false),
        ] {
            let (names, was_cut) = names(root.path(), "", Symlinks::Beneath, limit);
            assert_eq!((names.len(), was_cut), (count, is_cut), "{limit}");
        }
    }

    #[test]
    fn what_is_no_directory_beneath_the_root_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        symlink("..", root.join("up")).unwrap();
        let directory = Directory::open(&root).unwrap();
        for (path, errno) in [
            ("file", libc::ENOTDIR),
            ("nothing", libc::ENOENT),
            ("..", libc::EXDEV),
            ("up", libc::EXDEV),
            ("a\0b", libc::EINVAL),
        ] {
            let refused = directory.contents(path.as_bytes(), Symlinks::Beneath, 10, |_| true);
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(errno), "{path:?}");
        }
    }
}
