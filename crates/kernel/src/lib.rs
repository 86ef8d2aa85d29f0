//! Everything of Ringway that talks to Linux beyond the standard library, and all of its unsafe
//! code.
//!
//! In the order of the data path: a [`ListenSocket`] is bound (`socket`), steered to (`steering`) and handed to a worker's
//! [`Reactor`] (`reactor`), which owns every socket, listener and file request of that worker in
//! slots that never move (`slots`) and drives them through one of three drivers (`driver`):
//! io_uring, epoll, or a simulated kernel. Bytes arrive in pooled [`Buffer`]s (`buffers`) and
//! leave as [`Chunk`]s (`outgoing`). Memory is mapped where it is wanted (`arena`, `numa`), and shared by
//! threads from a [`NumaPool`] (`numa_pool`). Files are opened beneath a [`Directory`] (`file`), which also
//! says what is in it (`directory`); what may wait for a disk goes through the ring or the
//! [`BlockingPool`] (`pool`), and what may wait for a network or a program (`medium`) through a pool
//! of its own. A [`Watcher`] tells of changes below a directory (`watch`).
//!
//! No raw descriptor leaves this crate.

mod abort;
mod arena;
mod blocks;
mod buffers;
pub mod counting;
pub mod cpu;
mod directory;
mod driver;
pub mod errno;
mod file;
mod medium;
pub mod namespace;
pub mod nic;
pub mod numa;
mod numa_pool;
mod outgoing;
mod pipe;
mod pool;
pub mod process;
mod reactor;
mod residency;
mod slots;
mod socket;
mod steering;
mod wake;
mod watch;
pub mod yardstick;
mod zero_copy;

pub use blocks::{BLOCK_BYTES, Block};
pub use buffers::Buffer;
pub use directory::{Contents, DirectoryEntry};
pub use driver::probe::{DriverChoice, Io, describe_kernel};
pub use driver::sim::{SimDescriptor, SimOptions, SimWorld};
pub use driver::{DriverKind, Interest};
pub use file::{Directory, File, FileKind, Mapping, Metadata, Symlinks};
pub use numa::{MemoryOptions, MemoryReport, Pages, Policy};
pub use numa_pool::{NumaBuffer, NumaPool, NumaPoolOptions};
pub use outgoing::{Chunk, Outgoing, Part};
pub use pool::{BlockingPool, PoolFull};
pub use reactor::{
    Counters, DetachedSocket, ListenerKey, PipeKey, Reactor, ReactorCell, ReactorOptions,
    RequestKey, SocketKey, WARM_BYTES, Waiter,
};
pub use residency::Residency;
pub use socket::{Destination, Keepalive, ListenOptions, ListenSocket, SocketOptions};
pub use steering::{ProgramGroup, Steering, SteeringChoice};
pub use wake::WakeHandle;
pub use watch::{Change, WatchId, Watcher};
