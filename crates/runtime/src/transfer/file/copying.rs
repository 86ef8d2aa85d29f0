//! The ways through memory: read into a block, and send from there, with a copy or without one.
//!
//! Which way is taken is decided in [`super`]; how many blocks there are, and whose turn it is, in the
//! reactor.

use super::{FileTransfer, retry_while_busy};
use crate::file::Request;
use crate::net::TcpStream;
use crate::transfer::choice::is_refusal;
use crate::transfer::lease::{lease_block, lease_within};
use crate::transfer::{Sent, TransferError, TransferMethod, judge_send};
use crate::worker::Worker;
use ringway_kernel::{BLOCK_BYTES, Block, Chunk, Reactor};
use std::io;
use std::rc::Rc;

/// The document's buffer.
const NAIVE_BYTES: usize = 8 << 10;

/// Copying goes on with no less than this, however slow the client is.
const COPY_MIN_BYTES: usize = 16 << 10;

/// Blocks that zero-copy sends leave to those who copy. A block of theirs is the kernel's until the
/// client has read, however long that takes: a few slow clients would have all of them, and whoever
/// waits for one in vain is cut.
const SPARED_BLOCKS: usize = 4;

impl FileTransfer {
    /// Reads into a block and sends from there what fits. What doesn't is not kept: the next step
    /// reads it again, when there is room for it.
    pub(super) async fn copy(
        &mut self,
        stream: &mut TcpStream,
        method: TransferMethod,
    ) -> Result<Sent, TransferError> {
        let most = match method {
            TransferMethod::NaiveCopy => NAIVE_BYTES,
            _ => self.copy_bytes,
        };
        let count = self.left.min(most as u64) as usize;
        let (block, count) = match self.fetched.take() {
            Some(fetched) => fetched,
            None => match self.read(&stream.socket.worker, method, count).await? {
                (block, count, false) => (block, count),
                (block, count, true) => {
                    self.fetched = Some((block, count));
                    return Ok(Sent::Waited);
                }
            },
        };
        let sent = stream.send_now(&block[..count], false);
        drop(block);
        if let Ok(taken) = sent {
            self.is_full = taken < count;
            self.copy_bytes = if taken < count {
                taken.next_multiple_of(COPY_MIN_BYTES)
            } else {
                (self.copy_bytes * 2).min(BLOCK_BYTES)
            };
        }
        judge_send(sent)
    }

    pub(super) async fn send_without_copy(
        &mut self,
        stream: &mut TcpStream,
        method: TransferMethod,
    ) -> Result<Sent, TransferError> {
        if self.waiting.is_none() {
            let worker = &stream.socket.worker;
            let free = worker.reactor.enter(|reactor| reactor.free_blocks());
            // What was fetched is a block of its own already.
            let needed = SPARED_BLOCKS + usize::from(self.fetched.is_none());
            if free < needed {
                self.report.method = TransferMethod::Copy;
                return self.copy(stream, TransferMethod::Copy).await;
            }
            let (block, count) = match self.fetched.take() {
                Some(fetched) => fetched,
                None => {
                    let count = self.left.min(BLOCK_BYTES as u64) as usize;
                    if method == TransferMethod::ZeroCopy {
                        worker.reactor.enter(|reactor| reactor.register_blocks());
                    }
                    let (block, count, has_waited) = self.read(worker, method, count).await?;
                    if has_waited {
                        // Others may have taken theirs meanwhile: the next step looks again.
                        self.fetched = Some((block, count));
                        return Ok(Sent::Waited);
                    }
                    (block, count)
                }
            };
            self.waiting = Some((Rc::new(block), 0..count));
        }
        let (block, range) = self.waiting.as_ref().expect("filled above");
        let (block, range) = (Rc::clone(block), range.start as u32..range.end as u32);
        let bytes = || Chunk::Block(Rc::clone(&block), range.clone());
        let in_flight = self.options.thresholds.zero_copy_in_flight;
        let sent = self
            .zero_copy
            .send(stream, method, bytes, in_flight, &mut self.report)?;
        if let (Sent::Bytes(count), Some((_, range))) = (&sent, &mut self.waiting) {
            range.start += count;
            if range.start == range.end {
                self.waiting = None;
            }
        }
        Ok(sent)
    }

    /// The next bytes, at least one, at the start of a block, and whether they had to be waited for.
    async fn read(
        &self,
        worker: &Rc<Worker>,
        method: TransferMethod,
        count: usize,
    ) -> Result<(Block, usize, bool), TransferError> {
        if self.file.may_wait() {
            return self.read_distant(worker, count).await;
        }
        let patience = self.options.source_timeout;
        let mut block = lease_within(worker, patience).await?;
        let (file, offset) = (self.file.inner(), self.offset);
        if method == TransferMethod::Registered {
            worker.reactor.enter(|reactor| reactor.register_blocks());
        } else {
            let space = &mut block.bytes_mut()[..count];
            let cached = worker
                .reactor
                .enter(|reactor| reactor.read_cached(file, offset, space));
            match cached {
                Ok(0) => return Err(TransferError::Truncated),
                Ok(count) => return Ok((block, count, false)),
                // Not in memory, or the file system can't tell.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(TransferError::Source(error)),
            }
        }
        drop(block);
        let read = retry_while_busy(patience, async || {
            let block = lease_block(worker).await?;
            read_block(worker, file, offset, block, count).await
        });
        match read.await? {
            (_, 0) => Err(TransferError::Truncated),
            (block, count) => Ok((block, count, true)),
        }
    }

    /// The same from a file system that may take its time. No block is kept for that long.
    async fn read_distant(
        &self,
        worker: &Rc<Worker>,
        count: usize,
    ) -> Result<(Block, usize, bool), TransferError> {
        let patience = self.options.source_timeout;
        let read = retry_while_busy(patience, async || {
            self.file.read_distant(count, self.offset).await
        });
        let bytes = read.await?;
        if bytes.is_empty() {
            return Err(TransferError::Truncated);
        }
        let mut block = lease_within(worker, patience).await?;
        block.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        Ok((block, bytes.len(), true))
    }
}

async fn read_block(
    worker: &Rc<Worker>,
    file: &ringway_kernel::File,
    offset: u64,
    block: Block,
    count: usize,
) -> io::Result<(Block, usize)> {
    let key = worker
        .reactor
        .enter(|reactor| reactor.read_block(file, offset, block, count));
    let worker = Rc::clone(worker);
    Request { worker, key }.wait(Reactor::poll_block_read).await
}
