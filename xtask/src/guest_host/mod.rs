//! `cargo xtask guest-host`: what only a machine with two NUMA nodes and a network device of several
//! queues shows, in an emulated one.
//!
//! The server runs in there; this program connects to it through a tap device, in a network namespace
//! of its own. What is checked: each worker's memory is on its node by the kernel's own account,
//! connections are accepted on the CPU that received them (and aren't without steering), `tune` puts
//! interrupts where the workers are and back, and a CPU that goes gets no worker. No speed is
//! measured: distances in there are labels.

mod checks;

use crate::build::{cargo, metadata};
use crate::guest::{self, Archive};
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use checks::Seen;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
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

    /// This is the process in the network namespace
    #[arg(long, hide = true)]
    in_namespace: bool,
}

/// This side's address, and the guest's.
const OUR_ADDRESS: &str = "10.77.0.1/24";
const GUEST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 8080);
const TAP: &str = "ringway0";
/// Two nodes with two CPUs each, and a device with four queues: two interrupts for each, and two.
const MACHINE: [&str; 18] = [
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max",
    "-m",
    "1024",
    "-smp",
    "4",
    "-object",
    "memory-backend-ram,id=m0,size=512M",
    "-object",
    "memory-backend-ram,id=m1,size=512M",
    "-numa",
    "node,nodeid=0,cpus=0-1,memdev=m0",
    "-numa",
    "node,nodeid=1,cpus=2-3,memdev=m1",
    "-numa",
    "dist,src=0,dst=1,val=21",
];
/// An answer takes a while in a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the guest's first packet may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);

/// Boots the machine and checks what is seen in it; skips where that can't be done.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.in_namespace {
        return run_inside(options);
    }
    if let Err(reason) = requirements() {
        skip("guest-host", &format!("{reason:#}"));
        println!("1 skipped");
        return Ok(());
    }
    let mut build = cargo();
    let status = build.args(["build", "--package", "ringway"]).status();
    ensure!(
        status.context("cannot run cargo")?.success(),
        "cargo build failed"
    );
    // Its own network: no address and no device of this machine is touched.
    let this = std::env::current_exe().context("cannot find this program")?;
    let mut inside = Command::new("unshare");
    inside.arg("--net").arg("--").arg(this);
    inside.args(["guest-host", "--in-namespace"]);
    inside.args(["--connections", &options.connections.to_string()]);
    inside.args(["--timeout", &options.timeout.to_string()]);
    if options.verbose {
        inside.arg("--verbose");
    }
    let status = inside.status().context("cannot run unshare")?;
    ensure!(status.success(), "the guest was not as it should be");
    Ok(())
}

/// The guest's kernel, if all that it takes is here.
fn requirements() -> Result<PathBuf> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a tap device takes root"
    );
    guest::network_requirements(&["ip"])
}

fn run_inside(options: &Options) -> Result<()> {
    let kernel = requirements()?;
    for command in [
        "link set lo up".to_owned(),
        format!("tuntap add dev {TAP} mode tap multi_queue"),
        format!("addr add {OUR_ADDRESS} dev {TAP}"),
        format!("link set {TAP} up"),
    ] {
        let status = Command::new("ip").args(command.split(' ')).status();
        ensure!(
            status.context("cannot run ip")?.success(),
            "ip {command} failed"
        );
    }
    let archive = archive(&kernel, options.connections)?;
    let netdev = format!("tap,id=n0,ifname={TAP},script=no,downscript=no,queues=4");
    let device = "virtio-net-pci,netdev=n0,mq=on,vectors=10";
    let arguments = [&MACHINE[..], &["-netdev", &netdev, "-device", device]].concat();
    let mut seen = Seen::default();
    let mut clients = Vec::new();
    let deadline = Duration::from_secs(options.timeout);
    guest::boot_as(&kernel, &archive, &arguments, deadline, |line| {
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
    for (name, module) in guest::modules(kernel, &guest::NETWORK_MODULES)? {
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
}
