//! A plan as commands to paste: what does it, and what undoes it.
//!
//! For people who want to see, change or keep what happens. Without the journal's care: a value
//! that somebody else changed in between is overwritten.

use super::{Action, Plan, Rule};
use crate::machine::{Machine, Target, affinity_path};
use std::fmt::Write as _;

/// The commands that do a plan and that undo it, as one script with two functions.
pub fn script(plan: &Plan, machine: &dyn Machine) -> String {
    let mut out = String::from("#!/bin/sh\n# Run as root: sh FILE apply, or sh FILE undo.\n");
    let applied = plan.actions.iter().map(|action| {
        let value = action.rule.value(&action.now, &action.new);
        (action, command(action, &value, machine))
    });
    function(&mut out, "apply", applied);
    let undone = plan.actions.iter().rev();
    let undone = undone.map(|action| (action, command(action, &action.now, machine)));
    function(&mut out, "undo", undone);
    out.push_str("\"${1:?apply or undo}\"\n");
    out
}

fn function<'a>(
    out: &mut String,
    name: &str,
    commands: impl Iterator<Item = (&'a Action, String)>,
) {
    let _ = writeln!(out, "{name}() {{\n    :");
    for (action, command) in commands {
        let rule = if action.rule == Rule::RaiseOnly {
            " (only ever raised)"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "    # {}: {}{rule}\n    {command}",
            action.check, action.why
        );
    }
    out.push_str("}\n");
}

fn command(action: &Action, value: &str, machine: &dyn Machine) -> String {
    match &action.target {
        Target::File(path) => write_file(path, value),
        Target::Interrupt { nic, name } => match affinity_path(machine, nic, name) {
            Ok(path) => write_file(&path, value),
            Err(why) => format!("# {why}"),
        },
        // Plans have none: they are for as long as the kernel runs.
        Target::Config(path) | Target::Link(path) => format!("# /{path} is for tune --persist"),
        Target::Channels(nic) => {
            let words: Vec<&str> = value.split_whitespace().collect();
            let given = words.chunks(2).filter(|pair| pair.get(1) != Some(&"0"));
            let given: Vec<String> = given.map(|pair| pair.join(" ")).collect();
            format!("ethtool -L {} {}", quoted(nic), given.join(" "))
        }
        Target::Rings(nic) => format!("ethtool -G {} {value}", quoted(nic)),
        Target::RssTable(nic) => rss_command(nic, value),
        Target::IrqbalanceBan => {
            let list = if value.is_empty() { "NONE" } else { value };
            let socket = "UNIX-CONNECT:$(ls /run/irqbalance/irqbalance*.sock | head -n 1)";
            format!("echo 'settings ban irqs {list}' | socat - \"{socket}\"")
        }
    }
}

fn write_file(path: &str, value: &str) -> String {
    format!("echo {} > {}", quoted(value), quoted(&format!("/{path}")))
}

/// ethtool writes even tables only; another is a matter for the journal.
fn rss_command(nic: &str, value: &str) -> String {
    let table: Vec<u32> = value
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let queues = table.iter().max().map_or(1, |most| most + 1);
    let is_cycle = table
        .iter()
        .zip((0..queues).cycle())
        .all(|(one, other)| *one == other);
    if is_cycle {
        format!("ethtool -X {} equal {queues}", quoted(nic))
    } else {
        format!("# the table of {nic} was: {value} (ethtool can't write it; tune --revert can)")
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/_-.,".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/proc/sys/net"), "/proc/sys/net");
        assert_eq!(quoted("4096 8192"), "'4096 8192'");
        assert_eq!(quoted("a'; reboot"), r"'a'\''; reboot'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn only_even_tables_become_commands() {
        assert_eq!(rss_command("eth0", "0 1 0 1"), "ethtool -X eth0 equal 2");
        assert!(rss_command("eth0", "0 0 1 1").starts_with("# "));
    }
}
