//! As many idle keep-alive connections as this machine allows: memory for each, and how fast a sample
//! of them is answered.
//!
//! Memory is a slope between two counts, because what a server takes at its start is no property of
//! its connections. Each connection has had one answer before it counts as idle: until then a server
//! has not done what it might keep memory for.

use super::suite::{SMALL, ringway};
use crate::comparison::{Comparison, Run};
use crate::contestant::{Contestant, DRIVERS};
use crate::outcome::{Findings, Verdict};
use crate::server::Server;
use crate::setting::{Setting, Step, Trouble};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MILLION: usize = 1_000_000;
const QUICK: usize = 10_000;
/// The lower end of the slope.
const FIRST: usize = 1_000;
/// Descriptors for everything but the connections: the server keeps some 1,300 for the files that it holds open, and
/// takes fewer connections where they aren't left.
const SPARE: u64 = 2_000;
/// The ports of one address would not do, and a server may bound what one address gets.
const PER_ADDRESS: usize = 1_000;
/// As many are asked again.
const SAMPLE: usize = 1_000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a server to put away what the last requests used.
const SETTLE: Duration = Duration::from_secs(1);
/// A server with a bound on how long connections may be idle closes none for so long.
const IDLE_TIMEOUT: &str = "1h";
/// What a connection may take.
const BOUND_BYTES: f64 = 2048.0;
/// Both ends of a connection in the kernel, with some room; seen on Linux 6.18: about 5 KiB.
const KERNEL_BYTES: u64 = 8 << 10;

pub(super) fn find(setting: &mut Setting) -> Result<Findings, Trouble> {
    let wanted = if setting.is_quick() { QUICK } else { MILLION };
    let (count, bounded_by) = possible(wanted, setting.descriptor_limit, free_memory()?);
    if count < 2 * FIRST {
        let text = format!("{bounded_by} allows {count} connections, too few to tell");
        return Ok(Findings::not_measurable(text, None));
    }
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    let (mut count, mut bounded_by) = (count, bounded_by);
    for (_, driver) in DRIVERS {
        let one = ringway(setting, driver, SMALL, count)?;
        let one = one.with(["--idle-timeout", IDLE_TIMEOUT]);
        let Idle {
            bytes,
            latency,
            opened,
            ended_by,
        } = measure(setting, &one, count)?;
        if let Some(error) = ended_by {
            (count, bounded_by) = (opened, format!("{}: {error}", one.name));
        }
        let asked = |part: f64| percentile(&latency, part).as_micros();
        notes.push(format!(
            "{driver}: {SAMPLE} of the {count} connections asked again, one after the other: {} µs in the middle, {} µs \
             at 99 %, {} µs at most",
            asked(0.5),
            asked(0.99),
            asked(1.0)
        ));
        let run = Run {
            cost: bytes,
            ..Run::default()
        };
        rows.push((one.name.clone(), None, vec![run]));
    }
    let title = format!("{count} idle connections");
    let comparison = Comparison::new(&title, "bytes of memory for a connection", None, rows)
        .ok_or_else(|| Trouble::Failed("nothing was measured".to_owned()))?;
    let worst = comparison
        .rows
        .iter()
        .map(|row| row.cost.median)
        .fold(0.0, f64::max);
    let mut says = format!("{count} connections with at most {worst:.0} bytes each");
    if count < MILLION {
        says = format!("{says}, and no more: {bounded_by}");
    }
    let verdict = if worst > BOUND_BYTES {
        Verdict::Refuted
    } else if count < MILLION {
        Verdict::NotMeasurable
    } else {
        Verdict::Confirmed
    };
    Ok(Findings {
        verdict,
        says,
        gain: None,
        comparisons: vec![comparison],
        notes,
    })
}

