//! `cargo xtask soak`: whether a server grows that has been busy for minutes.
//!
//! Two of them run: one has files, the other has the same ones and passes requests on to the first. A
//! crowd asks both for files and ranges, slowly and fast, leaves in the middle and comes again; what it
//! gets is compared with what is in the files. Between rounds it leaves, and both servers are looked at
//! at rest: by then each connection has to be closed. After a warm-up, descriptors, threads and memory
//! may not grow any more, and what they log is to tell of no fault.
//!
//! It doesn't say how fast anything is, nor what a server has while it is busy.

mod client;

use crate::build::release_program;
use crate::process::{Server, allowed_cpus, find, free_port};
use crate::skip::skip;
use anyhow::{Context, Result, bail, ensure};
use client::{Client, Site, Tally};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long the crowd comes for.
const ROUND: Duration = Duration::from_secs(10);
/// How long the servers may take to close what the crowd has left behind. Half-closed connections are
/// read for a while (`linger_timeout`), and those between the servers are kept until idle for a second.
const SETTLING: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Workers of each server, and so many listeners.
const WORKERS: usize = 2;

/// How many descriptors a server at rest may have more than after the warm-up: a pool happens to keep a
/// pipe, a cache a file.
const MORE_DESCRIPTORS: usize = 16;
/// How many threads more: those of pools end some time after they were needed.
const MORE_THREADS: usize = 4;
/// How much resident memory more: the allocator keeps some for later.
const MORE_MEMORY_BYTES: u64 = 8 << 20;

