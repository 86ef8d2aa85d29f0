//! From the workers to the file: buffers that go around, and the one thread that waits.
//!
//! A worker never waits. It has up to [`BUFFERS`] buffers; a full one goes to the thread, and comes
//! back empty. When all are on their way, because the thread waits for a full disk or a pipe that
//! nobody reads, entries are lost and counted until one is back. The thread itself loses nothing:
//! it keeps a batch until it is written, so a short outage costs no entry at all.
//!
//! The thread writes in the plain way, which may block for ever. That harms nobody but the end of
//! the process, and so [`LogThread::finish`] has a time limit and leaves the thread behind.

use super::events::Throttle;
use super::format::Format;
use super::line::{Entry, Stamp};
use crate::config::{AccessLog, Log};
use crossbeam_queue::ArrayQueue;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// A batch is handed over when the next line might not fit. As much as a pipe takes at once.
/// No format's line is longer.
pub(super) const BATCH_BYTES: usize = 64 << 10;

/// Buffers for each worker, made when they are needed: 2 MiB, which is 100 ms of an outage for a
/// worker that answers 100,000 requests a second.
const BUFFERS: usize = 32;

/// How soon a failed write is tried again, when nothing else comes before.
const RETRY: Duration = Duration::from_secs(1);
/// The same for a target that doesn't block: a standard output shared with a program that set it so.
const RETRY_NONBLOCKING: Duration = Duration::from_millis(20);
/// How often losses are told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The access log's thread, in the hands of the control thread.
///
/// Dropping it ends the thread without waiting for it; [`LogThread::finish`] is the orderly way.
#[derive(Debug)]
pub struct LogThread {
    mail: Sender<Message>,
    format: Arc<Format>,
    counts: Arc<Counts>,
    /// Whether it can be opened anew.
    is_file: bool,
    /// Closed by the thread's end.
    ended: Receiver<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Entries that will never be written.
    lost: AtomicU64,
    /// Entries handed over and not yet written.
    waiting: AtomicU64,
    /// Of those that were lost: how many were told of.
    told: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Batch(Batch),
    Reopen,
    Finish,
}

/// Whole lines on their way to the log.
#[derive(Debug)]
struct Batch {
    lines: Vec<u8>,
    entries: u64,
    /// Where the buffer goes back to.
    home: Arc<ArrayQueue<Vec<u8>>>,
}

impl LogThread {
    /// Opens the access log and starts its thread; `None` when there is to be no access log.
    ///
    /// A FIFO needs no reader yet. To be called after the process's signals are blocked, so that
    /// the thread doesn't take them.
    ///
    /// # Errors
    /// When the file can't be opened, with its path and the likely cause; when no thread can be
    /// started.
    pub fn open(log: &Log) -> io::Result<Option<LogThread>> {
        let (sink, path) = match &log.access {
            AccessLog::Off => return Ok(None),
            AccessLog::Stdout => {
                let stdout = io::stdout().as_fd().try_clone_to_owned()?;
                (File::from(stdout), None)
            }
            AccessLog::File(path) => (open(path)?, Some(path.clone())),
        };
        let reopen = path.map(Reopen::at);
        LogThread::start(sink, reopen, log.access_format.clone()).map(Some)
    }

    fn start(
        sink: impl Write + Send + 'static,
        reopen: Option<Reopen>,
        format: Format,
    ) -> io::Result<LogThread> {
        let (mail, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let is_file = reopen.is_some();
        let writer = Writer::new(Box::new(sink), reopen, Arc::clone(&counts));
        thread::Builder::new()
            .name("ringway-log".to_owned())
            .spawn(move || {
                writer.run(inbox);
                drop(end);
            })?;
        Ok(LogThread {
            mail,
            format: Arc::new(format),
            counts,
            is_file,
            ended,
        })
    }

    /// A worker's end of it.
    pub fn handle(&self) -> WorkerLog {
        WorkerLog {
            lines: Vec::new(),
            entries: 0,
            format: Arc::clone(&self.format),
            stamp: Stamp::new(),
            mail: self.mail.clone(),
            counts: Arc::clone(&self.counts),
            home: Arc::new(ArrayQueue::new(BUFFERS)),
            buffers_made: 0,
            wants_duration: self.format.wants_duration(),
        }
    }

    /// How many entries were lost since the start.
    pub fn dropped(&self) -> u64 {
        self.counts.lost.load(Relaxed)
    }

    /// Opens the file by its path again, which is how a log is rotated: rename, then this. What
    /// was handed over before still goes to the old file. `false` where there is no file: standard
    /// output stays as it is.
    ///
    /// An event says that it was opened; or that it couldn't be, and the old one is kept.
    pub fn reopen(&self) -> bool {
        // A thread that is gone has nothing to open.
        let _ = self.mail.send(Message::Reopen);
        self.is_file
    }

    /// Writes what has been handed over, and ends. To be called after the workers' last
    /// [`WorkerLog::flush`] (dropping it does that, too).
    ///
    /// After `timeout` the thread is left behind in its blocked write, and what waits for it is
    /// counted as lost. Returns how many entries were lost since the start.
    pub fn finish(self, timeout: Duration) -> u64 {
        let _ = self.mail.send(Message::Finish);
        let is_stuck = self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
        let left = self.counts.waiting.load(Relaxed);
        if is_stuck {
            let lost = left + self.dropped() - self.counts.told.load(Relaxed);
            tracing::warn!("{lost} access log entries were lost: its target takes nothing");
        }
        self.dropped() + left
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let _ = self.mail.send(Message::Finish);
    }
}

/// Opens the end of a file, creating it if need be.
fn open(path: &Path) -> io::Result<File> {
    let is_fifo = path
        .metadata()
        .is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    if is_fifo {
        // fifo(7): on Linux, opening one for both never waits for a reader; and readers may come
        // and go without an EPIPE in between.
        options.read(true);
    }
    options.open(path).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => "; its directory does not exist",
            ErrorKind::PermissionDenied => "; this user may not write there",
            _ => "",
        };
        let text = format!("{}: {error}{hint}", path.display());
        io::Error::new(error.kind(), text)
    })
}

