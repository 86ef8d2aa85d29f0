//! The configuration: one checked, immutable structure, [`Config`].
//!
//! A file (TOML or JSON of the same schema) and the command line's flags both become one tree of
//! nodes that know where they were written (`node.rs`). Tables of keys (`keys.rs`, and
//! [`crate::limits`]) say what may stand where; `read.rs` walks the tree by them, `value.rs` reads
//! the values, and `check.rs` looks at what only shows when everything is known. All problems are
//! reported at once (`problem.rs`). `include.rs` reads the files that a file names, `environment.rs`
//! puts in what `${NAME}` stands for, `write.rs` writes out what holds, `notes.rs` says what is most
//! likely not meant. `reference.rs` writes the reference page and the JSON Schema from the same
//! tables.
//!
//! It reads the file, those that it includes and the password files that it names, and looks at the
//! directories; it opens nothing else.

mod check;
mod environment;
mod include;
pub(crate) mod key;
pub(crate) mod keys;
mod load;
mod masked;
mod node;
mod notes;
pub(crate) mod problem;
pub(crate) mod read;
mod reference;
mod route;
mod server;
mod source;
#[cfg(test)]
mod tests;
mod unknown;
mod upstream;
mod users;
pub(crate) mod value;
pub(crate) mod write;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use key::{Absent, Flag, Key, Shape, Table};
pub use keys::{
    Coding, EventFormat, HugePages, Io, ListenOptions, Root, SocketOptions, Steer, Symlinks,
};
pub use load::{ConfigError, Flags, Format};
pub use problem::Problems;
pub use reference::{reference, schema};
pub use route::Route;
pub use server::{AddressRange, HashBy, HostPolicy, Probe, Server, ServerAddress, StatusRange};
pub use upstream::{
    ActiveHealth, Balance, BalanceWord, Forward, Forwarded, PassiveHealth, PoolOptions, Retries,
    Timeouts, Upstream,
};
pub use value::{Address, duration, size};

use crate::limits::Limits;
use crate::route::Action;
pub use ringway_host::cpulist::CpuList;
pub use ringway_runtime::{TransferMethod, TransferOptions, TransferThresholds};

/// Everything the server is told, checked and complete: where an option is left, it means that
/// something is off or stays as the kernel has it, never "the default".
///
/// It comes from [`Config::load`], [`Config::from_flags`] or [`Config::from_toml`]:
///
/// ```
/// use ringway_server::config::Config;
/// use ringway_server::route::Action;
///
/// let text = "[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"/\"";
/// let config = Config::from_toml(text)?;
/// assert_eq!(config.listeners[0].catch_all, Some(Action::Files(0)));
/// assert_eq!(config.roots[0].name, "site");
/// assert_eq!(config.limits.head_bytes, 16 * 1024);
/// # Ok::<(), ringway_server::config::Problems>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Worker threads, 1 to 1024.
    pub workers: usize,
    /// The driver that does the input and output.
    pub io: Io,
    /// The CPUs that workers are bound to, if not to any.
    pub worker_cpus: Option<CpuList>,
    /// The network device that workers are to be near, if not the busiest.
    pub nic: Option<String>,
    /// Whether each worker is bound to one CPU.
    pub pin: bool,
    /// Whether a connection goes to the worker on whose CPU it came in.
    pub steer: Steer,
    /// The pages that each worker's buffers are made of.
    pub huge_pages: HugePages,
    /// How long requests under way may take to end at a shutdown; zero cuts at once.
    pub shutdown_timeout: Duration,
    /// What is listened on; at least one.
    pub listeners: Vec<Listener>,
    /// What is done with some of the requests, in the order in which they are looked at.
    pub routes: Vec<Route>,
    /// The directories that are served.
    pub roots: Vec<Root>,
    /// Who is asked for what is passed on.
    pub upstreams: Vec<Upstream>,
    /// The names of the program's own services that routes ask for, each once.
    pub services: Vec<String>,
    /// The same of hooks.
    pub hooks: Vec<String>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// The logs.
    pub log: Log,
    /// The admin listener; `None` for none.
    pub admin: Option<Admin>,
    /// How files that are sent from disk go: `[transfer]`.
    pub transfer: TransferOptions,
    /// A request for this path panics, one for `worker` below it makes its worker panic, one for
    /// `failure` makes its worker fail. For tests of what happens then: it exists in debug builds
    /// and with the feature `fault-injection` only.
    #[cfg(any(debug_assertions, feature = "fault-injection"))]
    pub panic_path: Option<String>,
}

/// A listener: `[listen.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// The NAME of its table.
    pub name: String,
    /// Where to listen; at least one address, none twice.
    pub addresses: Vec<Address>,
    /// What answers the requests that no route is for: [`Action::Files`] or [`Action::Proxy`].
    /// `None` is 404, and there is a route then.
    pub catch_all: Option<Action>,
    /// Options of the listening sockets.
    pub options: ListenOptions,
    /// Options of the connections' sockets.
    pub socket: SocketOptions,
}

/// The logs: `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// Where the access log goes.
    pub access: AccessLog,
    /// The shape of its lines.
    pub access_format: crate::log::Format,
    /// The shape of the event log's lines; it goes to standard error.
    pub events: EventFormat,
}

/// The admin listener: `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admin {
    /// Where it listens.
    pub address: AdminAddress,
    /// Whether whoever reaches the address may be of another machine, and call it what he likes.
    pub allow_remote: bool,
}

/// Where the admin listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket; its directory exists.
    Unix {
        /// Its file.
        path: PathBuf,
        /// The file's mode, up to `0o777`.
        mode: u32,
    },
    /// An address and a port, which the kernel chooses if it is 0.
    Tcp(SocketAddr),
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere: no line is made.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of this file, which is created if need be; its directory exists.
    File(PathBuf),
}

/// Every table of the configuration with its keys, the top level first: what the command line
/// makes its flags of.
pub fn tables() -> &'static [Table] {
    keys::TABLES
}