/// As many of the wanted connections as can be, and what bounds them.
fn possible(wanted: usize, descriptors: u64, free_bytes: u64) -> (usize, String) {
    let bounds = [
        (wanted as u64, "a quick run asks for no more".to_owned()),
        (
            descriptors.saturating_sub(SPARE),
            format!("the limit of {descriptors} descriptors for a process"),
        ),
        (
            // Half of it is left to others.
            free_bytes / 2 / KERNEL_BYTES,
            format!("{} MiB of free memory", free_bytes >> 20),
        ),
    ];
    let least = bounds.into_iter().min_by_key(|(count, _)| *count);
    least.map_or((0, String::new()), |(count, by)| (count as usize, by))
}

fn free_memory() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
}

/// Connections of one server that had nothing to do.
struct Idle {
    /// Of the server's memory, for each.
    bytes: f64,
    /// Of a sample of them, in ascending order.
    latency: Vec<Duration>,
    /// How many there were.
    opened: usize,
    /// What they ended with, where that are fewer than were wanted.
    ended_by: Option<io::Error>,
}

fn measure(setting: &Setting, one: &Contestant, count: usize) -> Result<Idle, Trouble> {
    let log = setting.scratch("server.log");
    let server = Server::start(one, &setting.server_cpus, &setting.load_cpus, &log)?;
    let mut connections = Vec::with_capacity(count);
    let mut open_next = |number: usize| {
        if number.is_multiple_of(FIRST) {
            setting.go_on()?;
            let text = format!("{}: {number} of {count} connections", one.name);
            setting.tell(Step::Doing(text));
        }
        Ok(open(number, one))
    };
    let settled = || {
        sleep(SETTLE);
        server.anonymous_bytes()
    };
    let named = |trouble: Trouble| match trouble {
        Trouble::Failed(why) => Trouble::Failed(format!("{}: {why}", one.name)),
        Trouble::Interrupted => Trouble::Interrupted,
    };
    fill(&mut connections, FIRST, &mut open_next).map_err(named)?;
    let first = settled()?;
    let ended_by = fill(&mut connections, count, &mut open_next).map_err(named)?;
    let last = settled()?;
    let opened = connections.len();
    let bytes = (last as f64 - first as f64) / (opened - FIRST) as f64;
    let mut latency = Vec::with_capacity(SAMPLE);
    let step = (opened / SAMPLE).max(1);
    for (number, connection) in connections.iter_mut().enumerate().step_by(step) {
        let begin = Instant::now();
        ask(connection, one).map_err(|error| {
            let text = format!(
                "{}: connection {} was not kept: {error}",
                one.name,
                number + 1
            );
            Trouble::Failed(text)
        })?;
        latency.push(begin.elapsed());
    }
    latency.sort();
    drop(connections);
    server.stop();
    Ok(Idle {
        bytes,
        latency,
        opened,
        ended_by,
    })
}

/// Opens connections until there are `wanted`, or this machine has no more to give: then with its reason.
/// Too few of them to tell anything by are a failure.
fn fill<T>(
    connections: &mut Vec<T>,
    wanted: usize,
    mut open_next: impl FnMut(usize) -> Result<io::Result<T>, Trouble>,
) -> Result<Option<io::Error>, Trouble> {
    while connections.len() < wanted {
        let number = connections.len();
        match open_next(number)? {
            Ok(connection) => connections.push(connection),
            Err(error) if is_all(&error) && number >= 2 * FIRST => return Ok(Some(error)),
            Err(error) => {
                let text = format!("connection {}: {error}", number + 1);
                return Err(Trouble::Failed(text));
            }
        }
    }
    Ok(None)
}

/// Whether it says that there is no more of something to be had.
fn is_all(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_what = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::ADDRNOTAVAIL,
        Errno::NOBUFS,
        Errno::NOMEM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| of_what.contains(&errno))
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// The address that the connection with this number comes from: 127.0.0.2 and onwards.
fn source(number: usize) -> Ipv4Addr {
    let host = 2 + (number / PER_ADDRESS) as u32;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + host)
}

/// Connects, and has one request answered.
fn open(number: usize, one: &Contestant) -> io::Result<TcpStream> {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((source(number), 0)))?;
    rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, one.port)))?;
    let mut connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    ask(&mut connection, one)?;
    Ok(connection)
}