/// Load two servers with a mixed crowd for minutes, and fail when one grows, logs a fault or answers wrongly
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long, for each driver; the first quarter is the warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,

    /// How many clients at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    clients: u64,

    /// Which drivers
    #[arg(long, default_value = "uring,epoll", value_delimiter = ',', value_parser = ["uring", "epoll"])]
    io: Vec<String>,

    /// A program that was built before, instead of a release build
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Builds, and soaks each driver.
pub(crate) fn run(options: &Options) -> Result<()> {
    let needed = ["taskset", "setpriv"];
    if let Some(program) = needed.into_iter().find(|it| find(it).is_none()) {
        skip("soak", &format!("{program} is not installed"));
        return Ok(());
    }
    let program = match &options.program {
        Some(program) => std::fs::canonicalize(program).context("no such program")?,
        None => release_program()?,
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let site = Site::new();
    site.write(&scratch.path().join("site"))?;
    for io in &options.io {
        soak(options, &program, scratch.path(), &site, io).with_context(|| format!("on {io}"))?;
    }
    Ok(())
}

/// Both servers, and what they have logged.
struct Pair {
    servers: [Server; 2],
    logs: [PathBuf; 2],
    /// Where the crowd goes.
    port: u16,
}

impl Pair {
    fn start(program: &Path, scratch: &Path, io: &str) -> Result<Pair> {
        let [near, far] = [free_port()?, free_port()?];
        let start = |name: &str, port: u16, routes: &str| {
            let path = scratch.join(format!("{io}-{name}.toml"));
            let text = format!(
                "workers = {WORKERS}\nio = \"{io}\"\nlog.access = \"/dev/null\"\n\
                 listen.main.address = \"127.0.0.1:{port}\"\nlisten.main.files = \"site\"\n\
                 files.site.root = \"site\"\n{routes}"
            );
            std::fs::write(&path, text).context("cannot write a configuration")?;
            let arguments = ["run".into(), "--config".into(), path.into_os_string()];
            let mut command: Vec<OsString> = vec![program.into()];
            command.extend(arguments);
            let log = scratch.join(format!("{io}-{name}.log"));
            let server = Server::start_on(&command, port, &allowed_cpus()?, &log)?;
            Ok::<_, anyhow::Error>((server, log))
        };
        let (behind, behind_log) = start("far", far, "")?;
        let passes_on = format!(
            "[upstream.far]\nservers = \"127.0.0.1:{far}\"\nidle_timeout = \"1s\"\n\
             [[route]]\npath = \"/far/*\"\nproxy = \"far\"\nstrip_prefix = \"/far\"\n"
        );
        let (server, log) = start("near", near, &passes_on)?;
        Ok(Pair {
            servers: [server, behind],
            logs: [log, behind_log],
            port: near,
        })
    }

    /// What both have when nobody is connected any more.
    fn rest(&self) -> Result<[Rest; 2]> {
        let end = Instant::now() + SETTLING;
        let [near, far] = &self.servers;
        loop {
            let open = [near.sockets()?, far.sockets()?];
            if open == [WORKERS; 2] {
                return Ok([Rest::of(near)?, Rest::of(far)?]);
            }
            let [near, far] = open.map(|count| count.saturating_sub(WORKERS));
            ensure!(
                Instant::now() < end,
                "{near} connections of the nearer server and {far} of the farther are left open"
            );
            sleep(POLL_INTERVAL);
        }
    }

    /// Ends both in good order, after which their logs may tell of no fault.
    fn end(self) -> Result<()> {
        for server in self.servers {
            server.stop()?;
        }
        for log in &self.logs {
            let said = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
            ensure!(
                said.contains("ended"),
                "it didn't end in good order: {said}"
            );
            let is_fault = |line: &&str| {
                ["WARN", "ERROR", "panicked"]
                    .iter()
                    .any(|word| line.contains(word))
            };
            if let Some(line) = said.lines().find(is_fault) {
                bail!("a server has logged: {line}");
            }
        }
        Ok(())
    }
}

/// What a server has that nobody is connected to.
#[derive(Clone, Copy)]
struct Rest {
    descriptors: usize,
    threads: usize,
    /// Resident, in bytes.
    memory: u64,
}

impl Rest {
    fn of(server: &Server) -> Result<Rest> {
        Ok(Rest {
            descriptors: server.descriptors()?,
            threads: server.threads(),
            memory: server.resident_bytes()?,
        })
    }

    /// # Errors
    /// When it is more than `before`, by more than may be.
    fn expect_no_growth(&self, before: &Rest) -> Result<()> {
        let (now, had) = (self.descriptors, before.descriptors);
        ensure!(
            now <= had + MORE_DESCRIPTORS,
            "descriptors: {had}, and now {now}"
        );
        let (now, had) = (self.threads, before.threads);
        ensure!(now <= had + MORE_THREADS, "threads: {had}, and now {now}");
        let (now, had) = (self.memory, before.memory);
        ensure!(
            now <= had + MORE_MEMORY_BYTES,
            "bytes of memory: {had}, and now {now}"
        );
        Ok(())
    }
}

/// Rounds of load until the time is over.
fn soak(options: &Options, program: &Path, scratch: &Path, site: &Site, io: &str) -> Result<()> {
    let pair = Pair::start(program, scratch, io)?;
    let length = Duration::from_secs(60 * options.minutes);
    let began = Instant::now();
    let mut warm: Option<[Rest; 2]> = None;
    let mut total = Tally::default();
    println!(
        "{io}: {} clients for {} minutes",
        options.clients, options.minutes
    );
    println!(
        "{:>8} {:>10} {:>8} {:>16} {:>8} {:>16}",
        "seconds", "requests", "aborts", "descriptors", "threads", "resident KiB"
    );
    for number in 0.. {
        total += round(options.clients, pair.port, site, number)?;
        let rest = pair.rest()?;
        let seconds = began.elapsed().as_secs();
        println!(
            "{seconds:>8} {:>10} {:>8} {}",
            total.requests,
            total.aborts,
            line(&rest)
        );
        match &warm {
            None if began.elapsed() >= length / 4 => warm = Some(rest),
            None => {}
            Some(before) => {
                for (now, before) in rest.iter().zip(before) {
                    now.expect_no_growth(before)?;
                }
                if began.elapsed() >= length {
                    break;
                }
            }
        }
    }
    pair.end()?;
    println!("{io}: {total}, and nothing grew");
    Ok(())
}

/// Of the nearer server and of the farther.
fn line([near, far]: &[Rest; 2]) -> String {
    let mut line = String::new();
    let _ = write!(line, "{:>8}{:>8}", near.descriptors, far.descriptors);
    let _ = write!(line, "{:>6}{:>4}", near.threads, far.threads);
    let _ = write!(line, "{:>10}{:>8}", near.memory >> 10, far.memory >> 10);
    line
}

/// A crowd that comes, and leaves when the round is over.
fn round(clients: u64, port: u16, site: &Site, number: u64) -> Result<Tally> {
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let run = |client: u64| {
            let seed = number * clients + client + 1;
            let serve = move || Client::new(port, site, seed).run(is_over);
            scope.spawn(move || serve().with_context(|| format!("client of seed {seed}")))
        };
        let crowd: Vec<_> = (0..clients).map(run).collect();
        let end = Instant::now() + ROUND;
        while Instant::now() < end && !crowd.iter().any(|client| client.is_finished()) {
            sleep(POLL_INTERVAL);
        }
        is_over.store(true, Ordering::Relaxed);
        let mut total = Tally::default();
        for client in crowd {
            let Ok(served) = client.join() else {
                bail!("a client panicked")
            };
            total += served?;
        }
        Ok(total)
    })
}
