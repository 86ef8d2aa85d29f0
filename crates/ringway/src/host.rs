//! `ringway doctor` and `ringway tune`: their flags, and what they ask of the host crate.

use crate::{cli, usage};
use anyhow::{Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum, ValueHint};
use ringway_host::apply::{self, Applied, Outcome, Summary};
use ringway_host::capture;
use ringway_host::cpulist::CpuList;
use ringway_host::facts::{AdminListener, Facts, Server};
use ringway_host::intent::{self, Intent};
use ringway_host::journal::{Folder, JOURNAL_FOLDER};
use ringway_host::machine::{Target, Tree};
use ringway_host::persist;
use ringway_host::plan::{self, Action, Plan, shell};
use ringway_host::report::{self, Style};
use ringway_host::undo::{self, Reverted, State, Undone, Verified};
use ringway_server::config::duration;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

pub(crate) const TUNE_EXAMPLES: &str = "\
Examples:
  ringway tune
      What would be changed, and why. Nothing is.
  ringway tune --shell > tune.sh
      The same as commands to read and paste, with those that undo it.
  sudo ringway tune --apply
      Do it. What was there before is on disk before anything is changed.
  sudo ringway tune --apply --allow-disruption --confirm-within 60s
      Also what may cut the link for a moment; undone unless `ringway tune --confirm` follows in time.
  ringway tune --verify
      Whether it still holds; where irqbalance runs, again after its next round.
  sudo ringway tune --revert
      Put everything back, but for what somebody else changed since.
  sudo ringway tune --persist --role proxy --link wan
      Do the same at each start: a unit of systemd, and a file in /etc/sysctl.d.
  sudo ringway tune --unpersist
      Remove these two.

Exit codes: 0 done, 1 something failed or no longer holds, 4 refused: nothing was changed.";

/// Exit code of `doctor` when it can't tell.
const CAN_NOT_TELL: u8 = 3;
/// Exit code of `tune` when it changes nothing.
const REFUSED: u8 = 4;
/// How often a guard looks whether another `tune` is done.
const GUARD_INTERVAL: Duration = Duration::from_millis(500);
/// Values are cut to this many characters in lists.
const SHOWN_CHARACTERS: usize = 48;

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

/// Flags of `tune`.
#[derive(Debug, Args)]
pub(crate) struct Tune {
    #[command(flatten)]
    service: Service,
    /// Do what the plan says
    #[arg(long, group = "what")]
    apply: bool,
    /// Say whether what was done still holds
    #[arg(long, group = "what")]
    verify: bool,
    /// Undo what was done: all of it, or one journal's
    #[arg(long, group = "what", value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    revert: Option<String>,
    /// List the journals
    #[arg(long, group = "what")]
    list: bool,
    /// Print the plan as a shell script that does it and undoes it
    #[arg(long, group = "what")]
    shell: bool,
    /// Keep what was done with --confirm-within
    #[arg(long, group = "what")]
    confirm: bool,
    /// Do what the plan says at each start of the machine
    #[arg(long, group = "what")]
    persist: bool,
    /// No longer do anything at the start of the machine
    #[arg(long, group = "what")]
    unpersist: bool,
    /// Undo what nobody confirms within this time
    #[arg(long, group = "what", value_name = "DURATION", value_parser = duration, hide = true)]
    guard: Option<Duration>,
    /// Leave alone what was done before this, in seconds since 1970
    #[arg(long, value_name = "SECONDS", requires = "guard", hide = true)]
    since: Option<u64>,
    /// Also do what may cut the link for a moment
    #[arg(long)]
    allow_disruption: bool,
    /// Undo everything unless --confirm follows within this time
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "apply")]
    confirm_within: Option<Duration>,
    /// Put back even what somebody else changed since
    #[arg(long, requires = "what")]
    #[arg(conflicts_with_all = ["apply", "verify", "list", "shell", "confirm", "persist"])]
    force: bool,
    /// Where the journals are [default: /var/lib/ringway/tune]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    journals: Option<PathBuf>,
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
        let names = facts.known_nics().iter().map(|nic| nic.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        match names.is_empty() {
            true => bail!("--nic {wanted}: there is no network device here"),
            false => bail!("--nic {wanted}: no such network device; there are: {names}"),
        }
    }
}

