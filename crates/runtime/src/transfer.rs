//! The transfer engine: bytes, a range of a file, or another socket, to a socket, by whichever of
//! Linux's ways is best, or by the one that is asked for.
//!
//! What none of the ways does: wait for a disk on the worker's thread. `sendfile` and `splice` would,
//! for pages that aren't in memory, so those are looked for first and read ahead through the ring or
//! the blocking pool; where a file system can't tell, bytes are copied through [`Block`]s, of which
//! a worker has 4 MiB in all, and which nobody keeps while a client doesn't read.
//!
//! `choice` remembers what this machine refuses and which zero-copy sends were copied after all,
//! `file` sends ranges of files, `bytes` memory, `zero_copy` is common to both, `relay` moves one
//! socket's bytes to another.
//!
//! [`Block`]: ringway_kernel::Block

mod bytes;
mod choice;
mod file;
mod lease;
mod relay;
mod resident;
mod zero_copy;

pub(crate) use choice::Experience;
pub use file::{FileTransfer, Step};
pub use relay::{
    ForwardError, ForwardOptions, Forwarded, RelayOptions, RelayReport, forward, relay,
};
pub(crate) use resident::Resident;

use crate::worker::Worker;
use std::fmt;
use std::io;
use std::time::Duration;

/// A way to get bytes into a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransferMethod {
    /// Whatever suits: small files are read and sent, larger ones go by `sendfile`; memory goes
    /// without a copy where that has turned out to be one.
    #[default]
    Auto,
    /// Read into 8 KiB of memory, send, again: what every other method is measured against.
    NaiveCopy,
    /// Read into a block of 256 KiB, send, again: copying done well.
    Copy,
    /// One gathered send of what is in memory. For a file the same as [`TransferMethod::Copy`].
    Gathered,
    /// `sendfile(2)`: pages of the file become part of the socket's queue. Until the client has them
    /// they go on being the file's: where that is written to, or truncated, so is what is under way.
    /// Whoever must not send a mixture looks at the file again before the last step.
    SendFile,
    /// `splice(2)` through a pooled pipe: the same by hand.
    Splice,
    /// Map the file and send from there. For the comparison alone, never for files that are served:
    /// cold pages make the worker wait, and where the file is truncated meanwhile the rest of its
    /// last page is sent as zeroes. (Only the kernel touches the mapping, so beyond that page there
    /// is an error, not a signal.)
    Map,
    /// `MSG_ZEROCOPY`: read into a block, send without copying, wait for the error queue to say that
    /// the bytes are no longer needed.
    NoticedZeroCopy,
    /// `SEND_ZC`: the same through the ring. On epoll, which has no such operation,
    /// [`TransferMethod::NoticedZeroCopy`] takes its place.
    ZeroCopy,
    /// Read into memory that is registered with the ring (`READ_FIXED`), and send from there. On
    /// epoll the same as [`TransferMethod::Copy`].
    Registered,
}

impl TransferMethod {
    /// All of them.
    pub const ALL: [TransferMethod; 10] = [
        TransferMethod::Auto,
        TransferMethod::NaiveCopy,
        TransferMethod::Copy,
        TransferMethod::Gathered,
        TransferMethod::SendFile,
        TransferMethod::Splice,
        TransferMethod::Map,
        TransferMethod::NoticedZeroCopy,
        TransferMethod::ZeroCopy,
        TransferMethod::Registered,
    ];

    /// The word for it in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            TransferMethod::Auto => "auto",
            TransferMethod::NaiveCopy => "naive-copy",
            TransferMethod::Copy => "copy",
            TransferMethod::Gathered => "gathered",
            TransferMethod::SendFile => "sendfile",
            TransferMethod::Splice => "splice",
            TransferMethod::Map => "mmap",
            TransferMethod::NoticedZeroCopy => "msg-zerocopy",
            TransferMethod::ZeroCopy => "send-zc",
            TransferMethod::Registered => "registered",
        }
    }

    /// The method of that name.
    pub fn from_name(name: &str) -> Option<TransferMethod> {
        TransferMethod::ALL
            .into_iter()
            .find(|method| method.name() == name)
    }
}

