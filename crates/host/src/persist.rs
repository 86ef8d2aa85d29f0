//! Keeping what was tuned for the next run of the kernel: a file of parameters, and a unit that runs
//! `ringway tune --apply` again at each start.
//!
//! Both are files of our own; nobody else's is ever changed. They are made by the journal, as all
//! changes are, so that undoing removes exactly what is still as it was made.
//!
//! Only parameters that are *set* are in the file. One that is only ever *raised* is left to the
//! unit: a file would lower it on the day on which a kernel's default is larger.

use crate::apply::{Summary, Work};
use crate::facts::Facts;
use crate::intent::Intent;
use crate::journal::Folder;
use crate::machine::{Machine, Target};
use crate::plan::{self, Action, Rule};
use crate::undo::{self, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The parameters, read early in each start by systemd-sysctl and by procps alike.
pub const PARAMETERS_FILE: &str = "etc/sysctl.d/90-ringway.conf";
/// Where systemd finds units that administrators made.
const UNITS_FOLDER: &str = "etc/systemd/system";
/// The unit.
pub const UNIT_FILE: &str = "etc/systemd/system/ringway-tune.service";
/// What makes it start, as `systemctl enable` does it.
pub const UNIT_LINK: &str = "etc/systemd/system/multi-user.target.wants/ringway-tune.service";

const PARAMETERS: &str = "proc/sys/";

/// Makes the files. `command` is what the unit runs: the program, and its arguments.
///
/// # Errors
/// When the journal can't be written, or when a file of somebody else has one of their names.
pub fn persist(
    machine: &dyn Machine,
    intent: &Intent,
    command: &[String],
    folder: &Folder,
) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let mut wanted = Vec::new();
    let target = Target::Config(PARAMETERS_FILE.to_owned());
    let mut parameters = parse_parameters(&machine.current(&target)?);
    parameters.extend(in_force(machine, intent, folder)?);
    if !parameters.is_empty() {
        wanted.push((target, parameters_text(&parameters)));
    }
    if machine.list(UNITS_FOLDER).is_ok() {
        let unit = Target::Config(UNIT_FILE.to_owned());
        let link = Target::Link(UNIT_LINK.to_owned());
        wanted.push((unit, unit_text(command)));
        wanted.push((link, "../ringway-tune.service".to_owned()));
    } else {
        let note = "no systemd is seen: only parameters that are set are kept, what is raised and \
                    what belongs to devices is not";
        summary.notes.push(note.to_owned());
    }
    let wanted = ours(machine, folder, wanted)?;
    let mut work = Work::new(machine, folder);
    let done = wanted.into_iter().try_for_each(|(target, now, new)| {
        let action = Action {
            check: "persist",
            target,
            now,
            new,
            instead: Vec::new(),
            rule: Rule::Set,
            is_disruptive: false,
            why: "the next run of the kernel begins with its defaults".to_owned(),
        };
        work.perform(action, &mut summary).map(|_| ())
    });
    work.finish(done, summary)
}

/// Removes the files, unless somebody else changed them since.
///
/// # Errors
/// As [`undo::revert`].
pub fn forget(
    machine: &dyn Machine,
    folder: &Folder,
    is_forced: bool,
) -> Result<Vec<undo::Reverted>, String> {
    let mut reverted = Vec::new();
    for past in folder.past()?.iter().filter(|past| !past.is_closed()) {
        let changes = past.changes();
        if !changes.is_empty() && changes.iter().all(|change| change.target.is_lasting()) {
            reverted.extend(undo::revert(machine, folder, Some(&past.id), is_forced)?);
        }
    }
    Ok(reverted)
}

/// What differs from what is wanted, with what is there now; all of it absent or ours.
fn ours(
    machine: &dyn Machine,
    folder: &Folder,
    wanted: Vec<(Target, String)>,
) -> Result<Vec<(Target, String, String)>, String> {
    let held = undo::verify(machine, folder)?;
    let is_ours = |target: &Target| {
        let mut held = held.iter();
        held.any(|one| one.target == *target && one.state == State::Holds)
    };
    let mut changes = Vec::new();
    for (target, new) in wanted {
        let now = machine.current(&target)?;
        if !now.is_empty() && now != new && !is_ours(&target) {
            return Err(format!(
                "{target} isn't as tune left it: move it away, or remove it"
            ));
        }
        if now != new {
            changes.push((target, now, new));
        }
    }
    Ok(changes)
}

/// What the file has from before: in the run of the kernel that began with it, nothing asks for
/// these again.
fn parse_parameters(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parameters = lines.filter_map(|line| line.split_once(" = "));
    parameters
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What is to be set by the plan, and what was set already and still holds.
fn in_force(
    machine: &dyn Machine,
    intent: &Intent,
    folder: &Folder,
) -> Result<BTreeMap<String, String>, String> {
    let mut parameters = BTreeMap::new();
    let mut add = |target: &Target, rule: Rule, value: &str| {
        if let (Target::File(path), Rule::Set) = (target, rule)
            && let Some(name) = path.strip_prefix(PARAMETERS)
        {
            parameters.insert(name.replace('/', "."), value.to_owned());
        }
    };
    let held = undo::verify(machine, folder)?;
    let mut past = folder.past()?;
    past.reverse();
    for change in past
        .iter()
        .filter(|past| !past.is_closed())
        .flat_map(|past| past.changes())
    {
        let mut held = held.iter();
        if held.any(|one| one.target == change.target && one.state == State::Holds) {
            add(&change.target, change.rule, &change.new);
        }
    }
    for action in plan::plan(&Facts::gather(machine), intent).actions {
        add(&action.target, action.rule, &action.new);
    }
    Ok(parameters)
}

fn parameters_text(parameters: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# Made by `ringway tune --persist`; `ringway tune --unpersist` removes it as long as nobody\n\
         # changes it. What is only ever raised isn't here: ringway-tune.service raises it.\n",
    );
    for (name, value) in parameters {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

fn unit_text(command: &[String]) -> String {
    let command: Vec<String> = command.iter().map(|word| unit_word(word)).collect();
    format!(
        "# Made by `ringway tune --persist`; `ringway tune --unpersist` removes it as long as nobody\n\
         # changes it.\n\
         [Unit]\n\
         Description=Tune this machine for Ringway\n\
         Wants=network-online.target\n\
         After=network-online.target systemd-sysctl.service irqbalance.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        command.join(" ")
    )
}

/// As one word of a unit's command (systemd.syntax(7), systemd.service(5)).
fn unit_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/_-.,:=+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for letter in word.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '%' | '$' => text.extend([letter, letter]),
            '\n' => text.push_str("\\n"),
            _ => text.push(letter),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_are_quoted_as_systemd_reads_them() {
        let check = |word: &str, expect: &str| assert_eq!(unit_word(word), expect);
        check("/usr/bin/ringway", "/usr/bin/ringway");
        check("--role", "--role");
        check("", "\"\"");
        check("/opt/my tools/ringway", "\"/opt/my tools/ringway\"");
        check("100%", "\"100%%\"");
        check("$HOME", "\"$$HOME\"");
        check("a\"b\\c", "\"a\\\"b\\\\c\"");
    }
}
