//! `ringway doctor`: its flags, and what it asks of the host crate; and what it has in common with
//! `ringway tune`, which is below: what the operator says of the service, and how answers are told.

mod tune;

pub(crate) use tune::{TUNE_EXAMPLES, Tune, tune};

use crate::{cli, usage};
use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum, ValueHint};
use ringway_host::capture;
use ringway_host::cpulist::CpuList;
use ringway_host::facts::{AdminListener, Facts, Server};
use ringway_host::intent::{self, Intent};
use ringway_host::machine::Tree;
use ringway_host::report::{self, Style};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) const DOCTOR_EXAMPLES: &str = "\
Examples:
  ringway doctor
      A verdict first, then what is wrong, why, and what to do about it.
  ringway doctor --role proxy --link wan --connections 50000 --details
      With what only you know, and with everything that was looked at.
  ringway doctor --json | jq '.findings[] | select(.verdict == \"bad\")'
      For programs.
  ringway doctor --server unix:/run/ringway/admin.sock
      With the server that runs (started with --admin): whether it uses what the machine has.
  ringway doctor --capture machine.tar
      The facts without names and addresses, for a bug report. Unpacked elsewhere:
      ringway doctor --root DIR

Exit codes: 0 fine, 1 warnings, 2 failures, 3 too little is visible to tell.";

/// Exit code of `doctor` when it can't tell.
const CAN_NOT_TELL: u8 = 3;
/// Devices beyond these aren't listed to who named another: a host of containers has thousands.
const SHOWN_DEVICES: usize = 16;

/// What the operator says of the service.
#[derive(Debug, Args)]
struct Service {
    /// What the service is
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Where its clients are: near, or across the internet
    #[arg(long, value_enum)]
    link: Option<Link>,
    /// Requests a second that are expected
    #[arg(long, value_name = "PER_SECOND", value_parser = usage::count::<u64>)]
    rate: Option<u64>,
    /// Connections at the same time that are expected
    #[arg(long, value_name = "COUNT", value_parser = usage::count::<u64>)]
    connections: Option<u64>,
    /// What matters most
    #[arg(long, value_enum)]
    goal: Option<Goal>,
    /// The network device [default: the busiest physical one]
    #[arg(long, value_name = "NAME")]
    nic: Option<String>,
    /// Workers to place [default: one for each core near the device, or for each of --worker-cpus]
    #[arg(long, value_name = "COUNT", value_parser = usage::count::<usize>)]
    workers: Option<usize>,
    /// The CPUs that workers may have, such as 0-3,8 [default: all that may be used]
    #[arg(long, value_name = "LIST")]
    worker_cpus: Option<CpuList>,
    /// A tree of files to look at in place of this machine
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Server,
    Proxy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Link {
    Lan,
    Wan,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Goal {
    Latency,
    Throughput,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    service: Service,
    /// A running server to look at as well, by its admin listener: unix:PATH or ADDRESS:PORT
    #[arg(long, value_name = "LISTENER")]
    server: Option<AdminListener>,
    /// Print everything that was looked at, the decision tree and the checklist
    #[arg(long, conflicts_with = "json")]
    details: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the facts to a tar archive, without names and addresses, and print nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["details", "json", "server"])]
    #[arg(value_hint = ValueHint::FilePath)]
    capture: Option<PathBuf>,
}

impl Service {
    fn intent(&self, may_disrupt: bool) -> Intent {
        Intent {
            role: self.role.map(|role| match role {
                Role::Server => intent::Role::Server,
                Role::Proxy => intent::Role::Proxy,
            }),
            link: self.link.map(|link| match link {
                Link::Lan => intent::Link::Lan,
                Link::Wan => intent::Link::Wan,
            }),
            goal: self.goal.map(|goal| match goal {
                Goal::Latency => intent::Goal::Latency,
                Goal::Throughput => intent::Goal::Throughput,
            }),
            rate: self.rate,
            connections: self.connections,
            nic: self.nic.clone(),
            workers: self.workers,
            cpus: self.worker_cpus.clone(),
            may_disrupt,
        }
    }

