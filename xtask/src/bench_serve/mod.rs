//! `cargo xtask bench-serve`: server CPU for a request, against the least it can cost.
//!
//! Contestants run in turns, forwards and backwards, and each is compared with the yardstick of
//! its own round: what disturbs a machine for minutes disturbs both. Run as root it measures in a
//! network namespace of its own, so that neither the host's settings nor its traffic count.

mod emulated;
pub(crate) mod idle;

use crate::build::Programs;
use crate::contestants::{BODIES, Body, Contestant, nginx, ringway};
use crate::guest;
use crate::own_network;
use crate::process::{allowed_cpus, free_port};
use crate::rounds::Rounds;
use crate::skip::skip;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A million connections take longer to open than one may be idle otherwise. nginx has it, too.
const IDLE_TIMEOUT: &str = "1h";

/// Compare `ringway serve` with the yardsticks and nginx by CPU time for each request
///
/// Prints, for each size of file, the median, least and greatest ratio of its rounds, and the ratio
/// of the best runs, which is the steadier one: noise only ever adds.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Two short rounds: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,

    /// Rounds over all contestants
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,

    /// Measured seconds of each run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// Connections that wrk keeps open
    #[arg(long, default_value_t = 64)]
    connections: u32,

    /// The file's size
    #[arg(long, default_value = "all", value_parser = ["1k", "100k", "1m", "10m", "all"])]
    body: String,

    /// Instead: memory for each idle connection
    #[arg(long)]
    idle: bool,

    /// With --idle: how many connections; as many as the descriptor limit allows at most. Unless
    /// given, 20,000, or 100,000 with --emulated. A million take 15 GiB there, and half an hour for each
    /// server
    #[arg(long, value_parser = clap::value_parser!(u32).range(2_000..=1_000_000))]
    idle_connections: Option<u32>,

    /// With --idle: of these servers alone: ringway-uring, ringway-epoll, nginx
    #[arg(long = "of", requires = "idle", value_name = "SERVER",
        value_parser = ["ringway-uring", "ringway-epoll", "nginx"])]
    servers: Vec<String>,

    /// With --idle: how many of them come from one address
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    per_address: u32,

    /// With --idle: in an emulated machine, where no descriptor limit of this one counts; slow
    #[arg(long, requires = "idle")]
    emulated: bool,

    /// With --idle: measure the servers of this list; what the emulated machine is asked to do
    #[arg(long, requires = "idle", hide = true, value_name = "FILE")]
    list: Option<PathBuf>,

    /// One more argument for `ringway serve`, such as a limit to raise; can be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_argument: Vec<String>,
}

/// Builds, enters the namespace and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(list) = &options.list {
        return idle::run_listed(options, list);
    }
    if let Some(reason) = missing(options)? {
        skip("bench-serve", &reason);
        println!("1 skipped");
        return Ok(());
    }
    Programs::build()?;
    if !options.emulated {
        own_network::enter();
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let site = scratch.path().join("site");
    std::fs::create_dir(&site).context("cannot make a folder")?;
    let programs = Programs::built()?;
    let setting = Setting {
        options,
        programs,
        scratch: scratch.path(),
        site: &site,
    };
    if options.emulated {
        return emulated::run(&setting);
    }
    if options.idle {
        return idle::run(&setting);
    }
    for body in BODIES {
        if options.body == "all" || options.body == body.name {
            setting.compare(body)?;
        }
    }
    Ok(())
}

/// Why this cannot run here.
fn missing(options: &Options) -> Result<Option<String>> {
    if options.emulated {
        let reason = guest::requirements(&emulated::PROGRAMS).err();
        return Ok(reason.map(|reason| format!("{reason:#}")));
    }
    let mut programs = vec!["taskset", "setpriv"];
    if !options.idle {
        programs.push("wrk");
    }
    own_network::obstacle(&programs)
}

/// What all measurements of one call share.
struct Setting<'a> {
    options: &'a Options,
    programs: Programs,
    /// A folder for everything that is written.
    scratch: &'a Path,
    /// The folder that is served.
    site: &'a Path,
}

impl Setting<'_> {
    fn compare(&self, body: Body) -> Result<()> {
        let file = body.write(self.site)?;
        let mut contestants = vec![self.yardstick(body, &file)?];
        contestants.extend(self.servers(body, self.options.connections as usize)?);
        let (pairs, seconds) = match self.options.quick {
            true => (2, 1),
            false => (self.options.pairs, self.options.seconds),
        };
        let cpus = allowed_cpus()?;
        let (first, last) = (cpus.first(), cpus.last());
        let rounds = Rounds {
            pairs,
            measured: Duration::from_secs(seconds.into()),
            connections: self.options.connections,
            server_cpu: *first.context("no CPU")?,
            load_cpu: *last.context("no CPU")?,
            load_arguments: Vec::new(),
            log: self.scratch.join("server.log"),
        };
        rounds.compare(body.name, &contestants)
    }

    /// The least that this body costs: one send from memory, or `sendfile` where that is cheaper.
    fn yardstick(&self, body: Body, file: &Path) -> Result<Contestant> {
        let port = free_port()?;
        let (name, argument): (_, OsString) = match body.name {
            "1m" | "10m" => ("sendfile", file.into()),
            _ => ("uring", body.bytes.to_string().into()),
        };
        let program = self.programs.yardstick(&format!("yardstick_{name}"));
        let one = Contestant::new(&format!("yardstick-{name}"), &program, port, body.file);
        Ok(one.argument(port.to_string()).argument(argument))
    }

    /// The program on both drivers, and nginx; what is not there is skipped.
    fn servers(&self, body: Body, connections: usize) -> Result<Vec<Contestant>> {
        let mut servers = Vec::new();
        for driver in ["uring", "epoll"] {
            let port = free_port()?;
            match ringway(&self.programs, driver, self.site, port, body.file) {
                Some(one) => {
                    // Without a number it keeps a descriptor free for a file of each connection.
                    let bound = (connections + 256).to_string();
                    let one = one.argument("--connections").argument(bound);
                    let one = one.argument("--idle-timeout").argument(IDLE_TIMEOUT);
                    let more = self.options.serve_argument.iter();
                    servers.push(more.fold(one, |one, argument| one.argument(argument)));
                }
                None => skip(
                    &format!("bench-serve ringway-{driver}"),
                    "it cannot serve yet",
                ),
            }
        }
        let nginx = nginx(
            self.scratch,
            self.site,
            free_port()?,
            body.file,
            connections,
        )?;
        match nginx {
            Some(one) => servers.push(one),
            None => skip("bench-serve nginx", "nginx is not installed"),
        }
        let wanted = &self.options.servers;
        servers.retain(|one| wanted.is_empty() || wanted.contains(&one.name));
        Ok(servers)
    }
}
