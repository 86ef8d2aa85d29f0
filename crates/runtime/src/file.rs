//! Files: opened beneath a directory and read, without a wait on the worker's thread.

use crate::worker::Worker;
use ringway_kernel::{Contents, Metadata, RequestKey, Symlinks, WatchId, Watcher};
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::rc::Rc;

/// A directory that files are opened beneath. Cheap to clone, and to send to other workers.
#[derive(Clone, Debug)]
pub struct Directory {
    inner: ringway_kernel::Directory,
}

impl Directory {
    /// Opens a directory by any path; this may wait for a disk, so do it before serving.
    ///
    /// # Errors
    /// As `open(2)` with `O_DIRECTORY`.
    pub fn open(path: &Path) -> io::Result<Directory> {
        Ok(Directory {
            inner: ringway_kernel::Directory::open(path)?,
        })
    }

    /// As [`ringway_kernel::Directory::identity`].
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.inner.identity()
    }

    /// Has `watcher` watch the directory at `path` below this one. It may wait for a disk.
    ///
    /// # Errors
    /// As [`Watcher::add`].
    pub fn watch(&self, watcher: &Watcher, path: &[u8]) -> io::Result<WatchId> {
        watcher.add(&self.inner, path)
    }

    /// Opens a file or directory beneath this one for reading. The kernel resolves `path`
    /// (`openat2(2)`): no `..`, link or race leads out. An empty path is the directory itself.
    ///
    /// # Errors
    /// `EXDEV` for a path that leads out, `ELOOP` for a link that [`Symlinks::Deny`] forbids, else
    /// as `open(2)`.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn open_beneath(&self, path: &[u8], symlinks: Symlinks) -> io::Result<File> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.open_beneath(&self.inner, path, symlinks))?;
        let request = Request { worker, key };
        let inner = poll_fn(|context| {
            request
                .worker
                .reactor
                .poll(context.waker(), |reactor, waiter| {
                    reactor.poll_open(key, waiter)
                })
        })
        .await?;
        Ok(File { inner })
    }

    /// Reads the directory at `path` beneath this one; an empty path is this one. At most `limit`
    /// names are looked at, those among them that `is_wanted` are told of. It waits for the disk:
    /// for [`spawn_blocking`](crate::spawn_blocking).
    ///
    /// # Errors
    /// As [`Directory::open_beneath`], and `ENOTDIR` when it isn't a directory.
    pub fn contents(
        &self,
        path: &[u8],
        symlinks: Symlinks,
        limit: usize,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Contents> {
        self.inner.contents(path, symlinks, limit, is_wanted)
    }
}

/// An open file, read-only. Cheap to clone.
#[derive(Clone, Debug)]
pub struct File {
    inner: ringway_kernel::File,
}

impl File {
    pub(crate) fn inner(&self) -> &ringway_kernel::File {
        &self.inner
    }

    /// What the file is now (`fstat(2)`).
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.inner.metadata()
    }

    /// Whether its file system may take its time (a network, a program), so that no plain call on it
    /// is safe on a worker.
    pub fn may_wait(&self) -> bool {
        self.inner.may_wait()
    }

    /// Reads at most `bytes.len()` bytes from `offset`, and returns the buffer with how many were
    /// read (0: the end of the file).
    ///
    /// # Errors
    /// As `pread(2)`.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn read_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<(Vec<u8>, usize)> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.read_at(&self.inner, offset, bytes));
        let request = Request { worker, key };
        poll_fn(|context| {
            request
                .worker
                .reactor
                .poll(context.waker(), |reactor, waiter| {
                    reactor.poll_read(key, waiter)
                })
        })
        .await
    }
}

/// Gives a request up when its future is dropped; a finished one is gone already.
pub(crate) struct Request {
    pub(crate) worker: Rc<Worker>,
    pub(crate) key: RequestKey,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.worker
            .reactor
            .enter(|reactor| reactor.abandon_request(self.key));
    }
}
