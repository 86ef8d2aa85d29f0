//! One of the crowd: connects, asks, compares, leaves, and comes again, as its seed has it.

use crate::slow_readers::thin_stream;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{AddAssign, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Sizes of the files: kept in memory by the server, sent from disk, and larger than what sockets hold.
const SIZES: [usize; 7] = [0, 1, 1 << 10, 40_000, 100 << 10, 1 << 20, 6 << 20];
/// An answer, or a part of one, that takes longer is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the kernel of one that reads slowly may hold for it, in bytes.
const THIN_BYTES: usize = 16 << 10;
/// How long such a one pauses between two reads, and after how many bytes it has enough.
const PAUSE: Duration = Duration::from_millis(10);
const SLOW_BYTES: usize = 20 * THIN_BYTES;

/// The files, and what is in them.
pub(super) struct Site {
    files: Vec<Vec<u8>>,
}

impl Site {
    pub(super) fn new() -> Site {
        let content = |bytes: &usize| {
            let mut chance = Chance::new(*bytes as u64 + 1);
            (0..*bytes).map(|_| chance.below(256) as u8).collect()
        };
        Site {
            files: SIZES.iter().map(content).collect(),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir(folder).context("cannot make a folder")?;
        for (number, content) in self.files.iter().enumerate() {
            std::fs::write(folder.join(format!("{number}.bin")), content)
                .context("cannot write a file")?;
        }
        Ok(())
    }
}

/// What was done.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    /// Requests whose answer wasn't waited for, or not to its end.
    pub(super) aborts: u64,
    /// Bytes of bodies that were compared.
    bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.requests += other.requests;
        self.aborts += other.aborts;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, aborts, mib) = (self.requests, self.aborts, self.bytes >> 20);
        write!(
            out,
            "{requests} requests, {aborts} of them given up, {mib} MiB as they are in the files"
        )
    }
}

pub(super) struct Client<'s> {
    port: u16,
    site: &'s Site,
    chance: Chance,
    tally: Tally,
}

/// One request, and what its answer has to be.
struct Question<'s> {
    head: String,
    status: u16,
    body: &'s [u8],
}

/// What is read of an answer.
enum Manner {
    Whole,
    /// With pauses, and not to the end of what is long.
    Slowly,
    /// So much of its body, after which the client leaves.
    Part(usize),
}

