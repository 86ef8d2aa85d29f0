//! Bytes on their way out: owned by a socket's slot from submission to the last completion.

use crate::blocks::Block;
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
    /// Part of bytes that others on this worker hold too; made by [`Chunk::part`].
    Shared(Part),
    /// As it was received; goes back to its pool when sent.
    Received(Buffer),
    /// Part of a block, which goes home when the last of its owners is done.
    Block(Rc<Block>, Range<u32>),
}

/// A part of shared bytes that is there.
#[derive(Debug)]
pub struct Part {
    bytes: Rc<[u8]>,
    range: Range<u32>,
}

impl Chunk {
    /// All of `bytes`.
    ///
    /// # Panics
    /// When there are 4 GiB of them or more.
    pub fn shared(bytes: &Rc<[u8]>) -> Chunk {
        Chunk::from(Rc::clone(bytes))
    }

    /// The bytes of `range`.
    ///
    /// # Panics
    /// When there are fewer, or the range ends before it starts.
    pub fn part(bytes: Rc<[u8]>, range: Range<u32>) -> Chunk {
        // Here, where the one who is wrong is found; later it would be in the middle of a send.
        assert!(
            range.start <= range.end && range.end as usize <= bytes.len(),
            "part {range:?} of {} bytes",
            bytes.len()
        );
        Chunk::Shared(Part { bytes, range })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Static(bytes) => bytes,
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(Part { bytes, range }) => {
                &bytes[range.start as usize..range.end as usize]
            }
            Chunk::Received(buffer) => buffer,
            Chunk::Block(block, range) => &block[range.start as usize..range.end as usize],
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
    /// As [`Chunk::shared`].
    fn from(bytes: Rc<[u8]>) -> Chunk {
        let range = whole(bytes.len());
        Chunk::part(bytes, range)
    }
}

/// The range of all bytes, of which a chunk can have fewer than 4 GiB.
fn whole(length: usize) -> Range<u32> {
    let end = u32::try_from(length);
    0..end.unwrap_or_else(|_| panic!("{length} bytes are too many for one chunk"))
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

    /// What is left when `sent` bytes have been taken, as a driver wants it. A header
    /// for two runs is made in `gather`. Empty only when there was nothing to send.
    pub(crate) fn parts(
        &self,
        sent: usize,
        is_first: bool,
        gather: &mut Option<Box<Gather>>,
    ) -> SendParts {
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
            is_first,
        }
    }

    /// Lets go of the first run if `sent` bytes, which have left, are all of it and more follow: a
    /// received buffer needn't wait for the body behind it. How many of what is left have been sent.
    ///
    /// Only between two operations. One that the ring has (`MSG_WAITALL`) reads both runs to its
    /// end, and keeps both; asking for the parts one by one would cost an operation more for each
    /// message, to free a buffer that receives don't wait for: where they run low, what is received
    /// is copied out of them (see `Reactor::spill`), and each send has a deadline.
    pub(crate) fn release_sent(&mut self, sent: usize) -> usize {
        let first = self.first.as_slice().len();
        match self.second.take_if(|_| sent >= first) {
            None => sent,
            Some(second) => {
                self.first = second;
                sent - first
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_let_go_of() {
        for (sent, first, left) in [(0, 3, 0), (2, 3, 2), (3, 5, 0), (7, 5, 4)] {
            let mut outgoing = Outgoing::gathered(vec![0; 3], vec![0; 5]);
            assert_eq!(outgoing.release_sent(sent), left, "{sent} sent");
            assert_eq!(outgoing.first.as_slice().len(), first, "{sent} sent");
            assert_eq!(outgoing.byte_count() - left, 8 - sent);
            assert_eq!(outgoing.release_sent(left), left, "there is no other");
        }
    }

    #[test]
    fn a_part_is_what_it_says() {
        let bytes: Rc<[u8]> = Rc::from(b"0123456789".as_slice());
        let part = |range| Chunk::part(Rc::clone(&bytes), range);
        assert_eq!(part(2..5).as_slice(), b"234");
        assert_eq!(part(10..10).as_slice(), b"");
        assert_eq!(Chunk::shared(&bytes).as_slice(), b"0123456789");
    }

    #[test]
    #[should_panic(expected = "part 5..11 of 10 bytes")]
    fn a_part_that_is_not_there_is_refused_where_it_is_made() {
        let _ = Chunk::part(Rc::from([0; 10]), 5..11);
    }

    /// They were cut to what is left of the count in 32 bits: none, of four GiB.
    #[test]
    #[should_panic(expected = "4294967296 bytes are too many")]
    fn more_bytes_than_a_chunk_can_count_are_refused() {
        whole(1 << 32);
    }

    #[test]
    fn as_many_bytes_as_a_chunk_can_count_are_taken() {
        assert_eq!(whole(u32::MAX as usize), 0..u32::MAX);
    }
}
