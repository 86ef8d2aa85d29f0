//! Doing what a plan says, looking whether it holds, and undoing it.
//!
//! Every change is in the journal, synced, before it is made. Undoing compares three values: what is
//! there now, what was there before, and what was put there. Only what is still ours is put back; a
//! change that somebody else made since is reported and left alone.

use crate::facts::Facts;
use crate::intent::Intent;
use crate::journal::{Change, Entry, Folder, Journal, Past};
use crate::machine::{Machine, Target};
use crate::plan::{self, Action, is_same};
use serde::Serialize;
use std::io;
use std::time::Duration;

/// Plans that may follow each other: the second for what new queues bring, the third without leave
/// when those were refused.
const MOST_ROUNDS: usize = 3;

/// How often a busy kernel is asked again, and after what time.
const MOST_TRIES: usize = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It was done, and reads back.
    Done,
    /// Somebody else had done it since the plan.
    Already,
    /// The kernel keeps it to itself; nothing is wrong with that.
    Unchangeable(String),
    /// It failed.
    Failed(String),
}

/// An action with what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The action.
    pub action: Action,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What was done in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// The journal's name; none when nothing had to be written.
    pub journal: Option<String>,
    /// Each action, in order.
    pub applied: Vec<Applied>,
    /// What wasn't done, and why.
    pub notes: Vec<String>,
}

impl Summary {
    /// Whether an action failed.
    pub fn has_failed(&self) -> bool {
        let mut applied = self.applied.iter();
        applied.any(|applied| matches!(applied.outcome, Outcome::Failed(_)))
    }
}

/// Plans and does it.
///
/// # Errors
/// When the journal can't be written: nothing is changed without it.
pub fn apply(machine: &dyn Machine, intent: &Intent, folder: &Folder) -> Result<Summary, String> {
    let mut intent = intent.clone();
    let mut summary = Summary::default();
    let mut journal = None;
    for _ in 0..MOST_ROUNDS {
        let plan = plan::plan(&Facts::gather(machine), &intent);
        summary.notes = plan.notes;
        let mut is_renumbered = false;
        for action in plan.actions {
            let outcome = perform(machine, &action, folder, &mut journal)?;
            is_renumbered |= matches!(action.target, Target::Channels(_));
            if action.is_disruptive && matches!(outcome, Outcome::Failed(_)) {
                intent.may_disrupt = false;
            }
            summary.applied.push(Applied { action, outcome });
        }
        if !is_renumbered {
            break;
        }
    }
    summary.journal = journal.map(|journal: Journal| journal.id());
    Ok(summary)
}

fn perform(
    machine: &dyn Machine,
    action: &Action,
    folder: &Folder,
    journal: &mut Option<Journal>,
) -> Result<Outcome, String> {
    let old = match machine.current(&action.target) {
        Ok(old) => old,
        Err(why) => return Ok(Outcome::Failed(why)),
    };
    let new = action.rule.value(&old, &action.new);
    if is_same(&action.target, &old, &new) {
        return Ok(Outcome::Already);
    }
    let journal = match journal {
        Some(journal) => journal,
        None => journal.insert(folder.begin(boot_id(machine))?),
    };
    let number = journal.intend(action.check, &action.target, &old, &new, action.rule)?;
    if let Err(error) = write(machine, &action.target, &new) {
        let words = error.to_string();
        journal.append(&Entry::Refused {
            number,
            error: words.clone(),
        })?;
        return Ok(refusal(&action.target, &error));
    }
    let readback = machine.current(&action.target);
    journal.append(&Entry::Done {
        number,
        readback: readback.clone().unwrap_or_default(),
    })?;
    Ok(match readback {
        Ok(readback) if is_same(&action.target, &readback, &new) => Outcome::Done,
        Ok(readback) => Outcome::Failed(format!("the kernel made it {readback}")),
        Err(why) => Outcome::Failed(why),
    })
}

