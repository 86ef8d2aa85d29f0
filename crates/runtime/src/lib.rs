//! A thread-per-core async runtime for Linux, on io_uring or epoll.
//!
//! One [`Runtime`] is one worker: a thread with its own executor, timers and ring. Futures stay on
//! their worker, so they need not be `Send`, and nothing on the data path is shared. Received bytes
//! come in pooled [`Buffer`]s; sends take ownership of theirs ([`Chunk`]) and go on by themselves.
//! Which driver runs is found out when the worker starts ([`Io::Auto`]); the code above can't tell.
//!
//! ```
//! use ringway_runtime::{ListenOptions, Runtime, RuntimeOptions, TcpListener, TcpStream, spawn};
//!
//! let mut runtime = Runtime::new(&RuntimeOptions::default())?;
//! runtime.block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default())?;
//!     let address = listener.local_address()?;
//!     spawn(async move {
//!         let mut stream = listener.accept().await?;
//!         while let Some(buffer) = stream.receive().await? {
//!             stream.send(buffer).await?;
//!         }
//!         std::io::Result::Ok(())
//!     });
//!     let mut client = TcpStream::connect(address, &Default::default()).await?;
//!     client.send(b"hello".as_slice()).await?;
//!     assert_eq!(&**client.receive().await?.as_ref().unwrap(), b"hello");
//!     std::io::Result::Ok(())
//! })??;
//! # std::io::Result::Ok(())
//! ```
//!
//! In reading order: `executor` runs tasks by turns, `worker` is what they share, `time` and
//! `timer` wake them, `net` and `file` are their I/O, `mailbox` and `blocking` their ways
//! to other threads.

#![forbid(unsafe_code)]

mod blocking;
mod executor;
mod file;
mod mailbox;
mod net;
mod time;
mod timer;
mod transfer;
mod worker;

pub use blocking::{BlockingError, spawn_blocking, spawn_blocking_on};
pub use executor::{Entered, JoinError, JoinHandle, Runtime, counters, spawn, yield_now};
pub use file::{Directory, File};
pub use mailbox::{Receiver, Sender, mailbox};
pub use net::{ReadHalf, TcpListener, TcpStream, WriteHalf, wake_receivers};
pub use ringway_kernel::{
    BlockingPool, Buffer, Change, Chunk, Contents, Counters, Destination, DetachedSocket,
    DirectoryEntry, DriverChoice, DriverKind, FileKind, Io, Keepalive, ListenOptions, ListenSocket,
    MemoryOptions, MemoryReport, Metadata, NumaBuffer, NumaPool, NumaPoolOptions, Outgoing, Pages,
    Part, Policy, PoolFull, ProgramGroup, ReactorOptions as RuntimeOptions, SimDescriptor,
    SimOptions, SimWorld, SocketOptions, Steering, SteeringChoice, Symlinks, WatchId, Watcher, cpu,
    describe_kernel, errno, numa, process,
};
pub use time::{Elapsed, Sleep, Timeout, now, sleep, timeout, wall_clock};
pub use transfer::{
    FileTransfer, ForwardError, ForwardOptions, Forwarded, RelayOptions, RelayReport, Step,
    TransferError, TransferMethod, TransferOptions, TransferReport, TransferThresholds, forward,
    refused_transfers, relay,
};
