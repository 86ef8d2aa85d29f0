//! Doing what a plan says. Looking whether it holds, and undoing it, is [`undo`](crate::undo)'s.
//!
//! Every change is in the journal, synced, before it is made. Changing the number of a device's
//! queues lets its driver spread everything anew that belongs to them; so what that was is in the
//! journal before, too.

use crate::facts::{Facts, Nic};
use crate::intent::Intent;
use crate::journal::{Entry, Folder, Journal};
use crate::machine::{Machine, Target};
use crate::origin::Origin;
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

const ENOSPC: i32 = 28;

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It was done, and reads back.
    Done,
    /// The kernel had no room for it, and took the next best, which reads back: this, and why.
    Instead(String),
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
    /// Why nothing more was done after these: the journal couldn't be written any more.
    pub stopped: Option<String>,
}

impl Summary {
    /// Whether an action failed, or some were never tried.
    pub fn has_failed(&self) -> bool {
        let mut applied = self.applied.iter();
        let is_failure = |applied: &Applied| matches!(applied.outcome, Outcome::Failed(_));
        self.stopped.is_some() || applied.any(is_failure)
    }
}

/// Plans and does it.
///
/// # Errors
/// When the journal can't be begun: nothing was changed. One that can't be written any more stops
/// the rest, which [`Summary::stopped`] tells.
pub fn apply(machine: &dyn Machine, intent: &Intent, folder: &Folder) -> Result<Summary, String> {
    apply_guarded(machine, intent, folder, None)
}

/// The same; with the name of a guard, that one undoes it
/// ([`undo::revert_unconfirmed`](crate::undo::revert_unconfirmed)) unless somebody confirms.
///
/// # Errors
/// As [`apply`].
pub fn apply_guarded(
    machine: &dyn Machine,
    intent: &Intent,
    folder: &Folder,
    guard: Option<&str>,
) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let mut work = Work::new(machine, folder);
    work.guard = guard;
    let done = rounds(machine, intent.clone(), &mut work, &mut summary);
    work.finish(done, summary)
}

fn rounds(
    machine: &dyn Machine,
    mut intent: Intent,
    work: &mut Work<'_>,
    summary: &mut Summary,
) -> Result<(), String> {
    for _ in 0..MOST_ROUNDS {
        let facts = Facts::gather(machine);
        let plan = plan::plan(&facts, &intent);
        summary.notes = plan.notes;
        let mut is_renumbered = false;
        let changed = |action: &Action| match &action.target {
            Target::Channels(nic) => facts.nic(Some(nic)),
            _ => None,
        };
        for nic in plan.actions.iter().filter_map(changed) {
            work.note_queues(nic)?;
        }
        for action in plan.actions {
            is_renumbered |= matches!(action.target, Target::Channels(_));
            let is_disruptive = action.is_disruptive;
            let outcome = work.perform(action, summary)?;
            if is_disruptive && matches!(outcome, Outcome::Failed(_)) {
                intent.may_disrupt = false;
            }
        }
        if !is_renumbered {
            break;
        }
    }
    Ok(())
}