/// Writes, and again when the kernel is busy.
fn write(machine: &dyn Machine, target: &Target, value: &str) -> io::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match machine.write(target, value) {
            Err(error) if tries < MOST_TRIES && is_busy(&error) => {
                std::thread::sleep(TRY_AGAIN_AFTER);
            }
            written => return written,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), ResourceBusy | WouldBlock | Interrupted)
}

/// What the kernel's refusal means. For interrupts that it manages itself it is EIO, and since
/// about 5.10 EPERM (as irqbalance's and TuneD's code treat them).
fn refusal(target: &Target, error: &io::Error) -> Outcome {
    const EPERM: i32 = 1;
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let is_interrupt = matches!(target, Target::Interrupt { .. });
    match error.raw_os_error() {
        Some(EIO | EPERM) if is_interrupt => {
            Outcome::Unchangeable("the kernel manages this interrupt itself".to_owned())
        }
        Some(ENOSPC) if is_interrupt => {
            Outcome::Failed("that processor has no room for another interrupt".to_owned())
        }
        _ if error.kind() == io::ErrorKind::PermissionDenied => {
            Outcome::Failed("no permission: tune has to run as root".to_owned())
        }
        _ if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            Outcome::Failed("read-only: in a container the host has to be tuned".to_owned())
        }
        _ => Outcome::Failed(error.to_string()),
    }
}

fn boot_id(machine: &dyn Machine) -> Option<String> {
    let text = machine.read("proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// What a change is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "found")]
pub enum State {
    /// It is as it was put.
    Holds,
    /// It is as it was before.
    Undone,
    /// Somebody else changed it, to this.
    Drifted(String),
    /// It isn't there any more: another queue layout, another run of the kernel.
    Gone(String),
}

/// A change with what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What was changed.
    pub target: Target,
    /// What it was given.
    pub new: String,
    /// What it is now.
    #[serde(flatten)]
    pub state: State,
}

/// Looks whether everything that was done, and not undone since, still holds.
///
/// # Errors
/// When the journals can't be read.
pub fn verify(machine: &dyn Machine, folder: &Folder) -> Result<Vec<Verified>, String> {
    let boot = boot_id(machine);
    let mut verified: Vec<Verified> = Vec::new();
    // The newest first: what it put somewhere is what has to be there.
    for past in folder.past()?.iter().filter(|past| !past.is_closed()) {
        for change in past
            .changes()
            .iter()
            .rev()
            .filter(|change| !change.was_refused)
        {
            if verified.iter().any(|known| known.target == change.target) {
                continue;
            }
            verified.push(Verified {
                target: change.target.clone(),
                new: change.new.clone(),
                state: state(machine, past, change, boot.as_deref()),
            });
        }
    }
    verified.reverse();
    Ok(verified)
}

/// Three-way: what is now, against what was before and what was put.
fn state(machine: &dyn Machine, past: &Past, change: &Change, boot: Option<&str>) -> State {
    if past.boot_id() != boot {
        return State::Gone("the machine was started anew since".to_owned());
    }
    let now = match machine.current(&change.target) {
        Ok(now) => now,
        Err(why) => return State::Gone(why),
    };
    let is = |value: &str| is_same(&change.target, &now, value);
    if is(&change.old) {
        State::Undone
    } else if is(&change.new) || change.readback.as_deref().is_some_and(is) {
        State::Holds
    } else {
        State::Drifted(now)
    }
}

/// What came of undoing a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Undone {
    /// It was put back.
    Restored,
    /// It was as before already.
    Nothing,
    /// Somebody else changed it since, to this: it is left.
    Conflict(String),
    /// There is nothing to put back any more.
    Gone(String),
    /// It couldn't be put back.
    Failed(String),
}

/// A change with what came of undoing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reverted {
    /// The journal.
    pub journal: String,
    /// What was changed.
    pub target: Target,
    /// What was before.
    pub old: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Undone,
}