/// The access log in the hands of one worker. What is in its buffer when it is dropped is written.
#[derive(Debug)]
pub struct WorkerLog {
    /// Without capacity while there is no buffer to be had.
    lines: Vec<u8>,
    entries: u64,
    format: Arc<Format>,
    stamp: Stamp,
    mail: Sender<Message>,
    counts: Arc<Counts>,
    /// Buffers that have come back.
    home: Arc<ArrayQueue<Vec<u8>>>,
    buffers_made: usize,
    wants_duration: bool,
}

impl WorkerLog {
    /// Takes down one entry, or counts it as lost when every buffer is on its way. It never waits.
    #[inline]
    pub fn record(&mut self, entry: &Entry<'_>) {
        let room = self.lines.capacity() - self.lines.len();
        if room < entry.bound_bytes(&self.format) && !self.make_room() {
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        entry.emit(&self.format, &mut self.stamp, &mut self.lines);
        self.entries += 1;
    }

    /// When a request begins that will be taken down, for [`Entry::duration`]; `None` if no line
    /// says it. `at` is the time of the turn that takes it up: of a later one, what is counted from
    /// the turn's time could last longer than the whole.
    pub fn begin(&self, at: Instant) -> Option<Instant> {
        self.wants_duration.then_some(at)
    }

    /// Hands over what there is. To be called now and then, so that a quiet server's log is up to
    /// date, and at the end.
    pub fn flush(&mut self) {
        if self.entries == 0 {
            return;
        }
        let batch = Batch {
            lines: mem::take(&mut self.lines),
            entries: mem::take(&mut self.entries),
            home: Arc::clone(&self.home),
        };
        let entries = batch.entries;
        self.counts.waiting.fetch_add(entries, Relaxed);
        if self.mail.send(Message::Batch(batch)).is_err() {
            // The thread has ended before the worker.
            self.counts.waiting.fetch_sub(entries, Relaxed);
            self.counts.lost.fetch_add(entries, Relaxed);
        }
    }

    /// Begins a new buffer; whether there is one.
    #[cold]
    fn make_room(&mut self) -> bool {
        self.flush();
        if let Some(lines) = self.home.pop() {
            self.lines = lines;
        } else if self.buffers_made < BUFFERS {
            self.lines = Vec::with_capacity(BATCH_BYTES);
            self.buffers_made += 1;
        }
        self.lines.capacity() > 0
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// How the log is opened anew.
struct Reopen(Box<dyn FnMut() -> io::Result<Box<dyn Write + Send>> + Send>);

impl Reopen {
    fn at(path: PathBuf) -> Reopen {
        Reopen(Box::new(move || Ok(Box::new(open(&path)?))))
    }
}

/// The thread's side: batches in the order they came, and how far the first one is written.
struct Writer {
    sink: Box<dyn Write + Send>,
    reopen: Option<Reopen>,
    counts: Arc<Counts>,
    queue: VecDeque<Batch>,
    /// How many bytes of the queue's first batch are written.
    written: usize,
    is_failing: bool,
    /// When to look again although no message comes.
    wake_at: Option<Instant>,
    losses: Throttle,
    losses_seen: u64,
}

impl Writer {
    fn new(sink: Box<dyn Write + Send>, reopen: Option<Reopen>, counts: Arc<Counts>) -> Writer {
        Writer {
            sink,
            reopen,
            counts,
            queue: VecDeque::new(),
            written: 0,
            is_failing: false,
            wake_at: None,
            losses: Throttle::new(TOLD_EVERY),
            losses_seen: 0,
        }
    }

    /// Takes the inbox with it at its end, so that whoever sends afterwards knows it.
    fn run(mut self, inbox: Receiver<Message>) {
        while self.take(receive(&inbox, self.wake_at)) {
            self.write_queue();
            self.tell_losses(Instant::now());
        }
        // One last time, then what can't be written is lost.
        self.write_queue();
        self.give_up();
    }

    /// Does what a message says; whether there are more to come.
    fn take(&mut self, message: Option<Message>) -> bool {
        match message {
            Some(Message::Batch(batch)) => self.queue.push_back(batch),
            Some(Message::Reopen) => self.reopen(),
            Some(Message::Finish) => return false,
            None => {}
        }
        true
    }

    /// Writes until everything is written or something is in the way.
    fn write_queue(&mut self) {
        self.wake_at = None;
        while let Some(batch) = self.queue.front() {
            match self.sink.write(&batch.lines[self.written..]) {
                Ok(0) => return self.fail(&ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.is_failing = false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&error),
            }
            if self.written == batch.lines.len() {
                self.retire();
            }
        }
    }

    /// Sends the first batch's buffer home, where a worker may wait for it.
    fn retire(&mut self) {
        self.written = 0;
        let Some(mut batch) = self.queue.pop_front() else {
            return;
        };
        self.counts.waiting.fetch_sub(batch.entries, Relaxed);
        batch.lines.clear();
        // There is room for every buffer ever made.
        let _ = batch.home.push(batch.lines);
    }

    fn fail(&mut self, error: &io::Error) {
        let is_blocked = error.kind() == ErrorKind::WouldBlock;
        let retry = if is_blocked { RETRY_NONBLOCKING } else { RETRY };
        self.wake_at = Some(Instant::now() + retry);
        if !is_blocked && !mem::replace(&mut self.is_failing, true) {
            tracing::warn!("cannot write the access log: {error}; entries wait, then are lost");
        }
    }

    /// Says how many entries the workers lost, once writing works again and not too often.
    fn tell_losses(&mut self, now: Instant) {
        if !self.queue.is_empty() {
            return;
        }
        let lost = self.counts.lost.load(Relaxed);
        self.losses.add(lost - self.losses_seen);
        self.losses_seen = lost;
        if let Some(count) = self.losses.due(now) {
            self.counts.told.fetch_add(count, Relaxed);
            tracing::warn!("{count} access log entries were lost");
        }
        self.wake_at = self.losses.next_due();
    }

    fn reopen(&mut self) {
        self.write_queue();
        let Some(Reopen(open)) = &mut self.reopen else {
            return;
        };
        match open() {
            Ok(sink) => {
                self.skip_torn_line();
                self.sink = sink;
                self.is_failing = false;
                tracing::info!("the access log is opened anew");
            }
            Err(error) => {
                tracing::error!("cannot open the access log anew: {error}; it goes on where it was")
            }
        }
    }

    /// A line that is half in the old file can't be finished in the new one.
    fn skip_torn_line(&mut self) {
        let Some(batch) = self.queue.front_mut() else {
            return;
        };
        let (done, rest) = batch.lines.split_at(self.written);
        if done.last().is_none_or(|&byte| byte == b'\n') {
            return;
        }
        let torn = rest.iter().position(|&byte| byte == b'\n');
        self.written += torn.map_or(rest.len(), |at| at + 1);
        batch.entries -= 1;
        let is_done = self.written == batch.lines.len();
        self.counts.waiting.fetch_sub(1, Relaxed);
        self.counts.lost.fetch_add(1, Relaxed);
        if is_done {
            self.retire();
        }
    }

    /// Counts what is left as lost, line by line: a batch may be half written.
    fn give_up(&mut self) {
        let mut from = self.written;
        for batch in self.queue.drain(..) {
            let lines = batch.lines[from..].iter().filter(|&&byte| byte == b'\n');
            self.counts.lost.fetch_add(lines.count() as u64, Relaxed);
            self.counts.waiting.fetch_sub(batch.entries, Relaxed);
            from = 0;
        }
        self.losses
            .add(self.counts.lost.load(Relaxed) - self.losses_seen);
        if let Some(count) = self.losses.rest() {
            self.counts.told.fetch_add(count, Relaxed);
            tracing::warn!("{count} access log entries were lost");
        }
    }
}

/// The next message, or `None` at `until`. When everybody who could send one is gone: the end.
fn receive(inbox: &Receiver<Message>, until: Option<Instant>) -> Option<Message> {
    let Some(until) = until else {
        return Some(inbox.recv().unwrap_or(Message::Finish));
    };
    match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(message) => Some(message),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Message::Finish),
    }
}

#[cfg(test)]
mod tests;
