//! Memory for each idle keep-alive connection, as a slope between two counts of them.
//!
//! A slope, because what a server takes at its start is no property of its connections. Each
//! connection has had one answer before it counts as idle: until then a server has not done what
//! it might keep memory for. At both counts a sample is asked once more: that there are many others
//! costs a request nothing, or shows.

use super::{Options, Setting};
use crate::contestants::{BODIES, Contestant};
use crate::process::{Server, allowed_cpus};
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The lower end of the slope.
const FIRST_COUNT: usize = 1_000;
/// Descriptors for everything but the connections: Ringway keeps some 1,300 for the files that it holds open, and
/// takes fewer connections where they aren't left.
const SPARE_DESCRIPTORS: u64 = 2_000;
/// An answer that takes longer is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What all connections of one contestant may take to open, and each thousand of them besides.
const OPEN_TIMEOUT: Duration = Duration::from_secs(300);
const THOUSAND_TIMEOUT: Duration = Duration::from_secs(3);
/// As many are asked again.
const SAMPLE: usize = 1_000;
/// For a server to put away what the last requests used.
const SETTLE: Duration = Duration::from_secs(2);

/// How many connections there are to be in the end, unless the options say so.
const COUNT: u32 = 20_000;

/// Measures each server and prints a line for each.
pub(super) fn run(setting: &Setting<'_>) -> Result<()> {
    let wanted = setting.options.idle_connections.unwrap_or(COUNT);
    let plan = Plan::within_limits(wanted, setting.options, setting.scratch)?;
    let body = BODIES[0];
    body.write(setting.site)?;
    plan.measure_all(&setting.servers(body, plan.count)?)
}

/// The same for servers that somebody else has chosen and written down in `list`, as JSON.
pub(super) fn run_listed(options: &Options, list: &Path) -> Result<()> {
    let text = std::fs::read(list).with_context(|| list.display().to_string())?;
    let servers: Vec<Contestant> = serde_json::from_slice(&text).context("a list of servers")?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let wanted = options.idle_connections.unwrap_or(COUNT);
    Plan::within_limits(wanted, options, scratch.path())?.measure_all(&servers)
}

/// What is measured of each server.
struct Plan {
    /// The upper end of the slope.
    count: usize,
    per_address: usize,
    /// Where a server's output goes.
    log: PathBuf,
}

impl Plan {
    /// `wanted` connections, or as many as this process may have.
    fn within_limits(wanted: u32, options: &Options, scratch: &Path) -> Result<Plan> {
        let wanted = wanted as usize;
        let allowed = raise_descriptor_limit(wanted as u64 + SPARE_DESCRIPTORS)?;
        let count = wanted.min(allowed.saturating_sub(SPARE_DESCRIPTORS) as usize);
        ensure!(
            count > FIRST_COUNT,
            "a descriptor limit of {allowed} is too low for this"
        );
        if count < wanted {
            println!(
                "the descriptor limit of {allowed} allows {count} connections, not {wanted}: \
                 --emulated has no such limit"
            );
        }
        Ok(Plan {
            count,
            per_address: options.per_address as usize,
            log: scratch.join("server.log"),
        })
    }

    fn measure_all(&self, servers: &[Contestant]) -> Result<()> {
        println!(
            "idle connections, from {FIRST_COUNT} to {}, {} from each address",
            self.count, self.per_address
        );
        println!(
            "{:20}{:>16}{:>16}{:>16}   {SAMPLE} asked again: µs of {FIRST_COUNT}, and of all",
            "bytes a connection", "anonymous", "resident", "MiB at the end"
        );
        for one in servers {
            self.measure(one).with_context(|| one.name.clone())?;
        }
        Ok(())
    }

