//! A range of a file, to a socket, step by step.
//!
//! Here are the steps, the choice of a way for each, and the ways that never come to memory;
//! [`copying`] has the others.

mod copying;

use super::lease::PipeLease;
use super::resident::Resident;
use super::zero_copy::ZeroCopySends;
use super::{
    Sent, TransferError, TransferMethod, TransferOptions, TransferReport, is_zero_copy, judge_send,
    timed_out,
};
use crate::executor::yield_now;
use crate::file::{File, Request};
use crate::net::TcpStream;
use crate::time::{sleep, timeout};
use crate::worker::Worker;
use ringway_kernel::errno::{
    EBADMSG, EBUSY, EFAULT, EINVAL, EIO, EISDIR, ENODATA, ESTALE, EUCLEAN,
};
use ringway_kernel::{BLOCK_BYTES, Block, Mapping, PipeKey, Reactor, Residency, WARM_BYTES};
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Between two tries to get work into a blocking pool that is full.
const POOL_PAUSE: Duration = Duration::from_millis(10);

/// After so many readings-ahead that did not bring a range into memory it is copied instead.
const WARM_TRIES: usize = 2;

/// What one step of a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes were taken by the kernel.
    Sent(u64),
    /// The client has to take some first: [`FileTransfer::wait`].
    Full,
    /// The next bytes had to be read from a disk, and are there now. In the meantime anything may
    /// have been done to the file.
    Waited,
    /// All bytes were taken before.
    Done,
}

/// Sends a range of a file, a [`step`](FileTransfer::step) at a time, so that between two of them its
/// owner can judge the client and look at the file.
///
/// It may be dropped at any time; what was taken by the kernel stays on its way.
pub struct FileTransfer {
    file: File,
    offset: u64,
    left: u64,
    options: TransferOptions,
    /// No way inside the kernel works for this file.
    copies: bool,
    /// The socket had no room the last time.
    is_full: bool,
    in_turn: u64,
    resident: Resident,
    /// How much is read for one send when copying: less for slow clients, because what doesn't fit
    /// is read again.
    copy_bytes: usize,
    pipe: Option<PipeLease>,
    mapping: Option<Mapping>,
    zero_copy: ZeroCopySends,
    /// Read with a wait, for the next step.
    fetched: Option<(Block, usize)>,
    /// Read for zero-copy sends, and not sent yet: from this place to the end of the range.
    waiting: Option<(Rc<Block>, Range<usize>)>,
    report: TransferReport,
}

impl FileTransfer {
    /// Of `range` of a file; nothing happens before the first step.
    pub fn new(file: &File, range: Range<u64>, options: impl Into<TransferOptions>) -> Self {
        let options = options.into();
        FileTransfer {
            file: file.clone(),
            offset: range.start,
            left: range.end.saturating_sub(range.start),
            copies: false,
            is_full: false,
            in_turn: 0,
            resident: Resident::default(),
            copy_bytes: BLOCK_BYTES,
            pipe: None,
            mapping: None,
            zero_copy: ZeroCopySends::default(),
            fetched: None,
            waiting: None,
            report: TransferReport {
                method: options.method,
                ..TransferReport::default()
            },
            options,
        }
    }

    /// Bytes that are still to be sent.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether the next step may be the last one. While the client has to take some first it isn't.
    pub fn is_nearly_done(&self) -> bool {
        !self.is_full && self.left <= self.options.thresholds.step_bytes
    }

    /// What became of it so far.
    pub fn report(&self) -> TransferReport {
        self.report
    }

