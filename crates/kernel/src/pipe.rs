//! Pipes to splice through: a few large ones for each worker, empty whenever they are not in use.
//!
//! All pipes of a user without `CAP_SYS_RESOURCE` together may hold `pipe-user-pages-soft`: 64 MiB by
//! default. What is opened beyond that has two pages, through which splicing is slower than copying: it
//! isn't used. So a worker has some dozens, lends each for as long as bytes are in it, and closes one
//! that it can't empty.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a pipe should hold. Linux's `pipe-max-size` is 1 MiB by default.
const PIPE_BYTES: usize = 1 << 20;

/// A pipe that holds less isn't worth its calls.
const PIPE_BYTES_LEAST: usize = 1 << 16;

/// Pipes that may be lent at one time.
pub(crate) const PIPE_LIMIT: usize = 64;
/// A worker's pipes, of two descriptors each, take no more than this part of all descriptors.
const DESCRIPTORS_PART: u64 = 32;

/// Both ends of a pipe, and what is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// None in the simulator, which has its own.
    pub(crate) ends: Option<(OwnedFd, OwnedFd)>,
    /// The simulator's name for it.
    pub(crate) number: u64,
    pub(crate) capacity_bytes: usize,
    pub(crate) held_bytes: usize,
}

impl Pipe {
    /// A new pipe, as large as this user may have it.
    ///
    /// # Errors
    /// As `pipe2(2)`; `ENFILE` as well when the user may have only a small one.
    pub(crate) fn open() -> io::Result<Pipe> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (read, write) = rustix::pipe::pipe_with(flags)?;
        // Refused over the user's limit (EPERM): then it stays as it is.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        let capacity_bytes = rustix::pipe::fcntl_getpipe_size(&write)?;
        if capacity_bytes < PIPE_BYTES_LEAST {
            return Err(Errno::NFILE.into());
        }
        Ok(Pipe {
            ends: Some((read, write)),
            number: 0,
            capacity_bytes,
            held_bytes: 0,
        })
    }

    /// Moves pages of a file into the pipe; 0: the file ends before `offset`.
    pub(crate) fn fill_from_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let mut offset = offset;
        let (_, write) = self.real_ends()?;
        let count = splice(file, Some(&mut offset), write, count)?;
        self.held_bytes += count;
        Ok(count)
    }

    /// Moves received bytes into the pipe; 0: the end of the stream.
    pub(crate) fn fill_from_socket(
        &mut self,
        socket: BorrowedFd<'_>,
        count: usize,
    ) -> io::Result<usize> {
        let (_, write) = self.real_ends()?;
        let count = splice(socket, None, write, count)?;
        self.held_bytes += count;
        Ok(count)
    }

    /// Moves what fits of the pipe's bytes into a socket.
    pub(crate) fn empty_into(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let (read, _) = self.real_ends()?;
        let count = splice(read, None, socket, self.held_bytes)?;
        self.held_bytes -= count.min(self.held_bytes);
        Ok(count)
    }

    fn real_ends(&self) -> io::Result<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        let (read, write) = self.ends.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok((read.as_fd(), write.as_fd()))
    }
}

fn splice(
    from: BorrowedFd<'_>,
    offset: Option<&mut u64>,
    to: BorrowedFd<'_>,
    count: usize,
) -> io::Result<usize> {
    // Both the flag and non-blocking sockets are needed: the flag is about the pipe alone.
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(from, offset, to, None, count, flags)?)
}

/// A worker's pipes that are not in use, all of them empty.
pub(crate) struct PipePool {
    idle: Vec<Pipe>,
    lent: usize,
    limit: usize,
}

impl Default for PipePool {
    fn default() -> PipePool {
        PipePool {
            idle: Vec::new(),
            lent: 0,
            limit: PIPE_LIMIT,
        }
    }
}

impl PipePool {
    /// For this process, by the descriptors that it may have now.
    pub(crate) fn of_this_process() -> PipePool {
        let descriptors = getrlimit(Resource::Nofile).current;
        PipePool::with_descriptors(descriptors.unwrap_or(u64::MAX))
    }

    /// For a process that may have so many descriptors; at least one pipe.
    fn with_descriptors(descriptors: u64) -> PipePool {
        let limit = (descriptors / DESCRIPTORS_PART / 2).clamp(1, PIPE_LIMIT as u64);
        PipePool {
            limit: limit as usize,
            ..PipePool::default()
        }
    }

    /// An empty pipe; `None` when as many as may be are lent.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) fn lease(
        &mut self,
        open: impl FnOnce() -> io::Result<Pipe>,
    ) -> io::Result<Option<Pipe>> {
        if self.is_exhausted() {
            return Ok(None);
        }
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None => open()?,
        };
        self.lent += 1;
        Ok(Some(pipe))
    }

    /// Takes a pipe back, or gives it up to be closed because bytes are left in it.
    pub(crate) fn give_back(&mut self, pipe: Pipe) -> Option<Pipe> {
        self.lent -= 1;
        if pipe.held_bytes > 0 {
            return Some(pipe);
        }
        self.idle.push(pipe);
        None
    }

    pub(crate) fn take_idle(&mut self) -> Vec<Pipe> {
        std::mem::take(&mut self.idle)
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.lent >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(held_bytes: usize) -> Pipe {
        Pipe {
            ends: None,
            number: 0,
            capacity_bytes: 65_536,
            held_bytes,
        }
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let mut pool = PipePool::default();
        let mut lent = pool.lease(|| Ok(pipe(0))).unwrap().unwrap();
        lent.held_bytes = 1;
        assert!(pool.give_back(lent).is_some());
        let lent = pool.lease(|| Ok(pipe(0))).unwrap().unwrap();
        assert!(pool.give_back(lent).is_none());
        let unused = || panic!("there is an idle pipe");
        assert_eq!(pool.lease(unused).unwrap().unwrap().held_bytes, 0);
    }

    #[test]
    fn no_more_than_the_limit_are_lent() {
        let mut pool = PipePool::default();
        for _ in 0..PIPE_LIMIT {
            assert!(pool.lease(|| Ok(pipe(0))).unwrap().is_some());
        }
        assert!(pool.is_exhausted());
        assert!(pool.lease(|| Ok(pipe(0))).unwrap().is_none());
        pool.give_back(pipe(3));
        assert!(pool.lease(|| Ok(pipe(0))).unwrap().is_some());
    }

    #[test]
    fn few_descriptors_are_left_to_others() {
        let limit = |descriptors| PipePool::with_descriptors(descriptors).limit;
        assert_eq!([0, 64, 1024].map(limit), [1, 1, 16]);
        assert_eq!([4096, 20_000, u64::MAX].map(limit), [PIPE_LIMIT; 3]);
    }

    #[test]
    fn bytes_of_a_file_come_out_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let file = file.as_fd();
        let mut pipe = Pipe::open().unwrap();
        assert_eq!(pipe.fill_from_file(file, 4, 100).unwrap(), 6);
        assert_eq!(pipe.fill_from_file(file, 10, 100).unwrap(), 0);
        let mut bytes = [0; 20];
        assert_eq!(
            rustix::io::read(pipe.real_ends().unwrap().0, &mut bytes).unwrap(),
            6
        );
        assert_eq!(&bytes[..6], b"456789");
    }
}