    /// The same again, as words of a command line; a tree of files isn't of the service.
    fn words(&self) -> Vec<String> {
        let named = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        let given = [
            (
                "--role",
                named(self.role.and_then(|role| role.to_possible_value())),
            ),
            (
                "--link",
                named(self.link.and_then(|link| link.to_possible_value())),
            ),
            ("--rate", self.rate.map(|rate| rate.to_string())),
            (
                "--connections",
                self.connections.map(|count| count.to_string()),
            ),
            (
                "--goal",
                named(self.goal.and_then(|goal| goal.to_possible_value())),
            ),
            ("--nic", self.nic.clone()),
            ("--workers", self.workers.map(|count| count.to_string())),
            (
                "--worker-cpus",
                self.worker_cpus.as_ref().map(CpuList::to_string),
            ),
        ];
        let given = given
            .into_iter()
            .filter_map(|(flag, value)| Some((flag, value?)));
        given
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    fn machine(&self) -> Result<Tree> {
        match &self.root {
            None => Ok(Tree::live()),
            Some(root) => Tree::at(root).map_err(|error| anyhow!("{}: {error}", root.display())),
        }
    }

    /// The facts of `machine`, where the device that was named has to be among them.
    fn facts(&self, machine: &Tree) -> Result<Facts> {
        let facts = Facts::gather(machine);
        let Some(wanted) = &self.nic else {
            return Ok(facts);
        };
        if facts.nics.known().is_none() || facts.nic(Some(wanted)).is_some() {
            return Ok(facts);
        }
        let all = facts.known_nics();
        let names = all.iter().take(SHOWN_DEVICES).map(|nic| nic.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        match all.len().saturating_sub(SHOWN_DEVICES) {
            _ if all.is_empty() => bail!("--nic {wanted}: there is no network device here"),
            0 => bail!("--nic {wanted}: no such network device; there are: {names}"),
            more => {
                bail!("--nic {wanted}: no such network device; there are: {names}, {more} more")
            }
        }
    }
}

/// What is to be printed, and the exit code that tells the same to programs.
struct Told {
    text: String,
    code: u8,
}

/// Prints what is told, or why there is nothing to tell; then the exit code is `failed`. It is
/// `unprinted` when what would be a success can't be printed.
fn answer(told: Result<Told>, failed: u8, unprinted: u8) -> ExitCode {
    let (result, code) = match told {
        Err(error) => (Err(error), failed),
        Ok(told) => match say(&told.text) {
            Err(error) if told.code == 0 => (Err(error), unprinted),
            said => (said, told.code),
        },
    };
    if let Err(error) = result {
        cli::complain(&format!("{error:#}"));
    }
    ExitCode::from(code)
}

/// Prints. A reader that has gone (`| head`) had what it wanted, and that is no error.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow!("standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `ringway doctor`
pub(crate) fn doctor(flags: &Doctor) -> ExitCode {
    answer(examine(flags), CAN_NOT_TELL, CAN_NOT_TELL)
}

fn examine(flags: &Doctor) -> Result<Told> {
    let machine = flags.service.machine()?;
    if let Some(path) = &flags.capture {
        let explain = |error: io::Error| anyhow!("{}: {error}", path.display());
        let mut file = std::fs::File::create(path)
            .map(io::BufWriter::new)
            .map_err(explain)?;
        capture::capture(&machine, &mut file).map_err(explain)?;
        return Ok(Told {
            text: String::new(),
            code: 0,
        });
    }
    let mut facts = flags.service.facts(&machine)?;
    let server = flags.server.as_ref();
    facts.server = server.map(|listener| Server::ask(listener).into());
    let report = report::examine(facts, flags.service.intent(false));
    let style = Style {
        has_colors: has_colors(),
        has_details: flags.details,
    };
    let text = match flags.json {
        true => format!("{}\n", report.json()),
        false => report.text(style),
    };
    let code = report.exit_code();
    Ok(Told { text, code })
}

/// Colours on terminals that have them, unless <https://no-color.org> says otherwise.
fn has_colors() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !is_refused && !is_dumb
}
