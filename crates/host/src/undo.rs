//! Looking whether what was done still holds, and undoing it.
//!
//! Three values are compared: what is there now, what was there before, and what was put there. Only
//! what is still ours is put back; a change that somebody else made since is reported and left alone.
//! So is what was done in another network namespace. Undoing may be stopped anywhere and done again.
//!
//! A device that gets its old number of queues back has everything that belongs to them spread anew
//! by its driver. So whose each of those values is gets decided before, and written down; and then
//! they are put back too, by their queue and not by the number of their interrupt.

use crate::apply::{Outcome, refusal, write};
use crate::journal::{Change, Entry, Folder, Past};
use crate::machine::{Machine, Target};
use crate::origin::{Absence, Origin};
use crate::plan::is_same;
use serde::Serialize;

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
    /// It can't be seen from this network namespace.
    Elsewhere(String),
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
    let now = Origin::of(machine);
    let mut verified: Vec<Verified> = Vec::new();
    // The newest first: what it put somewhere is what has to be there.
    for past in folder.past()?.iter().filter(|past| !past.is_closed()) {
        past.check_readable()?;
        for change in joined(past.changes()).into_iter().rev() {
            let judged = judge(machine, past, &now, change);
            let target = &judged.change.target;
            if verified.iter().any(|known| known.target == *target) {
                continue;
            }
            verified.push(Verified {
                target: target.clone(),
                new: judged.change.new,
                state: judged.state,
            });
        }
    }
    verified.reverse();
    Ok(verified)
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
    /// It has to be undone in another network namespace.
    Elsewhere(String),
    /// It couldn't be put back.
    Failed(String),
}

impl Undone {
    /// Whether nothing of it is left to undo.
    pub fn is_over(&self) -> bool {
        matches!(self, Undone::Restored | Undone::Nothing | Undone::Gone(_))
    }
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

/// Undoes what one journal tells of, or all that aren't undone yet, the newest first. One with
/// damaged lines stays open, so that it is told of again, unless it is forced.
///
/// # Errors
/// When the journals can't be read or written, when a newer version wrote one, or when there is
/// none with that name. Nothing was undone then, but for what came before a journal that can't be
/// written.
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
        return Err(format!(
            "there is no journal {id:?}; --list shows those there are"
        ));
    }
    let chosen = all
        .iter()
        .filter(|past| id.is_none_or(|id| past.id == id) && !past.is_closed());
    // Before anything is touched: what one did may lie above what another did.
    chosen.clone().try_for_each(Past::check_readable)?;
    let now = Origin::of(machine);
    let mut reverted = Vec::new();
    for past in chosen {
        let undoing = Undoing {
            machine,
            past,
            now: &now,
            is_forced,
        };
        let outcomes = undoing.all()?;
        let is_whole = outcomes.iter().all(|one| one.outcome.is_over());
        if is_whole && (past.damaged_lines == 0 || is_forced) {
            past.close()?;
        }
        reverted.extend(outcomes);
    }
    Ok(reverted)
}

/// Undoes what is in the care of this guard and nobody confirmed: what it does when the time for
/// that is over.
///
/// # Errors
/// As [`revert`].
pub fn revert_unconfirmed(
    machine: &dyn Machine,
    folder: &Folder,
    guard: &str,
) -> Result<Vec<Reverted>, String> {
    let mut reverted = Vec::new();
    for past in folder.past()? {
        if past.guard() == Some(guard) {
            reverted.extend(revert(machine, folder, Some(&past.id), false)?);
        }
    }
    Ok(reverted)
}

/// Keeps what was done: no guard will undo it. Returns how many journals that concerned; none waits
/// any more that was undone.
///
/// # Errors
/// When a journal can't be read or written.
pub fn confirm(folder: &Folder) -> Result<usize, String> {
    let past = folder.past()?;
    let waiting = past.iter().filter(|past| past.guard().is_some());
    let mut count = 0;
    for past in waiting {
        past.confirm()?;
        count += 1;
    }
    Ok(count)
}

/// A change by the name that its target has now, and what that is.
struct Judged {
    change: Change,
    state: State,
}

fn judge(machine: &dyn Machine, past: &Past, now: &Origin, mut change: Change) -> Judged {
    let unknown = Origin::default();
    let then = past.origin().unwrap_or(&unknown);
    let state = match then.find(now, &change.target) {
        Err(Absence::Gone(why)) => State::Gone(why),
        Err(Absence::Elsewhere(why)) => State::Elsewhere(why),
        Ok(target) => {
            change.target = target;
            match machine.current(&change.target) {
                Err(why) => State::Gone(why),
                Ok(now) => compare(&change, now),
            }
        }
    };
    Judged { change, state }
}