fn ask(connection: &mut TcpStream, one: &Contestant) -> io::Result<()> {
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", one.path);
    connection.write_all(request.as_bytes())?;
    read_answer(connection, SMALL.bytes as usize)
}

/// Reads a head and a body of `body_bytes`.
fn read_answer(connection: &mut impl Read, body_bytes: usize) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = match connection.read(&mut piece) {
            Ok(0) => return Err(io::Error::other("it was closed")),
            Ok(count) => count,
            // Seen of the first read on Linux 6.18: the facts were gathered by this thread, with a ring whose end
            // the kernel does on the thread that made it; and a read with a deadline isn't begun again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&piece[..count]);
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if head_end.is_some_and(|end| answer.len() >= end + 4 + body_bytes) {
            return match answer.starts_with(b"HTTP/1.1 200 ") {
                true => Ok(()),
                false => Err(io::Error::other("the answer isn't 200")),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_change_after_as_many_connections_as_one_may_have() {
        assert_eq!(source(0).to_string(), "127.0.0.2");
        assert_eq!(source(PER_ADDRESS - 1).to_string(), "127.0.0.2");
        assert_eq!(source(PER_ADDRESS).to_string(), "127.0.0.3");
        assert_eq!(source(999_999).to_string(), "127.0.3.233");
    }

    #[test]
    fn the_tightest_bound_counts_and_is_named() {
        let gib = 1 << 30;
        let (count, by) = possible(MILLION, 20_000, 16 * gib);
        assert_eq!((count, by.contains("20000 descriptors")), (18_000, true));
        let (count, by) = possible(MILLION, 2_000_000, 2 * gib);
        assert_eq!((count, by.contains("memory")), (131_072, true));
        assert_eq!(possible(MILLION, 2_000_000, 64 * gib).0, MILLION);
        assert_eq!(possible(QUICK, 500, 64 * gib).0, 0);
    }

    #[test]
    fn what_there_is_counts_when_there_is_no_more() {
        const ALL: usize = 2_500;
        let check = |errno: i32, first: usize| {
            let mut connections = Vec::new();
            let filled = fill(&mut connections, 3_000, |number| {
                Ok(match number < first {
                    true => Ok(()),
                    false => Err(io::Error::from_raw_os_error(errno)),
                })
            });
            let ended_by = filled.map(|error| error.and_then(|error| error.raw_os_error()));
            (ended_by.map_err(|_| ()), connections.len())
        };
        const NO_DESCRIPTORS: i32 = 24;
        const RESET: i32 = 104;
        assert_eq!(check(NO_DESCRIPTORS, ALL), (Ok(Some(NO_DESCRIPTORS)), ALL));
        assert_eq!(check(NO_DESCRIPTORS, 3_000), (Ok(None), 3_000));
        // Too few to tell by; and a server that breaks one off is no bound of this machine.
        assert_eq!(check(NO_DESCRIPTORS, FIRST + 1), (Err(()), FIRST + 1));
        assert_eq!(check(RESET, ALL), (Err(()), ALL));
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nxyz";
        assert!(read_answer(&mut &answer[..], 3).is_ok());
        assert!(read_answer(&mut &answer[..], 4).is_err());
        assert!(read_answer(&mut &b"HTTP/1.1 503 No\r\n\r\n"[..], 0).is_err());
    }

    #[test]
    fn a_read_that_was_interrupted_is_begun_again() {
        struct Interrupted(bool);
        impl Read for Interrupted {
            fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, false) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                (&b"HTTP/1.1 200 OK\r\n\r\n"[..]).read(piece)
            }
        }
        assert!(read_answer(&mut Interrupted(true), 0).is_ok());
    }

    #[test]
    fn percentiles_are_of_what_was_sorted() {
        let sorted: Vec<_> = (0..=100).map(Duration::from_micros).collect();
        assert_eq!(percentile(&sorted, 0.5).as_micros(), 50);
        assert_eq!(percentile(&sorted, 0.99).as_micros(), 99);
        assert_eq!(percentile(&sorted, 1.0).as_micros(), 100);
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