/// `ringway doctor`
pub(crate) fn doctor(flags: &Doctor) -> ExitCode {
    examine(flags).unwrap_or_else(|error| failure(&error, CAN_NOT_TELL))
}

/// Says what failed; a reader that has gone had what it wanted.
fn failure(error: &anyhow::Error, code: u8) -> ExitCode {
    if cli::answer_failure(error) == ExitCode::SUCCESS {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(code)
}

fn examine(flags: &Doctor) -> Result<ExitCode> {
    let machine = flags.service.machine()?;
    if let Some(path) = &flags.capture {
        let explain = |error: io::Error| anyhow!("{}: {error}", path.display());
        let mut file = std::fs::File::create(path)
            .map(io::BufWriter::new)
            .map_err(explain)?;
        capture::capture(&machine, &mut file).map_err(explain)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut facts = flags.service.facts(&machine)?;
    let server = flags.server.as_ref();
    facts.server = server.map(|listener| Server::ask(listener).into());
    let report = report::examine(facts, flags.service.intent(false));
    let mut out = io::stdout().lock();
    if flags.json {
        writeln!(out, "{}", report.json())?;
    } else {
        let style = Style {
            has_colors: has_colors(),
            has_details: flags.details,
        };
        write!(out, "{}", report.text(style))?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Colours on terminals, unless <https://no-color.org> says otherwise.
fn has_colors() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !is_refused
}

/// `ringway tune`
pub(crate) fn tune(flags: &Tune) -> ExitCode {
    change(flags).unwrap_or_else(|error| failure(&error, REFUSED))
}

fn change(flags: &Tune) -> Result<ExitCode> {
    let machine = flags.service.machine()?;
    let intent = flags.service.intent(flags.allow_disruption);
    if flags.apply || flags.persist {
        flags.service.facts(&machine)?;
    }
    if flags.apply {
        apply_plan(flags, &machine, &intent)
    } else if flags.verify {
        verify(flags, &machine)
    } else if let Some(id) = &flags.revert {
        revert(
            flags,
            &machine,
            Some(id.as_str()).filter(|id| !id.is_empty()),
        )
    } else if flags.list {
        list(flags)
    } else if flags.persist {
        persist(flags, &machine, &intent)
    } else if flags.unpersist {
        let reverted = persist::forget(&machine, &folder(flags)?, flags.force);
        print_reverted(&reverted.map_err(|why| anyhow!(why))?)
    } else if flags.confirm {
        let count = undo::confirm(&folder(flags)?).map_err(|why| anyhow!(why))?;
        // Whoever comes too late must not believe that it is kept.
        ensure!(
            count > 0,
            "nothing waits to be kept: it is kept already, or was undone (ringway tune --list tells)"
        );
        writeln!(io::stdout(), "kept: {count}")?;
        Ok(ExitCode::SUCCESS)
    } else if let Some(wait) = flags.guard {
        guard(flags, &machine, wait)
    } else {
        let plan = plan::plan(&flags.service.facts(&machine)?, &intent);
        let mut out = io::stdout().lock();
        if flags.shell {
            write!(out, "{}", shell::script(&plan, &machine))?;
        } else {
            print_plan(&mut out, &plan)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn folder(flags: &Tune) -> Result<Folder> {
    Folder::open(&folder_path(flags)).map_err(|why| anyhow!(why))
}

/// The folder for whoever only looks: nothing when there is none, and none is made.
fn existing_folder(flags: &Tune) -> Result<Option<Folder>> {
    match folder_path(flags).try_exists() {
        Ok(false) => Ok(None),
        // Opening it says what is wrong.
        Ok(true) | Err(_) => folder(flags).map(Some),
    }
}

fn folder_path(flags: &Tune) -> PathBuf {
    let root = flags.service.root.as_deref().unwrap_or("/".as_ref());
    let journals = flags.journals.clone();
    journals.unwrap_or_else(|| root.join(JOURNAL_FOLDER))
}

fn print_plan(out: &mut impl io::Write, plan: &Plan) -> Result<()> {
    match plan.placement.known() {
        Some(placement) => writeln!(out, "placement: {placement}")?,
        None => writeln!(out, "placement: none")?,
    }
    for action in &plan.actions {
        writeln!(out, "{}", describe(action))?;
        writeln!(out, "    {}: {}", action.check, action.why)?;
    }
    for note in &plan.notes {
        writeln!(out, "note: {note}")?;
    }
    match plan.actions.len() {
        0 => writeln!(out, "nothing to change")?,
        1 => writeln!(
            out,
            "1 change; --apply makes it, --shell prints it as commands"
        )?,
        count => writeln!(
            out,
            "{count} changes; --apply makes them, --shell prints commands"
        )?,
    }
    Ok(())
}

fn describe(action: &Action) -> String {
    let disruptive = if action.is_disruptive {
        " (may cut the link for a moment)"
    } else {
        ""
    };
    let (now, new) = (shown(&action.now), shown(&action.new));
    format!("{}: {now} -> {new}{disruptive}", action.target)
}

/// A value on one line, and not more of it than can be read.
fn shown(value: &str) -> String {
    let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
    match value.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None if value.is_empty() => "nothing".to_owned(),
        None => value,
    }
}

fn apply_plan(flags: &Tune, machine: &Tree, intent: &Intent) -> Result<ExitCode> {
    let folder = folder(flags)?;
    if let Some(wait) = flags.confirm_within {
        start_guard(flags, wait)?;
    }
    let summary = apply::apply(machine, intent, &folder).map_err(|why| anyhow!(why))?;
    let code = print_summary(&summary)?;
    if let Some(wait) = flags.confirm_within {
        writeln!(
            io::stdout(),
            "undone in {wait:?} unless: ringway tune --confirm"
        )?;
    }
    Ok(code)
}

fn print_summary(summary: &Summary) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    for Applied { action, outcome } in &summary.applied {
        let word = match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Already => "already so".to_owned(),
            Outcome::Unchangeable(why) => format!("unchangeable: {why}"),
            Outcome::Failed(why) => format!("FAILED: {why}"),
        };
        writeln!(out, "{}: {word}", describe(action))?;
    }
    for note in &summary.notes {
        writeln!(out, "note: {note}")?;
    }
    match &summary.journal {
        Some(id) => writeln!(out, "journal {id}; ringway tune --revert undoes it")?,
        None => writeln!(out, "nothing to change")?,
    }
    Ok(if summary.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Starts the process that undoes what nobody confirms. Before anything is changed, and in a
/// process group of its own: it has to outlive the terminal whose link may be cut.
fn start_guard(flags: &Tune, wait: Duration) -> Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut guard = Command::new(std::env::current_exe()?);
    guard.args(["tune", "--guard", &format!("{}ms", wait.as_millis())]);
    guard.args(["--since", &since.to_string()]);
    if let Some(root) = &flags.service.root {
        guard.arg("--root").arg(root);
    }
    if let Some(journals) = &flags.journals {
        guard.arg("--journals").arg(journals);
    }
    guard
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    guard.process_group(0).spawn()?;
    Ok(())
}

fn guard(flags: &Tune, machine: &Tree, wait: Duration) -> Result<ExitCode> {
    let since = flags.since.unwrap_or(0);
    std::thread::sleep(wait);
    loop {
        // Whoever holds the folder is confirming, or changing still.
        match folder(flags) {
            Err(_) => std::thread::sleep(GUARD_INTERVAL),
            Ok(folder) => {
                let reverted = undo::revert_unconfirmed(machine, &folder, since);
                reverted.map_err(|why| anyhow!(why))?;
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// Makes what does the same at each start of the machine: this program, with these flags.
fn persist(flags: &Tune, machine: &Tree, intent: &Intent) -> Result<ExitCode> {
    let program = std::env::current_exe()?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(["tune", "--apply"].map(str::to_owned));
    command.extend(flags.service.words());
    if flags.allow_disruption {
        command.push("--allow-disruption".to_owned());
    }
    let summary = persist::persist(machine, intent, &command, &folder(flags)?);
    print_summary(&summary.map_err(|why| anyhow!(why))?)
}

/// Looks at once, and again after irqbalance had its next round where it could have moved something.
fn verify(flags: &Tune, machine: &Tree) -> Result<ExitCode> {
    let verified = match existing_folder(flags)? {
        Some(folder) => undo::verify(machine, &folder).map_err(|why| anyhow!(why))?,
        None => Vec::new(),
    };
    let mut holds = print_verified(&verified)?;
    let mut targets = verified.iter().map(|one| &one.target);
    let is_moved =
        |target: &Target| matches!(target, Target::Interrupt { .. } | Target::IrqbalanceBan);
    if holds && targets.any(is_moved) {
        let period = Facts::gather(machine).irqbalance.known().cloned().flatten();
        let period = period.and_then(|runs| runs.period_seconds.known().copied());
        if let Some(seconds) = period {
            let wait = Duration::from_secs(u64::from(seconds) + 1);
            writeln!(io::stdout(), "again in {wait:?}, after irqbalance's round")?;
            std::thread::sleep(wait);
            let verified = undo::verify(machine, &folder(flags)?).map_err(|why| anyhow!(why))?;
            holds = print_verified(&verified)?;
        }
    }
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what each change is now; whether all hold.
fn print_verified(verified: &[Verified]) -> Result<bool> {
    let mut out = io::stdout().lock();
    let mut holds = true;
    for one in verified {
        let word = match &one.state {
            State::Holds => "holds".to_owned(),
            State::Undone => "undone".to_owned(),
            State::Drifted(now) => format!("changed by somebody else to {}", shown(now)),
            State::Gone(why) => format!("gone: {why}"),
            State::Elsewhere(why) => format!("not seen from here: {why}"),
        };
        holds &= one.state == State::Holds;
        writeln!(out, "{} = {}: {word}", one.target, shown(&one.new))?;
    }
    if verified.is_empty() {
        writeln!(out, "nothing was done that isn't undone")?;
    }
    Ok(holds)
}

fn revert(flags: &Tune, machine: &Tree, id: Option<&str>) -> Result<ExitCode> {
    let reverted = undo::revert(machine, &folder(flags)?, id, flags.force);
    print_reverted(&reverted.map_err(|why| anyhow!(why))?)
}

fn print_reverted(reverted: &[Reverted]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut is_whole = true;
    for one in reverted {
        let word = match &one.outcome {
            Undone::Restored => "restored".to_owned(),
            Undone::Nothing => "was so already".to_owned(),
            Undone::Gone(why) => format!("gone: {why}"),
            Undone::Conflict(now) => {
                format!(
                    "CONFLICT: somebody else made it {}; --force overrules",
                    shown(now)
                )
            }
            Undone::Elsewhere(why) => format!("NOT HERE: {why}"),
            Undone::Failed(why) => format!("FAILED: {why}"),
        };
        is_whole &= one.outcome.is_over();
        writeln!(out, "{} = {}: {word}", one.target, shown(&one.old))?;
    }
    if reverted.is_empty() {
        writeln!(out, "nothing to undo")?;
    }
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(flags: &Tune) -> Result<ExitCode> {
    let past = match existing_folder(flags)? {
        Some(folder) => folder.past().map_err(|why| anyhow!(why))?,
        None => Vec::new(),
    };
    let mut out = io::stdout().lock();
    for journal in &past {
        let state = if journal.is_closed() {
            "undone"
        } else {
            "in force"
        };
        writeln!(
            out,
            "{} {} changes, {state}",
            journal.id,
            journal.changes().len()
        )?;
    }
    if past.is_empty() {
        writeln!(out, "no journals in {}", folder_path(flags).display())?;
    }
    Ok(ExitCode::SUCCESS)
}
