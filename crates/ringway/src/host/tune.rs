//! `ringway tune`: its flags, and what it asks of the host crate.
//!
//! An error is only ever told where nothing was changed. Whatever comes of changes, the journal in
//! which they are is told with it, also when nobody reads.

use super::{Service, Told, answer, say};
use anyhow::{Result, anyhow, bail, ensure};
use clap::{Args, ValueHint};
use ringway_host::apply::{self, Applied, Outcome, Summary};
use ringway_host::facts::Facts;
use ringway_host::guard::Guard;
use ringway_host::intent::Intent;
use ringway_host::journal::{Folder, JOURNAL_FOLDER, Past};
use ringway_host::machine::{Target, Tree};
use ringway_host::origin::Origin;
use ringway_host::persist;
use ringway_host::placement::counted;
use ringway_host::plan::{self, Action, Plan, shell};
use ringway_host::undo::{self, Reverted, State, Undone, Verified};
use ringway_server::config::duration;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Exit code when nothing is changed.
const REFUSED: u8 = 4;
/// Exit code when something failed, or no longer holds.
const FAILED: u8 = 1;
/// What a guard says when nothing but its end keeps it from its task any more.
const GUARD_IS_READY: &str = "waiting\n";
/// Values are cut to this many characters in lists.
const SHOWN_CHARACTERS: usize = 48;

/// What excludes `--apply`, and so what that needs; the parser doesn't see the second by itself.
const OTHER_THAN_APPLY: [&str; 8] = [
    "verify",
    "revert",
    "list",
    "shell",
    "confirm",
    "persist",
    "unpersist",
    "guard",
];

/// What says how to tune, and so nothing to those flags that look at what was done: `--revert --nic
/// eth1` would undo what was done to other devices, too.
const OF_A_PLAN: [&str; 9] = [
    "role",
    "link",
    "rate",
    "connections",
    "goal",
    "nic",
    "workers",
    "worker_cpus",
    "allow_disruption",
];

/// Flags of `tune`.
#[derive(Debug, Args)]
pub(crate) struct Tune {
    #[command(flatten)]
    service: Service,
    /// Do what the plan says
    #[arg(long, group = "what")]
    apply: bool,
    /// Say whether what was done still holds
    #[arg(long, group = "what", conflicts_with_all = OF_A_PLAN)]
    verify: bool,
    /// Undo what was done: all of it, or one journal's
    #[arg(long, group = "what", value_name = "ID", num_args = 0..=1)]
    #[arg(conflicts_with_all = OF_A_PLAN)]
    revert: Option<Option<String>>,
    /// List the journals
    #[arg(long, group = "what", conflicts_with_all = OF_A_PLAN)]
    list: bool,
    /// Print the plan as a shell script that does it and undoes it
    #[arg(long, group = "what")]
    shell: bool,
    /// Keep what was done with --confirm-within
    #[arg(long, group = "what", conflicts_with_all = OF_A_PLAN)]
    confirm: bool,
    /// Do what the plan says at each start of the machine
    #[arg(long, group = "what")]
    persist: bool,
    /// No longer do anything at the start of the machine
    #[arg(long, group = "what", conflicts_with_all = OF_A_PLAN)]
    unpersist: bool,
    /// Undo what nobody confirms within this time
    #[arg(long, group = "what", value_name = "DURATION", value_parser = duration, hide = true)]
    guard: Option<Duration>,
    /// The name of the guard, in whose care journals are
    #[arg(
        long,
        value_name = "NAME",
        requires = "guard",
        hide = true,
        default_value = ""
    )]
    guard_name: String,
    /// Also do what may cut the link for a moment
    #[arg(long)]
    allow_disruption: bool,
    /// Undo everything unless --confirm follows within this time
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "apply")]
    #[arg(conflicts_with_all = OTHER_THAN_APPLY)]
    confirm_within: Option<Duration>,
    /// Put back even what somebody else changed since
    #[arg(long, requires = "what")]
    #[arg(conflicts_with_all = ["apply", "verify", "list", "shell", "confirm", "persist"])]
    force: bool,
    /// Where the journals are [default: /var/lib/ringway/tune]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    journals: Option<PathBuf>,
}

/// `ringway tune`
pub(crate) fn tune(flags: &Tune) -> ExitCode {
    answer(change(flags), REFUSED, FAILED)
}