/// Changes being made, and the journal that they are in.
pub(crate) struct Work<'a> {
    machine: &'a dyn Machine,
    folder: &'a Folder,
    /// Who undoes it unless somebody confirms.
    guard: Option<&'a str>,
    /// Begun when there is something to write.
    journal: Option<Journal>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(machine: &'a dyn Machine, folder: &'a Folder) -> Work<'a> {
        Work {
            machine,
            folder,
            guard: None,
            journal: None,
        }
    }

    /// What came of it. An error is one of the whole only as long as nothing is in the journal:
    /// afterwards something may have been done.
    pub(crate) fn finish(
        self,
        done: Result<(), String>,
        mut summary: Summary,
    ) -> Result<Summary, String> {
        match (done, self.journal) {
            (Err(why), None) => return Err(why),
            (done, journal) => {
                summary.stopped = done.err();
                summary.journal = journal.map(|journal| journal.id());
            }
        }
        Ok(summary)
    }

    /// The journal of these changes.
    fn journal(&mut self) -> Result<&mut Journal, String> {
        if self.journal.is_none() {
            self.journal = Some(self.begin()?);
        }
        self.journal
            .as_mut()
            .ok_or_else(|| "no journal was begun".to_owned())
    }

    /// Begins it, and ends those of earlier runs of the kernel: what they tell of went with those.
    fn begin(&self) -> Result<Journal, String> {
        let origin = Origin::of(self.machine);
        for past in self.folder.past()?.iter().filter(|past| !past.is_closed()) {
            let is_over = past
                .origin()
                .is_some_and(|then| then.is_of_another_run(&origin));
            if is_over
                && !past
                    .changes()
                    .iter()
                    .any(|change| change.target.is_lasting())
            {
                past.close()?;
            }
        }
        let mut journal = self.folder.begin(origin)?;
        if let Some(guard) = self.guard {
            let guard = guard.to_owned();
            journal.append(&Entry::Guarded { guard })?;
        }
        Ok(journal)
    }

    /// Writes down what belongs to the queues of a device that is about to get other ones.
    fn note_queues(&mut self, nic: &Nic) -> Result<(), String> {
        let machine = self.machine;
        let held = of_queues(machine, nic).into_iter().filter_map(|target| {
            let value = machine.current(&target).ok()?;
            Some(Entry::Before { target, value })
        });
        let held: Vec<Entry> = held.collect();
        self.journal()?.append_all(&held)
    }

    /// Does one thing, and adds what came of it to the summary.
    ///
    /// # Errors
    /// When the journal can't be written. What is announced in it may have been done then, and the
    /// summary says so.
    pub(crate) fn perform(
        &mut self,
        action: Action,
        summary: &mut Summary,
    ) -> Result<Outcome, String> {
        let mut written = Ok(());
        let outcome = self.change(&action, &mut written)?;
        let applied = outcome.clone();
        summary.applied.push(Applied {
            action,
            outcome: applied,
        });
        written.map(|()| outcome)
    }

    /// `written` is whether the journal has what came of it, too.
    fn change(
        &mut self,
        action: &Action,
        written: &mut Result<(), String>,
    ) -> Result<Outcome, String> {
        let machine = self.machine;
        let old = match machine.current(&action.target) {
            Ok(old) => old,
            Err(why) => return Ok(Outcome::Failed(why)),
        };
        let mut made = self.make(action, &old, &action.new, written)?;
        for next in &action.instead {
            let is_full = made.as_ref().is_err_and(|error| is_full(action, error));
            if !is_full || written.is_err() {
                break;
            }
            let taken = self.make(action, &old, next, written)?;
            made = taken.map(|outcome| instead(action, next, outcome));
        }
        Ok(made.unwrap_or_else(|error| refusal(&action.target, &error)))
    }

    /// Gives the target of an action, which holds `old`, this value. The inner error is the kernel's
    /// refusal.
    fn make(
        &mut self,
        action: &Action,
        old: &str,
        value: &str,
        written: &mut Result<(), String>,
    ) -> Result<io::Result<Outcome>, String> {
        let machine = self.machine;
        let new = action.rule.value(old, value);
        if is_same(&action.target, old, &new) {
            return Ok(Ok(Outcome::Already));
        }
        let journal = self.journal()?;
        let number = journal.intend(action.check, &action.target, old, &new, action.rule)?;
        if let Err(error) = write(machine, &action.target, &new) {
            let words = error.to_string();
            *written = journal.append(&Entry::Refused {
                number,
                error: words,
            });
            return Ok(Err(error));
        }
        let readback = machine.current(&action.target);
        *written = journal.append(&Entry::Done {
            number,
            readback: readback.clone().unwrap_or_default(),
        });
        Ok(Ok(match readback {
            Ok(readback) if is_same(&action.target, &readback, &new) => Outcome::Done,
            Ok(readback) => Outcome::Failed(format!("the kernel made it {readback}")),
            Err(why) => Outcome::Failed(why),
        }))
    }
}

/// What came of the next best. Where it was so already, nothing was done, and still it isn't what
/// was wanted.
fn instead(action: &Action, next: &str, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Done | Outcome::Already => Outcome::Instead(format!(
            "on CPU {next}: CPU {} has no room for another interrupt",
            action.new
        )),
        other => other,
    }
}

/// Everything of a device that its driver may change when the number of queues does.
fn of_queues(machine: &dyn Machine, nic: &Nic) -> Vec<Target> {
    let mut targets = vec![Target::RssTable(nic.name.clone())];
    targets.extend(nic.queue_irqs().map(|irq| Target::Interrupt {
        nic: nic.name.clone(),
        name: irq.name.clone(),
    }));
    let folder = format!("sys/class/net/{}/queues", nic.name);
    for queue in machine.list(&folder).unwrap_or_default() {
        let files: &[&str] = if queue.starts_with("rx-") {
            &["rps_cpus", "rps_flow_cnt"]
        } else {
            &["xps_cpus", "xps_rxqs"]
        };
        let paths = files.iter().map(|file| format!("{folder}/{queue}/{file}"));
        targets.extend(paths.map(Target::File));
    }
    targets
}

/// Writes, and again when the kernel is busy.
pub(crate) fn write(machine: &dyn Machine, target: &Target, value: &str) -> io::Result<()> {
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

/// Whether the processor's table of interrupt vectors is full (as irqbalance's code takes ENOSPC).
fn is_full(action: &Action, error: &io::Error) -> bool {
    matches!(action.target, Target::Interrupt { .. }) && error.raw_os_error() == Some(ENOSPC)
}

/// What the kernel's refusal means. For interrupts that it manages itself it is EIO, and since
/// about 5.10 EPERM (as irqbalance's and TuneD's code treat them).
pub(crate) fn refusal(target: &Target, error: &io::Error) -> Outcome {
    const EPERM: i32 = 1;
    const EIO: i32 = 5;
    const EINVAL: i32 = 22;
    const EOVERFLOW: i32 = 75;
    let is_interrupt = matches!(target, Target::Interrupt { .. });
    match error.raw_os_error() {
        Some(EIO | EPERM) if is_interrupt => {
            Outcome::Unchangeable("the kernel manages this interrupt itself".to_owned())
        }
        Some(ENOSPC) if is_interrupt => {
            Outcome::Failed("no processor near has room for another interrupt".to_owned())
        }
        Some(EINVAL | EOVERFLOW) if is_interrupt => {
            Outcome::Failed("that processor takes no interrupts now: is it offline?".to_owned())
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
