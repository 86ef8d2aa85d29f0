//! `cargo xtask bench-proxy`: what passing a request on costs, beside relays, nginx and HAProxy.
//!
//! In the manner of `bench-serve`: contestants run in turns on one CPU, the load and the server that
//! they ask on the other, in a network namespace where that is allowed. Each comparison takes less than
//! three minutes with the options it has by default; a part with large bodies makes two, from few
//! clients and from many.

mod latency;
mod reuse;
mod server;
mod tunnels;

use crate::build::Programs;
use crate::contestants::proxies::{self, Course};
use crate::contestants::{BODIES, Body, Contestant};
use crate::own_network;
use crate::process::{Server, allowed_cpus, free_port};
use crate::rounds::Rounds;
use crate::skip::skip;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Compare `ringway proxy` with relays, nginx and HAProxy
///
/// By CPU time for each request (1k, 100k, 10m, upload), by how often connections to the server are used
/// again (reuse), by the memory of an idle tunnel (tunnels), and by latency at a fixed rate (latency).
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What is measured; everything when nothing is named
    #[arg(value_name = "PART", value_enum)]
    parts: Vec<Part>,

    /// Two short rounds: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,

    /// Rounds over all contestants
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,

    /// Measured seconds of each run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// Clients; where bodies are large, once from 8 first
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// Instead: be the server that takes bodies and counts, on this port
    #[arg(long, hide = true, value_name = "PORT")]
    serve: Option<u16>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    /// CPU time to pass on an answer of 1 KiB
    #[value(name = "1k")]
    Small,
    /// CPU time to pass on an answer of 100 KiB
    #[value(name = "100k")]
    Medium,
    /// CPU time to pass on an answer of 10 MiB
    #[value(name = "10m")]
    Large,
    /// CPU time to pass on a request of 1 MiB
    Upload,
    /// How many requests find a connection that is open already
    Reuse,
    /// User memory of an idle tunnel
    Tunnels,
    /// Latency at half of the rate that the slowest can do
    Latency,
}

const PARTS: [Part; 7] = [
    Part::Small,
    Part::Medium,
    Part::Large,
    Part::Upload,
    Part::Reuse,
    Part::Tunnels,
    Part::Latency,
];

/// Clients where bodies are large, besides as many as where they are small: what is scarce, such as
/// pipes and buffers, these few never use up.
const FEW_CONNECTIONS: u32 = 8;

/// Builds, enters the namespace and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(port) = options.serve {
        return server::run(port);
    }
    if let Some(reason) = own_network::obstacle(&["taskset", "setpriv", "wrk"])? {
        skip("bench-proxy", &reason);
        println!("1 skipped");
        return Ok(());
    }
    Programs::build()?;
    own_network::enter();
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let cpus = allowed_cpus()?;
    let setting = Setting {
        options,
        programs: Programs::built()?,
        scratch: scratch.path(),
        proxy_cpu: *cpus.first().context("no CPU")?,
        load_cpu: *cpus.last().context("no CPU")?,
    };
    for part in PARTS {
        if options.parts.is_empty() || options.parts.contains(&part) {
            setting.measure(part).with_context(|| format!("{part:?}"))?;
        }
    }
    Ok(())
}

/// What all measurements of one call share.
struct Setting<'a> {
    options: &'a Options,
    programs: Programs,
    /// A folder for everything that is written.
    scratch: &'a Path,
    proxy_cpu: usize,
    /// Of the load, and of the server that is asked.
    load_cpu: usize,
}