    fn measure(&self, one: &Contestant) -> Result<()> {
        let count = self.count;
        let cpus = allowed_cpus()?;
        let server = Server::start(
            &one.command,
            one.port,
            *cpus.first().context("no CPU")?,
            &self.log,
        )?;
        let end = Instant::now() + OPEN_TIMEOUT + THOUSAND_TIMEOUT * (count / 1_000) as u32;
        let mut connections = Vec::with_capacity(count);
        let open_until = |connections: &mut Vec<TcpStream>, wanted: usize| -> Result<()> {
            while connections.len() < wanted {
                ensure!(
                    Instant::now() < end,
                    "{wanted} connections take too long to open"
                );
                let source = source(connections.len(), self.per_address);
                let connection = open(source, one).with_context(|| {
                    format!("connection {} from {source}", connections.len() + 1)
                })?;
                connections.push(connection);
            }
            sleep(SETTLE);
            Ok(())
        };
        open_until(&mut connections, FIRST_COUNT)?;
        let few = sample(&mut connections, one)?;
        sleep(SETTLE);
        let (anonymous, resident) = (server.anonymous_bytes()?, server.resident_bytes()?);
        open_until(&mut connections, count)?;
        let last = server.anonymous_bytes()?;
        let last_resident = server.resident_bytes()?;
        let many = sample(&mut connections, one)?;
        let slope =
            |now: u64, before: u64| (now as f64 - before as f64) / (count - FIRST_COUNT) as f64;
        println!(
            "{:20}{:>16.0}{:>16.0}{:>16.1}   {few}, {many}",
            one.name,
            slope(last, anonymous),
            slope(last_resident, resident),
            last as f64 / f64::from(1 << 20),
        );
        // A connection that the server had closed would make it look better than it is.
        for (index, connection) in connections.iter().enumerate() {
            let open = is_open(connection).with_context(|| format!("connection {}", index + 1))?;
            ensure!(
                open,
                "the server closed connection {} of {count}",
                index + 1
            );
        }
        drop(connections);
        server.stop()
    }
}

/// The address that the connection with this index comes from: 127.0.0.2 and onwards, for the ports
/// of one address would not do, and a server may bound what one address gets.
pub(crate) fn source(index: usize, per_address: usize) -> Ipv4Addr {
    let number = 2 + (index / per_address) as u32;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + number)
}

/// Connects to a port of loopback from `source`; what takes too long there is an error.
pub(crate) fn connect_from(source: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(connection)
}

/// How long connections all over the line take to be answered, one after the other: in the middle, and at
/// 99 %.
fn sample(connections: &mut [TcpStream], one: &Contestant) -> Result<String> {
    let step = (connections.len() / SAMPLE).max(1);
    let mut times = Vec::with_capacity(SAMPLE);
    for connection in connections.iter_mut().step_by(step) {
        let begin = Instant::now();
        ask(connection, one)?;
        times.push(begin.elapsed());
    }
    times.sort();
    let at = |part: usize| {
        times
            .get(times.len() * part / 100)
            .map_or(0, Duration::as_micros)
    };
    Ok(format!("{} (99 %: {})", at(50), at(99)))
}

/// Connects from `source` and has one request answered.
fn open(source: Ipv4Addr, one: &Contestant) -> Result<TcpStream> {
    let mut connection = connect_from(source, one.port)?;
    ask(&mut connection, one)?;
    Ok(connection)
}

fn ask(connection: &mut TcpStream, one: &Contestant) -> Result<()> {
    let request = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", one.path);
    connection.write_all(request.as_bytes())?;
    read_answer(connection, BODIES[0].bytes)
}

/// Reads a head and a body of `body_bytes`.
fn read_answer(connection: &mut impl Read, body_bytes: usize) -> Result<()> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = connection.read(&mut piece).context("no answer")?;
        ensure!(count > 0, "closed before its answer was complete");
        answer.extend_from_slice(&piece[..count]);
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if head_end.is_some_and(|end| answer.len() >= end + 4 + body_bytes) {
            let line = answer
                .split(|&byte| byte == b'\r')
                .next()
                .unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            ensure!(line.starts_with("HTTP/1.1 200"), "answered {line}");
            return Ok(());
        }
    }
}

fn is_open(connection: &TcpStream) -> Result<bool> {
    connection.set_nonblocking(true)?;
    match connection.peek(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(true),
        Ok(_) | Err(_) => Ok(false),
    }
}

/// Raises the soft limit, and the hard one where that is allowed; says what it is now.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map_or(wanted, |maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: Some(wanted),
        maximum: Some(maximum),
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(wanted);
    }
    let within = limit.maximum.unwrap_or(wanted).min(wanted);
    let raised = Rlimit {
        current: Some(within),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("setrlimit")?;
    Ok(within)
}

#[cfg(test)]
mod tests {
    use super::{read_answer, source};

    #[test]
    fn addresses_change_after_as_many_connections_as_one_may_have() {
        assert_eq!(source(0, 1000).to_string(), "127.0.0.2");
        assert_eq!(source(999, 1000).to_string(), "127.0.0.2");
        assert_eq!(source(1000, 1000).to_string(), "127.0.0.3");
        assert_eq!(source(99_999, 100).to_string(), "127.0.3.233");
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nxyz";
        assert!(read_answer(&mut &answer[..], 3).is_ok());
        assert!(read_answer(&mut &answer[..], 4).is_err());
        assert!(read_answer(&mut &b"HTTP/1.1 503 No\r\n\r\n"[..], 0).is_err());
    }
}