impl fmt::Display for TransferMethod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Where one way ends and another begins. `cargo xtask transfer --thresholds` measures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferThresholds {
    /// Ranges of files up to this size are read and sent instead of going by `sendfile`. Default:
    /// 16 KiB; at most a block of 256 KiB.
    pub copy_max_bytes: u64,
    /// Bytes in memory from this size on are sent without a copy, where that works. Default: 64 KiB.
    pub zero_copy_min_bytes: u64,
    /// Zero-copy sends of one connection that may be unacknowledged. Default: 4, of a block each.
    pub zero_copy_in_flight: usize,
    /// The most that is asked of one call. Default: 4 MiB, more than sockets take at once.
    pub step_bytes: u64,
    /// What one connection may send in a row before the others have their turn. Default: 4 MiB.
    pub turn_bytes: u64,
    /// How much of a file is looked for in memory at one time. Default: 4 MiB.
    pub look_ahead_bytes: u64,
}

impl Default for TransferThresholds {
    fn default() -> TransferThresholds {
        TransferThresholds {
            copy_max_bytes: 16 << 10,
            zero_copy_min_bytes: 64 << 10,
            zero_copy_in_flight: 4,
            step_bytes: 4 << 20,
            turn_bytes: 4 << 20,
            look_ahead_bytes: 4 << 20,
        }
    }
}

/// How to transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferOptions {
    /// Which way. One that is refused here is replaced by copying, and the report says so.
    pub method: TransferMethod,
    /// Where one way ends and another begins.
    pub thresholds: TransferThresholds,
    /// How long a wait for a disk, or for memory to copy through, may take. Default: 30 seconds.
    pub source_timeout: Duration,
}

impl Default for TransferOptions {
    fn default() -> TransferOptions {
        TransferOptions {
            method: TransferMethod::Auto,
            thresholds: TransferThresholds::default(),
            source_timeout: Duration::from_secs(30),
        }
    }
}

impl From<TransferMethod> for TransferOptions {
    fn from(method: TransferMethod) -> TransferOptions {
        TransferOptions {
            method,
            ..TransferOptions::default()
        }
    }
}

/// What became of a transfer so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferReport {
    /// The way that the last bytes went.
    pub method: TransferMethod,
    /// Bytes that this side's kernel has taken.
    pub bytes: u64,
    /// Bytes that had to be read from a disk before they could be sent.
    pub warmed_bytes: u64,
    /// Sends that were meant to do without a copy.
    pub zero_copy_sends: u64,
    /// Those of them that the kernel copied after all, as far as it has said.
    pub copied_sends: u64,
}

/// Why a transfer can't go on, by whose fault.
#[derive(Debug)]
pub enum TransferError {
    /// The connection failed, or its deadline has passed (`TimedOut`): then the transfer can go on
    /// with another step.
    Stream(io::Error),
    /// The file couldn't be read, or not in time.
    Source(io::Error),
    /// The file is shorter than the range.
    Truncated,
}

impl fmt::Display for TransferError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Stream(error) => write!(out, "the connection: {error}"),
            TransferError::Source(error) => write!(out, "the file: {error}"),
            TransferError::Truncated => out.write_str("the file is shorter than it was"),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<TransferError> for io::Error {
    fn from(error: TransferError) -> io::Error {
        match error {
            TransferError::Stream(error) | TransferError::Source(error) => error,
            TransferError::Truncated => io::ErrorKind::UnexpectedEof.into(),
        }
    }
}

fn is_zero_copy(method: TransferMethod) -> bool {
    matches!(
        method,
        TransferMethod::NoticedZeroCopy | TransferMethod::ZeroCopy
    )
}

/// The methods that this machine refuses, as the current worker has found out, each with the one that
/// takes its place. Nothing is tried for this.
///
/// # Panics
/// Outside of a runtime.
pub fn refused_transfers() -> Vec<(TransferMethod, TransferMethod)> {
    Worker::current().transfers.refusals().collect()
}

/// What one attempt came to.
enum Sent {
    /// So many bytes, more than none.
    Bytes(usize),
    /// There is no room in the socket.
    Full,
    /// None, but the next ones have come from the disk.
    Waited,
    /// Nothing yet: another way, or another try.
    Again,
}

fn timed_out() -> TransferError {
    TransferError::Source(io::ErrorKind::TimedOut.into())
}

/// What the result of a plain send means.
fn judge_send(sent: io::Result<usize>) -> Result<Sent, TransferError> {
    match sent {
        Ok(0) => Ok(Sent::Again),
        Ok(count) => Ok(Sent::Bytes(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Full),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Sent::Again),
        Err(error) => Err(TransferError::Stream(error)),
    }
}