fn change(flags: &Tune) -> Result<Told> {
    let machine = flags.service.machine()?;
    let intent = flags.service.intent(flags.allow_disruption);
    if flags.apply {
        flags.service.facts(&machine)?;
        apply_plan(flags, &machine, &intent)
    } else if flags.verify {
        verify(flags, &machine)
    } else if let Some(id) = &flags.revert {
        revert(flags, &machine, id.as_deref())
    } else if flags.list {
        list(flags, &machine)
    } else if flags.persist {
        flags.service.facts(&machine)?;
        persist(flags, &machine, &intent)
    } else if flags.unpersist {
        let Some(folder) = existing_folder(flags, &machine)? else {
            return Ok(told_reverted(&[]));
        };
        let reverted = persist::forget(&machine, &folder, flags.force);
        Ok(told_reverted(&reverted.map_err(|why| anyhow!(why))?))
    } else if flags.confirm {
        confirm(flags, &machine)
    } else if let Some(wait) = flags.guard {
        guard(flags, &machine, wait)
    } else {
        let plan = plan::plan(&flags.service.facts(&machine)?, &intent);
        let text = match flags.shell {
            true => shell::script(&plan, &machine),
            false => describe_plan(&plan),
        };
        Ok(Told { text, code: 0 })
    }
}

fn folder(flags: &Tune, machine: &Tree) -> Result<Folder> {
    Folder::open(&folder_path(flags, machine)?).map_err(|why| anyhow!(why))
}

/// The folder for whoever only looks at what was done: nothing when there is none, and none is made.
///
/// # Errors
/// When one was named that isn't there.
fn existing_folder(flags: &Tune, machine: &Tree) -> Result<Option<Folder>> {
    let path = folder_path(flags, machine)?;
    match path.try_exists() {
        Ok(false) if flags.journals.is_some() => {
            bail!("{}: there is no such folder", path.display())
        }
        Ok(false) => Ok(None),
        // Opening it says what is wrong.
        Ok(true) | Err(_) => folder(flags, machine).map(Some),
    }
}

/// Where the journals are, or will be.
///
/// # Errors
/// When those of a tree would be outside of it.
fn folder_path(flags: &Tune, machine: &Tree) -> Result<PathBuf> {
    match &flags.journals {
        Some(journals) => Ok(journals.clone()),
        None => machine
            .confined(JOURNAL_FOLDER)
            .map_err(|error| anyhow!("/{JOURNAL_FOLDER}: {error}")),
    }
}

