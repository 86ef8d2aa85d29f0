//! `cargo xtask guest-host`: what only a machine with two NUMA nodes and a network device of several
//! queues shows, in an emulated one.
//!
//! The server runs in there, and this program connects to it from outside. What is checked: each worker's memory is on its node by the kernel's own account,
//! connections are accepted on the CPU that received them (and aren't without steering), `tune` puts
//! interrupts where the workers are and back, and a CPU that goes gets no worker. No speed is
//! measured: distances in there are labels.

mod checks;

use crate::build::{cargo, metadata};
use crate::guest::{
    self, Archive,
    two_nodes::{self, Card},
};
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use checks::Seen;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Check placement, memory, steering and tune in an emulated machine with two NUMA nodes
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Connections that are made in each of the two runs
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(64..=4000))]
    connections: u32,

    /// Give up after this many seconds
    #[arg(long, default_value_t = 900)]
    timeout: u64,

    /// Print what the guest says
    #[arg(long)]
    verbose: bool,
}

/// The server in the guest.
const GUEST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 8080);
/// An answer takes a while in a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the guest's first packet may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// Boots the machine and checks what is seen in it; skips where that can't be done.
pub(crate) fn run(options: &Options) -> Result<()> {
    let kernel = match two_nodes::available() {
        Ok(kernel) => kernel,
        Err(reason) => {
            skip("guest-host", &format!("{reason:#}"));
            println!("1 skipped");
            return Ok(());
        }
    };
    let mut build = cargo();
    let status = build.args(["build", "--package", "ringway"]).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "cargo build failed");
    let archive = archive(&kernel, options.connections)?;
    let mut seen = Seen::default();
    let mut clients = Vec::new();
    let deadline = Duration::from_secs(options.timeout);
    two_nodes::boot(&kernel, &archive, Card::OnNoNode, deadline, |line| {
        if options.verbose {
            eprintln!("{line}");
        }
        match Said::of(line) {
            Some(Said::Seen(key, text)) => seen.add(key, text),
            Some(Said::Serve) => {
                let connected = connect(options.connections);
                clients = connected.unwrap_or_else(|error| {
                    seen.add("trouble", &format!("{error:#}"));
                    Vec::new()
                });
            }
            Some(Said::Served) => clients.clear(),
            Some(Said::End) => seen.ended = true,
            None => {}
        }
    })?;
    let (passed, failed) = seen.check(options.connections);
    println!("{passed} checks passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} checks failed");
    }
    Ok(())
}

/// The guest's disk: the program without what debuggers need, and the modules.
fn archive(kernel: &Path, connections: u32) -> Result<Archive> {
    let mut archive = Archive::with_init(include_bytes!("init.sh"))?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let built = metadata()?.target_directory.join("debug/ringway");
    let program = guest::stripped(&built, scratch.path())?;
    archive.copy(&program)?;
    for (name, module) in guest::modules(kernel, &two_nodes::MODULES)? {
        archive.file(&Path::new("/modules").join(name), &module);
    }
    let parameters = format!(
        "program='{}'\nconnections={connections}\n",
        program.display()
    );
    archive.file(Path::new("/parameters"), parameters.as_bytes());
    Ok(archive)
}

/// Connections to the server in the guest, each with an answer.
fn connect(count: u32) -> Result<Vec<TcpStream>> {
    // The first packets find a device that has just come up.
    let end = Instant::now() + CONNECT_PATIENCE;
    while let Err(error) = TcpStream::connect_timeout(&GUEST, Duration::from_secs(1)) {
        ensure!(Instant::now() < end, "no connection to the guest: {error}");
    }
    (1..count).map(|_| ask()).collect()
}

fn ask() -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&GUEST, PATIENCE).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: guest\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).context("no answer")?;
    ensure!(&answer == b"HTTP/1.1 200", "another answer than 200");
    Ok(stream)
}

/// What a line on the guest's console means.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    /// Something was seen.
    Seen(&'a str, &'a str),
    /// Connections are wanted.
    Serve,
    /// They aren't any more.
    Served,
    /// It got through.
    End,
}

impl<'a> Said<'a> {
    /// `None` for what the kernel and the firmware say, which may not end its line.
    fn of(line: &'a str) -> Option<Said<'a>> {
        let said = &line[line.find('@')?..];
        if let Some(rest) = said.strip_prefix("@say ") {
            let (key, text) = rest.split_once(' ').unwrap_or((rest, ""));
            return Some(Said::Seen(key, text));
        }
        match said.split(' ').next()? {
            "@serve" => Some(Said::Serve),
            "@served" => Some(Said::Served),
            "@end" => Some(Said::End),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn the_console_is_understood() {
        assert_eq!(Said::of("[ 0.1] boot"), None);
        assert_eq!(Said::of("[ 0.1] a@b"), None);
        assert_eq!(Said::of("@say a b  c"), Some(Said::Seen("a", "b  c")));
        assert_eq!(Said::of("@say a"), Some(Said::Seen("a", "")));
        assert_eq!(Said::of("firmware@serve x"), Some(Said::Serve));
        assert_eq!(Said::of("@served x"), Some(Said::Served));
        assert_eq!(Said::of("@end"), Some(Said::End));
    }
    /// The whole of it, where that can run.
    #[test]
    fn a_machine_with_two_nodes_is_served_from_both() {
        let options = super::Options {
            connections: 400,
            timeout: 600,
            verbose: false,
        };
        super::run(&options).expect("every check holds");
    }
}
