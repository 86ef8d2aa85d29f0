//! What is wrong with a machine for a network service: one table of checks, evaluated over the facts
//! and over what the operator says.
//!
//! A check never says that something is wrong which it can't see. What a container or a namespace
//! hides is [`Verdict::NotVisible`]; what depends on the operator's word is [`Verdict::NotAsked`].

mod device;
mod host;
mod server;
mod transport;

use crate::facts::{Fact, Facts, Nic};
use crate::intent::Intent;
use crate::placement::Placement;
use crate::plan::{self, Plan};
use serde::Serialize;

/// One row of the table.
#[derive(Debug)]
pub struct Check {
    /// Its name, for scripts and for searching.
    pub id: &'static str,
    /// Where the facts come from.
    pub reads: &'static str,
    /// What is good.
    pub good: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// How bad it is when it isn't good.
    pub severity: Severity,
    /// What can be done.
    pub remedy: Remedy,
    /// How that is undone.
    pub undo: &'static str,
    judge: fn(&Case) -> Verdict,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Costs speed, or will cost connections.
    Warning,
    /// The service won't do what is asked of it.
    Failure,
}

/// What can be done about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "how")]
pub enum Remedy {
    /// `tune` does it.
    Tune,
    /// `tune` does it when it may cut the link for a moment.
    TuneWithLeave,
    /// A person does it.
    Advice(&'static str),
    /// Nothing is to be done.
    None,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "found")]
pub enum Verdict {
    /// It is as it should be.
    Good(String),
    /// Neither good nor bad; worth knowing.
    Note(String),
    /// It isn't as it should be, as badly as the check says.
    Bad(String),
    /// It can't be seen from here, and why.
    NotVisible(String),
    /// It depends on what the operator didn't say.
    NotAsked(String),
}

/// What there is to judge by.
pub struct Case<'a> {
    /// The machine.
    pub facts: &'a Facts,
    /// What the operator says.
    pub intent: &'a Intent,
    /// What would be changed now.
    pub plan: &'a Plan,
    /// What would be changed if the link might be cut for a moment.
    pub plan_with_leave: &'a Plan,
    /// The device that it is about.
    pub nic: Option<&'a Nic>,
}

impl<'a> Case<'a> {
    /// The device, or the verdict that there is none.
    fn nic(&self) -> Result<&'a Nic, Verdict> {
        self.nic.ok_or_else(|| {
            Verdict::NotVisible("no physical network device is seen from here".to_owned())
        })
    }

    /// Where workers would go, or the verdict that they can't go anywhere.
    fn placement(&self) -> Result<&'a Placement, Verdict> {
        seen(&self.plan.placement)
    }
}

/// What is known, or the verdict that it isn't.
fn seen<T>(fact: &Fact<T>) -> Result<&T, Verdict> {
    fact.as_result().map_err(Verdict::NotVisible)
}

/// A judgement that may end early because something can't be seen.
type Judged = Result<Verdict, Verdict>;

fn settle(judged: Judged) -> Verdict {
    judged.unwrap_or_else(|verdict| verdict)
}

/// Good, or bad in the same words.
fn judge(is_good: bool, found: String) -> Verdict {
    if is_good {
        Verdict::Good(found)
    } else {
        Verdict::Bad(found)
    }
}

/// A row with its finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The check's name.
    pub id: &'static str,
    /// What it found.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How bad that is, when it is bad.
    pub severity: Severity,
    /// Why it matters.
    pub why: &'static str,
    /// What is good.
    pub good: &'static str,
    /// What can be done.
    pub remedy: Remedy,
    /// How that is undone.
    pub undo: &'static str,
    /// Where it was read.
    pub reads: &'static str,
}

impl Finding {
    /// How bad it is, when it is bad.
    pub fn badness(&self) -> Option<Severity> {
        matches!(self.verdict, Verdict::Bad(_)).then_some(self.severity)
    }
}

/// All checks, in the order of the report.
pub fn table() -> impl Iterator<Item = &'static Check> {
    let host = host::TABLE.iter();
    let others = device::TABLE.iter().chain(transport::TABLE);
    host.chain(others).chain(server::TABLE)
}

/// Evaluates every check.
pub fn run(facts: &Facts, intent: &Intent) -> (Vec<Finding>, Plan) {
    let now = plan::plan(facts, intent);
    let with_leave = Intent {
        may_disrupt: true,
        ..intent.clone()
    };
    let with_leave = plan::plan(facts, &with_leave);
    let case = Case {
        facts,
        intent,
        plan: &now,
        plan_with_leave: &with_leave,
        nic: facts.nic(intent.nic.as_deref()),
    };
    let finding = |check: &'static Check| Finding {
        id: check.id,
        verdict: (check.judge)(&case),
        severity: check.severity,
        why: check.why,
        good: check.good,
        remedy: check.remedy,
        undo: check.undo,
        reads: check.reads,
    };
    (table().map(finding).collect(), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_a_name_of_its_own_and_all_its_words() {
        let mut names = BTreeSet::new();
        for check in table() {
            assert!(names.insert(check.id), "{} is there twice", check.id);
            for words in [check.reads, check.good, check.why, check.undo] {
                assert!(!words.is_empty(), "{}", check.id);
            }
        }
        assert!(names.len() >= 55, "{}", names.len());
    }
}