    /// Sends some bytes. It waits for a disk where it has to, for as long as the options allow, but
    /// never for the client. One that is given up in the middle is taken up by the next.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn step(&mut self, stream: &mut TcpStream) -> Result<Step, TransferError> {
        if self.left == 0 {
            return Ok(Step::Done);
        }
        if self.in_turn >= self.options.thresholds.turn_bytes {
            yield_now().await;
            self.in_turn = 0;
        }
        while !self.is_full {
            let method = self.method(&stream.socket.worker);
            self.report.method = method;
            match self.attempt(stream, method).await? {
                Sent::Bytes(count) => {
                    self.count(count as u64);
                    return Ok(Step::Sent(count as u64));
                }
                Sent::Full => self.is_full = true,
                Sent::Waited => return Ok(Step::Waited),
                Sent::Again => {}
            }
        }
        self.give_way(stream);
        Ok(Step::Full)
    }

    fn count(&mut self, count: u64) {
        self.offset += count;
        self.left -= count;
        self.in_turn += count;
        self.report.bytes += count;
        if self.left == 0 {
            (self.pipe, self.mapping, self.waiting) = (None, None, None);
            self.fetched = None;
        }
    }

    /// Waits until the client has taken enough for another step, by the stream's deadline.
    ///
    /// # Errors
    /// The stream's. After `TimedOut` the transfer can still go on.
    pub async fn wait(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if !self.is_full {
            return Ok(());
        }
        let in_flight = self.options.thresholds.zero_copy_in_flight;
        if stream.is_sending() && !self.zero_copy.has_submitted() {
            stream.flush().await?;
        }
        if is_zero_copy(self.report.method) {
            self.zero_copy
                .wait(stream, in_flight, &mut self.report)
                .await?;
        } else {
            stream.writable().await?;
        }
        (self.is_full, self.in_turn) = (false, 0);
        Ok(())
    }

    /// Sends all that is left, and waits until the kernel has let go of every byte.
    ///
    /// # Errors
    /// As [`FileTransfer::step`] and [`FileTransfer::wait`].
    pub async fn finish(
        &mut self,
        stream: &mut TcpStream,
    ) -> Result<TransferReport, TransferError> {
        loop {
            match self.step(stream).await? {
                Step::Sent(_) | Step::Waited => {}
                Step::Full => self.wait(stream).await?,
                Step::Done => break,
            }
        }
        self.settle(stream).await?;
        Ok(self.report)
    }

    /// Waits until the kernel has let go of what was sent without a copy; then the report is whole.
    ///
    /// # Errors
    /// Of the stream.
    pub async fn settle(&mut self, stream: &mut TcpStream) -> Result<(), TransferError> {
        self.zero_copy.settle(stream, &mut self.report).await
    }

    /// The way for the next bytes.
    fn method(&self, worker: &Worker) -> TransferMethod {
        use TransferMethod::{
            Auto, Copy, Gathered, Map, NaiveCopy, Registered, SendFile, Splice, ZeroCopy,
        };
        let method = match self.options.method {
            Auto => {
                let count = self.report.bytes + self.left;
                worker
                    .transfers
                    .choose_for_file(count, &self.options.thresholds)
            }
            Gathered => Copy,
            ZeroCopy if !worker.reactor.enter(|it| it.has_zero_copy_operation()) => {
                worker.transfers.allowed(TransferMethod::NoticedZeroCopy)
            }
            // Every other way would touch the file on this thread.
            _ if self.file.may_wait() => return Copy,
            // There is nothing that could be refused.
            method @ (NaiveCopy | Copy | Map | Registered) => return method,
            method => worker.transfers.allowed(method),
        };
        let is_inside = matches!(method, SendFile | Splice);
        if is_inside && (self.copies || self.file.may_wait()) {
            return Copy;
        }
        method
    }

    async fn attempt(
        &mut self,
        stream: &mut TcpStream,
        method: TransferMethod,
    ) -> Result<Sent, TransferError> {
        match method {
            TransferMethod::SendFile => self.send_inside(stream).await,
            TransferMethod::Splice => self.splice(stream).await,
            TransferMethod::Map => self.send_mapped(stream),
            TransferMethod::NoticedZeroCopy | TransferMethod::ZeroCopy => {
                self.send_without_copy(stream, method).await
            }
            _ => self.copy(stream, method).await,
        }
    }

    async fn send_inside(&mut self, stream: &mut TcpStream) -> Result<Sent, TransferError> {
        let count = match self.look_ahead(stream).await? {
            Ahead::Resident(count) => count,
            Ahead::Other(sent) => return Ok(sent),
        };
        let thresholds = &self.options.thresholds;
        let turn = thresholds.turn_bytes.saturating_sub(self.in_turn).max(1);
        let most = count.min(thresholds.step_bytes).min(turn) as usize;
        let sent = stream.send_file_now(&self.file, self.offset, most);
        // Another call would look up pages only to say so. (Or the file has ended: then there is no
        // wait, and the next call tells.)
        self.is_full = matches!(sent, Ok(count) if 0 < count && count < most);
        self.judge_inside(stream, TransferMethod::SendFile, sent)
    }

    async fn splice(&mut self, stream: &mut TcpStream) -> Result<Sent, TransferError> {
        let Some(pipe) = self.lease_pipe(stream) else {
            self.report.method = TransferMethod::Copy;
            return self.copy(stream, TransferMethod::Copy).await;
        };
        let worker = Rc::clone(&stream.socket.worker);
        let (held, capacity) = worker.reactor.enter(|reactor| reactor.pipe_bytes(pipe));
        if held == 0 {
            let count = match self.look_ahead(stream).await? {
                Ahead::Resident(count) => count,
                Ahead::Other(sent) => return Ok(sent),
            };
            let count = count.min(capacity as u64) as usize;
            let moved = worker
                .reactor
                .enter(|reactor| reactor.splice_file(pipe, self.file.inner(), self.offset, count));
            let filled = self.judge_inside(stream, TransferMethod::Splice, moved)?;
            if !matches!(filled, Sent::Bytes(_)) {
                return Ok(filled);
            }
        }
        let moved = worker
            .reactor
            .enter(|reactor| reactor.splice_out(pipe, stream.socket.key));
        self.judge_inside(stream, TransferMethod::Splice, moved)
    }

    /// What the result of a call means that moves bytes inside the kernel.
    fn judge_inside(
        &mut self,
        stream: &TcpStream,
        method: TransferMethod,
        moved: io::Result<usize>,
    ) -> Result<Sent, TransferError> {
        let error = match moved {
            Ok(0) => return Err(TransferError::Truncated),
            Ok(count) => return Ok(Sent::Bytes(count)),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(Sent::Full),
            io::ErrorKind::Interrupted => return Ok(Sent::Again),
            _ => {}
        }
        if stream.socket.worker.transfers.note_refusal(method, &error) {
            return Ok(Sent::Again);
        }
        if error.raw_os_error() == Some(EINVAL) {
            // A file system whose files can't be spliced.
            self.copies = true;
            return Ok(Sent::Again);
        }
        Err(by_fault(error))
    }

    /// How many of the next bytes are in memory, at least one; reads them ahead if need be.
    async fn look_ahead(&mut self, stream: &TcpStream) -> Result<Ahead, TransferError> {
        let now = stream.now();
        let until = self.resident.until(self.offset, now);
        let until = until.or_else(|| self.file.resident_until(self.offset, now));
        if let Some(until) = until {
            return Ok(Ahead::Resident(self.left.min(until - self.offset)));
        }
        let part = self.left.min(WARM_BYTES as u64);
        // Who takes longer than a look holds has less looked at in one.
        let whole = match self.resident.is_outdated(self.offset, now) {
            true => part,
            false => self.left.min(self.options.thresholds.look_ahead_bytes),
        };
        let mut seen = self.residency(stream, whole);
        let mut count = whole;
        if seen == Residency::Cold && part < whole {
            (seen, count) = (self.residency(stream, part), part);
        }
        let mut has_waited = false;
        for _ in 0..WARM_TRIES {
            if seen == Residency::Resident {
                break;
            }
            count = self.warm(&stream.socket.worker, part as usize).await? as u64;
            has_waited = true;
            if count == 0 {
                return Err(TransferError::Truncated);
            }
            // Where it can't be told, what was just read is taken to be there.
            seen = match seen {
                Residency::Unknown => Residency::Resident,
                _ => self.residency(stream, count),
            };
        }
        if seen != Residency::Resident {
            self.copies = true;
            return Ok(Ahead::Other(Sent::Again));
        }
        self.note_resident(self.offset..self.offset + count, stream.now());
        Ok(if has_waited {
            Ahead::Other(Sent::Waited)
        } else {
            Ahead::Resident(count)
        })
    }

    /// For this transfer, and for whoever else sends the same file.
    fn note_resident(&mut self, range: Range<u64>, now: Instant) {
        self.resident.note(range.clone(), now);
        self.file.note_resident(range, now);
    }

    fn residency(&self, stream: &TcpStream, count: u64) -> Residency {
        let (file, offset) = (self.file.inner(), self.offset);
        let reactor = &stream.socket.worker.reactor;
        reactor.enter(|reactor| reactor.residency(file, offset, count))
    }

    /// Reads the next bytes into memory.
    async fn warm(&mut self, worker: &Rc<Worker>, count: usize) -> Result<usize, TransferError> {
        let (file, offset) = (self.file.inner(), self.offset);
        let warmed = retry_while_busy(self.options.source_timeout, async || {
            let key = worker
                .reactor
                .enter(|reactor| reactor.warm(file, offset, count))?;
            let worker = Rc::clone(worker);
            Request { worker, key }.wait(Reactor::poll_warmed).await
        });
        let warmed = warmed.await?;
        self.report.warmed_bytes += warmed as u64;
        Ok(warmed)
    }

    fn send_mapped(&mut self, stream: &mut TcpStream) -> Result<Sent, TransferError> {
        let mapping = match &mut self.mapping {
            Some(mapping) => mapping,
            None => {
                let mapped = Mapping::new(self.file.inner(), self.offset, self.left as usize);
                self.mapping.insert(mapped.map_err(TransferError::Source)?)
            }
        };
        let most = self.left.min(self.options.thresholds.step_bytes) as usize;
        let (key, offset) = (stream.socket.key, self.offset);
        let sent = stream
            .socket
            .worker
            .reactor
            .enter(|reactor| reactor.send_mapped(key, mapping, offset, most));
        match sent {
            Err(error) if error.raw_os_error() == Some(EFAULT) => Err(TransferError::Truncated),
            sent => judge_send(sent),
        }
    }

    fn lease_pipe(&mut self, stream: &TcpStream) -> Option<PipeKey> {
        if self.pipe.is_none() {
            self.pipe = PipeLease::new(&stream.socket.worker);
        }
        self.pipe.as_ref().map(|lease| lease.key)
    }

    /// Before a wait for the client: what others may need more goes back.
    fn give_way(&mut self, stream: &TcpStream) {
        if stream
            .socket
            .worker
            .reactor
            .enter(|reactor| reactor.wants_pipes())
        {
            self.pipe = None;
        }
    }
}