/// Three-way: what is now, against what was before and what was put.
fn compare(change: &Change, now: String) -> State {
    if change.target == Target::IrqbalanceBan {
        // Others ban interrupts of theirs: of the list only what we added is ours.
        let ours = added(change);
        let held = ours.iter().filter(|&&number| words(&now).contains(&number));
        return match held.count() {
            0 => State::Undone,
            count if count == ours.len() => State::Holds,
            _ => State::Drifted(now),
        };
    }
    let is = |value: &str| is_same(&change.target, &now, value);
    if is(&change.old) {
        State::Undone
    } else if is(&change.new) || change.readback.as_deref().is_some_and(is) {
        State::Holds
    } else {
        State::Drifted(now)
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The words of a list that a change added.
fn added(change: &Change) -> Vec<&str> {
    let old = words(&change.old);
    let mut new = words(&change.new);
    new.retain(|word| !old.contains(word));
    new
}

/// Those changes of a target that follow each other as one, from what the first found to what the
/// last put; without those that the kernel refused.
fn joined(changes: Vec<Change>) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for mut change in changes.into_iter().filter(|change| !change.was_refused) {
        let before = all.iter().rposition(|other| other.target == change.target);
        let follows = |other: &Change| {
            let is = |value: &str| is_same(&change.target, &change.old, value);
            is(&other.new) || other.readback.as_deref().is_some_and(is)
        };
        if let Some(at) = before.filter(|&at| follows(&all[at])) {
            change.old = all.remove(at).old;
        }
        all.push(change);
    }
    all
}

/// A journal being undone.
struct Undoing<'a> {
    machine: &'a dyn Machine,
    past: &'a Past,
    now: &'a Origin,
    is_forced: bool,
}

