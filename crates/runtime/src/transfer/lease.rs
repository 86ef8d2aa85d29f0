//! Blocks and pipes of a worker, lent: whoever is dropped gives back what he has, and leaves the line
//! in which he stands.

use super::{TransferError, timed_out};
use crate::time::timeout;
use crate::worker::Worker;
use ringway_kernel::{Block, PipeKey};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A place in line for a block, left when dropped.
struct Line<'a> {
    worker: &'a Rc<Worker>,
    ticket: Option<u64>,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.worker
                .reactor
                .enter(|reactor| reactor.leave_block_line(ticket));
        }
    }
}

pub(super) async fn lease_block(worker: &Rc<Worker>) -> io::Result<Block> {
    let mut line = Line {
        worker,
        ticket: None,
    };
    poll_fn(|context| {
        let ticket = &mut line.ticket;
        line.worker
            .reactor
            .poll(context.waker(), |reactor, waiter| {
                reactor.poll_block(ticket, waiter)
            })
    })
    .await
}

pub(super) async fn lease_within(
    worker: &Rc<Worker>,
    patience: Duration,
) -> Result<Block, TransferError> {
    let leased = timeout(patience, lease_block(worker)).await;
    leased
        .map_err(|_| timed_out())?
        .map_err(TransferError::Source)
}

/// A pipe of the worker's, given back when dropped.
pub(super) struct PipeLease {
    worker: Rc<Worker>,
    pub(super) key: PipeKey,
}

impl PipeLease {
    /// `None` while there is none to be had.
    pub(super) fn new(worker: &Rc<Worker>) -> Option<PipeLease> {
        let leased = worker.reactor.enter(|reactor| reactor.lease_pipe());
        let key = leased.ok().flatten()?;
        Some(PipeLease {
            worker: Rc::clone(worker),
            key,
        })
    }
}

impl Drop for PipeLease {
    fn drop(&mut self) {
        self.worker
            .reactor
            .enter(|reactor| reactor.return_pipe(self.key));
    }
}
