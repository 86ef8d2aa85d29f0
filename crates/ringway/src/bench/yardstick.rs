//! `ringway bench yardstick`: the least that a server or a relay can do, as a server to start.
//!
//! Not for people: the benchmark starts it, with the arguments that `ringway_bench::contestant` makes.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use ringway_bench::yardstick;
use std::path::PathBuf;

/// What a small answer has.
const BODY_BYTES: usize = 1024;

/// Flags of `bench yardstick`.
#[derive(Debug, Args)]
pub(crate) struct Yardstick {
    /// What it does
    #[arg(value_enum)]
    kind: Kind,
    /// The port of 127.0.0.1 that it listens on
    #[arg(long)]
    port: u16,
    /// Bytes of the body that is sent from memory
    #[arg(long, default_value_t = BODY_BYTES)]
    body_bytes: usize,
    /// The file that is sent
    #[arg(long, required_if_eq("kind", "file"))]
    file: Option<PathBuf>,
    /// The port of 127.0.0.1 that is relayed to
    #[arg(long, required_if_eq_any([("kind", "relay-uring"), ("kind", "relay-epoll"), ("kind", "relay-splice")]))]
    upstream: Option<u16>,
    /// Threads of those kinds that have several
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Uring,
    Epoll,
    File,
    RelayUring,
    RelayEpoll,
    RelaySplice,
    Shared,
    PerCore,
}

/// Serves until it is ended.
pub(super) fn run(flags: &Yardstick) -> Result<()> {
    let port = flags.port;
    let listen = || {
        let listener = yardstick::listen(port);
        listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))
    };
    let response = || yardstick::response(flags.body_bytes);
    let upstream = || flags.upstream.context("--upstream says whom to relay to");
    match flags.kind {
        Kind::Uring => yardstick::serve_uring(listen()?, response())?,
        Kind::Epoll => yardstick::serve_epoll(listen()?, &response())?,
        Kind::File => {
            let path = flags.file.as_ref().context("--file says what to send")?;
            let file = std::fs::File::open(path);
            let file = file.with_context(|| path.display().to_string())?;
            yardstick::serve_file(listen()?, file)?;
        }
        Kind::RelayUring => yardstick::relay_uring(listen()?, upstream()?)?,
        Kind::RelayEpoll => yardstick::relay_epoll(listen()?, upstream()?)?,
        Kind::RelaySplice => yardstick::relay_splice(listen()?, upstream()?)?,
        Kind::Shared => yardstick::serve_shared(port, flags.threads, &response())?,
        Kind::PerCore => yardstick::serve_per_core(port, flags.threads, &response())?,
    }
    Ok(())
}
