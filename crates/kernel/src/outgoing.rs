//! Bytes on their way out: owned by a socket's slot from submission to the last completion.

use crate::buffers::Buffer;
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

    /// Copies received bytes out, so that their buffers can go home before the send is done.
    pub(crate) fn copy_received(&mut self) {
        let copy = |chunk: &mut Chunk| {
            if let Chunk::Received(buffer) = chunk
                && buffer.is_pooled()
            {
                *chunk = Chunk::Owned(buffer.to_vec());
            }
        };
        copy(&mut self.first);
        self.second.iter_mut().for_each(copy);
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