fn describe_plan(plan: &Plan) -> String {
    let mut text = match plan.placement.known() {
        Some(placement) => format!("placement: {placement}\n"),
        None => "placement: none\n".to_owned(),
    };
    for action in &plan.actions {
        let _ = writeln!(text, "{}", describe(action));
        let _ = writeln!(text, "    {}: {}", action.check, action.why);
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str(&match plan.actions.len() {
        0 => "nothing to change\n".to_owned(),
        1 => "1 change; --apply makes it, --shell prints it as commands\n".to_owned(),
        count => format!("{count} changes; --apply makes them, --shell prints commands\n"),
    });
    text
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

fn apply_plan(flags: &Tune, machine: &Tree, intent: &Intent) -> Result<Told> {
    let folder = folder(flags, machine)?;
    let guard = flags.confirm_within.map(|wait| start_guard(flags, wait));
    let guard = guard.transpose()?;
    let summary = apply::apply_guarded(machine, intent, &folder, guard.as_deref());
    let summary = summary.map_err(|why| anyhow!(why))?;
    let mut told = told_summary(flags, machine, &summary);
    if let (Some(wait), Some(_)) = (flags.confirm_within, &summary.journal) {
        let command = told_command(flags, "--confirm");
        let _ = writeln!(told.text, "undone in {wait:?} unless: {command}");
    }
    Ok(told)
}

/// The command that does this with the same journals.
fn told_command(flags: &Tune, what: &str) -> String {
    let mut command = format!("ringway tune {what}");
    for (flag, path) in [
        ("--root", &flags.service.root),
        ("--journals", &flags.journals),
    ] {
        if let Some(path) = path {
            let _ = write!(command, " {flag} {}", path.display());
        }
    }
    command
}

fn told_summary(flags: &Tune, machine: &Tree, summary: &Summary) -> Told {
    let mut text = String::new();
    for Applied { action, outcome } in &summary.applied {
        let word = match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Instead(what) => format!("done, but {what}"),
            Outcome::Already => "already so".to_owned(),
            Outcome::Unchangeable(why) => format!("unchangeable: {why}"),
            Outcome::Failed(why) => format!("FAILED: {why}"),
        };
        let _ = writeln!(text, "{}: {word}", describe(action));
    }
    for note in &summary.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if let Some(why) = &summary.stopped {
        let _ = writeln!(text, "STOPPED, and nothing more was done: {why}");
    }
    match &summary.journal {
        Some(id) => {
            if !machine.is_live() {
                text.push_str(
                    "note: that was done to the tree of files, and not to this machine\n",
                );
            }
            let command = told_command(flags, "--revert");
            let _ = writeln!(text, "journal {id}; {command} undoes it");
        }
        None if summary.applied.is_empty() => text.push_str("nothing to change\n"),
        None => {}
    }
    let code = if summary.has_failed() { FAILED } else { 0 };
    Told { text, code }
}

/// Starts the process that undoes what nobody confirms, and returns its name. Before anything is
/// changed, and in a process group of its own, which Ctrl-C and a hangup of the terminal don't reach.
fn start_guard(flags: &Tune, wait: Duration) -> Result<String> {
    // Of those that can still be there, no other process has had this one's number at this time.
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let name = format!("{}-{since}", std::process::id());
    let mut guard = Command::new(std::env::current_exe()?);
    guard.args(["tune", "--guard", &format!("{}ms", wait.as_millis())]);
    guard.args(["--guard-name", &name]);
    if let Some(root) = &flags.service.root {
        guard.arg("--root").arg(root);
    }
    if let Some(journals) = &flags.journals {
        guard.arg("--journals").arg(journals);
    }
    guard
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let guard = guard.process_group(0).spawn()?;
    let mut said = String::new();
    if let Some(out) = guard.stdout {
        BufReader::new(out).read_line(&mut said)?;
    }
    ensure!(
        said == GUARD_IS_READY,
        "what would undo this can't be started: nothing was changed"
    );
    Ok(name)
}

fn guard(flags: &Tune, machine: &Tree, wait: Duration) -> Result<Told> {
    let guard = Guard::begin()?;
    say(GUARD_IS_READY)?;
    let reverted = guard.keep(
        machine,
        &folder_path(flags, machine)?,
        &flags.guard_name,
        wait,
    );
    Ok(told_reverted(&reverted.map_err(|why| anyhow!(why))?))
}

/// Whoever confirms too late has to hear that it was undone.
fn confirm(flags: &Tune, machine: &Tree) -> Result<Told> {
    let count = match existing_folder(flags, machine)? {
        Some(folder) => undo::confirm(&folder).map_err(|why| anyhow!(why))?,
        None => 0,
    };
    ensure!(
        count > 0,
        "nothing waits to be kept: it is kept already, or was undone (ringway tune --list tells)"
    );
    Ok(Told {
        text: format!("kept: {count}\n"),
        code: 0,
    })
}

/// Makes what does the same at each start of the machine: this program, with these flags.
fn persist(flags: &Tune, machine: &Tree, intent: &Intent) -> Result<Told> {
    let program = std::env::current_exe()?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    command.extend(["tune", "--apply"].map(str::to_owned));
    command.extend(flags.service.words());
    if flags.allow_disruption {
        command.push("--allow-disruption".to_owned());
    }
    if let Some(journals) = &flags.journals {
        // Units run in another folder.
        let journals = std::path::absolute(journals)?;
        command.push("--journals".to_owned());
        command.push(journals.to_string_lossy().into_owned());
    }
    let summary = persist::persist(machine, intent, &command, &folder(flags, machine)?);
    let summary = summary.map_err(|why| anyhow!(why))?;
    Ok(told_summary(flags, machine, &summary))
}

/// Looks at once, and again after irqbalance had its next round where it could have moved something.
fn verify(flags: &Tune, machine: &Tree) -> Result<Told> {
    let verified = match existing_folder(flags, machine)? {
        Some(folder) => undo::verify(machine, &folder).map_err(|why| anyhow!(why))?,
        None => Vec::new(),
    };
    let told = told_verified(&verified);
    let mut targets = verified.iter().map(|one| &one.target);
    let is_moved =
        |target: &Target| matches!(target, Target::Interrupt { .. } | Target::IrqbalanceBan);
    if told.code != 0 || !targets.any(is_moved) {
        return Ok(told);
    }
    let irqbalance = Facts::gather(machine).irqbalance.known().cloned().flatten();
    let Some(seconds) = irqbalance.and_then(|runs| runs.period_seconds.known().copied()) else {
        return Ok(told);
    };
    let wait = Duration::from_secs(u64::from(seconds) + 1);
    say(&format!(
        "{}again in {wait:?}, after irqbalance's round\n",
        told.text
    ))?;
    std::thread::sleep(wait);
    let verified = undo::verify(machine, &folder(flags, machine)?);
    Ok(told_verified(&verified.map_err(|why| anyhow!(why))?))
}

/// What each change is now; the code says whether all hold.
fn told_verified(verified: &[Verified]) -> Told {
    let told = verified.iter().map(|one| {
        let word = match &one.state {
            State::Holds => "holds".to_owned(),
            State::Undone => "undone".to_owned(),
            State::Drifted(now) => format!("changed by somebody else to {}", shown(now)),
            State::Gone(why) => format!("gone: {why}"),
            State::Elsewhere(why) => format!("not seen from here: {why}"),
        };
        let line = format!("{} = {}: {word}", one.target, shown(&one.new));
        (line, one.state == State::Holds)
    });
    told_each(told, "nothing was done that isn't undone")
}

/// A line for each, or what is said of none; the code says whether all are as they should be.
fn told_each(each: impl Iterator<Item = (String, bool)>, none: &str) -> Told {
    let mut text = String::new();
    let mut code = 0;
    for (line, is_as_it_should_be) in each {
        let _ = writeln!(text, "{line}");
        if !is_as_it_should_be {
            code = FAILED;
        }
    }
    if text.is_empty() {
        let _ = writeln!(text, "{none}");
    }
    Told { text, code }
}

fn revert(flags: &Tune, machine: &Tree, id: Option<&str>) -> Result<Told> {
    let Some(folder) = existing_folder(flags, machine)? else {
        return match id {
            None => Ok(told_reverted(&[])),
            Some(id) => bail!("there is no journal {id:?}: none was written yet"),
        };
    };
    let reverted = undo::revert(machine, &folder, id, flags.force);
    let mut told = told_reverted(&reverted.map_err(|why| anyhow!(why))?);
    for past in folder.past().map_err(|why| anyhow!(why))? {
        let is_meant = id.is_none_or(|id| past.id == id) && !past.is_closed();
        if is_meant && past.damaged_lines > 0 {
            let _ = writeln!(
                told.text,
                "DAMAGED: {} of journal {} can't be read, and what they tell of isn't undone; \
                 --force lets that be",
                counted(past.damaged_lines, "line"),
                past.id
            );
            told.code = FAILED;
        }
    }
    Ok(told)
}

fn told_reverted(reverted: &[Reverted]) -> Told {
    let told = reverted.iter().map(|one| {
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
        let line = format!("{} = {}: {word}", one.target, shown(&one.old));
        (line, one.outcome.is_over())
    });
    told_each(told, "nothing to undo")
}

fn list(flags: &Tune, machine: &Tree) -> Result<Told> {
    let past = match existing_folder(flags, machine)? {
        Some(folder) => folder.past().map_err(|why| anyhow!(why))?,
        None => Vec::new(),
    };
    let now = Origin::of(machine);
    let mut text = String::new();
    for journal in &past {
        let _ = writeln!(text, "{}", describe_journal(journal, &now));
    }
    if past.is_empty() {
        let _ = writeln!(
            text,
            "no journals in {}",
            folder_path(flags, machine)?.display()
        );
    }
    Ok(Told { text, code: 0 })
}

fn describe_journal(journal: &Past, now: &Origin) -> String {
    // A name that isn't of ours may have anything in it, and goes to a terminal.
    let id = journal.id.escape_default();
    if let Some(why) = &journal.unreadable {
        return format!("{id} can't be read: {why}");
    }
    if let Some(version) = journal.newer_version {
        return format!("{id} written by a newer ringway (version {version} of the journal)");
    }
    let changes = journal.changes();
    let is_over = journal
        .origin()
        .is_some_and(|then| then.is_of_another_run(now));
    let is_lasting = changes.iter().any(|change| change.target.is_lasting());
    let state = match journal.guard() {
        _ if journal.is_closed() => "undone",
        _ if is_over && !is_lasting => "gone with the machine's restart",
        Some(_) => "in force, waits to be confirmed",
        None => "in force",
    };
    let damaged = match journal.damaged_lines {
        0 => String::new(),
        count => format!(", {} damaged", counted(count, "line")),
    };
    format!(
        "{id} {}, {state}{damaged}",
        counted(changes.len(), "change")
    )
}
