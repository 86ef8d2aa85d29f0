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
use crate::process::{allowed_cpus, find, free_port};
use crate::rounds::Rounds;
use crate::skip::skip;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

/// Set for the run inside the network namespace.
pub(crate) const INSIDE: &str = "RINGWAY_BENCH_INSIDE";

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
    if options.emulated {
        Programs::build()?;
    } else if std::env::var_os(INSIDE).is_none() {
        Programs::build()?;
        enter_network_namespace()?;
    } else {
        choose_congestion_control();
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
    let mut programs = vec!["taskset", "setpriv"];
    if !options.idle {
        programs.push("wrk");
    }
    let absent = programs.into_iter().find(|program| find(program).is_none());
    if let Some(program) = absent {
        return Ok(Some(format!("{program} is not installed")));
    }
    if options.emulated {
        let programs: Vec<&str> = emulated::PROGRAMS.into();
        return Ok(guest::requirements(&programs)
            .err()
            .map(|reason| format!("{reason:#}")));
    }
    let cpus = allowed_cpus()?.len();
    Ok((cpus < 2).then(|| "server and load need a CPU each".to_owned()))
}

/// Leaves a host's BBR behind, which paces even on loopback and so measures its own timers.
///
/// A network namespace may only choose what the host's `tcp_allowed_congestion_control` lists.
pub(crate) fn choose_congestion_control() {
    let control = "/proc/sys/net/ipv4/tcp_congestion_control";
    let chosen = ["cubic", "reno"]
        .into_iter()
        .find(|name| std::fs::write(control, name).is_ok());
    match chosen {
        Some(name) => println!("a network namespace of its own, congestion control {name}"),
        None => println!("neither cubic nor reno may be chosen here: it is the host's"),
    }
}

/// Starts this program again in a network namespace of its own; without the right to, goes on.
pub(crate) fn enter_network_namespace() -> Result<()> {
    let tools = ["unshare", "ip"].iter().all(|tool| find(tool).is_some());
    if !rustix::process::geteuid().is_root() || !tools {
        println!("needs root, unshare and ip for a network of its own: measuring on the host's");
        return Ok(());
    }
    let allowed = Command::new("unshare").args(["--net", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("may not have a network of its own: measuring on the host's");
        return Ok(());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let error = Command::new("unshare")
        .args([
            "--net",
            "sh",
            "-c",
            "ip link set lo up && exec \"$@\"",
            "sh",
        ])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    bail!("cannot run unshare: {error}");
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