impl Setting<'_> {
    fn measure(&self, part: Part) -> Result<()> {
        match part {
            Part::Small => self.compare_downloads(BODIES[0], &["uring", "epoll"]),
            Part::Medium => self.compare_downloads(BODIES[1], &["splice"]),
            Part::Large => self.compare_downloads(BODIES[3], &["splice"]),
            Part::Upload => self.compare_uploads(),
            Part::Reuse => reuse::run(self),
            Part::Tunnels => tunnels::run(self),
            Part::Latency => latency::run(self),
        }
    }

    /// Everyone against the first of the relays.
    fn compare_downloads(&self, body: Body, relays: &[&str]) -> Result<()> {
        let upstream = self.start_downloads(body)?;
        let mut contestants = Vec::new();
        for kind in relays {
            let course = self.course(&upstream, body.file)?;
            contestants.push(proxies::relay(&self.programs, kind, course));
        }
        contestants.extend(self.proxies(&upstream, body.file)?);
        let title = format!("{} passed on", body.name);
        let is_small = body.bytes <= 1024;
        for connections in self.client_counts(is_small) {
            let rounds = self.rounds(connections, Vec::new());
            rounds.compare(&title, &contestants)?;
        }
        upstream.server.stop()
    }

    /// Requests with a body, against nginx: no relay knows where such a request ends.
    fn compare_uploads(&self) -> Result<()> {
        const BODY_BYTES: usize = 1 << 20;
        let script = self.scratch.join("upload.lua");
        let text = format!(
            "wrk.method = \"POST\"\nwrk.body = string.rep(\".\", {BODY_BYTES})\n\
             wrk.headers[\"Content-Type\"] = \"application/octet-stream\"\n"
        );
        std::fs::write(&script, text).context("cannot write wrk's script")?;
        let upstream = self.start_counting()?;
        let mut contestants = self.proxies(&upstream, "upload")?;
        // The first is what the others are compared with.
        contestants.sort_by_key(|one| one.name != "nginx-proxy");
        let arguments = vec!["--script".into(), script.into()];
        for connections in self.client_counts(false) {
            let rounds = self.rounds(connections, arguments.clone());
            rounds.compare("a request of 1m passed on", &contestants)?;
        }
        upstream.server.stop()
    }

    /// From how many clients bodies are asked for, each in a comparison of its own.
    fn client_counts(&self, is_small: bool) -> Vec<u32> {
        let many = self.options.connections;
        match is_small || many <= FEW_CONNECTIONS {
            true => vec![many],
            false => vec![FEW_CONNECTIONS, many],
        }
    }

    fn rounds(&self, connections: u32, load_arguments: Vec<OsString>) -> Rounds {
        let (pairs, seconds) = match self.options.quick {
            true => (2, 1),
            false => (self.options.pairs, self.options.seconds),
        };
        Rounds {
            pairs,
            measured: Duration::from_secs(seconds.into()),
            connections,
            server_cpu: self.proxy_cpu,
            load_cpu: self.load_cpu,
            load_arguments,
            log: self.scratch.join("proxy.log"),
        }
    }

    /// The program on both drivers, nginx and HAProxy; what is not there is skipped.
    fn proxies(&self, upstream: &Upstream, path: &str) -> Result<Vec<Contestant>> {
        let mut found = Vec::new();
        let mut add = |name: &str, one: Option<Contestant>| match one {
            Some(one) => found.push(one),
            None => skip(&format!("bench-proxy {name}"), "it is not installed"),
        };
        for driver in ["uring", "epoll"] {
            let course = self.course(upstream, path)?;
            let one = proxies::ringway(&self.programs, driver, course);
            add(&format!("ringway-{driver}"), one);
        }
        let course = self.course(upstream, path)?;
        add("nginx", proxies::nginx(self.scratch, course)?);
        let course = self.course(upstream, path)?;
        add("haproxy", proxies::haproxy(self.scratch, course)?);
        Ok(found)
    }

    fn course<'p>(&self, upstream: &Upstream, path: &'p str) -> Result<Course<'p>> {
        Ok(Course {
            port: free_port()?,
            upstream_port: upstream.port,
            path,
            connections: self.options.connections as usize,
        })
    }

    /// A server of one body: the yardstick that serves that best.
    fn start_downloads(&self, body: Body) -> Result<Upstream> {
        let port = free_port()?;
        let (name, argument) = match body.bytes {
            0..=1024 => ("yardstick_epoll", body.bytes.to_string().into()),
            _ => ("yardstick_sendfile", body.write(self.scratch)?.into()),
        };
        let program = self.programs.yardstick(name);
        self.start(&[program.into(), port.to_string().into(), argument], port)
    }

    /// The server that takes bodies and counts.
    fn start_counting(&self) -> Result<Upstream> {
        let port = free_port()?;
        let this = std::env::current_exe().context("cannot find this program")?;
        let words = ["bench-proxy", "--serve", &port.to_string()].map(OsString::from);
        self.start(&[&[this.into()], &words[..]].concat(), port)
    }

    fn start(&self, command: &[OsString], port: u16) -> Result<Upstream> {
        let log = self.scratch.join("upstream.log");
        let server = Server::start(command, port, self.load_cpu, &log)?;
        Ok(Upstream { server, port })
    }
}

/// The server that the proxies ask.
struct Upstream {
    server: Server,
    port: u16,
}
