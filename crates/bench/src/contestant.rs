//! Who is measured: the program itself, and the yardsticks it carries.
//!
//! All serve the same bytes from the same folder, keep connections alive and log nothing. Other
//! servers are in `peers`.

use ringway_runtime::Io;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A server to start, and what to ask it for.
#[derive(Clone, Debug)]
pub struct Contestant {
    /// What it is called in the report.
    pub name: String,
    /// Its version, as it says itself; none for what is part of this program.
    pub version: Option<String>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// The path that is asked for, with its slash.
    pub path: String,
}

impl Contestant {
    /// A contestant with the program alone; [`Contestant::with`] adds to it.
    pub fn new(name: &str, program: &Path, port: u16, path: &str) -> Contestant {
        Contestant {
            name: name.to_owned(),
            version: None,
            program: program.to_owned(),
            arguments: Vec::new(),
            port,
            path: path.to_owned(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Contestant {
        let arguments = arguments.into_iter().map(Into::into);
        self.arguments.extend(arguments);
        self
    }

    /// The same under another name, as its own twin.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Contestant {
        self.name = name.into();
        self
    }
}

/// The drivers that everything is measured on, by the names that `--io` takes.
pub const DRIVERS: [(Io, &str); 2] = [(Io::Uring, "uring"), (Io::Epoll, "epoll")];

/// The least that a server or a relay can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yardstick {
    /// One send from memory for each receive, on this driver; bytes of the body.
    Memory(&'static str, usize),
    /// `sendfile` of this file for each receive.
    File(PathBuf),
    /// What comes is sent on to this port and back, by this way: `uring`, `epoll` or `splice`.
    Relay(&'static str, u16),
    /// Each of so many threads with a listener and an epoll instance of its own, or all with one.
    Threads {
        /// How many.
        count: usize,
        /// Whether they share one listener, one epoll instance and one table of connections.
        is_shared: bool,
    },
}

impl Yardstick {
    /// The arguments behind `ringway bench yardstick`, as the program reads them.
    pub fn arguments(&self, port: u16) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["bench".into(), "yardstick".into()];
        match self {
            Yardstick::Memory(driver, bytes) => {
                words.extend([
                    driver.into(),
                    "--body-bytes".into(),
                    bytes.to_string().into(),
                ]);
            }
            Yardstick::File(file) => words.extend(["file".into(), "--file".into(), file.into()]),
            Yardstick::Relay(way, upstream) => {
                let way = format!("relay-{way}");
                words.extend([way.into(), "--upstream".into(), upstream.to_string().into()]);
            }
            Yardstick::Threads { count, is_shared } => {
                let name = if *is_shared { "shared" } else { "per-core" };
                words.extend([name.into(), "--threads".into(), count.to_string().into()]);
            }
        }
        words.extend(["--port".into(), port.to_string().into()]);
        words
    }

    /// As a contestant of this program.
    pub fn contestant(&self, program: &Path, port: u16, path: &str) -> Contestant {
        let name = match self {
            Yardstick::Memory(driver, _) => format!("yardstick, {driver}"),
            Yardstick::File(_) => "yardstick, sendfile".to_owned(),
            Yardstick::Relay(way, _) => format!("relay, {way}"),
            Yardstick::Threads { is_shared, .. } => {
                let name = if *is_shared { "shared" } else { "per core" };
                name.to_owned()
            }
        };
        Contestant::new(&name, program, port, path).with(self.arguments(port))
    }
}

/// `ringway serve` of the folder `site` with so many workers.
pub fn serve(
    program: &Path,
    driver: &str,
    site: &Path,
    port: u16,
    path: &str,
    workers: usize,
) -> Contestant {
    Contestant::new(&format!("ringway, {driver}"), program, port, path)
        .with(["serve".into(), site.as_os_str().to_owned()])
        .with(["--listen".to_owned(), format!("127.0.0.1:{port}")])
        .with(["--io", driver, "--workers"])
        .with([workers.to_string()])
}
