//! Files: opened beneath a directory and read, without a wait on the worker's thread.
//!
//! On a disk of this machine the reactor does that, at once where everything is in memory. On a file
//! system that asks a network or a program every call may wait, so all of them are done by the
//! threads of the directory's own pool.

use crate::blocking::{BlockingError, spawn_blocking, spawn_blocking_on};
use crate::transfer::Resident;
use crate::worker::Worker;
use ringway_kernel::{
    BlockingPool, Contents, Metadata, Reactor, RequestKey, Symlinks, Waiter, WatchId, Watcher,
};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

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

    /// The same; what may wait beneath it, because its file system takes its time, is left to
    /// `waiting`. [`Directory::open`] has 16 threads for that, which start when they are needed.
    ///
    /// # Errors
    /// As `open(2)` with `O_DIRECTORY`.
    pub fn open_with(path: &Path, waiting: BlockingPool) -> io::Result<Directory> {
        Ok(Directory {
            inner: ringway_kernel::Directory::open_with(path, waiting)?,
        })
    }

    /// Whether its file system may take its time (a network, a program), so that no plain call on it
    /// is safe on a worker.
    pub fn may_wait(&self) -> bool {
        self.inner.may_wait()
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
        let (file, _) = self.find_beneath(path, symlinks).await?;
        Ok(file)
    }

    /// As [`Directory::open_beneath`], and looks at what was opened.
    ///
    /// # Errors
    /// As that; `EBUSY` when too many wait for a file system that takes its time.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn find_beneath(
        &self,
        path: &[u8],
        symlinks: Symlinks,
    ) -> io::Result<(File, Metadata)> {
        if !self.inner.may_wait() {
            match self.open_here(path, symlinks).await {
                // It leads over a mount point, or out.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                opened => {
                    let file = File::new(opened?);
                    let metadata = file.metadata()?;
                    return Ok((file, metadata));
                }
            }
        }
        let (directory, path) = (self.inner.clone(), path.to_vec());
        let opened = wait_on(self.inner.waiting(), move || {
            directory.open_waiting(&path, symlinks)
        });
        let (inner, metadata) = opened.await?;
        Ok((File::new(inner), metadata))
    }

    /// Opens on this directory's own mount.
    async fn open_here(&self, path: &[u8], symlinks: Symlinks) -> io::Result<ringway_kernel::File> {
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.open_beneath(&self.inner, path, symlinks))?;
        Request { worker, key }.wait(Reactor::poll_open).await
    }

    /// Does work that waits for this directory's file system: in the blocking pool, or where that
    /// one takes its time by the threads that are there for it.
    ///
    /// # Errors
    /// [`BlockingError`].
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn spawn_blocking<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self.may_wait() {
            true => spawn_blocking_on(self.inner.waiting(), work).await,
            false => spawn_blocking(work).await,
        }
    }

    /// Reads the directory at `path` beneath this one; an empty path is this one. At most `limit`
    /// names are looked at, those among them that `is_wanted` are told of. It waits for the disk:
    /// for [`Directory::spawn_blocking`].
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
    /// Of all transfers on this worker.
    resident: Rc<RefCell<Resident>>,
}

impl File {
    fn new(inner: ringway_kernel::File) -> File {
        File {
            inner,
            resident: Rc::default(),
        }
    }

    pub(crate) fn inner(&self) -> &ringway_kernel::File {
        &self.inner
    }

    /// Until which offset it was seen in memory from `offset` on, lately.
    pub(crate) fn resident_until(&self, offset: u64, now: Instant) -> Option<u64> {
        self.resident.borrow().until(offset, now)
    }

    /// That `range` was seen in memory.
    pub(crate) fn note_resident(&self, range: Range<u64>, now: Instant) {
        self.resident.borrow_mut().note(range, now);
    }

    /// What the file is now (`fstat(2)`), asked at once: where the file system may take its time that
    /// is [`File::look`].
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.inner.metadata()
    }

    /// Lets go of it on a thread that may wait: who closes a deleted file last waits until its blocks
    /// are free. Where there is no room for that it is done here.
    pub async fn close(self) {
        let inner = self.inner;
        let _ = spawn_blocking(move || drop(inner)).await;
    }

    /// How many names it has, asked at once: none when it was deleted or renamed over.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn link_count(&self) -> io::Result<u64> {
        self.inner.link_count()
    }

    /// What the file is now, without a wait on this thread.
    ///
    /// # Errors
    /// As `fstat(2)`, and `EBUSY` when too many wait for a file system that takes its time.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub async fn look(&self) -> io::Result<Metadata> {
        let Some(waiting) = self.inner.waiting() else {
            return self.metadata();
        };
        let file = self.inner.clone();
        wait_on(waiting, move || file.metadata()).await
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
        if let Some(waiting) = self.inner.waiting() {
            return self.read_on(waiting, bytes, offset).await;
        }
        let worker = Worker::current();
        let key = worker
            .reactor
            .enter(|reactor| reactor.read_at(&self.inner, offset, bytes));
        Request { worker, key }.wait(Reactor::poll_read).await
    }

    /// The same where that may take its time.
    async fn read_on(
        &self,
        waiting: &BlockingPool,
        mut bytes: Vec<u8>,
        offset: u64,
    ) -> io::Result<(Vec<u8>, usize)> {
        let file = self.inner.clone();
        let read = move || {
            let count = file.read_waiting(&mut bytes, offset)?;
            Ok((bytes, count))
        };
        wait_on(waiting, read).await
    }

    /// At most `count` bytes from `offset`, in memory that nobody holds while they are waited for.
    pub(crate) async fn read_distant(&self, count: usize, offset: u64) -> io::Result<Vec<u8>> {
        let Some(waiting) = self.inner.waiting() else {
            let (mut bytes, count) = self.read_at(vec![0; count], offset).await?;
            bytes.truncate(count);
            return Ok(bytes);
        };
        let file = self.inner.clone();
        let read = move || {
            let mut bytes = vec![0; count];
            let count = file.read_waiting(&mut bytes, offset)?;
            bytes.truncate(count);
            Ok(bytes)
        };
        wait_on(waiting, read).await
    }
}

/// Has `work` done by the threads of `pool`.
async fn wait_on<T, F>(pool: &BlockingPool, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match spawn_blocking_on(pool, work).await {
        Ok(done) => done,
        Err(BlockingError::Full) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(error @ BlockingError::Panicked) => Err(io::Error::other(error)),
    }
}

/// Gives a request up when its future is dropped; a finished one is gone already.
pub(crate) struct Request {
    pub(crate) worker: Rc<Worker>,
    pub(crate) key: RequestKey,
}

impl Request {
    /// Its output, by the function of the reactor that asks for it.
    pub(crate) async fn wait<T>(
        self,
        poll: impl Fn(&mut Reactor, RequestKey, &mut Waiter<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let (reactor, key) = (&self.worker.reactor, self.key);
        poll_fn(|context| {
            reactor.poll(context.waker(), |reactor, waiter| {
                poll(reactor, key, waiter)
            })
        })
        .await
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.worker
            .reactor
            .enter(|reactor| reactor.abandon_request(self.key));
    }
}
