//! What to change, in which order, and why. Pure: facts in, actions out; nothing is written here.
//!
//! The order is that of dependence: irqbalance is told before anything is moved; queues come before
//! what belongs to queues; parameters last. Changing the number of queues gives interrupts new
//! numbers and lets the driver spread everything anew, so a plan that does it stops there, and the
//! rest is planned again from what the machine is afterwards.
//!
//! Applying a plan leaves nothing to plan.

mod parameters;
pub(crate) mod queues;
pub mod shell;

use crate::cpulist::CpuList;
use crate::facts::{Fact, Facts};
use crate::intent::Intent;
use crate::machine::Target;
use crate::placement::{self, Placement};
use serde::{Deserialize, Serialize};

/// Everything that is to be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Where workers go; what is done follows from it.
    pub placement: Fact<Placement>,
    /// What is to be changed, in order.
    pub actions: Vec<Action>,
    /// What isn't done, and why.
    pub notes: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The check that asks for it.
    pub check: &'static str,
    /// What is written.
    pub target: Target,
    /// What it held when it was planned.
    pub now: String,
    /// What it will hold.
    pub new: String,
    /// What it may hold where the kernel has no room for that, the best first: other processors for
    /// an interrupt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instead: Vec<String>,
    /// How.
    pub rule: Rule,
    /// Whether it may cut the link for a moment.
    pub is_disruptive: bool,
    /// Why.
    pub why: String,
}

/// How a value is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It is set.
    Set,
    /// Each of its numbers is raised, and never lowered.
    RaiseOnly,
}

impl Plan {
    /// The actions that a check asks for.
    pub fn of<'a>(&'a self, check: &'a str) -> impl Iterator<Item = &'a Action> {
        self.actions
            .iter()
            .filter(move |action| action.check == check)
    }

    fn push(&mut self, action: Action) {
        let value = action.rule.value(&action.now, &action.new);
        if !is_same(&action.target, &action.now, &value) {
            self.actions.push(action);
        }
    }
}

impl Rule {
    /// What is written where `now` is held and `new` is wanted.
    pub fn value(self, now: &str, new: &str) -> String {
        match self {
            Rule::Set => new.to_owned(),
            Rule::RaiseOnly => raised(now, new),
        }
    }
}

/// Each number of `new`, or of `now` where that is larger. What isn't numbers stays as it is.
fn raised(now: &str, new: &str) -> String {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split_whitespace()
            .map(|word| word.parse().ok())
            .collect()
    };
    match (numbers(now), numbers(new)) {
        (Some(now), Some(new)) if now.len() == new.len() => {
            let larger = now
                .iter()
                .zip(&new)
                .map(|(now, new)| now.max(new).to_string());
            larger.collect::<Vec<_>>().join(" ")
        }
        _ => now.to_owned(),
    }
}

/// Whether two texts mean the same value of a target: white space, zero groups of masks and the
/// spelling of lists don't count.
pub fn is_same(target: &Target, one: &str, other: &str) -> bool {
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match target {
        Target::File(path) if path.ends_with("_cpus") => {
            match (CpuList::parse_mask(one), CpuList::parse_mask(other)) {
                (Ok(one), Ok(other)) => one == other,
                _ => one == other,
            }
        }
        Target::Interrupt { .. } => match (one.parse::<CpuList>(), other.parse::<CpuList>()) {
            (Ok(one), Ok(other)) => one == other,
            _ => one == other,
        },
        Target::IrqbalanceBan => {
            let sorted = |text: &str| {
                let mut words = words(text);
                words.sort();
                words
            };
            sorted(one) == sorted(other)
        }
        Target::Config(_) | Target::Link(_) => one == other,
        _ => words(one) == words(other),
    }
}

/// Plans everything.
pub fn plan(facts: &Facts, intent: &Intent) -> Plan {
    let mut plan = Plan {
        placement: placement::plan(facts.ground(), intent).into(),
        actions: Vec::new(),
        notes: Vec::new(),
    };
    match plan.placement.clone() {
        Fact::Known(placement) => queues::plan(facts, intent, &placement, &mut plan),
        Fact::Unknown(why) => plan.notes.push(why),
    }
    parameters::plan(facts, intent, &mut plan);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_never_lowers() {
        let check = |now: &str, new: &str, expect: &str| assert_eq!(raised(now, new), expect);
        check("128", "4096", "4096");
        check("8192", "4096", "8192");
        check(
            "4096\t131072\t6291456",
            "4096 65536 33554432",
            "4096 131072 33554432",
        );
        check("4096 131072", "4096 131072 33554432", "4096 131072");
        check("", "1", "");
        check("x", "1", "x");
    }

    #[test]
    fn values_are_compared_by_meaning() {
        let mask = Target::File("sys/class/net/e/queues/rx-0/rps_cpus".to_owned());
        assert!(is_same(&mask, "00000000,00000003", "3"));
        assert!(!is_same(&mask, "1", "3"));
        assert!(is_same(&Target::File("a".to_owned()), "1\t2", "1 2"));
        assert!(!is_same(&Target::File("a".to_owned()), "00", "0"));
        assert!(is_same(&Target::IrqbalanceBan, "31 24", "24 31"));
        let interrupt = Target::Interrupt {
            nic: "e".to_owned(),
            name: "e-0".to_owned(),
        };
        assert!(is_same(&interrupt, "0-1", "0,1"));
    }
}
