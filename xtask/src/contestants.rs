//! Who is measured: the yardsticks, the runtime's example, the program on each driver, and nginx.
//!
//! All serve the same bytes from the same folder, keep connections alive and log nothing. Those that
//! pass requests on instead are in [`proxies`].

pub(crate) mod proxies;

use crate::build::Programs;
use crate::process::find;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A server to start, and the path to ask it for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    pub(crate) port: u16,
    /// Without the slash at its start.
    pub(crate) path: String,
}

impl Contestant {
    /// A contestant with the program alone; [`Contestant::argument`] adds to it.
    pub(crate) fn new(name: &str, program: &Path, port: u16, path: &str) -> Contestant {
        Contestant {
            name: name.to_owned(),
            command: vec![program.into()],
            port,
            path: path.to_owned(),
        }
    }

    /// Adds one argument.
    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Contestant {
        self.command.push(argument.into());
        self
    }

    /// The program as it was given.
    pub(crate) fn program(&self) -> &Path {
        Path::new(self.command.first().expect("a contestant has a program"))
    }
}

/// The drivers of the runtime, as `--io` knows them.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Driver {
    Uring,
    Epoll,
    Both,
}

impl Driver {
    /// The names that `--io` takes.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Driver::Uring => &["uring"],
            Driver::Epoll => &["epoll"],
            Driver::Both => &["uring", "epoll"],
        }
    }
}

/// `ringway serve` with one worker, if the program can serve already.
pub(crate) fn ringway(
    programs: &Programs,
    driver: &str,
    site: &Path,
    port: u16,
    path: &str,
) -> Option<Contestant> {
    let program = programs.ringway()?;
    let contestant = Contestant::new(&format!("ringway-{driver}"), &program, port, path)
        .argument("serve")
        .argument(site)
        .argument("--listen")
        .argument(format!("127.0.0.1:{port}"))
        .argument("--io")
        .argument(driver)
        .argument("--workers")
        .argument("1");
    Some(contestant)
}

/// nginx with one worker, set up as its own users would for speed, if it is installed.
///
/// Its configuration and everything that it writes go into `scratch`; `connections` bounds it.
pub(crate) fn nginx(
    scratch: &Path,
    site: &Path,
    port: u16,
    path: &str,
    connections: usize,
) -> Result<Option<Contestant>> {
    let sites = format!(
        "    types {{ text/html html; application/octet-stream bin; }}
    sendfile on;
    tcp_nopush on;
    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 1h;
    server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}",
        root = site.display(),
    );
    let one = Nginx {
        name: "nginx",
        scratch,
        port,
        path,
        connections,
        sites,
    };
    one.write()
}

/// nginx with one worker that keeps connections and logs nothing, and what else it is told.
struct Nginx<'a> {
    /// Of its files, too.
    name: &'a str,
    /// The folder for everything that it reads and writes.
    scratch: &'a Path,
    /// Where the lines below have it listen, and what it is asked for there.
    port: u16,
    path: &'a str,
    connections: usize,
    /// Lines for the block `http`.
    sites: String,
}

impl Nginx<'_> {
    /// Writes the configuration; nothing where nginx isn't installed.
    fn write(&self) -> Result<Option<Contestant>> {
        let Some(program) = find("nginx") else {
            return Ok(None);
        };
        let Nginx { name, scratch, .. } = *self;
        let configuration = scratch.join(format!("{name}.conf"));
        let folder = |kind: &str| scratch.join(format!("{name}-{kind}")).display().to_string();
        // A worker that changed to another user could not read a private temporary folder.
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let text = format!(
            "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {pid};
error_log stderr crit;
events {{ worker_connections {descriptors}; }}
http {{
    client_body_temp_path {body};
    proxy_temp_path {proxy};
    fastcgi_temp_path {fastcgi};
    uwsgi_temp_path {uwsgi};
    scgi_temp_path {scgi};
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
{sites}
}}
",
            descriptors = 2 * self.connections + 256,
            pid = folder("pid"),
            body = folder("body"),
            proxy = folder("proxy"),
            fastcgi = folder("fastcgi"),
            uwsgi = folder("uwsgi"),
            scgi = folder("scgi"),
            sites = self.sites,
        );
        std::fs::write(&configuration, text).context("cannot write nginx's configuration")?;
        let contestant = Contestant::new(name, &program, self.port, self.path)
            .argument("-p")
            .argument(scratch)
            .argument("-e")
            .argument("stderr")
            .argument("-c")
            .argument(configuration);
        Ok(Some(contestant))
    }
}

/// A file that contestants serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) bytes: usize,
}

/// The sizes that are measured: one that costs nothing but the request, one that costs a copy, one in
/// between, and one that only `sendfile` moves well.
pub(crate) const BODIES: [Body; 4] = [
    Body {
        name: "1k",
        file: "1k.html",
        bytes: 1024,
    },
    Body {
        name: "100k",
        file: "100k.html",
        bytes: 100 * 1024,
    },
    Body {
        name: "1m",
        file: "1m.bin",
        bytes: 1 << 20,
    },
    Body {
        name: "10m",
        file: "10m.bin",
        bytes: 10 * 1024 * 1024,
    },
];

impl Body {
    /// Makes the file in `site`.
    pub(crate) fn write(self, site: &Path) -> Result<PathBuf> {
        let path = site.join(self.file);
        std::fs::write(&path, vec![b'.'; self.bytes])
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