/// Undoes what one journal tells of, or all that aren't undone yet, the newest first. It may be
/// stopped anywhere and done again.
///
/// # Errors
/// When the journals can't be read, or there is none with that name.
pub fn revert(
    machine: &dyn Machine,
    folder: &Folder,
    id: Option<&str>,
    is_forced: bool,
) -> Result<Vec<Reverted>, String> {
    let all = folder.past()?;
    if let Some(id) = id
        && !all.iter().any(|past| past.id == id)
    {
        return Err(format!("there is no journal {id}"));
    }
    let chosen = all
        .iter()
        .filter(|past| id.is_none_or(|id| past.id == id) && !past.is_closed());
    let boot = boot_id(machine);
    let mut reverted = Vec::new();
    for past in chosen {
        let mut is_whole = past.damaged_lines == 0;
        for change in in_order_of_undoing(past.changes()) {
            let outcome = undo(machine, past, &change, boot.as_deref(), is_forced);
            is_whole &= !matches!(outcome, Undone::Conflict(_) | Undone::Failed(_));
            reverted.push(Reverted {
                journal: past.id.clone(),
                target: change.target,
                old: change.old,
                outcome,
            });
        }
        if is_whole {
            past.close()?;
        }
    }
    Ok(reverted)
}

/// Undoes every journal that was begun at `since` (seconds since 1970) or later and that nobody
/// confirmed: what a guard does when the time for that is over.
///
/// # Errors
/// As [`revert`].
pub fn revert_unconfirmed(
    machine: &dyn Machine,
    folder: &Folder,
    since: u64,
) -> Result<Vec<Reverted>, String> {
    let mut reverted = Vec::new();
    for past in folder.past()? {
        let is_since = past
            .started_seconds()
            .is_some_and(|started| started >= since);
        if is_since && !past.is_confirmed() && !past.is_closed() {
            reverted.extend(revert(machine, folder, Some(&past.id), false)?);
        }
    }
    Ok(reverted)
}

/// Keeps what was done: no guard will undo it. Returns how many journals that concerned.
///
/// # Errors
/// When a journal can't be read or written.
pub fn confirm(folder: &Folder) -> Result<usize, String> {
    let past = folder.past()?;
    let open = past
        .iter()
        .filter(|past| !past.is_confirmed() && !past.is_closed());
    let mut count = 0;
    for past in open {
        past.confirm()?;
        count += 1;
    }
    Ok(count)
}

/// The last change first; but before all others the table of flows, which may keep queues from
/// going, and then the queues, whose return gives everything that belongs to them new numbers.
fn in_order_of_undoing(mut changes: Vec<Change>) -> Vec<Change> {
    changes.reverse();
    changes.sort_by_key(|change| match change.target {
        Target::RssTable(_) => 0,
        Target::Channels(_) => 1,
        _ => 2,
    });
    changes
}

fn undo(
    machine: &dyn Machine,
    past: &Past,
    change: &Change,
    boot: Option<&str>,
    is_forced: bool,
) -> Undone {
    match state(machine, past, change, boot) {
        State::Undone => return Undone::Nothing,
        State::Gone(why) => return Undone::Gone(why),
        State::Drifted(now) if !is_forced => return Undone::Conflict(now),
        State::Drifted(_) | State::Holds => {}
    }
    if let Err(error) = write(machine, &change.target, &change.old) {
        return match refusal(&change.target, &error) {
            Outcome::Unchangeable(why) | Outcome::Failed(why) => Undone::Failed(why),
            Outcome::Done | Outcome::Already => Undone::Nothing,
        };
    }
    match machine.current(&change.target) {
        Ok(now) if is_same(&change.target, &now, &change.old) => Undone::Restored,
        Ok(now) => Undone::Failed(format!("the kernel made it {now}")),
        Err(why) => Undone::Failed(why),
    }
}
