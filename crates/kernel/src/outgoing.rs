//! Bytes on their way out: owned by a socket's slot from submission to the last completion.

use crate::buffers::Buffer;
use crate::driver::SendParts;
use std::ops::Range;
use std::rc::Rc;

/// One run of bytes that a send owns. None of its forms can change while the kernel reads it.
#[derive(Debug)]
pub enum Chunk {
    /// In the program itself.
    Static(&'static [u8]),
    /// On the heap, freed when sent.
    Owned(Vec<u8>),
    /// Part of bytes that others on this worker hold too.
    Shared(Rc<[u8]>, Range<u32>),
    /// As it was received; goes back to its pool when sent.
    Received(Buffer),
}

impl Chunk {
    /// All of `bytes`.
    pub fn shared(bytes: &Rc<[u8]>) -> Chunk {
        Chunk::Shared(Rc::clone(bytes), 0..bytes.len() as u32)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Static(bytes) => bytes,
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(bytes, range) => &bytes[range.start as usize..range.end as usize],
            Chunk::Received(buffer) => buffer,
        }
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Chunk {
        Chunk::Static(bytes)
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        Chunk::Owned(bytes)
    }
}

impl From<Rc<[u8]>> for Chunk {
    fn from(bytes: Rc<[u8]>) -> Chunk {
        let length = bytes.len() as u32;
        Chunk::Shared(bytes, 0..length)
    }
}

impl From<Buffer> for Chunk {
    fn from(buffer: Buffer) -> Chunk {
        Chunk::Received(buffer)
    }
}

/// One message: a run of bytes, or two (a head and its body) that leave together.
#[derive(Debug)]
pub struct Outgoing {
    pub(crate) first: Chunk,
    pub(crate) second: Option<Chunk>,
    pub(crate) more_follows: bool,
}

impl Outgoing {
    /// A head and its body, gathered into one message.
    pub fn gathered(first: impl Into<Chunk>, second: impl Into<Chunk>) -> Outgoing {
        Outgoing {
            first: first.into(),
            second: Some(second.into()),
            more_follows: false,
        }
    }

    /// Holds back a partial segment, because more bytes follow at once (`MSG_MORE`).
    pub fn with_more_following(mut self) -> Outgoing {
        self.more_follows = true;
        self
    }

    /// What is left when `sent` bytes have been taken, as a driver wants it: not empty. A header
    /// for two runs is made in `gather`.
    pub(crate) fn parts(&self, sent: usize, gather: &mut Option<Box<Gather>>) -> SendParts {
        let first = self.first.as_slice();
        let (first, second) = match &self.second {
            None => (&first[sent..], &[][..]),
            Some(second) if sent < first.len() => (&first[sent..], second.as_slice()),
            Some(second) => (&second.as_slice()[sent - first.len()..], &[][..]),
        };
        let runs = [run_of(first), run_of(second)];
        let mut message = std::ptr::null();
        if !second.is_empty() {
            message = gather.get_or_insert_with(Gather::new).set(runs);
        }
        SendParts {
            message,
            first: runs[0],
            second: runs[1],
            more_follows: self.more_follows,
            is_first: sent == 0,
        }
    }

    /// Copies all of it to the end of `bytes`.
    pub fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.first.as_slice());
        bytes.extend_from_slice(self.second.as_ref().map_or(&[], Chunk::as_slice));
    }

    /// The number of bytes in it.
    pub fn byte_count(&self) -> usize {
        self.first.as_slice().len()
            + self
                .second
                .as_ref()
                .map_or(0, |chunk| chunk.as_slice().len())
    }
}

impl<T: Into<Chunk>> From<T> for Outgoing {
    fn from(chunk: T) -> Outgoing {
        Outgoing {
            first: chunk.into(),
            second: None,
            more_follows: false,
        }
    }
}

/// What `sendmsg(2)` reads: a header over two runs of bytes. Boxed, so that it never moves and
/// connections that never need it don't pay for it.
pub(crate) struct Gather {
    message: libc::msghdr,
    runs: [libc::iovec; 2],
}

fn run_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

impl Gather {
    fn new() -> Box<Gather> {
        // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        Box::new(Gather {
            message,
            runs: [run_of(&[]), run_of(&[])],
        })
    }

    fn set(&mut self, runs: [libc::iovec; 2]) -> *const libc::msghdr {
        self.runs = runs;
        self.message.msg_iov = self.runs.as_mut_ptr();
        self.message.msg_iovlen = 2;
        &raw const self.message
    }
}