impl Undoing<'_> {
    /// The last change first, but queues before all others: their return gives everything that
    /// belongs to them new values.
    fn all(&self) -> Result<Vec<Reverted>, String> {
        let mut changes = joined(self.past.changes());
        changes.reverse();
        let is_queues = |change: &Change| matches!(change.target, Target::Channels(_));
        changes.sort_by_key(|change| !is_queues(change));
        let mut reverted = Vec::new();
        let mut with_queues: Vec<String> = Vec::new();
        for at in 0..changes.len() {
            let change = &changes[at];
            let nic = change.target.nic().unwrap_or_default();
            if change.target.is_of_queues() && with_queues.iter().any(|done| done == nic) {
                continue;
            }
            if is_queues(change) {
                let others = changes[at + 1..].iter();
                let others = others.filter(|other| other.target.nic() == Some(nic));
                let others = others.filter(|other| other.target.is_of_queues());
                let outcomes = self.queues(change, others)?;
                if outcomes.len() > 1 {
                    with_queues.push(nic.to_owned());
                }
                reverted.extend(outcomes);
            } else {
                let judged = judge(self.machine, self.past, self.now, change.clone());
                let outcome = self.undo(&judged);
                reverted.push(self.told(judged.change, outcome));
            }
        }
        Ok(reverted)
    }

    fn told(&self, change: Change, outcome: Undone) -> Reverted {
        Reverted {
            journal: self.past.id.clone(),
            target: change.target,
            old: change.old,
            outcome,
        }
    }

    fn undo(&self, judged: &Judged) -> Undone {
        let change = &judged.change;
        match &judged.state {
            State::Undone => return Undone::Nothing,
            State::Gone(why) => return Undone::Gone(why.clone()),
            State::Elsewhere(why) => return Undone::Elsewhere(why.clone()),
            State::Drifted(now) if !self.is_forced && !is_list(change) => {
                return Undone::Conflict(now.clone());
            }
            State::Drifted(_) | State::Holds => {}
        }
        self.put(&change.target, &self.before(change))
    }

    /// What to put back: the value of before, and of a list only the absence of what we added.
    fn before(&self, change: &Change) -> String {
        if !is_list(change) || self.is_forced {
            return change.old.clone();
        }
        let ours = added(change);
        let now = self.machine.current(&change.target).unwrap_or_default();
        let rest = words(&now).into_iter().filter(|word| !ours.contains(word));
        rest.collect::<Vec<_>>().join(" ")
    }

    fn put(&self, target: &Target, value: &str) -> Undone {
        if let Err(error) = write(self.machine, target, value) {
            return match refusal(target, &error) {
                Outcome::Unchangeable(why) | Outcome::Failed(why) => Undone::Failed(why),
                Outcome::Done | Outcome::Instead(_) | Outcome::Already => Undone::Nothing,
            };
        }
        match self.machine.current(target) {
            Ok(now) if is_same(target, &now, value) => Undone::Restored,
            Ok(now) => Undone::Failed(format!("the kernel made it {now}")),
            Err(why) => Undone::Failed(why),
        }
    }

    /// Gives a device its old queues back, and then what belongs to them its old values; those that
    /// somebody else changed keep theirs. More than one outcome: all of `others` are dealt with.
    fn queues<'c>(
        &self,
        change: &Change,
        others: impl Iterator<Item = &'c Change>,
    ) -> Result<Vec<Reverted>, String> {
        let nic = change.target.nic().unwrap_or_default();
        let before = self.past.before(nic);
        let judged = judge(self.machine, self.past, self.now, change.clone());
        let is_left = matches!(judged.state, State::Drifted(_)) && !self.is_forced;
        let was_stopped = judged.state == State::Undone && self.past.restoring(nic).is_some();
        if is_left || !matches!(judged.state, State::Holds | State::Drifted(_)) && !was_stopped {
            let outcome = self.undo(&judged);
            return Ok(vec![self.told(judged.change, outcome)]);
        }
        let name = judged.change.target.nic().unwrap_or_default().to_owned();
        let others: Vec<Judged> = others
            .map(|other| judge(self.machine, self.past, self.now, other.clone()))
            .collect();
        let before: Vec<(Target, String)> = before
            .into_iter()
            .map(|(target, value)| (target.on(&name), value))
            .collect();
        let wanted = if was_stopped {
            self.past.restoring(nic).unwrap_or_default().to_vec()
        } else {
            self.wanted(&before, &others)
        };
        if !was_stopped {
            let nic = nic.to_owned();
            let wanted = wanted.clone();
            self.past.add(&Entry::Restoring { nic, wanted })?;
        }
        // The kernel refuses to take queues away that the table still uses.
        let table = wanted
            .iter()
            .find(|(target, _)| matches!(target, Target::RssTable(_)));
        if let Some((target, value)) = table.filter(|_| !was_stopped) {
            let _refused_where_queues_are_yet_to_come = self.put_if_other(target, value);
        }
        let outcome = self.undo(&judged);
        if !was_stopped && !outcome.is_over() {
            return Ok(vec![self.told(judged.change, outcome)]);
        }
        let mut reverted = vec![self.told(judged.change, outcome)];
        reverted.extend(self.put_back(&wanted, &before, others));
        Ok(reverted)
    }

    /// What belongs to queues gets the value of before, and what somebody else changed keeps theirs.
    fn wanted(&self, before: &[(Target, String)], others: &[Judged]) -> Vec<(Target, String)> {
        let theirs = |target: &Target| {
            let mut others = others.iter();
            let other = others.find(|other| other.change.target == *target)?;
            match &other.state {
                State::Drifted(now) if !self.is_forced => Some(now.clone()),
                _ => None,
            }
        };
        let before = before.iter();
        before
            .map(|(target, value)| {
                let value = theirs(target).unwrap_or_else(|| value.clone());
                (target.clone(), value)
            })
            .collect()
    }

    fn put_back(
        &self,
        wanted: &[(Target, String)],
        before: &[(Target, String)],
        others: Vec<Judged>,
    ) -> Vec<Reverted> {
        let mut reverted = Vec::new();
        let mut outcomes = Vec::new();
        for (target, value) in wanted {
            let outcome = self.put_if_other(target, value);
            let is_ours = others.iter().any(|other| other.change.target == *target);
            // What was never ours, and is as it was, nobody needs to read about.
            if outcome != Undone::Nothing && !is_ours {
                reverted.push(Reverted {
                    journal: self.past.id.clone(),
                    target: target.clone(),
                    old: value.clone(),
                    outcome: outcome.clone(),
                });
            }
            // Another value than that of before is somebody else's, and was to be kept.
            let is_theirs = !before
                .iter()
                .any(|before| before.0 == *target && before.1 == *value);
            outcomes.push((target, outcome, is_theirs.then_some(value)));
        }
        for other in others {
            let put = outcomes
                .iter()
                .find(|(target, ..)| **target == other.change.target);
            let outcome = match put {
                None => Undone::Gone("it went with the queues".to_owned()),
                Some((_, _, Some(theirs))) => Undone::Conflict((*theirs).clone()),
                Some((_, Undone::Nothing, None)) => Undone::Restored,
                Some((_, outcome, None)) => outcome.clone(),
            };
            reverted.push(self.told(other.change, outcome));
        }
        reverted
    }

    fn put_if_other(&self, target: &Target, value: &str) -> Undone {
        match self.machine.current(target) {
            Ok(now) if is_same(target, &now, value) => Undone::Nothing,
            Ok(_) => self.put(target, value),
            Err(why) => Undone::Gone(why),
        }
    }
}

/// Whether others add to the same list.
fn is_list(change: &Change) -> bool {
    change.target == Target::IrqbalanceBan
}