/// What looking ahead came to.
enum Ahead {
    /// So many of the next bytes are in memory.
    Resident(u64),
    /// The step ends with this, or tries another way.
    Other(Sent),
}

impl fmt::Debug for FileTransfer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FileTransfer({} bytes left)", self.left)
    }
}

/// Of a call that reads a file and sends in one: whose fault its error is.
fn by_fault(error: io::Error) -> TransferError {
    match error.raw_os_error() {
        Some(EIO | EISDIR | ENODATA | EBADMSG | ESTALE | EUCLEAN | EFAULT) => {
            TransferError::Source(error)
        }
        _ => TransferError::Stream(error),
    }
}

/// Does work on a file again while the blocking pool is full, at most for `patience` in all.
async fn retry_while_busy<T, F>(
    patience: Duration,
    work: impl Fn() -> F,
) -> Result<T, TransferError>
where
    F: Future<Output = io::Result<T>>,
{
    let tries = async {
        loop {
            match work().await {
                Err(error) if error.raw_os_error() == Some(EBUSY) => sleep(POOL_PAUSE).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(TransferError::Source),
            }
        }
    };
    timeout(patience, tries).await.map_err(|_| timed_out())?
}

impl TcpStream {
    /// Sends a range of a file, by [`FileTransfer`].
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn send_file(
        &mut self,
        file: &File,
        range: Range<u64>,
        options: impl Into<TransferOptions>,
    ) -> Result<TransferReport, TransferError> {
        FileTransfer::new(file, range, options).finish(self).await
    }
}