impl<'s> Client<'s> {
    pub(super) fn new(port: u16, site: &'s Site, seed: u64) -> Client<'s> {
        Client {
            port,
            site,
            chance: Chance::new(seed),
            tally: Tally::default(),
        }
    }

    /// One connection after the other, until it is over.
    pub(super) fn run(mut self, is_over: &AtomicBool) -> Result<Tally> {
        while !is_over.load(Ordering::Relaxed) {
            self.visit(is_over)?;
        }
        Ok(self.tally)
    }

    /// A connection with a few requests.
    fn visit(&mut self, is_over: &AtomicBool) -> Result<()> {
        let is_slow = self.chance.below(16) == 0;
        let stream = match is_slow {
            true => thin_stream(self.port, THIN_BYTES),
            false => TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map_err(Into::into),
        };
        let mut connection = Connection {
            stream: stream.context("no connection")?,
            bytes: Vec::new(),
        };
        connection.stream.set_read_timeout(Some(PATIENCE))?;
        connection.stream.set_write_timeout(Some(PATIENCE))?;
        if self.chance.below(16) == 0 {
            // It has only come to look, or doesn't get far.
            if self.chance.below(2) == 0 {
                connection.stream.write_all(b"GET /1.bin HTTP/1.1\r\nHo")?;
            }
            return Ok(());
        }
        let count = 1 + self.chance.below(30);
        for number in 1..=count {
            let is_last = number == count || is_over.load(Ordering::Relaxed);
            let question = self.question(is_last);
            let asked = question.head.lines().next().unwrap_or_default().to_owned();
            let asking = self.ask(&mut connection, &question, is_slow);
            if !asking.context(asked)? {
                return Ok(());
            }
            if is_last {
                return connection.expect_end();
            }
        }
        Ok(())
    }

    /// Some file or a range of one, of the server itself or of the one behind it.
    fn question(&mut self, is_last: bool) -> Question<'s> {
        let number = self.chance.below(SIZES.len() as u64) as usize;
        let file = &*self.site.files[number];
        let range = match self.chance.below(3) {
            0 => self.range(file.len()),
            _ => None,
        };
        let far = if self.chance.below(2) == 0 {
            "/far"
        } else {
            ""
        };
        let mut head = format!("GET {far}/{number}.bin HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(range) = &range {
            head += &format!("Range: bytes={}-{}\r\n", range.start, range.end - 1);
        }
        if is_last {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        match range {
            None => Question {
                head,
                status: 200,
                body: file,
            },
            Some(range) => Question {
                head,
                status: 206,
                body: &file[range],
            },
        }
    }

    /// `None` of nothing.
    fn range(&mut self, length: usize) -> Option<Range<usize>> {
        let mut at = || self.chance.below(length as u64) as usize;
        (length > 0).then(|| {
            let (one, other) = (at(), at());
            one.min(other)..one.max(other) + 1
        })
    }

    /// Asks, and reads in some manner; whether the connection can go on.
    fn ask(
        &mut self,
        connection: &mut Connection,
        question: &Question<'_>,
        is_slow: bool,
    ) -> Result<bool> {
        let body = question.body;
        let manner = match self.chance.below(40) {
            0 => Manner::Part(self.chance.below(body.len() as u64 + 1) as usize),
            _ if is_slow => Manner::Slowly,
            _ => Manner::Whole,
        };
        connection.stream.write_all(question.head.as_bytes())?;
        self.tally.requests += 1;
        if matches!(manner, Manner::Part(0)) {
            self.tally.aborts += 1;
            return Ok(false);
        }
        let length = connection.head(question.status)?;
        ensure!(length == body.len(), "{length} bytes, not {}", body.len());
        let read = match manner {
            Manner::Part(bytes) => &body[..bytes],
            Manner::Slowly => &body[..body.len().min(SLOW_BYTES)],
            Manner::Whole => body,
        };
        if matches!(manner, Manner::Slowly) {
            for piece in read.chunks(THIN_BYTES) {
                sleep(PAUSE);
                connection.expect(piece)?;
            }
        } else {
            connection.expect(read)?;
        }
        self.tally.bytes += read.len() as u64;
        let goes_on = read.len() == body.len();
        self.tally.aborts += u64::from(!goes_on);
        Ok(goes_on)
    }
}

/// A connection, with what was received and not looked at.
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    /// Reads a head of this status; how long its body is.
    fn head(&mut self, status: u16) -> Result<usize> {
        let end = loop {
            if let Some(at) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.receive()? > 0, "it ended before a head");
        };
        let rest = self.bytes.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.bytes, rest))?;
        ensure!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "answered: {head}"
        );
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = length.with_context(|| format!("no length: {head}"))?;
        length.parse().with_context(|| format!("no length: {head}"))
    }

    fn receive(&mut self) -> Result<usize> {
        let mut piece = [0; 64 << 10];
        let count = self.stream.read(&mut piece).context("nothing more comes")?;
        self.bytes.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// Reads what has to be this.
    fn expect(&mut self, mut content: &[u8]) -> Result<()> {
        loop {
            let count = self.bytes.len().min(content.len());
            ensure!(self.bytes[..count] == content[..count], "the body differs");
            self.bytes.drain(..count);
            content = &content[count..];
            if content.is_empty() {
                return Ok(());
            }
            ensure!(
                self.receive()? > 0,
                "cut with {} bytes to come",
                content.len()
            );
        }
    }

    fn expect_end(&mut self) -> Result<()> {
        ensure!(
            self.bytes.is_empty() && self.receive()? == 0,
            "more than was asked for"
        );
        Ok(())
    }
}

/// Numbers from a seed that isn't 0 (xorshift; Marsaglia, 2003).
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Chance {
        // Spread, or the first numbers of seeds close by would be alike.
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % limit
    }
}
